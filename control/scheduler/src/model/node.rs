//! A node, and what is on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_api::api::core::v1::{Node, Taint};
use kube::ResourceExt;

use super::{Amounts, HostPort, Labels, PodInfo, hashed};

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NodeFacts {
    pub(crate) name: Arc<str>,
    pub(crate) hash: u64,
    pub(crate) labels: Labels,
    pub(crate) label_texts: BTreeMap<String, String>,
    pub(crate) taints: Vec<Taint>,
    pub(crate) unschedulable: bool,
    pub(crate) allocatable: Amounts,
    pub(crate) most_pods: i64,
    /// Region and zone, for turns between zones.
    pub(crate) zone: u64,
    /// Images by the hash of their names, with their size.
    pub(crate) images: Vec<(u64, i64)>,
}

impl NodeFacts {
    pub(crate) fn of(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()));
        let images = status.into_iter().flat_map(|status| status.images.iter().flatten());
        let images = images.flat_map(|image| {
            let size = image.size_bytes.unwrap_or(0);
            image.names.iter().flatten().map(move |name| (hashed(name), size))
        });
        let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key));
        let place = |new: &str, old: &str| label(new).or(label(old)).map_or("", String::as_str);
        let region = place("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region");
        let zone = place("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone");
        let allocatable_amounts = Amounts::of(allocatable);
        let name = node.name_any();
        Self {
            hash: hashed(&name),
            name: name.into(),
            labels: Labels::of(node.metadata.labels.as_ref()),
            label_texts: node.metadata.labels.clone().unwrap_or_default(),
            taints: spec.and_then(|spec| spec.taints.clone()).unwrap_or_default(),
            unschedulable: spec.is_some_and(|spec| spec.unschedulable == Some(true)),
            most_pods: allocatable_amounts.get("pods"),
            allocatable: allocatable_amounts,
            zone: hashed(&format!("{region}\n{zone}")),
            images: images.collect(),
        }
    }

    /// Whether something that decides about pods differs; images only weigh.
    pub(crate) fn decides_as(&self, other: &Self) -> bool {
        self.labels == other.labels
            && self.taints == other.taints
            && self.unschedulable == other.unschedulable
            && self.allocatable == other.allocatable
    }
}

/// A node with its pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NodeInfo {
    /// Its number in the cache.
    pub(crate) slot: u32,
    pub(crate) facts: Arc<NodeFacts>,
    /// Whether there is a node at all, and not only pods that name one.
    pub(crate) exists: bool,
    pub(crate) pods: Vec<Arc<PodInfo>>,
    pub(crate) requested: Amounts,
    /// CPU and memory as scores count them.
    pub(crate) counted_cpu: i64,
    pub(crate) counted_memory: i64,
    /// Ports of the host in use.
    pub(crate) ports: Vec<HostPort>,
}

impl NodeInfo {
    pub(crate) fn add(&mut self, pod: Arc<PodInfo>) {
        self.count(&pod);
        self.ports.extend(pod.ports.iter().cloned());
        self.pods.push(pod);
    }

    /// Takes a pod away, if it is there.
    pub(crate) fn remove(&mut self, pod: &PodInfo) {
        let Some(at) = self.pods.iter().position(|own| own.uid == pod.uid) else { return };
        // In order: what two caches decide must not depend on what came and went.
        let pod = self.pods.remove(at);
        if self.requested.is_saturated() || self.counted_cpu == i64::MAX || self.counted_memory == i64::MAX {
            // Such sums do not say what they would be without the pod.
            self.recount();
        } else {
            self.requested.subtract(&pod.requests);
            self.counted_cpu = self.counted_cpu.saturating_sub(pod.counted_cpu);
            self.counted_memory = self.counted_memory.saturating_sub(pod.counted_memory);
        }
        for port in &pod.ports {
            if let Some(at) = self.ports.iter().position(|own| own == port) {
                self.ports.remove(at);
            }
        }
    }

    fn count(&mut self, pod: &PodInfo) {
        self.requested.add(&pod.requests);
        self.counted_cpu = self.counted_cpu.saturating_add(pod.counted_cpu);
        self.counted_memory = self.counted_memory.saturating_add(pod.counted_memory);
    }

    fn recount(&mut self) {
        self.requested = Amounts::default();
        self.counted_cpu = 0;
        self.counted_memory = 0;
        let pods = std::mem::take(&mut self.pods);
        pods.iter().for_each(|pod| self.count(pod));
        self.pods = pods;
    }
}
