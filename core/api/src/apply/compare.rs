//! What differs between two states of an object.

use serde_json::{Map, Value};

use super::shape::{Index, Node, Shape};
use super::{Element, FieldSet};
use crate::schema::Object;

/// What differs.
#[derive(Clone, Debug, Default)]
pub(super) struct Difference {
    pub(super) added: FieldSet,
    pub(super) removed: FieldSet,
    pub(super) modified: FieldSet,
    /// Of the compared value itself.
    own: Own,
}

#[derive(Clone, Copy, Debug, Default)]
struct Own {
    added: bool,
    removed: bool,
    modified: bool,
}

impl Difference {
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.modified.is_empty()
    }

    /// What was written (added or modified), and what is gone.
    pub(super) fn split(self) -> (FieldSet, FieldSet) {
        (self.added.join(self.modified), self.removed)
    }

    /// The difference in what somebody can own.
    pub(super) fn map(self, keep: impl Fn(FieldSet) -> FieldSet) -> Self {
        Self { added: keep(self.added), removed: keep(self.removed), modified: keep(self.modified), own: self.own }
    }

    fn leaf(left: Option<&Value>, right: Option<&Value>) -> Self {
        let own = match (left, right) {
            (None, Some(_)) => Own { added: true, ..Own::default() },
            (Some(_), None) => Own { removed: true, ..Own::default() },
            (Some(left), Some(right)) => Own { modified: left != right, ..Own::default() },
            (None, None) => Own::default(),
        };
        Self { own, ..Self::default() }
    }

    /// Takes in what differs below a step.
    fn absorb(&mut self, element: impl Fn() -> Element, below: Self) {
        let Own { added, removed, modified } = below.own;
        for (is, set, child) in [
            (added, &mut self.added, below.added),
            (removed, &mut self.removed, below.removed),
            (modified, &mut self.modified, below.modified),
        ] {
            if is {
                set.push(element());
            }
            if !child.is_empty() {
                set.push_child(element(), child);
            }
        }
    }

    fn settle(&mut self) {
        self.added.settle();
        self.removed.settle();
        self.modified.settle();
    }
}

/// Compares two states of a value; `None` is one that is not there.
pub(super) fn compare(node: Node<'_>, left: Option<&Value>, right: Option<&Value>) -> Difference {
    let (one, other) = (node.shape(left.or(right)), node.shape(right.or(left)));
    if node.is_any() && matches!(one, Shape::Leaf) != matches!(other, Shape::Leaf) {
        // Raw JSON that was a scalar or list and is a map now, or the other way round.
        let mut difference = Difference::leaf(left, right);
        let (left, right) = (left.filter(|v| v.is_object()), right.filter(|v| v.is_object()));
        let below = entries(node, Shape::Map(node), left, right);
        (difference.added, difference.removed, difference.modified) = (below.added, below.removed, below.modified);
        return difference;
    }
    let mut difference = match one {
        Shape::Leaf => return Difference::leaf(left, right),
        Shape::Set | Shape::Keyed(..) => {
            if items(left).is_empty() && items(right).is_empty() {
                return Difference::leaf(left, right);
            }
            list(node, one, items(left), items(right))
        }
        Shape::Struct(_) | Shape::Map(_) => {
            let is_empty = |value: Option<&Value>| value.and_then(Value::as_object).is_none_or(Map::is_empty);
            if is_empty(left) && is_empty(right) {
                return Difference::leaf(left, right);
            }
            entries(node, one, left, right)
        }
    };
    difference.own.added |= left.is_none();
    difference.own.removed |= right.is_none();
    difference
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn entries(node: Node<'_>, shape: Shape<'_>, left: Option<&Value>, right: Option<&Value>) -> Difference {
    let mut difference = Difference::default();
    let (left, right) = (left.and_then(Value::as_object), right.and_then(Value::as_object));
    let known = |key: &str| left.is_some_and(|left| left.contains_key(key));
    let before = left.into_iter().flat_map(Map::keys);
    let later = right.into_iter().flat_map(Map::keys).filter(|key| !known(key));
    for key in before.chain(later) {
        let (mut old, mut new) = (left.and_then(|map| map.get(key)), right.and_then(|map| map.get(key)));
        match shape {
            Shape::Struct(object) => {
                let Some(field) = object.field(key) else { continue };
                if old.is_none() && left.is_some() {
                    old = node.absent(object, field);
                }
                if new.is_none() && right.is_some() {
                    new = node.absent(object, field);
                }
                let below = compare(node.field(field), old, new);
                difference.absorb(|| Element::Field(field.name.clone()), below);
            }
            Shape::Map(inner) => difference.absorb(|| Element::field(key), compare(inner, old, new)),
            _ => {}
        }
    }
    if let Shape::Struct(object) = shape {
        unsaid(node, object, left, right, &mut difference);
    }
    difference.settle();
    difference
}

/// Structs that Go writes although nobody set anything in them come and go with their holder.
fn unsaid(
    node: Node<'_>,
    object: &Object,
    left: Option<&Map<String, Value>>,
    right: Option<&Map<String, Value>>,
    difference: &mut Difference,
) {
    let ((Some(there), None) | (None, Some(there))) = (left, right) else { return };
    for field in object.fields() {
        if let Some(value) = node.absent(object, field).filter(|value| value.is_object())
            && !there.contains_key(&*field.name)
        {
            let (old, new) = if left.is_some() { (Some(value), None) } else { (None, Some(value)) };
            difference.absorb(|| Element::Field(field.name.clone()), compare(node.field(field), old, new));
        }
    }
}

fn list(node: Node<'_>, shape: Shape<'_>, left: &[Value], right: &[Value]) -> Difference {
    let mut difference = Difference::default();
    // Most lists that are compared are equal.
    if left == right {
        return difference;
    }
    let (left, right) = (Index::new(node, shape, left), Index::new(node, shape, right));
    let single = |old: Option<&Value>, new: Option<&Value>| match shape {
        Shape::Keyed(_, inner) => compare(inner, old, new),
        _ => Difference::leaf(old, new),
    };
    let whole = |own: Own| Difference { own, ..Difference::default() };
    for element in left.order() {
        let below = match (left.get(element), right.get(element)) {
            ([old], [new]) => single(Some(old), Some(new)),
            ([old], []) => single(Some(old), None),
            // What appears twice has no parts of its own.
            (old, new) if old == new => Difference::default(),
            (_, []) => whole(Own { removed: true, ..Own::default() }),
            _ => whole(Own { modified: true, ..Own::default() }),
        };
        difference.absorb(|| element.clone(), below);
    }
    for element in right.order().iter().filter(|element| left.get(element).is_empty()) {
        let below = match right.get(element) {
            [new] => single(None, Some(new)),
            _ => whole(Own { added: true, ..Own::default() }),
        };
        difference.absorb(|| element.clone(), below);
    }
    difference.settle();
    difference
}
