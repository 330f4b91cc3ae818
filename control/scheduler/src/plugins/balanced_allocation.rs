//! The nearer the shares of CPU and memory in use, the better: neither is left over alone.

use crate::snapshot::{NodeInfo, PodInfo};

pub(crate) fn score(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let share = |name: &str| {
        let capacity = *node.allocatable.get(name).unwrap_or(&0);
        let used = node.used.get(name).unwrap_or(&0) + pod.requests.get(name).unwrap_or(&0);
        if capacity == 0 { 100 } else { (used * 100 / capacity).min(100) }
    };
    // Half the distance is the standard deviation of two values.
    100 - (share("cpu") - share("memory")).abs() / 2
}
