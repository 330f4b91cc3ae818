//! What of a pod may change after its creation: by an update, and through `/resize` and `/ephemeralcontainers`.
//!
//! Wording: pkg/apis/core/validation of Kubernetes v1.36.

use std::collections::BTreeMap;

use corten_api::api::core::v1::{Container, PodSpec, ResourceRequirements};
use corten_api::field::FieldErrors;
use corten_api::k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde_json::Value;

use super::scheduling;

const WHY: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn validate(new: &PodSpec, old: &PodSpec, errs: &mut FieldErrors) {
    let (inits, inits_before) = (list(new.init_containers.as_ref()), list(old.init_containers.as_ref()));
    for (field, after, before) in
        [("containers", &new.containers[..], &old.containers[..]), ("initContainers", inits, inits_before)]
    {
        if after.len() != before.len() {
            return errs.forbidden(format!("spec.{field}"), "pod updates may not add or remove containers");
        }
        for (index, container) in after.iter().enumerate() {
            let path = format!("spec.{field}[{index}].image");
            match container.image.as_deref() {
                None | Some("") => errs.required(path, ""),
                Some(image) if image != image.trim() => {
                    errs.invalid(path, image, "must not have leading or trailing whitespace");
                }
                Some(_) => {}
            }
        }
    }
    if !deadline(new, old, errs) {
        return;
    }
    let mut allowed = old.clone();
    for (container, changed) in allowed.containers.iter_mut().zip(&new.containers) {
        container.image = changed.image.clone();
    }
    for (container, changed) in allowed.init_containers.iter_mut().flatten().zip(inits) {
        container.image = changed.image.clone();
    }
    allowed.active_deadline_seconds = new.active_deadline_seconds;
    tolerations(new, old, errs);
    allowed.tolerations = new.tolerations.clone();
    if old.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0)
        && new.termination_grace_period_seconds == Some(1)
    {
        allowed.termination_grace_period_seconds = Some(1);
    }
    if gates(new, old, errs) {
        // As long as it is held back, where it may run can be narrowed.
        allowed.node_selector = narrowed_labels(new, old).or(allowed.node_selector);
        allowed.affinity = new.affinity.clone().filter(|_| narrowed_affinity(new, old)).or(allowed.affinity);
    }
    allowed.scheduling_gates = new.scheduling_gates.clone();
    if allowed != *new {
        errs.forbidden("spec", format!("{WHY}\n{}", difference(&allowed, new)));
    }
}

fn list(list: Option<&Vec<Container>>) -> &[Container] {
    list.map_or(&[], |list| list)
}

/// A deadline can come, and come nearer. Whether to look on.
fn deadline(new: &PodSpec, old: &PodSpec, errs: &mut FieldErrors) -> bool {
    const PATH: &str = "spec.activeDeadlineSeconds";
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            errs.invalid(PATH, seconds, "must be between 0 and 2147483647, inclusive");
            false
        }
        (Some(seconds), Some(before)) if seconds > before => {
            errs.invalid(PATH, seconds, "must be less than or equal to previous value");
            false
        }
        (None, Some(_)) => {
            errs.invalid(PATH, "null", "must not update from a positive integer to nil value");
            true
        }
        _ => true,
    }
}

/// Tolerations can come; of those that are there only the time of `NoExecute` may change.
fn tolerations(new: &PodSpec, old: &PodSpec, errs: &mut FieldErrors) {
    let all = new.tolerations.as_deref().unwrap_or_default();
    for before in old.tolerations.iter().flatten() {
        let kept = all.iter().any(|after| {
            let mut same = after.clone();
            same.toleration_seconds = before.toleration_seconds;
            same == *before
        });
        if !kept {
            let why = "existing toleration can not be modified except its tolerationSeconds";
            return errs.forbidden("spec.tolerations", why);
        }
    }
    for (index, toleration) in all.iter().enumerate() {
        scheduling::toleration(toleration, &format!("spec.tolerations[{index}]"), errs);
    }
}

/// Gates can only go. Whether the pod is held back so far.
fn gates(new: &PodSpec, old: &PodSpec, errs: &mut FieldErrors) -> bool {
    let before = old.scheduling_gates.as_deref().unwrap_or_default();
    for (index, gate) in new.scheduling_gates.iter().flatten().enumerate() {
        if !before.contains(gate) {
            let why = "only deletion is allowed, but found new scheduling gate";
            errs.forbidden(format!("spec.schedulingGates[{index}]"), format!("{why} '{}'", gate.name));
        }
    }
    !before.is_empty()
}

/// The new labels that nodes must have, if none of the old ones went or changed.
fn narrowed_labels(new: &PodSpec, old: &PodSpec) -> Option<BTreeMap<String, String>> {
    let labels = new.node_selector.clone().unwrap_or_default();
    let kept = old.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    kept.then_some(labels).filter(|_| new.node_selector.is_some())
}

/// Whether of the affinity only that to nodes changed, and only so that fewer are left.
fn narrowed_affinity(new: &PodSpec, old: &PodSpec) -> bool {
    let (mut after, mut before) = (new.affinity.clone().unwrap_or_default(), old.affinity.clone().unwrap_or_default());
    let take = |affinity: &mut corten_api::api::core::v1::Affinity| {
        affinity.node_affinity.take().and_then(|nodes| nodes.required_during_scheduling_ignored_during_execution)
    };
    let (wanted, had) = (take(&mut after), take(&mut before));
    let Some(had) = had else { return after == before };
    let Some(wanted) = wanted else { return false };
    let terms = wanted.node_selector_terms.iter().zip(&had.node_selector_terms);
    after == before
        && wanted.node_selector_terms.len() == had.node_selector_terms.len()
        && terms.into_iter().all(|(term, old)| {
            let has = |all: &Option<Vec<_>>, one| all.iter().flatten().any(|other| other == one);
            old.match_expressions.iter().flatten().all(|one| has(&term.match_expressions, one))
                && old.match_fields.iter().flatten().all(|one| has(&term.match_fields, one))
        })
}

/// The fields in which two specs differ, as a hint: `- path: before`, `+ path: after`.
fn difference(before: &PodSpec, after: &PodSpec) -> String {
    let value = |spec: &PodSpec| serde_json::to_value(spec).unwrap_or_default();
    let mut lines = Vec::new();
    compare(&value(before), &value(after), "spec", &mut lines);
    lines.join("\n")
}

fn compare(before: &Value, after: &Value, path: &str, lines: &mut Vec<String>) {
    const MOST: usize = 20;
    if before == after || lines.len() >= MOST {
        return;
    }
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
                let at = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&at(old), &at(new), &format!("{path}.{key}"), lines);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                compare(old, new, &format!("{path}[{index}]"), lines);
            }
        }
        _ => {
            lines.extend(Some(before).filter(|value| !value.is_null()).map(|value| format!("- {path}: {value}")));
            lines.extend(Some(after).filter(|value| !value.is_null()).map(|value| format!("+ {path}: {value}")));
        }
    }
}

/// What a write to `/resize` takes of the new spec: nothing that it may not is lost, so that it can be refused.
pub(super) fn validate_resize(new: &PodSpec, old: &PodSpec, qos: (&str, &str), errs: &mut FieldErrors) {
    if new.os.as_ref().is_some_and(|os| os.name == "windows") {
        errs.forbidden("spec", "windows pods cannot be resized");
    }
    let (inits, inits_before) = (list(new.init_containers.as_ref()), list(old.init_containers.as_ref()));
    if new.containers.len() != old.containers.len() || inits.len() != inits_before.len() {
        return errs.forbidden("spec.containers", "pod updates may not add or remove containers");
    }
    if qos.0 != qos.1 {
        errs.invalid("spec", qos.0, "Pod QOS Class may not change as a result of resizing");
    }
    let mut allowed = old.clone();
    let mut each = |container: &mut Container, changed: &Container, path: String| {
        removals(changed.resources.as_ref(), container.resources.as_ref(), &path, errs);
        container.resize_policy = changed.resize_policy.clone();
        resized(container.resources.get_or_insert_default(), changed.resources.as_ref());
    };
    for (index, (container, changed)) in allowed.containers.iter_mut().zip(&new.containers).enumerate() {
        each(container, changed, format!("spec.containers[{index}].resources"));
    }
    for (index, (container, changed)) in allowed.init_containers.iter_mut().flatten().zip(inits).enumerate() {
        if container.restart_policy.as_deref() == Some("Always") {
            each(container, changed, format!("spec.initContainers[{index}].resources"));
        }
    }
    if allowed != *new {
        errs.forbidden("spec", format!("only cpu and memory resources are mutable\n{}", difference(&allowed, new)));
    }
}

const RESIZABLE: [&str; 2] = ["cpu", "memory"];

fn resized(resources: &mut ResourceRequirements, changed: Option<&ResourceRequirements>) {
    let part = |own: &mut Option<BTreeMap<String, Text>>, new: Option<&BTreeMap<String, Text>>| {
        let Some(new) = new else { return };
        let own = own.get_or_insert_default();
        for name in RESIZABLE {
            if let Some(amount) = new.get(name) {
                own.insert(name.to_owned(), amount.clone());
            }
        }
    };
    part(&mut resources.limits, changed.and_then(|changed| changed.limits.as_ref()));
    part(&mut resources.requests, changed.and_then(|changed| changed.requests.as_ref()));
}

fn removals(
    new: Option<&ResourceRequirements>,
    old: Option<&ResourceRequirements>,
    path: &str,
    errs: &mut FieldErrors,
) {
    let limits =
        |resources: Option<&ResourceRequirements>| resources.and_then(|r| r.limits.clone()).unwrap_or_default();
    let requests =
        |resources: Option<&ResourceRequirements>| resources.and_then(|r| r.requests.clone()).unwrap_or_default();
    for (field, why, after, before) in [
        ("limits", "resource limits cannot be removed", limits(new), limits(old)),
        ("requests", "resource requests cannot be removed", requests(new), requests(old)),
    ] {
        if RESIZABLE.iter().any(|name| before.contains_key(*name) && !after.contains_key(*name)) {
            errs.forbidden(format!("{path}.{field}"), why);
        }
    }
}

/// Ephemeral containers only come; those that are there stay as they are.
pub(super) fn validate_ephemeral(new: &PodSpec, old: &PodSpec, errs: &mut FieldErrors) {
    const PATH: &str = "spec.ephemeralContainers";
    let after = new.ephemeral_containers.as_deref().unwrap_or_default();
    for before in old.ephemeral_containers.iter().flatten() {
        match after.iter().find(|container| container.name == before.name) {
            None => {
                let why = format!("existing ephemeral containers {:?} may not be removed\n", before.name);
                errs.forbidden(PATH, why);
            }
            Some(container) if container != before => {
                let why = format!("existing ephemeral containers {:?} may not be changed\n", before.name);
                errs.forbidden(PATH, why);
            }
            Some(_) => {}
        }
    }
}
