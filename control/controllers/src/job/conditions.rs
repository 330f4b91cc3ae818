//! The conditions of a job.

use corten_api::api::batch::v1::{Job, JobCondition, JobStatus};
use corten_api::meta::Time;
use corten_base::Timestamp;

pub(crate) const COMPLETE: &str = "Complete";
pub(crate) const FAILED: &str = "Failed";
pub(super) const SUSPENDED: &str = "Suspended";
/// It will have failed once its pods have ended.
pub(super) const FAILURE_TARGET: &str = "FailureTarget";
/// It will be complete once its pods have ended.
pub(super) const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";

/// The condition of a type that holds.
pub(super) fn holding<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|own| own.type_ == kind && own.status == "True")
}

/// The condition by which a job is over.
pub(crate) fn finished(job: &Job) -> Option<&JobCondition> {
    let status = job.status.as_ref()?;
    holding(status, COMPLETE).or_else(|| holding(status, FAILED))
}

/// Sets a condition; returns whether that changed anything. What was never so need not be denied.
pub(super) fn set(
    status: &mut JobStatus,
    (kind, value): (&str, bool),
    (reason, message): (&str, &str),
    now: Timestamp,
) -> bool {
    let text = if value { "True" } else { "False" };
    let new = || JobCondition {
        type_: kind.to_owned(),
        status: text.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    let known = status.conditions.iter_mut().flatten().find(|own| own.type_ == kind);
    match known {
        Some(own) if own.status == text => false,
        Some(own) => {
            *own = new();
            true
        }
        None if !value => false,
        None => {
            status.conditions.get_or_insert_default().push(new());
            true
        }
    }
}
