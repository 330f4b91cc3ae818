//! Taints repel pods that do not tolerate them; those that only prefer to be left alone weigh.
//!
//! Spec: <https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/>

use corten_api::api::core::v1::{Taint, Toleration};

use crate::cache::Cache;
use crate::framework::{Ahead, Change, Cycle, Plugin, Rejection, State, normalize_by_greatest};
use crate::model::{NodeFacts, NodeInfo, PodInfo, tolerates};

const PREFER: &str = "PreferNoSchedule";

pub(crate) struct TaintToleration;

/// The first taint that keeps the pod away.
fn repelling<'a>(tolerations: &[Toleration], node: &'a NodeFacts) -> Option<&'a Taint> {
    let strict = node.taints.iter().filter(|taint| taint.effect != PREFER);
    strict.into_iter().find(|taint| !tolerates(tolerations, taint))
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn before_filter(&self, _cycle: &Cycle<'_>, _state: &mut State) -> Ahead {
        Ahead::Look
    }

    fn filter(&self, cycle: &Cycle<'_>, _state: &State, node: &NodeInfo) -> Result<(), Rejection> {
        let Some(taint) = repelling(&cycle.wants.tolerations, &node.facts) else { return Ok(()) };
        // Upstream keeps keys and values out of what every reader of the pod sees.
        let value = taint.value.as_deref().unwrap_or_default();
        let detail = Some(format!("{{{}: {value}}}", taint.key));
        Err(Rejection { detail, ..Rejection::for_good("node(s) had untolerated taint(s)") })
    }

    fn before_score(&self, cycle: &Cycle<'_>, _state: &mut State, nodes: &[u32]) -> bool {
        let prefers = |slot: &u32| cycle.cache.node(*slot).facts.taints.iter().any(|taint| taint.effect == PREFER);
        nodes.iter().any(prefers)
    }

    fn score(&self, cycle: &Cycle<'_>, _state: &State, node: &NodeInfo) -> i64 {
        let soft = node.facts.taints.iter().filter(|taint| taint.effect == PREFER);
        let bothering = soft.filter(|taint| !tolerates(&cycle.wants.tolerations, taint)).count();
        i64::try_from(bothering).unwrap_or(i64::MAX)
    }

    fn normalize(&self, _state: &State, _nodes: &[u32], scores: &mut [i64]) {
        normalize_by_greatest(scores, true);
    }

    fn heeds(&self, change: &Change<'_>) -> bool {
        change.node().is_some()
    }

    fn helps(&self, pod: &PodInfo, change: &Change<'_>, _cache: &Cache) -> bool {
        let Some(wants) = &pod.wants else { return false };
        change.makes(|node| repelling(&wants.tolerations, node).is_none())
    }
}
