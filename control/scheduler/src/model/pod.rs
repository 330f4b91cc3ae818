//! A pod that wants a node, or has one.

use corten_api::api::core::v1::{self as core, Pod, Toleration};
use corten_base::Timestamp;
use corten_client::Key;
use kube::ResourceExt;

use super::demand::demand;
use super::{Amounts, Labels, NodeSelector, NodeTerm, Selector, Term, hashed};

/// A pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PodInfo {
    pub(crate) key: Key,
    pub(crate) uid: String,
    pub(crate) namespace: u64,
    pub(crate) labels: Labels,
    pub(crate) priority: i32,
    pub(crate) created: Timestamp,
    pub(crate) started: Option<Timestamp>,
    /// Empty while it has none.
    pub(crate) node: String,
    /// The node that preemption makes room on.
    pub(crate) nominated: String,
    pub(crate) requests: Amounts,
    pub(crate) counted_cpu: i64,
    pub(crate) counted_memory: i64,
    pub(crate) ports: Vec<HostPort>,
    pub(crate) claims: Vec<ClaimName>,
    /// Terms of affinity, which bind other pods as well; most pods have none.
    pub(crate) terms: Option<Box<Terms>>,
    pub(crate) deleting: bool,
    /// Whether it is being removed to make room for another.
    pub(crate) preempted: bool,
    /// What is asked for until it has a node.
    pub(crate) wants: Option<Box<Wants>>,
}

/// A port of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) protocol: String,
    pub(crate) address: String,
    pub(crate) port: i32,
}

/// A persistent volume claim that a pod uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClaimName {
    pub(crate) name: String,
    /// Whether the claim is made for this pod, and must be owned by it.
    pub(crate) own: bool,
}

/// Terms of affinity to other pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Terms {
    pub(crate) near: Vec<Term>,
    pub(crate) apart: Vec<Term>,
    /// Preferences with their weights: positive to be near, negative to be apart.
    pub(crate) preferred: Vec<(i64, Term)>,
}

/// What a pod without a node asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wants {
    pub(crate) scheduler: String,
    pub(crate) gated: bool,
    pub(crate) never_preempts: bool,
    /// Labels that nodes must have.
    pub(crate) node_labels: Vec<(u64, u64)>,
    pub(crate) nodes: Option<NodeSelector>,
    pub(crate) preferred_nodes: Vec<(i64, NodeTerm)>,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) spread: Vec<SpreadConstraint>,
    /// Hashes of the names of its images.
    pub(crate) images: Vec<u64>,
    /// Kind, name of the controller.
    pub(crate) controller: Option<(String, String)>,
    /// Names of resources that have no field of their own.
    pub(crate) resource_names: Vec<(u64, String)>,
    pub(crate) has_resource_claims: bool,
}

/// A constraint of spreading, as the pod has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SpreadConstraint {
    pub(crate) topology: u64,
    pub(crate) max_skew: i64,
    pub(crate) min_domains: usize,
    pub(crate) otherwise: Unsatisfiable,
    pub(crate) selector: Selector,
    /// Nodes that the pod's node affinity leaves out do not count.
    pub(crate) honour_affinity: bool,
    /// Nodes whose taints the pod does not tolerate do not count.
    pub(crate) honour_taints: bool,
}

/// What happens when a constraint cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsatisfiable {
    DoNotSchedule,
    ScheduleAnyway,
}

impl PodInfo {
    pub(crate) fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self { key: Key::of(pod), ..Self::default() } };
        let status = pod.status.as_ref();
        let (requests, counted_cpu, counted_memory) = demand(pod);
        let labels = Labels::of(pod.metadata.labels.as_ref());
        let node = spec.node_name.clone().unwrap_or_default();
        let conditions = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
        let preempted = conditions.into_iter().any(|own| {
            own.type_ == "DisruptionTarget"
                && own.status == "True"
                && own.reason.as_deref() == Some("PreemptionByScheduler")
        });
        Self {
            key: Key::of(pod),
            uid: pod.uid().unwrap_or_default(),
            namespace: hashed(pod.metadata.namespace.as_deref().unwrap_or_default()),
            priority: spec.priority.unwrap_or(0),
            created: pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            started: status.and_then(|status| status.start_time.as_ref()).map(|time| time.0),
            nominated: status.and_then(|status| status.nominated_node_name.clone()).unwrap_or_default(),
            requests,
            counted_cpu,
            counted_memory,
            ports: ports(spec),
            claims: claims(pod, spec),
            terms: terms(pod, spec, &labels).map(Box::new),
            deleting: pod.metadata.deletion_timestamp.is_some(),
            preempted,
            wants: node.is_empty().then(|| Box::new(Wants::of(pod, spec, &labels))),
            labels,
            node,
        }
    }

    /// Whether it asks for the same as before: its status alone is no reason to look at it again.
    pub(crate) fn asks_as(&self, other: &Self) -> bool {
        self.labels == other.labels
            && self.requests == other.requests
            && self.wants == other.wants
            && self.claims == other.claims
            && self.terms == other.terms
            && self.priority == other.priority
    }

    /// Since when it runs, for those who choose whom to remove.
    pub(crate) fn start(&self) -> Timestamp {
        self.started.unwrap_or(self.created)
    }
}

impl Wants {
    fn of(pod: &Pod, spec: &core::PodSpec, labels: &Labels) -> Self {
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let required =
            affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
        let preferred = affinity
            .into_iter()
            .flat_map(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten());
        let controller = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
        Self {
            scheduler: spec.scheduler_name.clone().unwrap_or_default(),
            gated: spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()),
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
            node_labels: spec.node_selector.iter().flatten().map(|(key, value)| (hashed(key), hashed(value))).collect(),
            nodes: required.map(NodeSelector::of),
            preferred_nodes: preferred
                .map(|term| (i64::from(term.weight), NodeTerm::of(&term.preference)))
                .filter(|(weight, _)| *weight != 0)
                .collect(),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            spread: spec.topology_spread_constraints.iter().flatten().map(|own| spread(own, labels)).collect(),
            images: spec
                .init_containers
                .iter()
                .flatten()
                .chain(&spec.containers)
                .filter_map(|container| container.image.as_deref())
                .map(|image| hashed(&full_name(image)))
                .collect(),
            controller: controller.map(|owner| (owner.kind.clone(), owner.name.clone())),
            resource_names: resource_names(spec),
            has_resource_claims: spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()),
        }
    }
}

/// The name of an image as nodes list it.
fn full_name(image: &str) -> String {
    let tagged = image.rfind(':') > image.rfind('/') || image.contains('@');
    if tagged { image.to_owned() } else { format!("{image}:latest") }
}

fn resource_names(spec: &core::PodSpec) -> Vec<(u64, String)> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let of_containers = containers.filter_map(|container| container.resources.as_ref());
    let requests = of_containers.chain(&spec.resources).filter_map(|resources| resources.requests.as_ref());
    let names = requests.chain(&spec.overhead).flat_map(|requests| requests.keys());
    let mut names: Vec<(u64, String)> = names
        .filter(|name| !["cpu", "memory", "ephemeral-storage"].contains(&name.as_str()))
        .map(|name| (hashed(name), name.clone()))
        .collect();
    names.sort_unstable_by(|left, right| left.1.cmp(&right.1));
    names.dedup();
    names
}

fn spread(constraint: &core::TopologySpreadConstraint, labels: &Labels) -> SpreadConstraint {
    let same = constraint.match_label_keys.as_deref().unwrap_or_default();
    SpreadConstraint {
        topology: hashed(&constraint.topology_key),
        max_skew: i64::from(constraint.max_skew),
        min_domains: usize::try_from(constraint.min_domains.unwrap_or(1)).unwrap_or(1),
        otherwise: match constraint.when_unsatisfiable.as_str() {
            "ScheduleAnyway" => Unsatisfiable::ScheduleAnyway,
            _ => Unsatisfiable::DoNotSchedule,
        },
        selector: Selector::of(constraint.label_selector.as_ref()).like(labels, same, &[]),
        honour_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
        honour_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
    }
}

fn ports(spec: &core::PodSpec) -> Vec<HostPort> {
    // Sidecars run beside the containers; other init containers have ended by then.
    let sidecars = spec.init_containers.iter().flatten().filter(|own| own.restart_policy.as_deref() == Some("Always"));
    let ports = sidecars.chain(&spec.containers).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(HostPort {
                port: port.host_port.filter(|&number| number > 0)?,
                protocol: port.protocol.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| "TCP".to_owned()),
                address: port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".to_owned()),
            })
        })
        .collect()
}

fn claims(pod: &Pod, spec: &core::PodSpec) -> Vec<ClaimName> {
    let claim = |volume: &core::Volume| {
        if let Some(claim) = &volume.persistent_volume_claim {
            return Some(ClaimName { name: claim.claim_name.clone(), own: false });
        }
        volume.ephemeral.as_ref()?;
        Some(ClaimName { name: format!("{}-{}", pod.name_any(), volume.name), own: true })
    };
    spec.volumes.iter().flatten().filter_map(claim).collect()
}

fn terms(pod: &Pod, spec: &core::PodSpec, labels: &Labels) -> Option<Terms> {
    let affinity = spec.affinity.as_ref()?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let of = |term: &core::PodAffinityTerm| Term::of(term, namespace, labels);
    let mut terms = Terms::default();
    if let Some(near) = &affinity.pod_affinity {
        terms.near = near.required_during_scheduling_ignored_during_execution.iter().flatten().map(of).collect();
        let preferred = near.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        terms.preferred.extend(preferred.map(|own| (i64::from(own.weight), of(&own.pod_affinity_term))));
    }
    if let Some(apart) = &affinity.pod_anti_affinity {
        terms.apart = apart.required_during_scheduling_ignored_during_execution.iter().flatten().map(of).collect();
        let preferred = apart.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        terms.preferred.extend(preferred.map(|own| (-i64::from(own.weight), of(&own.pod_affinity_term))));
    }
    terms.preferred.retain(|(weight, _)| *weight != 0);
    (terms != Terms::default()).then_some(terms)
}
