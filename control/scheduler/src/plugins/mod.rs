//! What decides: filters say which nodes cannot take a pod and why, scores say which of the others is best.

mod balanced_allocation;
mod image_locality;
mod node_affinity;
mod node_ports;
mod node_resources_fit;
mod node_unschedulable;
mod node_volume_limits;
mod pod_affinity;
mod pod_topology_spread;
mod resource_claims;
mod taint_toleration;
mod volume_binding;
mod volume_restrictions;
mod volume_zone;

use crate::framework::Plugin;

pub(crate) use image_locality::ImageState;
pub(crate) use node_affinity::accepts as affinity_accepts;
pub(crate) use pod_affinity::PodAffinityState;
pub(crate) use pod_topology_spread::SpreadState;
pub(crate) use volume_binding::{ClaimPlan, VolumeState, plan as plan_claims};

/// All plugins, in the order in which filters are asked, with the weights of their scores. The first filter that
/// objects speaks for the node.
pub(crate) const PLUGINS: &[(&dyn Plugin, i64)] = &[
    (&node_unschedulable::NodeUnschedulable, 0),
    (&taint_toleration::TaintToleration, 3),
    (&node_affinity::NodeAffinity, 2),
    (&node_ports::NodePorts, 0),
    (&node_resources_fit::NodeResourcesFit, 1),
    (&volume_restrictions::VolumeRestrictions, 0),
    (&node_volume_limits::NodeVolumeLimits, 0),
    (&volume_binding::VolumeBinding, 0),
    (&volume_zone::VolumeZone, 0),
    (&pod_topology_spread::PodTopologySpread, 2),
    (&pod_affinity::InterPodAffinity, 2),
    (&resource_claims::DynamicResources, 0),
    (&balanced_allocation::NodeResourcesBalancedAllocation, 1),
    (&image_locality::ImageLocality, 1),
];
