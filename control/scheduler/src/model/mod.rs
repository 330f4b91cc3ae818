//! Pods and nodes, trimmed to what decides where a pod goes, in forms that are quick to compare.

mod amounts;
mod demand;
mod hash;
mod labels;
mod node;
mod node_selector;
mod pod;
mod pod_group;
mod taints;

pub(crate) use amounts::Amounts;
pub(crate) use hash::{HashMap, hashed};
pub(crate) use labels::{Labels, Selector};
pub(crate) use node::{NodeFacts, NodeInfo};
pub(crate) use node_selector::{NodeSelector, NodeTerm};
pub(crate) use pod::{HostPort, PodInfo, SpreadConstraint, Unsatisfiable, Wants};
pub(crate) use pod_group::{PodGroup, Term};
pub(crate) use taints::{UNSCHEDULABLE, tolerates};
