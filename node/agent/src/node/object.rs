//! The node as an object: pure.

use std::collections::BTreeMap;

use corten_api::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo,
};
use corten_api::k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use corten_api::meta::{ObjectMeta, Time};
use corten_base::Timestamp;

use super::machine::Machine;
use crate::config::Config;
use crate::ports::Image;
use crate::volumes::local_folder;

/// Most images that a node names in its status, as upstream.
const MOST_IMAGES: usize = 50;

/// The object with which a node registers.
pub(crate) fn object(config: &Config, machine: &Machine) -> Node {
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels(config)),
            annotations: Some(annotations(config)),
            ..ObjectMeta::default()
        },
        spec: None,
        status: Some(fixed(config, machine)),
    }
}

/// The labels that a kubelet gives its node.
pub(crate) fn labels(config: &Config) -> BTreeMap<String, String> {
    let (os, arch) = ("linux", architecture());
    let well_known = [
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", os),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", os),
        ("beta.kubernetes.io/arch", arch),
    ];
    let own = config.labels.iter().map(|(key, value)| (key.clone(), value.clone()));
    own.chain(well_known.map(|(key, value)| (key.to_owned(), value.to_owned()))).collect()
}

/// What the built-in provisioner of local volumes must know: where this node keeps them.
pub(crate) fn annotations(config: &Config) -> BTreeMap<String, String> {
    let folder = local_folder(&config.data_dir).to_string_lossy().into_owned();
    BTreeMap::from([("corten.dev/local-path".to_owned(), folder)])
}

/// Go's name of the processor architecture, as Kubernetes uses it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What does not change while the agent runs.
fn fixed(config: &Config, machine: &Machine) -> NodeStatus {
    let amounts = BTreeMap::from([
        ("cpu".to_owned(), Quantity(machine.cpus.to_string())),
        ("memory".to_owned(), Quantity(format!("{}Ki", machine.memory / 1024))),
        ("ephemeral-storage".to_owned(), Quantity(format!("{}Ki", machine.storage / 1024))),
        ("hugepages-1Gi".to_owned(), Quantity("0".to_owned())),
        ("hugepages-2Mi".to_owned(), Quantity("0".to_owned())),
        ("pods".to_owned(), Quantity(config.pod_max.to_string())),
    ]);
    let address = |type_: &str, address: String| NodeAddress { type_: type_.to_owned(), address };
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", config.node_ip.to_string()),
            address("Hostname", config.node_name.clone()),
        ]),
        allocatable: Some(amounts.clone()),
        capacity: Some(amounts),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(config.port) }),
        }),
        node_info: Some(NodeSystemInfo {
            architecture: architecture().to_owned(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: config.versions.runtime.clone(),
            kernel_version: machine.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: config.versions.kubelet.clone(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: machine.os_image.clone(),
            system_uuid: machine.system_uuid.clone(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

/// What a node has by itself; anything else in its capacity was written by others: extended resources.
const OWN: &[&str] = &["cpu", "memory", "ephemeral-storage", "hugepages-1Gi", "hugepages-2Mi", "pods"];

/// How allocatable has to change so that it follows capacity in what others have written there; `None` removes.
pub(crate) fn extended(status: Option<&NodeStatus>) -> BTreeMap<String, Option<Quantity>> {
    let of = |amounts: Option<&BTreeMap<String, Quantity>>| {
        let mut amounts = amounts.cloned().unwrap_or_default();
        amounts.retain(|name, _| !OWN.contains(&name.as_str()));
        amounts
    };
    let has = of(status.and_then(|status| status.capacity.as_ref()));
    let gives = of(status.and_then(|status| status.allocatable.as_ref()));
    let gone = gives.keys().filter(|name| !has.contains_key(*name)).map(|name| (name.clone(), None));
    let new = has.iter().filter(|(name, amount)| gives.get(*name) != Some(*amount));
    gone.chain(new.map(|(name, amount)| (name.clone(), Some(amount.clone())))).collect()
}

/// What a node knows of itself.
pub(crate) struct State<'a> {
    /// Why it cannot run pods, if it cannot.
    pub(crate) not_ready: Option<&'a str>,
    pub(crate) images: &'a [Image],
    pub(crate) now: Timestamp,
}

/// The whole status; conditions that did not change keep their times in `before`.
pub(crate) fn status(config: &Config, machine: &Machine, before: &[NodeCondition], state: &State<'_>) -> NodeStatus {
    let now = Time(whole_second(state.now));
    let condition = |type_: &str, status: &str, reason: &str, message: &str| {
        let same = before.iter().find(|own| own.type_ == type_ && own.status == status);
        NodeCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: same.and_then(|own| own.last_transition_time.clone()).or_else(|| Some(now.clone())),
        }
    };
    let ready = match state.not_ready {
        None => condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        Some(why) => condition("Ready", "False", "KubeletNotReady", why),
    };
    let mut images: Vec<&Image> = state.images.iter().collect();
    images.sort_by(|a, b| (b.size, &a.id).cmp(&(a.size, &b.id)));
    let image = |image: &Image| ContainerImage {
        names: Some(image.digests.iter().chain(&image.tags).cloned().collect()),
        size_bytes: i64::try_from(image.size).ok(),
    };
    NodeStatus {
        conditions: Some(vec![
            condition(
                "MemoryPressure",
                "False",
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available",
            ),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ready,
        ]),
        images: Some(images.into_iter().take(MOST_IMAGES).map(image).collect()),
        ..fixed(config, machine)
    }
}

/// API times have no fractions.
fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocatable_follows_what_others_write_into_capacity() {
        let status: NodeStatus = serde_json::from_value(serde_json::json!({
            "capacity": {"cpu": "4", "example.com/new": "5", "example.com/same": "1"},
            "allocatable": {"cpu": "3", "example.com/same": "1", "example.com/old": "2"},
        }))
        .expect("a status");
        let changes: Vec<_> =
            extended(Some(&status)).into_iter().map(|(name, amount)| (name, amount.map(|own| own.0))).collect();
        let wanted = [("example.com/new", Some("5")), ("example.com/old", None)];
        assert_eq!(changes, wanted.map(|(name, amount)| (name.to_owned(), amount.map(str::to_owned))));
        assert!(extended(None).is_empty());
    }
}
