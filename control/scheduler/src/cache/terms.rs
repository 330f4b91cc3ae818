//! Affinity terms of pods that have a node, each with the nodes of the pods that have it. Pods of one workload have
//! the same terms, so there are few.

use crate::model::{HashMap, PodInfo, Term};

/// How many pods on each slot have a term.
pub(crate) type Places = HashMap<u32, u32>;

#[derive(Default)]
pub(crate) struct TermIndex {
    /// Required: these pods want to be near.
    pub(crate) near: HashMap<Term, Places>,
    /// Required: these pods want to be apart.
    pub(crate) apart: HashMap<Term, Places>,
    /// Preferred, by weight: positive near, negative apart.
    pub(crate) preferred: HashMap<(i64, Term), Places>,
}

impl TermIndex {
    pub(super) fn count(&mut self, pod: &PodInfo, slot: u32, comes: bool) {
        let Some(terms) = &pod.terms else { return };
        terms.near.iter().for_each(|term| change(&mut self.near, term, slot, comes));
        terms.apart.iter().for_each(|term| change(&mut self.apart, term, slot, comes));
        terms.preferred.iter().for_each(|term| change(&mut self.preferred, term, slot, comes));
    }

    /// Whether no pod has a term that scores look at.
    pub(crate) fn weighs_nothing(&self) -> bool {
        self.near.is_empty() && self.preferred.is_empty()
    }
}

fn change<K: Clone + Eq + std::hash::Hash>(index: &mut HashMap<K, Places>, key: &K, slot: u32, comes: bool) {
    if comes {
        let places = match index.get_mut(key) {
            Some(places) => places,
            None => index.entry(key.clone()).or_default(),
        };
        *places.entry(slot).or_default() += 1;
        return;
    }
    let Some(places) = index.get_mut(key) else { return };
    if let Some(count) = places.get_mut(&slot) {
        *count -= 1;
        if *count == 0 {
            places.remove(&slot);
        }
    }
    if places.is_empty() {
        index.remove(key);
    }
}
