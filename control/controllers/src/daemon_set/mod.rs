//! Keeps a pod of every DaemonSet on each node that fits.
//!
//! Spec: <https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/>
//! Behaviour: pkg/controller/daemon of Kubernetes v1.36.
//! Invariant: places no pod itself; a pod names its node in its affinity, and the scheduler binds it.

mod plan;
mod rollout;
mod status;
mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corten_api::api::apps::v1::{ControllerRevision, DaemonSet};
use corten_api::api::core::v1::{Node, Pod};
use corten_api::meta::LabelSelector;
use corten_api::placement::target;
use corten_api::selector::Labels;
use corten_client::{Informer, Key, Next, Writes, reference};
use kube::ResourceExt;
use tokio::time::Instant;

use crate::claims::{self, Claims};
use crate::context::{Context, Error};
use crate::history::{self, HASH, History};
use crate::pods::phase;
use crate::retries::Retries;
use crate::{own_pods, owners, statuses};
use plan::{Plan, View, plan};

struct Caches {
    sets: Informer<DaemonSet>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    revisions: Informer<ControllerRevision>,
    retries: Retries,
}

pub(crate) async fn run(cx: Context) {
    let caches = Arc::new(Caches {
        sets: cx.informers.of(),
        pods: cx.informers.of(),
        nodes: cx.informers.of(),
        revisions: cx.informers.of(),
        retries: Retries::default(),
    });
    let queue = cx.queue.clone();
    caches.sets.on_change(move |old, new| new.or(old).into_iter().for_each(|set| queue.add(Key::of(set))));
    let (queue, known) = (cx.queue.clone(), caches.sets.clone());
    caches.pods.on_change(move |old, new| {
        for pod in [old, new].into_iter().flatten() {
            let namespace = pod.namespace().unwrap_or_default();
            match owners::controller(&pod.metadata) {
                Some(owner) if owner.kind == "DaemonSet" => queue.add(Key::new(namespace, &*owner.name)),
                Some(_) => {}
                // An orphan may be adopted.
                None => known.list_in(&namespace).iter().for_each(|set| queue.add(Key::of(&**set))),
            }
        }
    });
    let (queue, known) = (cx.queue.clone(), caches.sets.clone());
    caches.nodes.on_change(move |old, new| {
        // A node's heartbeat says nothing about who may run there.
        let looks =
            |node: &Node| (node.metadata.labels.clone(), node.spec.as_ref().and_then(|spec| spec.taints.clone()));
        if old.map(looks) != new.map(looks) {
            known.list().iter().for_each(|set| queue.add(Key::of(&**set)));
        }
    });
    let Caches { sets, pods, nodes, revisions, .. } = &*caches;
    tokio::join!(sets.synced(), pods.synced(), nodes.synced(), revisions.synced());
    cx.work(2, move |cx, key| sync(cx, Arc::clone(&caches), key)).await;
}

async fn sync(cx: Context, caches: Arc<Caches>, key: Key) -> Result<Next, Error> {
    let Some(set) = caches.sets.by_key(&key) else { return Ok(Next::Wait) };
    let mut writes = Writes::default();
    let result = bring(&cx, &set, &caches, &mut writes).await;
    writes.settle().await;
    Ok(result?.map_or(Next::Wait, Next::After))
}

/// Brings the set one step nearer to what it should be.
async fn bring(cx: &Context, set: &DaemonSet, caches: &Caches, writes: &mut Writes) -> Result<Option<Duration>, Error> {
    let Some(spec) = &set.spec else { return Ok(None) };
    let Ok(selector) = Labels::from_selector(&spec.selector) else { return Ok(None) };
    if spec.selector == LabelSelector::default() {
        let message = "This daemon set is selecting all pods. A non-empty selector is required.";
        cx.recorder.warning(&cx.config.clock, reference(set), "SelectingAll", message);
        return Ok(None);
    }
    if set.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let namespace = set.namespace().unwrap_or_default();
    let own = Claims::of(&set.metadata, &selector, &caches.pods.list_in(&namespace));
    claims::settle(cx, set, &own, &[], &caches.pods, writes).await?;
    let known = Claims::of(&set.metadata, &selector, &caches.revisions.list_in(&namespace));
    claims::settle(cx, set, &known, &[], &caches.revisions, writes).await?;
    let revisions = history::sorted(known.own);

    let before = set.status.clone().unwrap_or_default();
    let history = History { cx, owner: set, label: HASH, cache: &caches.revisions };
    let mut collisions = before.collision_count;
    let current = history.record(&revisions, &spec.template, &mut collisions, writes).await?;
    let hash = hash_of(&current);
    let view = View {
        set,
        spec,
        nodes: caches.nodes.list(),
        held: held(set, &own.own, &caches.retries),
        pods: own.own,
        hash: &hash,
        collisions,
    };
    let plan = plan(&view, cx.config.clock.now());
    let (again, status) = (plan.again, plan.status.clone());
    let result = carry_out(cx, set, plan, caches, writes).await;
    let written = statuses::write(cx, set, &before, &status, &caches.sets, writes).await;
    result.and(written)?;
    let live = history::named_by(view.pods.iter().map(|pod| &pod.metadata));
    let lives = |revision: &ControllerRevision| {
        live.contains(&*hash_of(revision)) || revision.metadata.name == current.metadata.name
    };
    history.drop(history::surplus(&revisions, spec.revision_history_limit, lives)).await?;
    Ok(again)
}

/// The hash by which pods name a revision.
fn hash_of(revision: &ControllerRevision) -> String {
    revision.labels().get(HASH).cloned().unwrap_or_else(|| revision.name_any())
}

/// How long failed pods are yet to be left alone.
fn held(set: &DaemonSet, pods: &[Arc<Pod>], retries: &Retries) -> BTreeMap<String, Duration> {
    let place = format!("{}/{}", set.uid().unwrap_or_default(), set.metadata.generation.unwrap_or(0));
    let failed = pods.iter().filter(|pod| phase(pod) == "Failed" && pod.metadata.deletion_timestamp.is_none());
    failed
        .filter_map(|pod| {
            let (uid, node) = (pod.uid()?, target(pod.spec.as_ref()?)?);
            let left = retries.left(&format!("{place}/{node}"), &uid, Instant::now());
            Some((uid, left))
        })
        .collect()
}

async fn carry_out(
    cx: &Context,
    set: &DaemonSet,
    plan: Plan,
    caches: &Caches,
    writes: &mut Writes,
) -> Result<(), Error> {
    let clock = &cx.config.clock;
    for (pod, node) in &plan.ended {
        let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
        if phase(pod) == "Failed" {
            let message = format!("Found failed daemon pod {name} on node {node}, will try to kill it");
            cx.recorder.warning(clock, reference(set), "FailedDaemonPod", message);
        } else {
            let message = format!("Found succeeded daemon pod {name} on node {node}, will try to delete it");
            cx.recorder.normal(clock, reference(set), "SucceededDaemonPod", message);
        }
    }
    let deleted = own_pods::delete(cx, set, &plan.delete, &caches.pods, writes).await;
    let made = own_pods::create(cx, set, plan.create, &caches.pods, writes).await;
    made.and(deleted)
}
