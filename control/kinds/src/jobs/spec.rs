//! What may be wrong with a job's spec.
//!
//! Wording and order: pkg/apis/batch/validation of Kubernetes v1.36.

use corten_api::api::batch::v1::{Job, JobSpec};
use corten_api::field::{FieldErrors, Problem};
use corten_api::label;
use corten_api::selector::Labels;

use super::{CONTROLLER_UID, INDEXED, JOB_NAME, OLD_CONTROLLER_UID, OLD_JOB_NAME, is_indexed, policies};
use crate::meta::label_problems;
use crate::pods::template;
use crate::{counts, selectors};

const MOST_MANAGED_BY: usize = 63;
/// Most pods of an indexed job at a time, and most indexes that may fail.
const MOST_INDEXES: i32 = 100_000;
/// The same where there are more than `MOST_INDEXES` completions and each index has its own back-off limit.
const MOST_OF_MANY: i32 = 10_000;

/// A condition that is asked for without a status is asked to hold.
pub(crate) fn default_conditions(spec: &mut JobSpec) {
    let rules = spec.pod_failure_policy.iter_mut().flat_map(|policy| &mut policy.rules);
    for pattern in rules.flat_map(|rule| rule.on_pod_conditions.iter_mut().flatten()) {
        if pattern.status.as_deref().is_none_or(str::is_empty) {
            pattern.status = Some("True".to_owned());
        }
    }
}

/// What the client is to be told of a job with so many indexes that they may be too many to list.
pub(super) fn warning(spec: &JobSpec) -> Option<String> {
    let many = spec.completions.is_some_and(|count| count > MOST_INDEXES)
        && spec.parallelism.is_some_and(|count| count > MOST_OF_MANY);
    let what = "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail";
    (is_indexed(spec) && many).then(|| what.to_owned())
}

pub(super) fn validate(job: &Job, old: Option<&Job>, errs: &mut FieldErrors) {
    let Some(spec) = &job.spec else { return };
    validate_generated(job, spec, old, errs);
    validate_any(spec, "spec", errs);
    match &spec.selector {
        None => errs.required("spec.selector", ""),
        Some(selector) => selectors::labels(selector, "spec.selector", errs),
    }
    if let Some(Ok(parsed)) = spec.selector.as_ref().map(Labels::from_selector) {
        let labels = template::labels(&spec.template);
        if !parsed.matches(&labels) {
            let why = "`selector` does not match template `labels`";
            counts::invalid("spec.template.metadata.labels", &labels, why, errs);
        }
    }
    // The host name of a pod is made of the job's name and the pod's index.
    if let Some(completions) = spec.completions.filter(|count| is_indexed(spec) && *count > 0) {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let longest = format!("{name}-{}", completions - 1);
        if !label_problems(&longest).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {longest}");
            errs.invalid("metadata.name", name, why);
        }
    }
}

/// Labels that were to be generated must be the generated ones.
fn validate_generated(job: &Job, spec: &JobSpec, old: Option<&Job>, errs: &mut FieldErrors) {
    let Some(selector) = spec.selector.as_ref().filter(|_| spec.manual_selector != Some(true)) else { return };
    let uid = job.metadata.uid.clone().unwrap_or_default();
    let name = job.metadata.name.clone().unwrap_or_default();
    if uid.is_empty() {
        errs.required("metadata.uid", "");
    }
    let before = old.and_then(|old| old.spec.as_ref()).map(|spec| template::labels(&spec.template));
    let prefixed = before.is_none_or(|labels| labels.contains_key(JOB_NAME) && labels.contains_key(CONTROLLER_UID));
    let mut expected = vec![(OLD_CONTROLLER_UID, &uid), (OLD_JOB_NAME, &name)];
    if prefixed {
        expected.extend([(CONTROLLER_UID, &uid), (JOB_NAME, &name)]);
    }
    let labels = template::labels(&spec.template);
    for (key, value) in &expected {
        let path = format!("spec.template.metadata.labels[{key}]");
        match labels.get(*key) {
            None => errs.required(path, format!("must be '{value}'")),
            Some(own) if own != *value => counts::invalid(path, &labels, &format!("must be '{value}'"), errs),
            Some(_) => {}
        }
    }
    let expected = expected.into_iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    if Labels::from_selector(selector).is_ok_and(|parsed| !parsed.matches(&expected)) {
        counts::invalid("spec.selector", selector, "`selector` not auto-generated", errs);
    }
}

/// Rules of a job's spec that hold in the template of a cron job too.
pub(crate) fn validate_any(spec: &JobSpec, path: &str, errs: &mut FieldErrors) {
    let whole = |count: Option<i32>| count.map(i64::from);
    let numbers = [
        ("parallelism", whole(spec.parallelism)),
        ("completions", whole(spec.completions)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", whole(spec.backoff_limit)),
        ("ttlSecondsAfterFinished", whole(spec.ttl_seconds_after_finished)),
        ("backoffLimitPerIndex", whole(spec.backoff_limit_per_index)),
        ("maxFailedIndexes", whole(spec.max_failed_indexes)),
    ];
    counts::none_negative(path, &numbers, errs);
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        errs.required(format!("{path}.backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if let Some(manager) = &spec.managed_by {
        validate_managed_by(manager, &format!("{path}.managedBy"), errs);
    }
    match spec.completion_mode.as_deref() {
        Some(INDEXED) => validate_indexed(spec, path, errs),
        Some(other) if other != "NonIndexed" => {
            errs.not_supported(format!("{path}.completionMode"), other, &["NonIndexed", INDEXED]);
        }
        _ => {
            for (field, value) in
                [("backoffLimitPerIndex", spec.backoff_limit_per_index), ("maxFailedIndexes", spec.max_failed_indexes)]
            {
                if let Some(value) = value {
                    errs.invalid(format!("{path}.{field}"), value, "requires indexed completion mode");
                }
            }
        }
    }
    policies::validate(spec, path, errs);
    template::validate(&spec.template, &format!("{path}.template"), errs);
    validate_restart_policy(spec, &format!("{path}.template.spec.restartPolicy"), errs);
}

fn validate_restart_policy(spec: &JobSpec, path: &str, errs: &mut FieldErrors) {
    let policy = spec.template.spec.as_ref().and_then(|pod| pod.restart_policy.as_deref()).unwrap_or_default();
    match policy {
        "" | "Always" => errs.required(path, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if spec.pod_failure_policy.is_some() => {
            errs.invalid(path, policy, "only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" | "Never" => {}
        other => errs.not_supported(path, other, &["OnFailure", "Never"]),
    }
}

fn validate_indexed(spec: &JobSpec, path: &str, errs: &mut FieldErrors) {
    let at = |field: &str| format!("{path}.{field}");
    if spec.completions.is_none() {
        errs.required(at("completions"), format!("when completion mode is {INDEXED}"));
    }
    if let Some(parallelism) = spec.parallelism.filter(|count| *count > MOST_INDEXES) {
        let why = format!("must be less than or equal to {MOST_INDEXES} when completion mode is {INDEXED}");
        errs.invalid(at("parallelism"), parallelism, why);
    }
    if let (Some(completions), Some(failed)) = (spec.completions, spec.max_failed_indexes)
        && failed > completions
    {
        errs.invalid(at("maxFailedIndexes"), failed, "must be less than or equal to completions");
    }
    if let Some(failed) = spec.max_failed_indexes.filter(|count| *count > MOST_INDEXES) {
        errs.invalid(at("maxFailedIndexes"), failed, format!("must be less than or equal to {MOST_INDEXES}"));
    }
    if spec.completions.is_some_and(|count| count > MOST_INDEXES) && spec.backoff_limit_per_index.is_some() {
        if spec.max_failed_indexes.is_none() {
            let why = format!("must be specified when completions is above {MOST_INDEXES}");
            errs.required(at("maxFailedIndexes"), why);
        }
        for (field, value) in [("parallelism", spec.parallelism), ("maxFailedIndexes", spec.max_failed_indexes)] {
            if let Some(value) = value.filter(|count| *count > MOST_OF_MANY) {
                let why = format!(
                    "must be less than or equal to {MOST_OF_MANY} when completions are above {MOST_INDEXES} and used with backoff limit per index"
                );
                errs.invalid(at(field), value, why);
            }
        }
    }
}

/// Somebody else than the job controller, as `example.com/name`.
fn validate_managed_by(manager: &str, path: &str, errs: &mut FieldErrors) {
    if manager.is_empty() {
        return errs.required(path, "");
    }
    match manager.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty()) {
        None => errs.invalid(path, manager, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
        Some((host, rest)) => {
            for why in label::subdomain_problems(host) {
                errs.invalid(path, host, why);
            }
            let of_paths = |c: char| c.is_ascii_alphanumeric() || r"/-._~%!$&'()*+,;=:".contains(c);
            if !rest.chars().all(of_paths) {
                let why = r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
                errs.invalid(path, rest, why);
            }
        }
    }
    if manager.len() > MOST_MANAGED_BY {
        errs.push(path, Problem::TooLong(MOST_MANAGED_BY));
    }
}
