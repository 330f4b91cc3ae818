//! Which nodes a pod may go to, as far as it says so itself: by node selector, by required node affinity, and by the
//! taints that it tolerates.
//!
//! Spec: <https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/>

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, PodSpec, Taint, Toleration};

use crate::selector::selects_node;

type Labels = BTreeMap<String, String>;

/// Whether a pod asks for a node of this name and these labels.
#[must_use]
pub fn selects(pod: &PodSpec, name: &str, labels: Option<&Labels>) -> bool {
    let none = Labels::new();
    let labels = labels.unwrap_or(&none);
    let mut selector = pod.node_selector.iter().flatten();
    selector.all(|(key, value)| labels.get(key) == Some(value))
        && required(pod).is_none_or(|selector| selects_node(selector, name, labels))
}

/// A pod's required node affinity.
fn required(pod: &PodSpec) -> Option<&NodeSelector> {
    pod.affinity.as_ref()?.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()
}

/// The node that a pod is on, or the only one that its affinity lets it go to.
#[must_use]
pub fn target(pod: &PodSpec) -> Option<&str> {
    if let Some(node) = pod.node_name.as_deref().filter(|node| !node.is_empty()) {
        return Some(node);
    }
    let fields = required(pod)?.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let mut named = fields.filter(|field| field.key == "metadata.name" && field.operator == "In");
    named.find_map(|field| match field.values.as_deref() {
        Some([node]) => Some(node.as_str()),
        _ => None,
    })
}

/// Whether one of the tolerations is for this taint.
#[must_use]
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| covers(toleration, taint))
}

/// Whether a toleration is for this taint.
#[must_use]
pub fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let wanted = toleration.value.as_deref().unwrap_or_default();
    let value = taint.value.as_deref().unwrap_or_default();
    let numbers = || Some((value.parse::<i64>().ok()?, wanted.parse::<i64>().ok()?));
    (effect.is_empty() || effect == taint.effect)
        && (key.is_empty() || key == taint.key)
        && match toleration.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => wanted == value,
            "Exists" => true,
            "Gt" => numbers().is_some_and(|(value, wanted)| value > wanted),
            "Lt" => numbers().is_some_and(|(value, wanted)| value < wanted),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> PodSpec {
        let mut spec = spec;
        spec["containers"] = json!([]);
        serde_json::from_value(spec).expect("a spec")
    }

    fn affinity(terms: Value) -> PodSpec {
        let required = json!({"nodeSelectorTerms": terms});
        pod(json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}))
    }

    #[test]
    fn nodes_are_selected_by_labels_and_by_name() {
        let labels = Labels::from([("disk".to_owned(), "ssd".to_owned()), ("cores".to_owned(), "8".to_owned())]);
        let expression = |key: &str, operator: &str, values: Value| {
            affinity(json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]))
        };
        for (pod, wanted) in [
            (pod(json!({})), true),
            (pod(json!({"nodeSelector": {"disk": "ssd"}})), true),
            (pod(json!({"nodeSelector": {"disk": "hdd"}})), false),
            (expression("disk", "In", json!(["ssd", "nvme"])), true),
            (expression("disk", "NotIn", json!(["ssd"])), false),
            (expression("zone", "NotIn", json!(["a"])), true),
            (expression("zone", "Exists", json!(null)), false),
            (expression("zone", "DoesNotExist", json!(null)), true),
            (expression("cores", "Gt", json!(["7"])), true),
            (expression("cores", "Lt", json!(["8"])), false),
            (affinity(json!([{}])), false),
            (
                affinity(json!([{}, {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}])),
                true,
            ),
            (affinity(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["m"]}]}])), false),
        ] {
            assert_eq!(selects(&pod, "n", Some(&labels)), wanted, "{pod:?}");
        }
    }

    #[test]
    fn a_pods_target_is_its_node_or_the_one_it_names() {
        let named = affinity(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]));
        assert_eq!(target(&named), Some("n"));
        assert_eq!(target(&PodSpec { node_name: Some("m".to_owned()), ..named }), Some("m"));
        assert_eq!(target(&pod(json!({"nodeSelector": {"disk": "ssd"}}))), None);
    }

    #[test]
    fn tolerations_are_for_keys_values_and_effects() {
        let taint = serde_json::from_value(json!({"key": "k", "value": "v", "effect": "NoSchedule"})).expect("a taint");
        for (toleration, wanted) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "k", "operator": "Exists"}), true),
            (json!({"key": "k", "operator": "Equal", "value": "v"}), true),
            (json!({"key": "k", "value": "other"}), false),
            (json!({"key": "k", "operator": "Gt", "value": "1"}), false),
            (json!({"key": "other", "operator": "Exists"}), false),
            (json!({"key": "k", "operator": "Exists", "effect": "NoExecute"}), false),
        ] {
            let own: Toleration = serde_json::from_value(toleration.clone()).expect("a toleration");
            assert_eq!(tolerates(&[own], &taint), wanted, "{toleration}");
        }
    }
}
