//! Pods that a job's finalizer holds although no job will count them: the job is gone, or over, or they left it.

use corten_api::api::batch::v1::Job;
use corten_api::api::core::v1::Pod;
use corten_api::meta::OwnerReference;
use corten_client::{Informer, Key, Next};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};

use super::members::{is_foreign, is_held};
use super::{finished, freedom};
use crate::context::{Context, Error, or_gone};
use crate::owners;

fn is_job(owner: &OwnerReference) -> bool {
    owner.kind == "Job" && owner.api_version == "batch/v1"
}

/// Whether a job is the owner, and will count its pods.
fn counts(job: &Job, owner: &OwnerReference) -> bool {
    job.metadata.uid.as_ref() == Some(&owner.uid) && (is_foreign(job) || finished(job).is_none())
}

/// Whether nobody will count the pod, as far as the cache knows.
pub(super) fn is_lost(pod: &Pod, jobs: &Informer<Job>) -> bool {
    let Some(owner) = owners::controller(&pod.metadata) else { return true };
    let job = jobs.get(&pod.namespace().unwrap_or_default(), &owner.name);
    is_job(owner) && job.is_none_or(|job| !counts(&job, owner))
}

pub(super) async fn sync(cx: Context, pods: Informer<Pod>, key: Key) -> Result<Next, Error> {
    let Some(pod) = pods.by_key(&key).filter(|pod| is_held(pod)) else { return Ok(Next::Wait) };
    if let Some(owner) = owners::controller(&pod.metadata) {
        // A live look: the cache may not know a job yet.
        let jobs: Api<Job> = Api::namespaced(cx.client.clone(), &key.namespace);
        if !is_job(owner) || jobs.get_opt(&owner.name).await?.is_some_and(|job| counts(&job, owner)) {
            return Ok(Next::Wait);
        }
    }
    let mut patch = freedom(&pod);
    // Only as it was looked at: somebody may have adopted it meanwhile.
    patch["metadata"]["resourceVersion"] = pod.resource_version().into();
    let api: Api<Pod> = Api::namespaced(cx.client.clone(), &key.namespace);
    or_gone(api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await)?;
    Ok(Next::Wait)
}
