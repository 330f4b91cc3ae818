//! Nodes: the machines that run pods.

use std::collections::BTreeMap;

use corten_api::api::core::v1::{Node, NodeSpec, Taint};
use corten_api::field::FieldErrors;
use corten_api::label;
use corten_api::names::{Names, Scope};
use corten_api::quantity::Quantity;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::{Kind, at, plain};
use crate::table::{NAME, age, column, or_none, wide};
use crate::{ColumnHead, Proxied, Subresource, net};

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
    const PROXIED: Option<Proxied> = Some(Proxied::Node);
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
    // A kubelet brings its node's status along.
    const STATUS_ON_CREATE: bool = true;
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

    fn default(node: &mut Node) {
        if let Some(spec) = &mut node.spec {
            match (&spec.pod_cidr, &spec.pod_cidrs) {
                (Some(range), None) if !range.is_empty() => spec.pod_cidrs = Some(vec![range.clone()]),
                (None, Some(ranges)) => spec.pod_cidr = ranges.first().cloned(),
                _ => {}
            }
        }
        if let Some(status) = &mut node.status
            && status.allocatable.as_ref().is_none_or(BTreeMap::is_empty)
            && status.capacity.is_some()
        {
            status.allocatable = status.capacity.clone();
        }
    }

    fn validate(node: &Node, old: Option<&Node>, errs: &mut FieldErrors) {
        let empty = NodeSpec::default();
        let spec = node.spec.as_ref().unwrap_or(&empty);
        taints(spec.taints.as_deref().unwrap_or_default(), errs);
        let ranges = spec.pod_cidrs.as_deref().unwrap_or_default();
        for (index, range) in ranges.iter().enumerate() {
            net::range(range, &format!("spec.podCIDRs[{index}]"), errs);
        }
        if ranges.len() > 2 {
            let why = "may specify no more than one CIDR for each IP family";
            errs.invalid("spec.podCIDRs", ranges, why);
        }
        let Some(before) = old.map(|old| old.spec.as_ref().unwrap_or(&empty)) else { return };
        if before.pod_cidr.as_ref().is_some_and(|range| !range.is_empty()) && before.pod_cidrs != spec.pod_cidrs {
            errs.forbidden("spec.podCIDRs", "node updates may not change podCIDR except from \"\" to valid");
        }
        let given = before.provider_id.as_ref().is_some_and(|id| !id.is_empty());
        if given && before.provider_id != spec.provider_id {
            errs.forbidden("spec.providerID", "node updates may not change providerID except from \"\" to valid");
        }
        if before.external_id != spec.external_id || before.config_source != spec.config_source {
            errs.forbidden("", "node updates may only change labels, taints, or capacity");
        }
    }

    fn validate_status(new: &Node, _old: &Node, errs: &mut FieldErrors) {
        let mut seen = Vec::new();
        for (index, address) in new.status.iter().flat_map(|status| status.addresses.iter().flatten()).enumerate() {
            if seen.contains(&address) {
                errs.duplicate(format!("status.addresses[{index}]"), (&address.type_, &address.address));
            }
            seen.push(address);
        }
        for (field, amounts) in [
            ("capacity", new.status.as_ref().and_then(|status| status.capacity.as_ref())),
            ("allocatable", new.status.as_ref().and_then(|status| status.allocatable.as_ref())),
        ] {
            for (name, amount) in amounts.into_iter().flatten() {
                if Quantity::of(amount).is_ok_and(Quantity::is_negative) {
                    let why = "must be greater than or equal to 0";
                    errs.invalid(format!("status.{field}[{name}]"), &amount.0, why);
                }
            }
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

fn taints(taints: &[Taint], errs: &mut FieldErrors) {
    let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    for (index, taint) in taints.iter().enumerate() {
        let path = |field: &str| format!("spec.taints[{index}].{field}");
        for why in label::key_problems(&taint.key) {
            errs.invalid(path("key"), &taint.key, why);
        }
        let value = taint.value.as_deref().unwrap_or_default();
        label::value_problems(value).into_iter().for_each(|why| errs.invalid(path("value"), value, why));
        if taint.effect.is_empty() {
            errs.required(path("effect"), "");
        } else if !effects.contains(&taint.effect.as_str()) {
            errs.not_supported(path("effect"), &taint.effect, &effects);
        }
        if taints[..index].iter().any(|before| before.key == taint.key && before.effect == taint.effect) {
            errs.duplicate(format!("spec.taints[{index}]"), format!("{}:{}", taint.key, taint.effect));
        }
    }
}
