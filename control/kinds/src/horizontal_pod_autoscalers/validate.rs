//! What may be wrong with an autoscaler.
//!
//! Wording and order: pkg/apis/autoscaling/validation of Kubernetes v1.36.

use corten_api::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler,
};
use corten_api::field::FieldErrors;

use super::metrics;
use crate::counts;

const MOST_PERIOD: i32 = 1800;
const MOST_WINDOW: i32 = 3600;

pub(super) fn autoscaler(new: &HorizontalPodAutoscaler, old: Option<&HorizontalPodAutoscaler>, errs: &mut FieldErrors) {
    let spec = &new.spec;
    let before = old.and_then(|old| old.spec.min_replicas);
    let least = if before == Some(0) { 0 } else { 1 };
    let (min, max) = (spec.min_replicas, spec.max_replicas);
    if let Some(min) = min.filter(|min| *min < least) {
        errs.invalid("spec.minReplicas", min, format!("must be greater than or equal to {least}"));
    }
    if max < 1 {
        errs.invalid("spec.maxReplicas", max, "must be greater than 0");
    }
    if min.is_some_and(|min| max < min) {
        errs.invalid("spec.maxReplicas", max, "must be greater than or equal to `minReplicas`");
    }
    reference(&spec.scale_target_ref, "spec.scaleTargetRef", errs);
    let all = spec.metrics.as_deref().unwrap_or_default();
    for (index, metric) in all.iter().enumerate() {
        metrics::validate(metric, &format!("spec.metrics[{index}]"), errs);
    }
    if min == Some(0) && !all.iter().any(|metric| ["Object", "External"].contains(&metric.type_.as_str())) {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        errs.forbidden("spec.metrics", why);
    }
    if let Some(behavior) = &spec.behavior {
        for (field, of) in [("scaleUp", &behavior.scale_up), ("scaleDown", &behavior.scale_down)] {
            if let Some(of) = of {
                rules(of, &format!("spec.behavior.{field}"), errs);
            }
        }
    }
}

pub(super) fn status(new: &HorizontalPodAutoscaler, errs: &mut FieldErrors) {
    let status = new.status.clone().unwrap_or_default();
    counts::not_negative(status.current_replicas, "status.currentReplicas", errs);
    counts::not_negative(Some(status.desired_replicas), "status.desiredReplicas", errs);
}

pub(super) fn reference(to: &CrossVersionObjectReference, path: &str, errs: &mut FieldErrors) {
    segment(&to.kind, &format!("{path}.kind"), "", errs);
    segment(&to.name, &format!("{path}.name"), "", errs);
    if let Some(version) = to.api_version.as_deref().filter(|version| version.matches('/').count() > 1) {
        errs.invalid(format!("{path}.apiVersion"), version, format!("unexpected GroupVersion string: {version}"));
    }
}

/// What must be there, and must be able to be part of a path.
pub(super) fn segment(text: &str, path: &str, missing: &str, errs: &mut FieldErrors) {
    match text {
        "" => errs.required(path, missing),
        "." | ".." => errs.invalid(path, text, format!("may not be '{text}'")),
        text => {
            for part in ["/", "%"].iter().filter(|part| text.contains(**part)) {
                errs.invalid(path, text, format!("may not contain '{part}'"));
            }
        }
    }
}

fn rules(rules: &HPAScalingRules, path: &str, errs: &mut FieldErrors) {
    let window_path = format!("{path}.stabilizationWindowSeconds");
    match rules.stabilization_window_seconds {
        Some(window) if window < 0 => errs.invalid(window_path, window, "must be greater than or equal to zero"),
        Some(window) if window > MOST_WINDOW => {
            errs.invalid(window_path, window, format!("must be less than or equal to {MOST_WINDOW}"));
        }
        _ => {}
    }
    let policies = ["Disabled", "Max", "Min"];
    if let Some(select) = rules.select_policy.as_deref().filter(|select| !policies.contains(select)) {
        errs.not_supported(format!("{path}.selectPolicy"), select, &policies);
    }
    let all = rules.policies.as_deref().unwrap_or_default();
    if all.is_empty() {
        errs.required(format!("{path}.policies"), "must specify at least one Policy");
    }
    for (index, one) in all.iter().enumerate() {
        policy(one, &format!("{path}.policies[{index}]"), errs);
    }
    if let Some(tolerance) = &rules.tolerance
        && metrics::parsed(tolerance).is_negative()
    {
        errs.invalid(format!("{path}.tolerance"), &tolerance.0, "must be greater than or equal to 0");
    }
}

fn policy(policy: &HPAScalingPolicy, path: &str, errs: &mut FieldErrors) {
    let kinds = ["Percent", "Pods"];
    if !kinds.contains(&policy.type_.as_str()) {
        errs.not_supported(format!("{path}.type"), &policy.type_, &kinds);
    }
    if policy.value <= 0 {
        errs.invalid(format!("{path}.value"), policy.value, "must be greater than zero");
    }
    let path = format!("{path}.periodSeconds");
    if policy.period_seconds <= 0 {
        errs.invalid(path, policy.period_seconds, "must be greater than zero");
    } else if policy.period_seconds > MOST_PERIOD {
        errs.invalid(path, policy.period_seconds, format!("must be less than or equal to {MOST_PERIOD}"));
    }
}
