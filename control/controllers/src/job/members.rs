//! What a job asks of its pods.

use std::sync::Arc;
use std::time::Duration;

use corten_api::api::batch::v1::{Job, JobSpec};
use corten_api::api::core::v1::Pod;
use corten_base::Timestamp;
use corten_client::Key;

use crate::pods::{has_ended, is_active, is_ready, phase, ready_since, restarts};

/// Holds a pod until its end is counted.
pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Which index a pod works on; as annotation and as label.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How many pods of its index failed before a pod.
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// How many of them the failure policy lets pass.
pub(super) const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// A pod of a job.
pub(super) struct Member<'a> {
    pub(super) pod: &'a Arc<Pod>,
    pub(super) uid: &'a str,
    /// Its index, if it is one that the job has.
    pub(super) index: Option<i32>,
    /// Whether its end is still to be counted.
    pub(super) held: bool,
    pub(super) active: bool,
    /// Ordered to end, but not yet at its end.
    pub(super) terminating: bool,
    pub(super) succeeded: bool,
    /// Whether the job takes it for failed.
    pub(super) failed: bool,
}

impl<'a> Member<'a> {
    pub(super) fn of(spec: &JobSpec, pod: &'a Arc<Pod>) -> Self {
        let deleted = pod.metadata.deletion_timestamp.is_some();
        let succeeded = phase(pod) == "Succeeded";
        let end = spec.completions.filter(|_| is_indexed(spec));
        Self {
            pod,
            uid: pod.metadata.uid.as_deref().unwrap_or_default(),
            index: end.and_then(|end| annotation(pod, INDEX).filter(|index| (0..end).contains(index))),
            held: is_held(pod),
            active: is_active(pod),
            terminating: deleted && !has_ended(pod),
            succeeded,
            // A pod that is lost with its node never says that it failed.
            failed: phase(pod) == "Failed" || (deleted && !succeeded && !replaces_only_failed(spec)),
        }
    }

    pub(super) fn ready(&self) -> bool {
        is_ready(self.pod)
    }

    /// How many pods of its index failed before it, and how many of these did not matter.
    pub(super) fn failures_before(&self) -> (i32, i32) {
        let count = |key| annotation(self.pod, key).unwrap_or(0).max(0);
        (count(FAILURES), count(IGNORED_FAILURES))
    }

    /// Who is deleted first, smallest first: without a node, pending, unready, ready for a short time, often
    /// restarted, young.
    pub(super) fn deletion_rank(&self) -> impl Ord + use<> {
        let pod = self.pod;
        let assigned = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()).is_some_and(|name| !name.is_empty());
        let phase = match phase(pod) {
            "Pending" => 0,
            "Running" => 2,
            _ => 1,
        };
        let later_first = |at: Option<Timestamp>| std::cmp::Reverse(at.map(|at| at.as_second()));
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let ready = later_first(ready_since(pod));
        (assigned, phase, is_ready(pod), ready, -restarts(pod), later_first(created), Key::of(&**pod))
    }
}

fn annotation(pod: &Pod, key: &str) -> Option<i32> {
    pod.metadata.annotations.as_ref()?.get(key)?.parse().ok()
}

pub(super) fn is_held(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|own| own == FINALIZER)
}

pub(super) fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// Whether a pod that is about to end is replaced only when it has.
pub(super) fn replaces_only_failed(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some()
}

/// Whether somebody else takes care of the job.
pub(super) fn is_foreign(job: &Job) -> bool {
    let manager = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
    manager.is_some_and(|manager| manager != "kubernetes.io/job-controller")
}

/// When a pod came to its end, as well as that can be known.
pub(super) fn finished_at(pod: &Pod) -> Timestamp {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let ends: Option<Vec<Timestamp>> =
        containers.iter().map(|own| Some(own.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0)).collect();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let unready = conditions.iter().find(|own| own.type_ == "Ready" && own.status == "False");
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
    let grace = Duration::from_secs(grace.max(0).unsigned_abs());
    ends.and_then(|ends| ends.into_iter().max())
        .or_else(|| Some(unready?.last_transition_time.as_ref()?.0))
        .or_else(|| Some(pod.metadata.deletion_timestamp.as_ref()?.0 - grace))
        .or_else(|| Some(pod.metadata.creation_timestamp.as_ref()?.0))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}
