//! A node takes only as much as it has.

use crate::snapshot::{NodeInfo, PodInfo};

pub(crate) fn filter(pod: &PodInfo, node: &NodeInfo) -> Vec<String> {
    let mut reasons = Vec::new();
    if node.allocatable.get("pods").is_some_and(|&most| node.pods + 1 > most) {
        reasons.push("Too many pods".to_owned());
    }
    for (name, &wanted) in pod.requests.iter().filter(|(_, wanted)| **wanted > 0) {
        let free = node.allocatable.get(name).unwrap_or(&0) - node.used.get(name).unwrap_or(&0);
        if wanted > free {
            reasons.push(format!("Insufficient {name}"));
        }
    }
    reasons
}
