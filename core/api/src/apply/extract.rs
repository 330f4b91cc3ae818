//! The set of an applied configuration: what its author wants to own.

use serde_json::Value;

use super::shape::{Index, Node, Shape};
use super::{Element, FieldSet};

/// The set of all that a configuration says.
pub(super) fn field_set(node: Node<'_>, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect(node, value, &mut set);
    set
}

/// Adds what is below a value; whether the value's own path is in the set.
fn collect(node: Node<'_>, value: &Value, set: &mut FieldSet) -> bool {
    let shape = node.shape(Some(value));
    match (shape, value) {
        (Shape::Leaf, _) => return true,
        (Shape::Set | Shape::Keyed(..), Value::Array(items)) => {
            let index = Index::new(node, shape, items);
            for element in index.order() {
                // Of a key that appears twice, the items cannot be told apart.
                if let (Shape::Keyed(_, inner), [item]) = (shape, index.get(element)) {
                    let mut below = FieldSet::default();
                    collect(inner, item, &mut below);
                    set.push_child(element.clone(), below);
                }
                set.push(element.clone());
            }
        }
        (Shape::Struct(_) | Shape::Map(_), Value::Object(map)) => {
            for (key, value) in map {
                let field = match shape {
                    Shape::Struct(object) => object.field(key),
                    _ => None,
                };
                let inner = match (shape, field) {
                    (_, Some(field)) => node.field(field),
                    (Shape::Map(inner), None) => inner,
                    _ => continue,
                };
                let mut below = FieldSet::default();
                let own = collect(inner, value, &mut below);
                let element = field.map_or_else(|| Element::field(key), |field| Element::Field(field.name.clone()));
                let is_empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                if own || is_empty || field.is_none() {
                    set.push(element.clone());
                }
                set.push_child(element, below);
            }
        }
        _ => {}
    }
    set.settle();
    false
}

impl FieldSet {
    /// The set with the struct fields that lead to its paths. Paths of fields imply the structs that hold them; paths
    /// of map entries and list items do not.
    pub(super) fn with_structs(&self, node: Node<'_>) -> FieldSet {
        let shape = node.shape(Some(&Value::Object(serde_json::Map::new())));
        let mut set = FieldSet::default();
        for element in self.members() {
            set.push(element.clone());
        }
        for (element, child) in self.children() {
            let inner = match (shape, element) {
                (Shape::Struct(object), Element::Field(name)) => object.field(name).map(|field| {
                    set.push(element.clone());
                    node.field(field)
                }),
                (Shape::Map(inner) | Shape::Keyed(_, inner), _) => Some(inner),
                _ => None,
            };
            let child = inner.map_or_else(|| child.clone(), |inner| child.with_structs(inner));
            set.push_child(element.clone(), child);
        }
        set.settle();
        set
    }
}
