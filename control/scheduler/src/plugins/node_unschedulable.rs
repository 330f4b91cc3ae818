//! Nodes that are cordoned take no new pods, unless the pod tolerates that.

use corten_api::api::core::v1::Taint;

use crate::cache::Cache;
use crate::framework::{Ahead, Change, Cycle, Plugin, Rejection, State};
use crate::model::{NodeFacts, NodeInfo, PodInfo, UNSCHEDULABLE, tolerates};

pub(crate) struct NodeUnschedulable;

fn accepts(pod: &PodInfo, node: &NodeFacts) -> bool {
    if !node.unschedulable {
        return true;
    }
    let taint = Taint { key: UNSCHEDULABLE.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() };
    pod.wants.as_ref().is_some_and(|wants| tolerates(&wants.tolerations, &taint))
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn before_filter(&self, _cycle: &Cycle<'_>, _state: &mut State) -> Ahead {
        Ahead::Look
    }

    fn filter(&self, cycle: &Cycle<'_>, _state: &State, node: &NodeInfo) -> Result<(), Rejection> {
        if accepts(cycle.pod, &node.facts) {
            return Ok(());
        }
        Err(Rejection::for_good("node(s) were unschedulable"))
    }

    fn heeds(&self, change: &Change<'_>) -> bool {
        change.node().is_some()
    }

    fn helps(&self, pod: &PodInfo, change: &Change<'_>, _cache: &Cache) -> bool {
        change.makes(|node| accepts(pod, node))
    }
}
