//! Pods near other pods, or apart from them; and pods that others want near, or apart.
//!
//! Spec: <https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#inter-pod-affinity-and-anti-affinity>

use std::sync::Arc;

use crate::cache::{Cache, NOWHERE, Topology};
use crate::framework::{Ahead, Change, Cycle, MOST, Plugin, Rejection, State};
use crate::model::{NodeInfo, PodGroup, PodInfo, Term};

pub(crate) struct InterPodAffinity;

/// Numbers by domain of one topology.
#[derive(Clone)]
struct ByDomain {
    key: u64,
    topology: Arc<Topology>,
    counts: Vec<i64>,
}

impl ByDomain {
    fn of(cycle: &Cycle<'_>, key: u64) -> Self {
        let topology = cycle.cache.topology(key);
        Self { key, counts: vec![0; topology.len()], topology }
    }

    fn add(&mut self, slot: u32, amount: i64) {
        let domain = self.topology.domain(slot);
        if domain != NOWHERE {
            self.counts[domain as usize] += amount;
        }
    }

    /// The number where the node is; `None` if it is in no domain.
    fn at(&self, slot: u32) -> Option<i64> {
        let domain = self.topology.domain(slot);
        (domain != NOWHERE).then(|| self.counts[domain as usize])
    }

    /// Adds so much for each pod of a tally.
    fn add_all(&mut self, cycle: &Cycle<'_>, groups: &[PodGroup], weight: i64) {
        cycle.cache.tally(groups, false, |tally| {
            for (slot, count) in tally.iter().enumerate().filter(|(_, count)| **count != 0) {
                self.add(u32::try_from(slot).unwrap_or(u32::MAX), i64::from(*count) * weight);
            }
        });
    }
}

/// The entry of a topology, made if it is missing.
fn entry<'a>(all: &'a mut Vec<ByDomain>, cycle: &Cycle<'_>, key: u64) -> &'a mut ByDomain {
    let at = all.iter().position(|own| own.key == key).unwrap_or_else(|| {
        all.push(ByDomain::of(cycle, key));
        all.len() - 1
    });
    &mut all[at]
}

#[derive(Clone, Default)]
pub(crate) struct PodAffinityState {
    /// For each term that asks for company: where the pods are that all such terms mean.
    near: Vec<ByDomain>,
    /// Whether the pod is what it asks for: the first of a group needs no company.
    is_own_company: bool,
    /// For each term that asks for distance: where the pods are that it means.
    apart: Vec<ByDomain>,
    /// Where pods are that want to be apart from this one.
    unwelcome: Vec<ByDomain>,
    /// What all preferences together come to.
    scores: Vec<ByDomain>,
}

fn contains(cycle: &Cycle<'_>, term: &Term, pod: &PodInfo) -> bool {
    term.group.contains(pod.namespace, &pod.labels, cycle.cache.namespaces())
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn before_filter(&self, cycle: &Cycle<'_>, state: &mut State) -> Ahead {
        let own = &mut state.pod_affinity;
        for (term, places) in &cycle.cache.terms().apart {
            if contains(cycle, term, cycle.pod) {
                let unwelcome = entry(&mut own.unwelcome, cycle, term.topology);
                places.iter().for_each(|(slot, count)| unwelcome.add(*slot, i64::from(*count)));
            }
        }
        if let Some(terms) = &cycle.pod.terms {
            let groups: Vec<PodGroup> = terms.near.iter().map(|term| term.group.clone()).collect();
            for term in &terms.near {
                let mut near = ByDomain::of(cycle, term.topology);
                near.add_all(cycle, &groups, 1);
                own.near.push(near);
            }
            own.is_own_company = terms.near.iter().all(|term| contains(cycle, term, cycle.pod));
            for term in &terms.apart {
                let mut apart = ByDomain::of(cycle, term.topology);
                apart.add_all(cycle, std::slice::from_ref(&term.group), 1);
                own.apart.push(apart);
            }
        }
        if own.near.is_empty() && own.apart.is_empty() && own.unwelcome.is_empty() {
            return Ahead::Skip;
        }
        Ahead::Look
    }

    fn filter(&self, _cycle: &Cycle<'_>, state: &State, node: &NodeInfo) -> Result<(), Rejection> {
        let own = &state.pod_affinity;
        let placed = own.near.iter().all(|near| near.at(node.slot).is_some());
        let met = placed && own.near.iter().all(|near| near.at(node.slot).is_some_and(|count| count > 0));
        if !met {
            let nobody = || own.near.iter().all(|near| near.counts.iter().all(|count| *count == 0));
            if !(placed && own.is_own_company && nobody()) {
                return Err(Rejection::for_good("node(s) didn't match pod affinity rules"));
            }
        }
        let some_at = |all: &[ByDomain]| all.iter().any(|own| own.at(node.slot).is_some_and(|count| count > 0));
        if some_at(&own.apart) {
            return Err(Rejection::for_now("node(s) didn't match pod anti-affinity rules"));
        }
        if some_at(&own.unwelcome) {
            return Err(Rejection::for_now("node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        Ok(())
    }

    fn moved(&self, cycle: &Cycle<'_>, state: &mut State, pod: &PodInfo, node: &NodeInfo, comes: bool) {
        let step = if comes { 1 } else { -1 };
        let own = &mut state.pod_affinity;
        if let Some(terms) = &cycle.pod.terms {
            if terms.near.iter().all(|term| contains(cycle, term, pod)) {
                own.near.iter_mut().for_each(|near| near.add(node.slot, step));
            }
            let meant = terms.apart.iter().zip(&mut own.apart).filter(|(term, _)| contains(cycle, term, pod));
            meant.for_each(|(_, apart)| apart.add(node.slot, step));
        }
        for term in pod.terms.iter().flat_map(|terms| &terms.apart) {
            if contains(cycle, term, cycle.pod) {
                entry(&mut own.unwelcome, cycle, term.topology).add(node.slot, step);
            }
        }
    }

    fn before_score(&self, cycle: &Cycle<'_>, state: &mut State, _nodes: &[u32]) -> bool {
        let preferred = cycle.pod.terms.as_ref().map_or(&[][..], |terms| &terms.preferred);
        if preferred.is_empty() && cycle.cache.terms().weighs_nothing() {
            return false;
        }
        let mut scores = Vec::new();
        for (weight, term) in preferred {
            entry(&mut scores, cycle, term.topology).add_all(cycle, std::slice::from_ref(&term.group), *weight);
        }
        let hard = cycle.profile.hard_affinity_weight;
        let near = cycle.cache.terms().near.iter().filter(|_| hard > 0).map(|(term, places)| (hard, term, places));
        let others = cycle.cache.terms().preferred.iter().map(|((weight, term), places)| (*weight, term, places));
        for (weight, term, places) in near.chain(others) {
            if contains(cycle, term, cycle.pod) {
                let by_domain = entry(&mut scores, cycle, term.topology);
                places.iter().for_each(|(slot, count)| by_domain.add(*slot, weight * i64::from(*count)));
            }
        }
        scores.retain(|own| own.counts.iter().any(|count| *count != 0));
        state.pod_affinity.scores = scores;
        !state.pod_affinity.scores.is_empty()
    }

    fn score(&self, _cycle: &Cycle<'_>, state: &State, node: &NodeInfo) -> i64 {
        state.pod_affinity.scores.iter().filter_map(|own| own.at(node.slot)).sum()
    }

    fn normalize(&self, _state: &State, _nodes: &[u32], scores: &mut [i64]) {
        let (least, most) = (scores.iter().min().copied().unwrap_or(0), scores.iter().max().copied().unwrap_or(0));
        for score in scores {
            *score = if most == least { 0 } else { MOST * (*score - least) / (most - least) };
        }
    }

    fn heeds(&self, change: &Change<'_>) -> bool {
        !matches!(change, Change::Storage | Change::Claim(_) | Change::NodeGone(_))
    }

    fn helps(&self, pod: &PodInfo, change: &Change<'_>, cache: &Cache) -> bool {
        let terms = pod.terms.as_deref();
        let near = terms.map_or(&[][..], |terms| &terms.near);
        let apart = terms.map_or(&[][..], |terms| &terms.apart);
        let means =
            |term: &Term, other: &PodInfo| term.group.contains(other.namespace, &other.labels, cache.namespaces());
        match change {
            Change::PodCame(other) => near.iter().any(|term| means(term, other)),
            Change::PodGone(other) => {
                let theirs = other.terms.as_deref().map_or(&[][..], |terms| &terms.apart);
                apart.iter().any(|term| means(term, other)) || theirs.iter().any(|term| means(term, pod))
            }
            Change::NodeCame(node) => near.iter().all(|term| node.labels.get(term.topology).is_some()),
            Change::NodeChanged { old, new } => old.labels != new.labels,
            Change::Namespaces => true,
            Change::NodeGone(_) | Change::Storage | Change::Claim(_) => false,
        }
    }
}
