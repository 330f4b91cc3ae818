//! What may be wrong with a job's status, whoever manages it.
//!
//! Rules that a status may break already are asked only about what the write changes.

use std::collections::BTreeSet;

use corten_api::api::batch::v1::{Job, JobStatus};
use corten_api::field::FieldErrors;

use super::{holds, indexes, is_indexed};
use crate::counts;

pub(super) fn validate(new: &Job, old: &Job, errs: &mut FieldErrors) {
    let (status, before) = (new.status.clone().unwrap_or_default(), old.status.clone().unwrap_or_default());
    numbers(&status, errs);
    uncounted(&status, errs);
    finished(new, &status, &before, errs);
    listed_indexes(new, &status, &before, errs);
    success(new, &status, errs);
    transitions(new, &status, &before, errs);
}

fn is(status: &JobStatus, condition: &str) -> bool {
    holds(status.conditions.as_deref(), condition)
}

fn is_finished(status: &JobStatus) -> bool {
    is(status, "Complete") || is(status, "Failed")
}

fn numbers(status: &JobStatus, errs: &mut FieldErrors) {
    let numbers = [
        ("active", status.active),
        ("succeeded", status.succeeded),
        ("failed", status.failed),
        ("ready", status.ready),
        ("terminating", status.terminating),
    ];
    counts::none_negative("status", &numbers.map(|(field, count)| (field, count.map(i64::from))), errs);
}

/// Pods whose end is not counted yet: a job's finalizer holds each until it is, so none may be counted twice.
fn uncounted(status: &JobStatus, errs: &mut FieldErrors) {
    let Some(pods) = &status.uncounted_terminated_pods else { return };
    let mut seen = BTreeSet::new();
    for (field, uids) in [("succeeded", &pods.succeeded), ("failed", &pods.failed)] {
        for (index, uid) in uids.iter().flatten().enumerate() {
            let path = format!("status.uncountedTerminatedPods.{field}[{index}]");
            if uid.is_empty() {
                errs.invalid(path, uid, "must not be empty");
            } else if !seen.insert(uid) {
                errs.duplicate(path, uid);
            }
        }
    }
}

fn finished(job: &Job, status: &JobStatus, before: &JobStatus, errs: &mut FieldErrors) {
    let changed = |condition: &str| is(status, condition) != is(before, condition);
    let (complete, failed, done) = (is(status, "Complete"), is(status, "Failed"), is_finished(status));
    let finishes = is_finished(before) != done;
    let start = status.start_time != before.start_time;
    let completion = status.completion_time != before.completion_time;
    if complete && failed && (changed("Complete") || changed("Failed")) {
        errs.unacceptable("status.conditions", "cannot set Complete=True and Failed=true conditions");
    }
    if complete && is(status, "FailureTarget") && (changed("Complete") || changed("FailureTarget")) {
        errs.unacceptable("status.conditions", "cannot set Complete=True and FailureTarget=true conditions");
    }
    let path = "status.completionTime";
    if changed("Complete") || completion {
        if status.completion_time.is_some() && !complete {
            let why = "cannot set completionTime when there is no Complete=True condition";
            counts::invalid(path, &status.completion_time, why, errs);
        }
        if status.completion_time.is_none() && complete {
            errs.required(path, "completionTime is required for Complete jobs");
        }
    }
    if (start || completion)
        && let (Some(start), Some(end)) = (&status.start_time, &status.completion_time)
        && end < start
    {
        counts::invalid(path, end, "completionTime cannot be set before startTime", errs);
    }
    if failed && !is(status, "FailureTarget") && (changed("Failed") || changed("FailureTarget")) {
        let why = "cannot set Failed=True condition without the FailureTarget=true condition";
        errs.unacceptable("status.conditions", why);
    }
    if complete && !is(status, "SuccessCriteriaMet") && (changed("Complete") || changed("SuccessCriteriaMet")) {
        let why = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        errs.unacceptable("status.conditions", why);
    }
    let active = status.active.unwrap_or(0);
    if done && active > 0 && (finishes || status.active != before.active) {
        errs.invalid("status.active", active, "active>0 is invalid for finished job");
    }
    if done && status.start_time.is_none() && (finishes || start) {
        errs.required("status.startTime", "startTime is required for finished job");
    }
    let pods = &status.uncounted_terminated_pods;
    let waiting =
        pods.as_ref().is_some_and(|pods| pods.failed.iter().chain(&pods.succeeded).any(|uids| !uids.is_empty()));
    if done && waiting && (finishes || *pods != before.uncounted_terminated_pods) {
        let why = "uncountedTerminatedPods needs to be empty for finished job";
        counts::invalid("status.uncountedTerminatedPods", pods, why, errs);
    }
    if let Some(count) = status.terminating.filter(|count| done && *count > 0)
        && (finishes || status.terminating != before.terminating)
    {
        errs.invalid("status.terminating", count, "terminating>0 is invalid for finished job");
    }
    if let Some(ready) = status.ready.filter(|ready| *ready > active)
        && (status.ready != before.ready || status.active != before.active)
    {
        errs.invalid("status.ready", ready, "cannot set more ready pods than active");
    }
    let suspended = job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true));
    if before.start_time.is_some() && start && !suspended {
        errs.required("status.startTime", "startTime cannot be removed for unsuspended job");
    }
}

fn listed_indexes(job: &Job, status: &JobStatus, before: &JobStatus, errs: &mut FieldErrors) {
    let spec = job.spec.clone().unwrap_or_default();
    let completed = status.completed_indexes.as_deref().unwrap_or_default();
    let completed_change = status.completed_indexes != before.completed_indexes;
    let failed_change = status.failed_indexes != before.failed_indexes;
    let (completed_path, failed_path) = ("status.completedIndexes", "status.failedIndexes");
    if completed_change {
        if let Some(Err(why)) = spec.completions.map(|count| indexes::count(completed, count)) {
            errs.invalid(completed_path, completed, format!("error parsing completedIndexes: {why}"));
        }
        if !completed.is_empty() && !is_indexed(&spec) {
            let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
            errs.invalid(completed_path, completed, why);
        }
    }
    let Some(failed) = status.failed_indexes.as_deref() else { return };
    if failed_change {
        match (spec.completions, spec.backoff_limit_per_index) {
            (_, None) => {
                let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
                errs.invalid(failed_path, failed, why);
            }
            (Some(count), Some(_)) => {
                if let Err(why) = indexes::count(failed, count) {
                    errs.invalid(failed_path, failed, format!("error parsing failedIndexes: {why}"));
                }
            }
            (None, Some(_)) => {}
        }
    }
    let common = spec.completions.and_then(|count| indexes::common(completed, failed, count));
    if let Some(index) = common.filter(|_| completed_change || failed_change) {
        let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errs.invalid(failed_path, failed, why);
    }
}

fn success(job: &Job, status: &JobStatus, errs: &mut FieldErrors) {
    let path = "status.conditions";
    let met = is(status, "SuccessCriteriaMet");
    if met && is(status, "Failed") {
        errs.unacceptable(path, "cannot set SuccessCriteriaMet=True and Failed=true conditions");
    }
    if met && is(status, "FailureTarget") {
        errs.unacceptable(path, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    }
    let has_policy = job.spec.as_ref().is_some_and(|spec| spec.success_policy.is_some());
    if has_policy && !met && is(status, "Complete") {
        errs.unacceptable(path, "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True");
    }
}

/// What ended stays ended, and counts only grow.
fn transitions(job: &Job, status: &JobStatus, before: &JobStatus, errs: &mut FieldErrors) {
    let path = "status.conditions";
    for condition in ["Failed", "Complete", "FailureTarget"] {
        if is(before, condition) && !is(status, condition) {
            errs.unacceptable(path, format!("cannot disable the terminal {condition}=True condition"));
        }
    }
    if status.failed.unwrap_or(0) < before.failed.unwrap_or(0) {
        errs.invalid("status.failed", status.failed.unwrap_or(0), "cannot decrease the failed counter");
    }
    // An indexed job that runs all its indexes at a time can shrink.
    let spec = job.spec.clone().unwrap_or_default();
    let elastic = is_indexed(&spec) && spec.completions == spec.parallelism;
    if !elastic && status.succeeded.unwrap_or(0) < before.succeeded.unwrap_or(0) {
        errs.invalid("status.succeeded", status.succeeded.unwrap_or(0), "cannot decrease the succeeded counter");
    }
    let (new, old) = (&status.completion_time, &before.completion_time);
    if new.is_some() && old.is_some() && new != old {
        counts::invalid("status.completionTime", new, "completionTime cannot be mutated", errs);
    }
    if is(before, "SuccessCriteriaMet") && !is(status, "SuccessCriteriaMet") {
        errs.unacceptable(path, "cannot disable the SuccessCriteriaMet=True condition");
    }
    if is(before, "Complete") && !is(before, "SuccessCriteriaMet") && is(status, "SuccessCriteriaMet") {
        let why = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errs.unacceptable(path, why);
    }
}
