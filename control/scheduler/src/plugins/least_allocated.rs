//! The emptier, the better.

use crate::snapshot::{NodeInfo, PodInfo};

pub(crate) fn score(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let free = |name: &str| {
        let capacity = *node.allocatable.get(name).unwrap_or(&0);
        let used = node.used.get(name).unwrap_or(&0) + pod.requests.get(name).unwrap_or(&0);
        if capacity == 0 { 0 } else { (capacity - used).max(0) * 100 / capacity }
    };
    i64::midpoint(free("cpu"), free("memory"))
}
