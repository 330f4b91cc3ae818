//! Which pods a term of affinity, or a constraint of spreading, is about.

use corten_api::api::core::v1::PodAffinityTerm;

use super::{HashMap, Labels, Selector, hashed};

/// Pods by namespace and labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PodGroup {
    /// Hashes of namespaces, sorted.
    namespaces: Vec<u64>,
    /// Namespaces by their labels.
    chosen: Option<Selector>,
    selector: Selector,
}

impl PodGroup {
    /// Pods of one namespace.
    pub(crate) fn within(namespace: u64, selector: Selector) -> Self {
        Self { namespaces: vec![namespace], chosen: None, selector }
    }

    /// Whether the labels of namespaces matter.
    pub(crate) fn asks_for_namespaces(&self) -> bool {
        self.chosen.is_some()
    }

    /// Whether a pod of this namespace with these labels is meant.
    pub(crate) fn contains(&self, namespace: u64, labels: &Labels, namespaces: &HashMap<u64, Labels>) -> bool {
        let chosen = || {
            self.chosen.as_ref().is_some_and(|chosen| match namespaces.get(&namespace) {
                Some(labels) => chosen.matches(labels),
                None => chosen.is_everything(),
            })
        };
        (self.namespaces.contains(&namespace) || chosen()) && self.selector.matches(labels)
    }
}

/// A term of pod affinity or anti-affinity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Term {
    pub(crate) group: PodGroup,
    /// The label of nodes by which they are near each other.
    pub(crate) topology: u64,
}

impl Term {
    /// A term of a pod in this namespace with these labels.
    pub(crate) fn of(term: &PodAffinityTerm, namespace: &str, labels: &Labels) -> Self {
        let named = term.namespaces.as_deref().unwrap_or_default();
        let mut namespaces: Vec<u64> = named.iter().map(|name| hashed(name)).collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(hashed(namespace));
        }
        namespaces.sort_unstable();
        let same = term.match_label_keys.as_deref().unwrap_or_default();
        let other = term.mismatch_label_keys.as_deref().unwrap_or_default();
        let group = PodGroup {
            namespaces,
            chosen: term.namespace_selector.as_ref().map(|selector| Selector::of(Some(selector))),
            selector: Selector::of(term.label_selector.as_ref()).like(labels, same, other),
        };
        Self { group, topology: hashed(&term.topology_key) }
    }
}
