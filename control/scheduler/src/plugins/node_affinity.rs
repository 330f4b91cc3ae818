//! Pods go only to nodes whose labels they ask for, by node selector and required node affinity, and rather to those
//! that they prefer.
//!
//! Spec: <https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/>

use crate::cache::Cache;
use crate::framework::{Ahead, Change, Cycle, Plugin, Rejection, State, normalize_by_greatest};
use crate::model::{NodeFacts, NodeInfo, PodInfo, Wants};

pub(crate) struct NodeAffinity;

/// Whether the pod's own selector and required affinity take the node.
pub(crate) fn accepts(wants: &Wants, node: &NodeFacts) -> bool {
    wants.node_labels.iter().all(|(key, value)| node.labels.get(*key) == Some(*value))
        && wants.nodes.as_ref().is_none_or(|nodes| nodes.matches(node))
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn before_filter(&self, cycle: &Cycle<'_>, _state: &mut State) -> Ahead {
        let wants = cycle.wants;
        if wants.node_labels.is_empty() && wants.nodes.is_none() && cycle.profile.added_affinity.required.is_none() {
            return Ahead::Skip;
        }
        // Pods of daemon sets name their node: no other needs a look.
        match wants.nodes.as_ref().and_then(|nodes| nodes.names()) {
            Some(names) if names.is_empty() => Ahead::Refuse(Rejection::for_good("pod affinity terms conflict")),
            Some(names) => Ahead::LookAt(names),
            None => Ahead::Look,
        }
    }

    fn filter(&self, cycle: &Cycle<'_>, _state: &State, node: &NodeInfo) -> Result<(), Rejection> {
        if cycle.profile.added_affinity.required.as_ref().is_some_and(|added| !added.matches(&node.facts)) {
            return Err(Rejection::for_good("node(s) didn't match scheduler-enforced node affinity"));
        }
        if accepts(cycle.wants, &node.facts) {
            return Ok(());
        }
        Err(Rejection::for_good("node(s) didn't match Pod's node affinity/selector"))
    }

    fn before_score(&self, cycle: &Cycle<'_>, _state: &mut State, _nodes: &[u32]) -> bool {
        !(cycle.wants.preferred_nodes.is_empty() && cycle.profile.added_affinity.preferred.is_empty())
    }

    fn score(&self, cycle: &Cycle<'_>, _state: &State, node: &NodeInfo) -> i64 {
        let preferred = cycle.wants.preferred_nodes.iter().chain(&cycle.profile.added_affinity.preferred);
        preferred.filter(|(_, term)| term.matches(&node.facts)).map(|(weight, _)| weight).sum()
    }

    fn normalize(&self, _state: &State, _nodes: &[u32], scores: &mut [i64]) {
        normalize_by_greatest(scores, false);
    }

    fn heeds(&self, change: &Change<'_>) -> bool {
        change.node().is_some()
    }

    fn helps(&self, pod: &PodInfo, change: &Change<'_>, _cache: &Cache) -> bool {
        let Some(wants) = &pod.wants else { return false };
        change.makes(|node| accepts(wants, node))
    }
}
