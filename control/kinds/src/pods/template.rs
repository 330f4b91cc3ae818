//! Pod templates, as the kinds that make pods hold them.

use std::collections::BTreeMap;

use corten_api::api::core::v1::PodTemplateSpec;
use corten_api::field::FieldErrors;
use corten_api::meta::{LabelSelector, ObjectMeta};
use corten_api::selector::Labels;

use super::{defaults, validate as pods};
use crate::{counts, meta, selectors};

const NO_MATCH: &str = "`selector` does not match template `labels`";

/// Fills in what a template gets; what only pods get waits until there is one.
pub(crate) fn default(template: &mut PodTemplateSpec) {
    defaults::pod_spec(template.spec.get_or_insert_default());
}

/// Labels of the pods of this template.
pub(crate) fn labels(template: &PodTemplateSpec) -> BTreeMap<String, String> {
    template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default()
}

/// Notes what is wrong with a template by itself.
pub(crate) fn validate(template: &PodTemplateSpec, path: &str, errs: &mut FieldErrors) {
    validate_metadata(template, path, errs);
    let Some(spec) = &template.spec else { return errs.required(format!("{path}.spec.containers"), "") };
    pods::pod_spec(spec, &format!("{path}.spec"), errs);
    if spec.ephemeral_containers.as_ref().is_some_and(|containers| !containers.is_empty()) {
        let why = "ephemeral containers not allowed in pod template";
        errs.forbidden(format!("{path}.spec.ephemeralContainers"), why);
    }
}

/// Notes what is wrong with a template's labels and annotations.
pub(crate) fn validate_metadata(template: &PodTemplateSpec, path: &str, errs: &mut FieldErrors) {
    let Some(metadata) = &template.metadata else { return };
    meta::labels(metadata.labels.iter().flatten(), &format!("{path}.labels"), errs);
    meta::annotations(metadata.annotations.iter().flatten(), &format!("{path}.annotations"), errs);
}

/// What serves without end restarts its containers always, and has no deadline.
pub(crate) fn validate_endless(template: &PodTemplateSpec, kind: &str, path: &str, errs: &mut FieldErrors) {
    let Some(spec) = &template.spec else { return };
    let policy = spec.restart_policy.as_deref().unwrap_or_default();
    if policy != "Always" {
        errs.not_supported(format!("{path}.spec.restartPolicy"), policy, &["Always"]);
    }
    if spec.active_deadline_seconds.is_some() {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        errs.forbidden(format!("{path}.spec.activeDeadlineSeconds"), why);
    }
}

/// Notes what is wrong with the selector of a kind, which must demand something.
///
/// The types here do not tell a missing selector from an empty one: both are answered as upstream answers the first.
pub(crate) fn validate_selector(selector: &LabelSelector, errs: &mut FieldErrors) {
    if selectors::is_empty(selector) {
        errs.required("spec.selector", "");
    }
    selectors::labels(selector, "spec.selector", errs);
}

/// The selector must find the pods of the template; one that is missing finds none.
pub(crate) fn validate_match(selector: &LabelSelector, template: &PodTemplateSpec, path: &str, errs: &mut FieldErrors) {
    let labels = labels(template);
    let parsed = Labels::from_selector(selector);
    if selectors::is_empty(selector) || parsed.is_ok_and(|parsed| !parsed.matches(&labels)) {
        counts::invalid(format!("{path}.metadata.labels"), &labels, NO_MATCH, errs);
    }
}

/// The labels that a plain selector demands must be on the pods of the template.
pub(crate) fn validate_plain_match(
    selector: &BTreeMap<String, String>,
    template: &PodTemplateSpec,
    path: &str,
    errs: &mut FieldErrors,
) {
    let labels = labels(template);
    if !Labels::from_map(selector).matches(&labels) {
        counts::invalid(format!("{path}.metadata.labels"), &labels, NO_MATCH, errs);
    }
}

/// What the client is to be told of a new object's name, which the names of its pods begin with.
pub(crate) fn name_warnings(metadata: &ObjectMeta) -> Vec<String> {
    let problems = meta::label_problems(metadata.name.as_deref().unwrap_or_default());
    if problems.is_empty() {
        return problems;
    }
    let why =
        "this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended";
    vec![format!("metadata.name: {why}: [{}]", problems.join(" "))]
}

/// What the client is to be told of a template: all of a new one, nothing of one that stays.
pub(crate) fn warnings(template: &PodTemplateSpec, old: Option<&PodTemplateSpec>, path: &str) -> Vec<String> {
    match &template.spec {
        Some(spec) if old != Some(template) => super::warnings::spec(spec, &format!("{path}.spec")),
        _ => Vec::new(),
    }
}

/// All rules of a template for replicas of a Deployment or ReplicaSet.
pub(crate) fn validate_replicas(selector: &LabelSelector, template: &PodTemplateSpec, errs: &mut FieldErrors) {
    let path = "spec.template";
    validate_match(selector, template, path, errs);
    validate(template, path, errs);
    // As upstream, which says so of both kinds.
    validate_endless(template, "ReplicaSet", path, errs);
}

/// A selector stays what it was.
pub(crate) fn validate_selector_change(new: &LabelSelector, old: Option<&LabelSelector>, errs: &mut FieldErrors) {
    if let Some(old) = old {
        counts::immutable(new, old, "spec.selector", errs);
    }
}
