//! Nodes: the machines that run pods.

use corten_api::api::core::v1::Node;
use corten_api::field::FieldErrors;
use corten_api::names::{Names, Scope};
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::{Kind, at, plain};
use crate::table::{NAME, age, column, or_none, wide};
use crate::{ColumnHead, Subresource};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";

pub(crate) struct Nodes;

impl Kind for Nodes {
    type Object = Node;

    const NAMES: Names = Names {
        group: "",
        version: "v1",
        kind: "Node",
        plural: "nodes",
        singular: "node",
        short: &["no"],
        categories: &[],
    };
    const SCOPE: Scope = Scope::Cluster;
    const STORAGE: &'static str = "minions";
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status, Subresource::Proxy];
    const COLUMNS: &'static [ColumnHead] = &[
        NAME,
        column("Status"),
        column("Roles"),
        column("Age"),
        column("Version"),
        wide("Internal-IP"),
        wide("External-IP"),
        wide("OS-Image"),
        wide("Kernel-Version"),
        wide("Container-Runtime"),
    ];
    const FIELDS: &'static [&'static str] = &["spec.unschedulable"];

    fn cells(node: &Node, now: Timestamp) -> Vec<Value> {
        let status = node.status.clone().unwrap_or_default();
        let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
        let mut words = vec![match ready.map(|condition| condition.status.as_str()) {
            Some("True") => "Ready",
            Some(_) => "NotReady",
            None => "Unknown",
        }];
        if node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true)) {
            words.push("SchedulingDisabled");
        }
        let labels = node.metadata.labels.iter().flatten();
        let roles: Vec<&str> =
            labels.filter_map(|(key, _)| key.strip_prefix(ROLE_PREFIX)).filter(|r| !r.is_empty()).collect();
        let address = |kind: &str| {
            let found = status.addresses.iter().flatten().find(|address| address.type_ == kind);
            or_none(found.map(|address| address.address.clone()).unwrap_or_default())
        };
        let info = status.node_info.clone().unwrap_or_default();
        vec![
            json!(node.metadata.name),
            words.join(",").into(),
            or_none(roles.join(",")).into(),
            age(node.metadata.creation_timestamp.as_ref(), now).into(),
            info.kubelet_version.into(),
            address("InternalIP").into(),
            address("ExternalIP").into(),
            info.os_image.into(),
            info.kernel_version.into(),
            info.container_runtime_version.into(),
        ]
    }

    fn validate(node: &Node, old: Option<&Node>, errs: &mut FieldErrors) {
        for (index, taint) in node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).enumerate() {
            for why in corten_api::label::key_problems(&taint.key) {
                errs.invalid(format!("spec.taints[{index}].key"), &taint.key, why);
            }
            let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
            if !effects.contains(&taint.effect.as_str()) {
                errs.not_supported(format!("spec.taints[{index}].effect"), &taint.effect, &effects);
            }
        }
        let range = |node: &Node| node.spec.as_ref().and_then(|spec| spec.pod_cidr.clone());
        if let Some(before) = old.and_then(range)
            && range(node).as_ref() != Some(&before)
        {
            errs.forbidden("spec.podCIDR", "node updates may not change podCIDR except from \"\" to valid");
        }
    }

    fn field(object: &Value, name: &str) -> String {
        match plain(at(object, name)) {
            // A boolean that is not set is false.
            text if text.is_empty() => "false".to_owned(),
            text => text,
        }
    }
}
