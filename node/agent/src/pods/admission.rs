//! Whether this node can take a pod that was bound to it: whoever names a node in a pod's spec goes past the scheduler.
//!
//! Behaviour: the NodePorts predicate of pkg/kubelet/lifecycle of Kubernetes v1.36. A pod that is refused has failed;
//! its owner makes another one.

use std::sync::Arc;

use corten_api::api::core::v1::Pod;

/// Why a pod is refused: a reason that clients know, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// A port of the host that a pod takes.
#[derive(Debug, PartialEq, Eq)]
struct Port<'a> {
    protocol: &'a str,
    address: &'a str,
    number: i32,
}

impl Port<'_> {
    fn is_same(&self, other: &Port<'_>) -> bool {
        const ANY: &str = "0.0.0.0";
        let address = self.address == other.address || self.address == ANY || other.address == ANY;
        address && self.protocol == other.protocol && self.number == other.number
    }
}

fn ports(pod: &Pod) -> impl Iterator<Item = Port<'_>> {
    let spec = pod.spec.iter();
    let containers = spec.flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.filter_map(|port| {
        let number = port.host_port.filter(|&number| number > 0)?;
        let address = port.host_ip.as_deref().filter(|address| !address.is_empty()).unwrap_or("0.0.0.0");
        Some(Port { protocol: port.protocol.as_deref().unwrap_or("TCP"), address, number })
    })
}

/// Decides about a pod that has not started here. `others` are those that this node has taken and that may run.
pub(crate) fn refusal(pod: &Pod, others: &[Arc<Pod>]) -> Option<Refusal> {
    let taken = |port: &Port<'_>| others.iter().any(|other| ports(other).any(|own| own.is_same(port)));
    ports(pod).any(|port| taken(&port)).then(|| Refusal {
        reason: "NodePorts",
        message: "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(port: Value) -> Pod {
        let container = json!({"name": "c", "ports": [port]});
        serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [container]}})).expect("a pod")
    }

    #[test]
    fn a_port_of_the_host_has_one_user() {
        let other = [Arc::new(pod(json!({"containerPort": 80, "hostPort": 8080, "hostIP": "10.0.0.1"})))];
        for (port, refused) in [
            (json!({"containerPort": 80, "hostPort": 8080}), true),
            (json!({"containerPort": 80, "hostPort": 8080, "hostIP": "10.0.0.1"}), true),
            (json!({"containerPort": 80, "hostPort": 8080, "hostIP": "10.0.0.2"}), false),
            (json!({"containerPort": 80, "hostPort": 8080, "protocol": "UDP"}), false),
            (json!({"containerPort": 80, "hostPort": 8081}), false),
            (json!({"containerPort": 8080}), false),
        ] {
            assert_eq!(refusal(&pod(port.clone()), &other).is_some(), refused, "{port}");
        }
        assert_eq!(refusal(&pod(json!({"containerPort": 80, "hostPort": 8080})), &[]), None);
    }
}
