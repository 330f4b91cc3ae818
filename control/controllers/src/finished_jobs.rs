//! Deletes jobs that have been over for as long as they asked to be kept.
//!
//! Spec: <https://kubernetes.io/docs/concepts/workloads/controllers/ttlafterfinished/>

use std::time::Duration;

use corten_api::api::batch::v1::Job;
use corten_base::Timestamp;
use corten_client::{Informer, Key, Next};
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};

use crate::context::{Context, Error, or_gone};
use crate::job::finished;

pub(crate) async fn run(cx: Context) {
    let jobs = cx.informers.of::<Job>();
    let queue = cx.queue.clone();
    jobs.on_change(move |_, new| {
        new.filter(|job| expiry(job).is_some()).into_iter().for_each(|job| queue.add(Key::of(job)));
    });
    jobs.synced().await;
    cx.work(2, move |cx, key| sync(cx, jobs.clone(), key)).await;
}

/// When a job may go.
fn expiry(job: &Job) -> Option<Timestamp> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let end = finished(job).filter(|_| job.metadata.deletion_timestamp.is_none())?;
    let end = end.last_transition_time.as_ref()?.0;
    end.checked_add(Duration::from_secs(seconds.max(0).unsigned_abs().into())).ok()
}

async fn sync(cx: Context, jobs: Informer<Job>, key: Key) -> Result<Next, Error> {
    let known = jobs.by_key(&key);
    let Some((job, expiry)) = known.and_then(|job| expiry(&job).map(|expiry| (job, expiry))) else {
        return Ok(Next::Wait);
    };
    let left = Duration::try_from(expiry.duration_since(cx.config.clock.now())).unwrap_or_default();
    if !left.is_zero() {
        return Ok(Next::After(left));
    }
    // Only as it was looked at: its time may have been changed, and then the watch tells.
    let only = Preconditions { uid: job.uid(), resource_version: job.resource_version() };
    let api: Api<Job> = Api::namespaced(cx.client.clone(), &key.namespace);
    match or_gone(api.delete(&key.name, &DeleteParams::foreground().preconditions(only)).await) {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        result => drop(result?),
    }
    Ok(Next::Wait)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_jobs_that_are_over_and_say_how_long_they_are_kept_go() {
        let job = |ttl: Option<i32>, end: Option<&str>| {
            let conditions: Vec<_> = end
                .iter()
                .map(|end| json!({"type": end, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}))
                .collect();
            let object = json!({"metadata": {}, "spec": {"ttlSecondsAfterFinished": ttl, "template": {}}, "status": {"conditions": conditions}});
            expiry(&serde_json::from_value(object).expect("a job")).map(|at| at.to_string())
        };
        assert_eq!(job(Some(90), Some("Complete")).as_deref(), Some("2026-01-01T00:01:30Z"));
        assert_eq!(job(Some(0), Some("Failed")).as_deref(), Some("2026-01-01T00:00:00Z"));
        assert_eq!(job(Some(0), Some("SuccessCriteriaMet")), None);
        assert_eq!(job(None, Some("Complete")), None);
        assert_eq!(job(Some(90), None), None);
    }
}
