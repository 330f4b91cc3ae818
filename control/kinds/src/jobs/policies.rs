//! What a job makes of the ends of its pods: when it fails, when it succeeds, and when a pod is replaced.

use std::collections::BTreeSet;

use corten_api::api::batch::v1::{
    JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
    SuccessPolicyRule,
};
use corten_api::field::{FieldErrors, Problem};
use corten_api::label;

use super::{indexes, is_indexed};
use crate::counts;

const MOST_RULES: usize = 20;
const MOST_CONDITIONS: usize = 20;
const MOST_EXIT_CODES: usize = 255;
const MOST_INDEXES: usize = 64 << 10;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

pub(super) fn validate(spec: &JobSpec, path: &str, errs: &mut FieldErrors) {
    if let Some(policy) = &spec.pod_failure_policy {
        let path = format!("{path}.podFailurePolicy.rules");
        too_many(policy.rules.len(), MOST_RULES, &path, errs);
        for (index, rule) in policy.rules.iter().enumerate() {
            failure_rule(spec, rule, &format!("{path}[{index}]"), errs);
        }
    }
    if let Some(policy) = &spec.success_policy {
        let path = format!("{path}.successPolicy");
        if is_indexed(spec) {
            let path = format!("{path}.rules");
            if policy.rules.is_empty() {
                let why = "at least one rules must be specified when the successPolicy is specified";
                errs.required(&path, why);
            }
            too_many(policy.rules.len(), MOST_RULES, &path, errs);
            for (index, rule) in policy.rules.iter().enumerate() {
                success_rule(spec, rule, &format!("{path}[{index}]"), errs);
            }
        } else {
            counts::invalid(path, policy, "requires indexed completion mode", errs);
        }
    }
    if let Some(policy) = spec.pod_replacement_policy.as_deref() {
        let supported: &[&str] =
            if spec.pod_failure_policy.is_some() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        if !supported.contains(&policy) {
            errs.not_supported(format!("{path}.podReplacementPolicy"), policy, supported);
        }
    }
}

fn too_many(have: usize, most: usize, path: &str, errs: &mut FieldErrors) {
    if have > most {
        errs.push(path, Problem::TooMany(have, most));
    }
}

/// `valid values: ["a" "b"]`, as upstream lists them.
fn valid_values(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

fn failure_rule(spec: &JobSpec, rule: &PodFailurePolicyRule, path: &str, errs: &mut FieldErrors) {
    let action = rule.action.as_str();
    let action_path = format!("{path}.action");
    match action {
        "" => errs.required(action_path, valid_values(&ACTIONS)),
        "FailIndex" if spec.backoff_limit_per_index.is_none() => {
            errs.invalid(action_path, action, "requires the backoffLimitPerIndex to be set");
        }
        action if !ACTIONS.contains(&action) => errs.not_supported(action_path, action, &ACTIONS),
        _ => {}
    }
    if let Some(codes) = &rule.on_exit_codes {
        exit_codes(spec, codes, &format!("{path}.onExitCodes"), errs);
    }
    let conditions = rule.on_pod_conditions.as_deref().unwrap_or_default();
    if !conditions.is_empty() {
        pod_conditions(conditions, &format!("{path}.onPodConditions"), errs);
    }
    match (rule.on_exit_codes.is_some(), !conditions.is_empty()) {
        (true, true) => {
            errs.unacceptable(path, "specifying both OnExitCodes and OnPodConditions is not supported");
        }
        (false, false) => {
            errs.unacceptable(path, "specifying one of OnExitCodes and OnPodConditions is required");
        }
        _ => {}
    }
}

fn pod_conditions(patterns: &[PodFailurePolicyOnPodConditionsPattern], path: &str, errs: &mut FieldErrors) {
    too_many(patterns.len(), MOST_CONDITIONS, path, errs);
    for (index, pattern) in patterns.iter().enumerate() {
        let path = format!("{path}[{index}]");
        for why in label::key_problems(&pattern.type_) {
            errs.invalid(format!("{path}.type"), &pattern.type_, why);
        }
        match pattern.status.as_deref().unwrap_or_default() {
            "" => errs.required(format!("{path}.status"), valid_values(&STATUSES)),
            status if !STATUSES.contains(&status) => {
                errs.not_supported(format!("{path}.status"), status, &STATUSES);
            }
            _ => {}
        }
    }
}

fn exit_codes(spec: &JobSpec, codes: &PodFailurePolicyOnExitCodesRequirement, path: &str, errs: &mut FieldErrors) {
    let operator = codes.operator.as_str();
    if operator.is_empty() {
        errs.required(format!("{path}.operator"), valid_values(&OPERATORS));
    } else if !OPERATORS.contains(&operator) {
        errs.not_supported(format!("{path}.operator"), operator, &OPERATORS);
    }
    if let Some(name) = &codes.container_name {
        let pod = spec.template.spec.as_ref();
        let inits = pod.and_then(|pod| pod.init_containers.as_deref()).unwrap_or_default();
        let mut containers = pod.into_iter().flat_map(|pod| &pod.containers).chain(inits);
        if !containers.any(|container| container.name == *name) {
            let why = "must be one of the container or initContainer names in the pod template";
            errs.invalid(format!("{path}.containerName"), name, why);
        }
    }
    let path = format!("{path}.values");
    if codes.values.is_empty() {
        errs.invalid(&path, &codes.values, "at least one value is required");
    }
    too_many(codes.values.len(), MOST_EXIT_CODES, &path, errs);
    let mut seen = BTreeSet::new();
    for (index, code) in codes.values.iter().enumerate() {
        if operator == "In" && *code == 0 {
            errs.invalid(format!("{path}[{index}]"), code, "must not be 0 for the In operator");
        }
        if !seen.insert(code) {
            errs.duplicate(format!("{path}[{index}]"), code);
        }
    }
    if !codes.values.is_sorted() {
        counts::invalid(path, &codes.values, "must be ordered", errs);
    }
}

fn success_rule(spec: &JobSpec, rule: &SuccessPolicyRule, path: &str, errs: &mut FieldErrors) {
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        errs.required(path, "at least one of succeededCount or succeededIndexes must be specified");
    }
    // Upstream demands completions of indexed jobs, and says so elsewhere.
    let completions = spec.completions.unwrap_or(0);
    let mut total = None;
    if let Some(text) = &rule.succeeded_indexes {
        let path = format!("{path}.succeededIndexes");
        if text.len() > MOST_INDEXES {
            errs.push(&path, Problem::TooLong(MOST_INDEXES));
        }
        match indexes::count(text, completions) {
            Ok(count) => total = Some(count),
            Err(why) => {
                total = Some(0);
                errs.invalid(&path, text, format!("error parsing succeededIndexes: {why}"));
            }
        }
    }
    let Some(count) = rule.succeeded_count else { return };
    let path = format!("{path}.succeededCount");
    counts::not_negative(Some(count), &path, errs);
    if count > completions {
        let why = format!("must be less than or equal to {completions} (the number of specified completions)");
        errs.invalid(&path, count, why);
    }
    if let Some(total) = total.filter(|total| i64::from(count) > *total) {
        let why = format!(
            "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        );
        errs.invalid(&path, count, why);
    }
}
