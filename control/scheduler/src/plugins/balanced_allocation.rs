//! The nearer the shares of CPU and memory in use, the better: neither is left over alone.

use crate::framework::{Cycle, MOST, Plugin, State};
use crate::model::NodeInfo;

pub(crate) struct NodeResourcesBalancedAllocation;

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn before_score(&self, cycle: &Cycle<'_>, _state: &mut State, _nodes: &[u32]) -> bool {
        // A pod that asks for nothing changes no balance.
        cycle.pod.requests.cpu > 0 || cycle.pod.requests.memory > 0
    }

    fn score(&self, cycle: &Cycle<'_>, _state: &State, node: &NodeInfo) -> i64 {
        let share = |has: i64, used: i64, wanted: i64| {
            if has == 0 { None } else { Some((used.saturating_add(wanted) as f64 / has as f64).min(1.0)) }
        };
        let (has, used, wanted) = (&node.facts.allocatable, &node.requested, &cycle.pod.requests);
        let (cpu, memory) = (share(has.cpu, used.cpu, wanted.cpu), share(has.memory, used.memory, wanted.memory));
        // Half the distance is the standard deviation of two values.
        let deviation = cpu.zip(memory).map_or(0.0, |(cpu, memory)| ((cpu - memory) / 2.0).abs());
        ((1.0 - deviation) * MOST as f64) as i64
    }
}
