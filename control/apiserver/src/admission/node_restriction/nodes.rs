//! A node's own Node: it says how it is, and not what may run on it.

use std::collections::BTreeSet;

use corten_api::status::Status;
use serde_json::Value;

use super::super::guards::Act;
use super::Own;

/// Labels of Kubernetes' own that a node may set.
const KNOWN: [&str; 12] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "node.kubernetes.io/windows-build",
];

pub(super) fn check(own: &Own<'_>, act: Act) -> Result<(), Status> {
    let (node, name) = (own.node, own.write.name);
    own.demand(name == node, format!("node {node:?} is not allowed to modify node {name:?}"))?;
    match act {
        Act::Create => {
            let why = format!("node {node:?} is not allowed to create pods with a non-nil configSource");
            own.demand(own.new["spec"]["configSource"].is_null(), why)?;
            let what = format!("node {node:?} is not allowed to set the following labels");
            own.demand_labels(&changed(&Value::Null, own.new), &what)
        }
        Act::Change(_) => {
            let (old, new) = (own.old(), own.new);
            let source = |node: &'_ Value| node["spec"]["configSource"].clone();
            let why = format!("node {node:?} is not allowed to update configSource to a new non-nil configSource");
            own.demand(source(new).is_null() || source(new) == source(old), why)?;
            let why = format!("node {node:?} is not allowed to modify taints");
            own.demand(is_same(&old["spec"]["taints"], &new["spec"]["taints"]), why)?;
            own.demand_labels(&changed(old, new), &format!("node {node:?} is not allowed to modify labels"))?;
            let why = format!("node {node:?} is not allowed to modify ownerReferences");
            own.demand(is_same(&old["metadata"]["ownerReferences"], &new["metadata"]["ownerReferences"]), why)
        }
        Act::Delete | Act::Post(_) => Ok(()),
    }
}

impl Own<'_> {
    fn demand_labels(&self, changed: &BTreeSet<&str>, what: &str) -> Result<(), Status> {
        let forbidden: Vec<&str> = changed.iter().copied().filter(|label| !is_for_nodes(label)).collect();
        self.demand(forbidden.is_empty(), format!("{what}: {}", forbidden.join(", ")))
    }
}

/// Whether two lists are the same; none is as good as an empty one.
fn is_same(one: &Value, other: &Value) -> bool {
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    items(one) == items(other)
}

/// Keys of the labels that differ.
fn changed<'a>(old: &'a Value, new: &'a Value) -> BTreeSet<&'a str> {
    let labels = |node: &'a Value| node["metadata"]["labels"].as_object();
    let keys = [old, new].into_iter().filter_map(labels).flat_map(|labels| labels.keys());
    let value = |node: &'a Value, key: &str| labels(node).and_then(|labels| labels.get(key));
    keys.map(String::as_str).filter(|key| value(old, key) != value(new, key)).collect()
}

/// Whether a node may give itself this label: any that is not Kubernetes' own, and of those the ones that kubelets set.
/// Workloads that must not be drawn to any node ask for labels of `node-restriction.kubernetes.io`.
fn is_for_nodes(label: &str) -> bool {
    let Some((namespace, _)) = label.split_once('/') else { return true };
    let below =
        |domain: &str| namespace.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if below("node-restriction.kubernetes.io") {
        return false;
    }
    let reserved = below("kubernetes.io") || below("k8s.io");
    !reserved || KNOWN.contains(&label) || below("kubelet.kubernetes.io") || below("node.kubernetes.io")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_set_labels_that_draw_nobody_in() {
        for label in [
            "plain",
            "example.com/anything",
            "notkubernetes.io/x",
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
            "node.kubernetes.io/anything",
            "a.kubelet.kubernetes.io/x",
        ] {
            assert!(is_for_nodes(label), "{label}");
        }
        for label in [
            "node-restriction.kubernetes.io/x",
            "a.node-restriction.kubernetes.io/x",
            "node-role.kubernetes.io/control-plane",
            "kubernetes.io/anything",
            "a.k8s.io/x",
            "k8s.io/x",
        ] {
            assert!(!is_for_nodes(label), "{label}");
        }
    }
}
