//! Pods of one controller go to different nodes.

use crate::snapshot::{NodeInfo, PodInfo};

pub(crate) fn score(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let siblings = pod.controller.as_ref().and_then(|controller| node.siblings.get(controller)).unwrap_or(&0);
    100 / (1 + i64::try_from(*siblings).unwrap_or(i64::MAX - 1))
}
