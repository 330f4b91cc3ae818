//! Says for every PodDisruptionBudget how many of its pods may be evicted now. The eviction of pods in control/apiserver
//! takes from that number; this controller alone gives back.
//!
//! Spec: <https://kubernetes.io/docs/tasks/run-application/configure-pdb/>
//! Behaviour: pkg/controller/disruption of Kubernetes v1.36.

mod plan;
mod scales;
mod stale;

use std::sync::Arc;

use corten_api::api::core::v1::Pod;
use corten_api::api::policy::v1::PodDisruptionBudget;
use corten_api::selector::Labels;
use corten_client::{Informer, Key, Next, Queue, Writes, reference};
use kube::ResourceExt;

use crate::context::{Context, Error};
use crate::statuses;
use plan::{Plan, plan};
use scales::Scales;

pub(crate) async fn run(cx: Context) {
    let (budgets, pods) = (cx.informers.of::<PodDisruptionBudget>(), cx.informers.of::<Pod>());
    let scales = Scales::new(&cx);
    let marked = Queue::default();
    let queue = cx.queue.clone();
    budgets.on_change(move |_, new| new.into_iter().for_each(|budget| queue.add(Key::of(budget))));
    let (queue, known, stale) = (cx.queue.clone(), budgets.clone(), marked.clone());
    pods.on_change(move |old, new| {
        let pod = new.or(old);
        for budget in known.list_in(&pod.and_then(ResourceExt::namespace).unwrap_or_default()) {
            if [old, new].into_iter().flatten().any(|pod| selects(&budget, pod)) {
                queue.add(Key::of(&*budget));
            }
        }
        new.filter(|pod| stale::mark(pod).is_some()).into_iter().for_each(|pod| stale.add(Key::of(pod)));
    });
    tokio::join!(budgets.synced(), pods.synced(), scales.synced());
    let conditions = cx.with_queue(marked);
    let known = pods.clone();
    tokio::join!(
        cx.work(4, move |cx, key| sync(cx, budgets.clone(), pods.clone(), scales.clone(), key)),
        conditions.work(1, move |cx, key| stale::sync(cx, known.clone(), key)),
    );
}

/// Whether the budget is about the pod. One without a selector is about none.
fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()).map(Labels::from_selector);
    matches!(selector, Some(Ok(selector)) if selector.matches_optional(pod.metadata.labels.as_ref()))
}

async fn sync(
    cx: Context,
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<Pod>,
    scales: Scales,
    key: Key,
) -> Result<Next, Error> {
    let Some(budget) = budgets.by_key(&key).filter(|own| own.metadata.deletion_timestamp.is_none()) else {
        return Ok(Next::Wait);
    };
    let own: Vec<Arc<Pod>> = pods.list_in(&key.namespace).into_iter().filter(|pod| selects(&budget, pod)).collect();
    let scale = if plan::needs_scale(&budget) { scales.of(&cx, &own).await? } else { Ok(0) };
    let Plan { status, events, overdue, again } = plan(&budget, &own, scale, cx.config.clock.now());
    let clock = &cx.config.clock;
    for event in events {
        let object = reference(&*budget);
        if event.warning {
            cx.recorder.warning(clock, object, event.reason, event.message);
        } else {
            cx.recorder.normal(clock, object, event.reason, event.message);
        }
    }
    for pod in overdue {
        let message = format!("Pod was expected by PDB {key} to be deleted but it wasn't");
        cx.recorder.warning(clock, reference(&*pod), "NotDeleted", message);
    }
    let mut writes = Writes::default();
    if let Some(status) = status {
        // Evictions write to it too: the write is one over what was looked at.
        let before = budget.status.clone().unwrap_or_default();
        statuses::store(&cx, &*budget, &before, &status, &budgets, &mut writes).await?;
    }
    writes.settle().await;
    Ok(again.map_or(Next::Wait, Next::After))
}
