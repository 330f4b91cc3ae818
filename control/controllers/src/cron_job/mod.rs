//! Makes the jobs of every CronJob at the times of its schedule, and keeps the last few.
//!
//! Spec: <https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/>
//! Behaviour: pkg/controller/cronjob of Kubernetes v1.36.

mod plan;
#[cfg(test)]
mod tests;

use corten_api::api::batch::v1::{CronJob, Job};
use corten_client::{Informer, Key, Next, Writes, reference};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};

use crate::context::{Context, Error, or_gone};
use crate::{owners, statuses};
use plan::{Event, Plan, plan, with_started};

pub(crate) async fn run(cx: Context) {
    let (crons, jobs) = (cx.informers.of::<CronJob>(), cx.informers.of::<Job>());
    let queue = cx.queue.clone();
    crons.on_change(move |old, new| new.or(old).into_iter().for_each(|cron| queue.add(Key::of(cron))));
    let queue = cx.queue.clone();
    jobs.on_change(move |old, new| {
        for job in [old, new].into_iter().flatten() {
            if let Some(owner) = owners::controller(&job.metadata).filter(|owner| owner.kind == "CronJob") {
                queue.add(Key::new(job.namespace().unwrap_or_default(), &*owner.name));
            }
        }
    });
    tokio::join!(crons.synced(), jobs.synced());
    cx.work(5, move |cx, key| sync(cx, crons.clone(), jobs.clone(), key)).await;
}

async fn sync(cx: Context, crons: Informer<CronJob>, jobs: Informer<Job>, key: Key) -> Result<Next, Error> {
    let Some(cron) = crons.by_key(&key) else { return Ok(Next::Wait) };
    let all = jobs.list_in(&key.namespace).into_iter();
    let own: Vec<_> = all.filter(|job| owners::is_controlled_by(&job.metadata, &cron.metadata)).collect();
    let plan = plan(&cron, &own, cx.config.clock.now());
    let again = plan.again;
    let mut writes = Writes::default();
    let result = carry_out(&cx, &cron, plan, &crons, &jobs, &mut writes).await;
    writes.settle().await;
    result?;
    Ok(again.map_or(Next::Wait, Next::After))
}

async fn carry_out(
    cx: &Context,
    cron: &CronJob,
    plan: Plan,
    crons: &Informer<CronJob>,
    jobs: &Informer<Job>,
    writes: &mut Writes,
) -> Result<(), Error> {
    let api: Api<Job> = Api::namespaced(cx.client.clone(), &cron.namespace().unwrap_or_default());
    let told = plan.events.iter();
    told.for_each(|event| tell(cx, cron, event));
    for job in &plan.delete {
        let preconditions = Preconditions { uid: job.uid(), resource_version: None };
        match or_gone(api.delete(&job.name_any(), &DeleteParams::background().preconditions(preconditions)).await) {
            Ok(None) => {}
            Ok(Some(either)) => {
                either.map_left(|job| writes.note(jobs, &job));
                tell(cx, cron, &Event::normal("SuccessfulDelete", format!("Deleted job {}", job.name_any())));
            }
            Err(error) => {
                tell(cx, cron, &Event::warning("FailedDelete", format!("Deleted job: {error}")));
                return Err(error.into());
            }
        }
    }
    let mut status = plan.status;
    if let Some((new, at)) = &plan.create {
        let started = match api.create(&PostParams::default(), new).await {
            Ok(job) => {
                tell(cx, cron, &Event::normal("SuccessfulCreate", format!("Created job {}", job.name_any())));
                Some(job)
            }
            // Made before, and not written down; or somebody else's, which then stands for it.
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => api
                .get_opt(&new.name_any())
                .await?
                .filter(|job| owners::is_controlled_by(&job.metadata, &cron.metadata)),
            Err(error) => {
                tell(cx, cron, &Event::warning("FailedCreate", format!("Error creating job: {error}")));
                return Err(error.into());
            }
        };
        if let Some(job) = started {
            writes.note(jobs, &job);
            status = with_started(status, &job, *at);
        }
    }
    let before = cron.status.clone().unwrap_or_default();
    statuses::write(cx, cron, &before, &status, crons, writes).await
}

fn tell(cx: &Context, cron: &CronJob, event: &Event) {
    let (clock, cron) = (&cx.config.clock, reference(cron));
    if event.warning {
        cx.recorder.warning(clock, cron, event.reason, &*event.message);
    } else {
        cx.recorder.normal(clock, cron, event.reason, &*event.message);
    }
}
