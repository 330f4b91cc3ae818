//! Which objects a quota is about.

use corten_api::names::Names;
use serde_json::Value;

use super::super::{is, is_pod, list};

/// Whether the quota's scopes, if it has any, all take the object.
pub(super) fn matches(quota: &Value, names: &Names, object: &Value) -> bool {
    let spec = &quota["spec"];
    let plain = list(spec, "scopes").iter().filter_map(Value::as_str);
    let selected = list(&spec["scopeSelector"], "matchExpressions");
    plain.into_iter().all(|scope| takes(scope, "Exists", &[], names, object))
        && selected.iter().all(|requirement| {
            let text = |field: &str| requirement[field].as_str().unwrap_or_default();
            takes(text("scopeName"), text("operator"), list(requirement, "values"), names, object)
        })
}

fn takes(scope: &str, operator: &str, values: &[Value], names: &Names, object: &Value) -> bool {
    let spec = &object["spec"];
    if scope == "VolumeAttributesClass" {
        let claim = is(names, "", "PersistentVolumeClaim");
        return claim && by_name(spec["volumeAttributesClassName"].as_str(), operator, values);
    }
    if !is_pod(names) {
        return false;
    }
    let terminating = spec["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0);
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => is_best_effort(object),
        "NotBestEffort" => !is_best_effort(object),
        "PriorityClass" => by_name(spec["priorityClassName"].as_str(), operator, values),
        "CrossNamespacePodAffinity" => reaches_out(spec),
        _ => false,
    }
}

fn by_name(name: Option<&str>, operator: &str, values: &[Value]) -> bool {
    let name = name.unwrap_or_default();
    let listed = || values.iter().any(|value| value == name);
    match operator {
        "Exists" => !name.is_empty(),
        "DoesNotExist" => name.is_empty(),
        "In" => !name.is_empty() && listed(),
        "NotIn" => name.is_empty() || !listed(),
        _ => false,
    }
}

fn is_best_effort(pod: &Value) -> bool {
    pod["status"]["qosClass"] == "BestEffort"
}

/// Whether the pod's place depends on pods of other namespaces.
fn reaches_out(spec: &Value) -> bool {
    let terms = |kind: &str| {
        let affinity = &spec["affinity"][kind];
        let required = list(affinity, "requiredDuringSchedulingIgnoredDuringExecution").iter();
        let preferred = list(affinity, "preferredDuringSchedulingIgnoredDuringExecution").iter();
        required.chain(preferred.map(|weighted| &weighted["podAffinityTerm"])).collect::<Vec<_>>()
    };
    let reaches = |term: &&Value| !list(term, "namespaces").is_empty() || term["namespaceSelector"].is_object();
    terms("podAffinity").iter().any(reaches) || terms("podAntiAffinity").iter().any(reaches)
}
