//! Sets of fields, as trees that share the beginnings of their paths.

use std::cmp::Ordering;
use std::fmt::Write;

use super::Element;

/// A set of paths. A path may be in the set without what is below it, and the other way round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Last steps of paths that are in the set; sorted.
    members: Vec<Element>,
    /// What is below; sorted, none empty.
    children: Vec<(Element, FieldSet)>,
}

impl FieldSet {
    /// Whether no path is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    pub(super) fn members(&self) -> &[Element] {
        &self.members
    }

    pub(super) fn children(&self) -> &[(Element, FieldSet)] {
        &self.children
    }

    /// Whether the path of this one step is in the set.
    pub(super) fn has(&self, element: &Element) -> bool {
        self.members.binary_search(element).is_ok()
    }

    /// Whether a path is in the set.
    #[must_use]
    pub fn contains(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.has(last),
            [first, rest @ ..] => self.child(first).is_some_and(|child| child.contains(rest)),
        }
    }

    /// The paths below a step.
    pub(super) fn child(&self, element: &Element) -> Option<&FieldSet> {
        let at = self.children.binary_search_by(|(own, _)| own.cmp(element)).ok()?;
        self.children.get(at).map(|(_, set)| set)
    }

    /// Adds a path of one step, in any order; [`Self::settle`] is to follow.
    pub(super) fn push(&mut self, element: Element) {
        self.members.push(element);
    }

    /// Adds what is below a step, in any order and each step once; [`Self::settle`] is to follow.
    pub(super) fn push_child(&mut self, element: Element, child: FieldSet) {
        if !child.is_empty() {
            self.children.push((element, child));
        }
    }

    /// Puts in order what was pushed.
    pub(super) fn settle(&mut self) {
        if !self.members.is_sorted() {
            self.members.sort_unstable();
        }
        self.members.dedup();
        if !self.children.is_sorted_by(|left, right| left.0 <= right.0) {
            self.children.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        }
    }

    /// Adds a path.
    pub fn insert(&mut self, path: &[Element]) {
        match path {
            [] => {}
            [last] => {
                if let Err(at) = self.members.binary_search(last) {
                    self.members.insert(at, last.clone());
                }
            }
            [first, rest @ ..] => match self.children.binary_search_by(|(own, _)| own.cmp(first)) {
                Ok(at) => self.children[at].1.insert(rest),
                Err(at) => {
                    let mut child = FieldSet::default();
                    child.insert(rest);
                    self.children.insert(at, (first.clone(), child));
                }
            },
        }
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let members = merge(&self.members, &other.members, Element::cmp, |left, right| left.or(right).cloned());
        let by_element = |left: &(Element, Self), right: &(Element, Self)| left.0.cmp(&right.0);
        let children = merge(&self.children, &other.children, by_element, |left, right| match (left, right) {
            (Some((element, left)), Some((_, right))) => Some((element.clone(), left.union(right))),
            (one, other) => one.or(other).cloned(),
        });
        Self { members, children }
    }

    /// What is in either, without copying where one is empty.
    #[must_use]
    pub(super) fn join(self, other: Self) -> Self {
        match (self.is_empty(), other.is_empty()) {
            (_, true) => self,
            (true, _) => other,
            _ => self.union(&other),
        }
    }

    /// What is in this one and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let members = self.members.iter().filter(|element| !other.has(element)).cloned().collect();
        let rest = |(element, child): &(Element, Self)| match other.child(element) {
            Some(other) => Some((element.clone(), child.difference(other))).filter(|(_, left)| !left.is_empty()),
            None => Some((element.clone(), child.clone())),
        };
        Self { members, children: self.children.iter().filter_map(rest).collect() }
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let members = self.members.iter().filter(|element| other.has(element)).cloned().collect();
        let both = |(element, child): &(Element, Self)| {
            let common = child.intersection(other.child(element)?);
            (!common.is_empty()).then(|| (element.clone(), common))
        };
        Self { members, children: self.children.iter().filter_map(both).collect() }
    }

    /// The set without a field and all that is below it.
    #[must_use]
    pub(super) fn without_field(mut self, name: &str) -> Self {
        let is = |element: &Element| matches!(element, Element::Field(own) if **own == *name);
        self.members.retain(|element| !is(element));
        self.children.retain(|(element, _)| !is(element));
        self
    }

    /// These fields and all that is below them.
    #[must_use]
    pub(super) fn only_fields(mut self, names: &[&str]) -> Self {
        let is = |element: &Element| matches!(element, Element::Field(own) if names.contains(&&**own));
        self.members.retain(is);
        self.children.retain(|(element, _)| is(element));
        self
    }

    /// The set without fields that the server alone decides, which nobody owns.
    #[must_use]
    pub(super) fn without_identity(mut self) -> Self {
        const ROOT: [&str; 3] = ["apiVersion", "kind", "metadata"];
        const METADATA: [&str; 9] = [
            "clusterName",
            "creationTimestamp",
            "generation",
            "managedFields",
            "name",
            "namespace",
            "resourceVersion",
            "selfLink",
            "uid",
        ];
        let among =
            |names: &[&str], element: &Element| matches!(element, Element::Field(name) if names.contains(&&**name));
        self.members.retain(|element| !among(&ROOT, element));
        self.children.retain_mut(|(element, child)| {
            if among(&["metadata"], element) {
                child.members.retain(|element| !among(&METADATA, element));
            }
            !child.is_empty()
        });
        self
    }

    /// All paths, members before what is below them.
    #[must_use]
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, path: &mut Vec<Element>, paths: &mut Vec<Vec<Element>>) {
        for element in &self.members {
            paths.push([path.as_slice(), std::slice::from_ref(element)].concat());
        }
        for (element, child) in &self.children {
            path.push(element.clone());
            child.collect(path, paths);
            path.pop();
        }
    }
}

impl FromIterator<Vec<Element>> for FieldSet {
    fn from_iter<I: IntoIterator<Item = Vec<Element>>>(paths: I) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(&path);
        }
        set
    }
}

/// A path as messages show it: `.spec.containers[name="a"].image`.
pub(super) fn show(path: &[Element]) -> String {
    let mut text = String::new();
    for element in path {
        let _ = write!(text, "{element}");
    }
    text
}

/// Walks two sorted lists at once.
fn merge<T, U>(
    left: &[T],
    right: &[T],
    order: impl Fn(&T, &T) -> Ordering,
    mut take: impl FnMut(Option<&T>, Option<&T>) -> Option<U>,
) -> Vec<U> {
    let mut merged = Vec::with_capacity(left.len().max(right.len()));
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    loop {
        let next = match (left.peek(), right.peek()) {
            (None, None) => return merged,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => order(one, other),
        };
        merged.extend(match next {
            Ordering::Less => take(left.next(), None),
            Ordering::Greater => take(None, right.next()),
            Ordering::Equal => take(left.next(), right.next()),
        });
    }
}
