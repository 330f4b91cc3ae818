//! Which taints a pod lives with.
//!
//! Spec: <https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/>

pub(crate) use corten_api::placement::tolerates;

/// The taint of a node that was cordoned.
pub(crate) const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
