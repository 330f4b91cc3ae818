//! Pod templates, as deployments and replica sets hold them.

use corten_api::api::core::v1::PodTemplateSpec;
use corten_api::field::FieldErrors;
use corten_api::meta::LabelSelector;
use corten_api::selector::Labels;

use super::{defaults, validate as pods};
use crate::meta;

/// Fills in what a pod of this template would get.
pub(crate) fn default(template: &mut PodTemplateSpec) {
    defaults::pod_spec(template.spec.get_or_insert_default());
}

/// A count must not be negative.
pub(crate) fn validate_count(count: Option<i32>, path: &str, errs: &mut FieldErrors) {
    if let Some(count) = count.filter(|&count| count < 0) {
        errs.invalid(path, count, "must be greater than or equal to 0");
    }
}

/// Holds a template against the selector that is to find its pods.
pub(crate) fn validate(selector: &LabelSelector, template: &PodTemplateSpec, errs: &mut FieldErrors) {
    let labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    let empty = selector.match_labels.as_ref().is_none_or(|labels| labels.is_empty())
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty);
    if empty {
        errs.required("spec.selector", "");
    } else {
        meta::labels(selector.match_labels.iter().flatten(), "spec.selector.matchLabels", errs);
        match Labels::from_selector(selector) {
            Ok(parsed) if !parsed.matches(&labels) => {
                errs.invalid("spec.template.metadata.labels", &labels, "`selector` does not match template `labels`");
            }
            Ok(_) => {}
            Err(error) => errs.invalid("spec.selector", error.0, "invalid label selector"),
        }
    }
    meta::labels(labels.iter(), "spec.template.labels", errs);
    let Some(spec) = &template.spec else { return errs.required("spec.template.spec", "") };
    pods::pod_spec(spec, "spec.template.spec", errs);
    let policy = spec.restart_policy.as_deref().unwrap_or_default();
    if policy != "Always" && ["OnFailure", "Never"].contains(&policy) {
        errs.not_supported("spec.template.spec.restartPolicy", policy, &["Always"]);
    }
    if spec.active_deadline_seconds.is_some() {
        errs.forbidden(
            "spec.template.spec.activeDeadlineSeconds",
            "activeDeadlineSeconds in ReplicaSet is not Supported",
        );
    }
}

/// A selector stays what it was.
pub(crate) fn validate_selector_change(new: &LabelSelector, old: Option<&LabelSelector>, errs: &mut FieldErrors) {
    if old.is_some_and(|old| old != new) {
        let value = serde_json::to_string(new).unwrap_or_default();
        errs.push("spec.selector", corten_api::field::Problem::Invalid(value, "field is immutable".to_owned()));
    }
}
