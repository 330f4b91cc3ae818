//! Keeps `spec.replicas` pods alive for every ReplicaSet, and for every ReplicationController, which is the same without
//! selectors that have operators.
//!
//! Spec: <https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/>
//! Behaviour: pkg/controller/replicaset of Kubernetes v1.36.
//! Invariant: never touches a pod that another controller owns.

mod kinds;
mod plan;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use corten_api::api::apps::v1::ReplicaSet;
use corten_api::api::core::v1::{Pod, ReplicationController};
use corten_client::{Informer, Key, Next, Writes};
use kube::ResourceExt;

use crate::context::{Context, Error};
use crate::{claims, own_pods, owners, statuses};
use kinds::Replicated;
use plan::{Plan, plan};

/// The controller of ReplicaSets.
pub(crate) async fn sets(cx: Context) {
    run::<ReplicaSet>(cx).await;
}

/// The controller of ReplicationControllers.
pub(crate) async fn controllers(cx: Context) {
    run::<ReplicationController>(cx).await;
}

async fn run<K: Replicated>(cx: Context) {
    let (sets, pods) = (cx.informers.of::<K>(), cx.informers.of::<Pod>());
    let queue = cx.queue.clone();
    sets.on_change(move |old, new| new.or(old).into_iter().for_each(|set| queue.add(Key::of(set))));
    let (queue, known) = (cx.queue.clone(), sets.clone());
    pods.on_change(move |old, new| {
        for pod in [old, new].into_iter().flatten() {
            let namespace = pod.namespace().unwrap_or_default();
            match owners::controller(&pod.metadata) {
                Some(owner) if owner.kind == K::kind(&()) => queue.add(Key::new(namespace, &*owner.name)),
                Some(_) => {}
                // An orphan may be adopted.
                None => known.list_in(&namespace).iter().for_each(|set| queue.add(Key::of(&**set))),
            }
        }
    });
    tokio::join!(sets.synced(), pods.synced());
    let caches = Arc::new(Caches { sets, pods });
    cx.work(8, move |cx, key| sync(cx, Arc::clone(&caches), key)).await;
}

struct Caches<K> {
    sets: Informer<K>,
    pods: Informer<Pod>,
}

async fn sync<K: Replicated>(cx: Context, caches: Arc<Caches<K>>, key: Key) -> Result<Next, Error> {
    let Some(set) = caches.sets.by_key(&key) else { return Ok(Next::Wait) };
    let related = related(&*set, &caches.sets);
    let plan = plan(&*set, &caches.pods.list_in(&key.namespace), &related, cx.config.clock.now());
    let again = plan.again;
    let mut writes = Writes::default();
    let result = carry_out(&cx, &*set, plan, &caches, &mut writes).await;
    // Also after a failure: what was written must be seen before the next look.
    writes.settle().await;
    result?;
    Ok(again.map_or(Next::Wait, Next::After))
}

/// UIDs of the sets that the same owner has, this one among them: their pods do the same work.
fn related<K: Replicated>(set: &K, sets: &Informer<K>) -> Vec<String> {
    let own = set.uid().unwrap_or_default();
    let Some(owner) = owners::controller(set.meta()) else { return vec![own] };
    let of_owner = |other: &&Arc<K>| owners::controller(other.meta()).is_some_and(|known| known.uid == owner.uid);
    let namespace = set.namespace().unwrap_or_default();
    sets.list_in(&namespace).iter().filter(of_owner).filter_map(|other| other.uid()).collect()
}

async fn carry_out<K: Replicated>(
    cx: &Context,
    set: &K,
    plan: Plan,
    caches: &Caches<K>,
    writes: &mut Writes,
) -> Result<(), Error> {
    let Caches { sets, pods } = caches;
    claims::settle(cx, set, &plan.claims, &[], pods, writes).await?;
    let now = cx.config.clock.now();
    let (result, reason) = if plan.create.is_empty() {
        (own_pods::delete(cx, set, &plan.delete, pods, writes).await, "FailedDelete")
    } else {
        (own_pods::create(cx, set, plan.create, pods, writes).await, "FailedCreate")
    };
    let failure = result.as_ref().err().map(|error| (reason, error.to_string()));
    let status = status::with_failure(plan.status, failure, now);
    let written = statuses::write(cx, set, &set.status(), &status, sets, writes).await;
    result.and(written)
}
