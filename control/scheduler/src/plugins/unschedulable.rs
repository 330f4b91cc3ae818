//! Nodes that are cordoned take no new pods, unless the pod tolerates that.

use super::taints::tolerates;
use crate::snapshot::{NodeInfo, PodInfo};
use corten_api::api::core::v1::Taint;

pub(crate) fn filter(pod: &PodInfo, node: &NodeInfo) -> Vec<String> {
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    if node.unschedulable && !tolerates(pod, &taint) {
        return vec!["node(s) were unschedulable".to_owned()];
    }
    Vec::new()
}
