//! Runs the pods of every Job to their end, and counts each end once.
//!
//! Spec: <https://kubernetes.io/docs/concepts/workloads/controllers/job/>
//! Behaviour: pkg/controller/job of Kubernetes v1.36.
//! Invariant: a pod's end is in the status before its finalizer goes, so that none is counted twice and none is lost.

mod backoff;
mod conditions;
mod indexes;
mod members;
mod orphans;
mod plan;
mod policy;
mod retries;
mod template;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corten_api::api::batch::v1::Job;
use corten_api::api::core::v1::Pod;
use corten_api::selector::Labels;
use corten_client::{Informer, Key, Next, Queue, Writes, reference};
use futures::future::join_all;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::claims::{self, Claims};
use crate::context::{Context, Error, namespace_ends, or_gone};
use crate::pods::is_active;
use crate::{own_pods, owners, statuses};
use backoff::Backoff;
pub(crate) use conditions::{COMPLETE, finished};
use members::{FINALIZER, is_foreign, is_held};
use plan::{Event, Plan, count, plan};
use template::Identity;

/// Time for a cache to see a write that it should have seen.
const SOON: Duration = Duration::from_millis(100);

pub(crate) async fn run(cx: Context) {
    let (jobs, pods) = (cx.informers.of::<Job>(), cx.informers.of::<Pod>());
    let orphans = Queue::default();
    let (queue, lost, known) = (cx.queue.clone(), orphans.clone(), pods.clone());
    jobs.on_change(move |old, new| {
        new.or(old).into_iter().for_each(|job| queue.add(Key::of(job)));
        let Some(gone) = old.filter(|old| new.is_none_or(|new| new.uid() != old.uid())) else { return };
        let left = known.list_in(&gone.namespace().unwrap_or_default());
        let own = left.iter().filter(|pod| is_held(pod) && owners::is_controlled_by(&pod.metadata, &gone.metadata));
        own.for_each(|pod| lost.add(Key::of(&**pod)));
    });
    let (queue, lost, known) = (cx.queue.clone(), orphans.clone(), jobs.clone());
    pods.on_change(move |old, new| {
        for pod in [old, new].into_iter().flatten() {
            let namespace = pod.namespace().unwrap_or_default();
            match owners::controller(&pod.metadata) {
                Some(owner) if owner.kind == "Job" => queue.add(Key::new(namespace, &*owner.name)),
                Some(_) => {}
                // An orphan may be adopted.
                None => {
                    let all = known.list_in(&namespace);
                    let may = all.iter().filter(|job| finished(job).is_none() && selects(job, pod));
                    may.for_each(|job| queue.add(Key::of(&**job)));
                }
            }
        }
        if let Some(pod) = new.filter(|pod| is_held(pod) && orphans::is_lost(pod, &known)) {
            lost.add(Key::of(pod));
        }
    });
    tokio::join!(jobs.synced(), pods.synced());
    let caches = Caches { jobs, pods, memory: Arc::default() };
    let rest = cx.with_queue(orphans);
    let pods = caches.pods.clone();
    tokio::join!(
        cx.work(8, move |cx, key| sync(cx, caches.clone(), key)),
        rest.work(2, move |cx, key| orphans::sync(cx, pods.clone(), key)),
    );
}

#[derive(Clone)]
struct Caches {
    jobs: Informer<Job>,
    pods: Informer<Pod>,
    memory: Arc<Mutex<HashMap<Key, Memory>>>,
}

/// What this process remembers of a job.
#[derive(Clone, Debug, Default)]
struct Memory {
    uid: String,
    backoff: Backoff,
    /// The version of the job as it was last written here.
    version: u64,
}

impl Caches {
    fn remembered(&self, key: &Key, uid: &str) -> Option<Memory> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.get(key).filter(|memory| memory.uid == uid).cloned()
    }

    fn remember(&self, key: &Key, memory: Option<Memory>) {
        let mut all = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        match memory {
            Some(memory) => drop(all.insert(key.clone(), memory)),
            None => drop(all.remove(key)),
        }
    }
}

fn version(job: &Job) -> u64 {
    job.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn selects(job: &Job, pod: &Pod) -> bool {
    let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref()).map(Labels::from_selector);
    matches!(selector, Some(Ok(selector)) if selector.matches_optional(pod.metadata.labels.as_ref()))
}

async fn sync(cx: Context, caches: Caches, key: Key) -> Result<Next, Error> {
    let job = caches.jobs.by_key(&key).filter(|job| finished(job).is_none());
    let Some(job) = job.filter(|job| !is_foreign(job)) else {
        caches.remember(&key, None);
        return Ok(Next::Wait);
    };
    let uid = job.uid().unwrap_or_default();
    let memory = caches.remembered(&key, &uid);
    // What an older status does not count yet may have lost its finalizer already.
    if memory.as_ref().is_some_and(|memory| version(&job) < memory.version) {
        return Ok(Next::After(SOON));
    }
    let mut writes = Writes::default();
    let result = act(&cx, &caches, &key, &job, memory, &mut writes).await;
    // Also after a failure: what was written must be seen before the next look.
    writes.settle().await;
    Ok(result?.map_or(Next::Wait, Next::After))
}

async fn act(
    cx: &Context,
    caches: &Caches,
    key: &Key,
    job: &Job,
    memory: Option<Memory>,
    writes: &mut Writes,
) -> Result<Option<Duration>, Error> {
    let own = claim(cx, job, &caches.pods, writes).await?;
    let mut plan = plan(job, &own, memory.as_ref().map(|memory| &memory.backoff), cx.config.clock.now());
    let api: Api<Pod> = Api::namespaced(cx.client.clone(), &key.namespace);
    if plan.free_first {
        free(&api, &plan.delete, caches, writes).await?;
    }
    own_pods::delete(cx, job, &plan.delete, &caches.pods, writes).await?;
    let (missing, failure) = create(cx, job, &plan, &caches.pods, writes).await;
    if let Some(status) = plan.status.as_mut().filter(|_| missing > 0) {
        status.active = status.active.map(|active| active - count(missing)).filter(|active| *active > 0);
    }
    let mut memory = Memory {
        uid: job.uid().unwrap_or_default(),
        backoff: plan.backoff.clone(),
        version: memory.map_or(0, |memory| memory.version),
    };
    if let Some(status) = plan.status.as_ref().filter(|status| job.status.as_ref() != Some(*status)) {
        let before = job.status.clone().unwrap_or_default();
        let written = statuses::store(cx, job, &before, status, &caches.jobs, writes).await?;
        let Some(written) = written else { return Ok(None) };
        memory.version = version(&written);
    }
    caches.remember(key, Some(memory));
    plan.events.iter().for_each(|event| tell(cx, job, event));
    free(&api, &plan.let_go, caches, writes).await?;
    failure.map_or(Ok(plan.again), Err)
}

/// The pods of a job: takes in those without an owner that it selects, and lets go of those that it no longer does.
async fn claim(cx: &Context, job: &Job, pods: &Informer<Pod>, writes: &mut Writes) -> Result<Vec<Arc<Pod>>, Error> {
    let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref()).map(Labels::from_selector);
    let Some(Ok(selector)) = selector else { return Ok(Vec::new()) };
    let mut claims = Claims::of(&job.metadata, &selector, &pods.list_in(&job.namespace().unwrap_or_default()));
    // The end of an orphan may have been counted before it was one.
    claims.adopt.retain(|pod| is_active(pod));
    claims.own.retain(|pod| is_active(pod) || owners::is_controlled_by(&pod.metadata, &job.metadata));
    claims::settle(cx, job, &claims, &[FINALIZER], pods, writes).await?;
    Ok(claims.own)
}

fn tell(cx: &Context, job: &Job, event: &Event) {
    let (clock, job) = (&cx.config.clock, reference(job));
    if event.warning {
        cx.recorder.warning(clock, job, &event.reason, &*event.message);
    } else {
        cx.recorder.normal(clock, job, &event.reason, &*event.message);
    }
}

/// Takes the finalizer from a pod.
/// Holds these pods no longer.
async fn free(api: &Api<Pod>, pods: &[Arc<Pod>], caches: &Caches, writes: &mut Writes) -> Result<(), Error> {
    let all = join_all(pods.iter().map(|pod| let_go(api, pod))).await;
    for result in all {
        result?.iter().for_each(|pod| writes.note(&caches.pods, pod));
    }
    Ok(())
}

async fn let_go(api: &Api<Pod>, pod: &Pod) -> Result<Option<Pod>, Error> {
    let patch = Patch::Strategic(freedom(pod));
    Ok(or_gone(api.patch(&pod.name_any(), &PatchParams::default(), &patch).await)?)
}

fn freedom(pod: &Pod) -> Value {
    json!({"metadata": {"uid": pod.uid(), "$deleteFromPrimitiveList/finalizers": [FINALIZER]}})
}

/// Makes the pods of the plan; returns how many of them it could not make, and why, if that is a failure.
async fn create(
    cx: &Context,
    job: &Job,
    plan: &Plan,
    pods: &Informer<Pod>,
    writes: &mut Writes,
) -> (usize, Option<Error>) {
    let Some(spec) = &job.spec else { return (0, None) };
    let api: Api<Pod> = Api::namespaced(cx.client.clone(), &job.namespace().unwrap_or_default());
    let event = |warning, reason: &str, message| Event { warning, reason: reason.to_owned(), message };
    // One, then twice as many each time: a template that is refused is refused once, not a hundred times.
    let (mut left, mut batch) = (plan.create.as_slice(), 1);
    while !left.is_empty() {
        let (now, rest) = left.split_at(batch.min(left.len()));
        let new = |identity: &Identity| {
            let (api, pod) = (api.clone(), template::pod(job, spec, identity));
            async move { api.create(&PostParams::default(), &pod).await }
        };
        let (mut refused, mut failure) = (0, None);
        for result in join_all(now.iter().map(new)).await {
            match result {
                Ok(pod) => {
                    writes.note(pods, &pod);
                    tell(cx, job, &event(false, "SuccessfulCreate", format!("Created pod: {}", pod.name_any())));
                }
                Err(error) => (refused, failure) = (refused + 1, Some(error)),
            }
        }
        if let Some(error) = failure {
            // Nothing can be made where all is about to go.
            let ends = namespace_ends(&error);
            if !ends {
                tell(cx, job, &event(true, "FailedCreate", format!("Error creating: {error}")));
            }
            return (refused + rest.len(), Some(error.into()).filter(|_| !ends));
        }
        (left, batch) = (rest, batch * 2);
    }
    (0, None)
}
