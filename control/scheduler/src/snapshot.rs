//! Nodes and pods, trimmed to what decides where a pod goes.

use std::collections::{BTreeMap, HashMap};

use corten_api::api::core::v1::{Container, Node, NodeSelector, Pod, Taint, Toleration};
use corten_api::k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use corten_api::quantity::Quantity;
use kube::ResourceExt;

/// Amounts by resource: thousandths of a CPU, bytes, or counts.
pub(crate) type Amounts = BTreeMap<String, i64>;

/// A node and what runs on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeInfo {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<Taint>,
    pub(crate) unschedulable: bool,
    pub(crate) allocatable: Amounts,
    pub(crate) used: Amounts,
    pub(crate) pods: i64,
    /// Ports of the host in use: protocol, address, port.
    pub(crate) ports: Vec<(String, String, i32)>,
    /// Pods by controller UID: replicas spread.
    pub(crate) siblings: HashMap<String, usize>,
}

/// A pod that wants a node, or has one.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodInfo {
    pub(crate) requests: Amounts,
    pub(crate) node_selector: BTreeMap<String, String>,
    pub(crate) affinity: Option<NodeSelector>,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) ports: Vec<(String, String, i32)>,
    pub(crate) controller: Option<String>,
}

impl NodeInfo {
    pub(crate) fn of(node: &Node) -> Self {
        let spec = node.spec.clone().unwrap_or_default();
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()));
        Self {
            name: node.name_any(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: spec.taints.unwrap_or_default(),
            unschedulable: spec.unschedulable == Some(true),
            allocatable: allocatable.map(amounts).unwrap_or_default(),
            ..Self::default()
        }
    }

    /// Counts a pod that is on the node, or is about to be.
    pub(crate) fn add(&mut self, pod: &PodInfo) {
        for (name, amount) in &pod.requests {
            *self.used.entry(name.clone()).or_default() += amount;
        }
        self.pods += 1;
        self.ports.extend(pod.ports.iter().cloned());
        if let Some(controller) = &pod.controller {
            *self.siblings.entry(controller.clone()).or_default() += 1;
        }
    }
}

impl PodInfo {
    pub(crate) fn of(pod: &Pod) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let controller = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
        let ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
        let host_ports = ports.filter_map(|port| {
            let number = port.host_port.filter(|&number| number > 0)?;
            let address = port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".to_owned());
            Some((port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), address, number))
        });
        Self {
            requests: requests(
                &spec.containers,
                spec.init_containers.as_deref().unwrap_or_default(),
                spec.overhead.as_ref(),
            ),
            ports: host_ports.collect(),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            affinity: affinity
                .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.clone()),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            controller: controller.map(|owner| owner.uid.clone()),
        }
    }
}

fn amounts(texts: &BTreeMap<String, Text>) -> Amounts {
    let amount = |name: &str, text: &Text| {
        let quantity = Quantity::of(text).ok()?;
        Some(if name == "cpu" { quantity.millis() } else { quantity.units() })
    };
    texts.iter().filter_map(|(name, text)| Some((name.clone(), amount(name, text)?))).collect()
}

/// What a pod needs at its peak: its containers together with sidecars, or one init container with the sidecars
/// before it, whichever is more.
fn requests(containers: &[Container], init: &[Container], overhead: Option<&BTreeMap<String, Text>>) -> Amounts {
    let of = |container: &Container| {
        let resources = container.resources.as_ref();
        resources.and_then(|resources| resources.requests.as_ref()).map(amounts).unwrap_or_default()
    };
    let add = |to: &mut Amounts, more: &Amounts| {
        more.iter().for_each(|(name, amount)| *to.entry(name.clone()).or_default() += amount);
    };
    let mut total = Amounts::new();
    containers.iter().for_each(|container| add(&mut total, &of(container)));
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in init {
        let own = of(container);
        let mut with_sidecars = sidecars.clone();
        add(&mut with_sidecars, &own);
        for (name, amount) in with_sidecars {
            let most = peak.entry(name).or_default();
            *most = (*most).max(amount);
        }
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, &own);
        }
    }
    add(&mut total, &sidecars);
    for (name, amount) in peak {
        let most = total.entry(name).or_default();
        *most = (*most).max(amount);
    }
    if let Some(overhead) = overhead {
        add(&mut total, &amounts(overhead));
    }
    total
}
