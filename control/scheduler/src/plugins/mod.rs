//! What decides: filters say which nodes cannot take a pod and why, scores say which of the others is best.

mod balanced_allocation;
mod fit;
mod least_allocated;
mod node_affinity;
mod ports;
mod spread;
mod taints;
mod unschedulable;

use crate::snapshot::{NodeInfo, PodInfo};

/// A filter: the reasons why the node cannot take the pod; none if it can.
pub(crate) type Filter = fn(&PodInfo, &NodeInfo) -> Vec<String>;

/// A score from 0 (worst) to 100.
pub(crate) type Score = fn(&PodInfo, &NodeInfo) -> i64;

/// Filters in the order in which they are asked; the first that objects speaks for the node.
pub(crate) const FILTERS: &[Filter] =
    &[unschedulable::filter, taints::filter, node_affinity::filter, ports::filter, fit::filter];

/// Scores and their weights.
pub(crate) const SCORES: &[(Score, i64)] =
    &[(least_allocated::score, 1), (balanced_allocation::score, 1), (spread::score, 2)];
