//! Rolls every Deployment's pods from one template to the next, through ReplicaSets.
//!
//! Spec: <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/>
//! Behaviour: pkg/controller/deployment of Kubernetes v1.36.

mod plan;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use corten_api::api::apps::v1::{Deployment, ReplicaSet};
use corten_api::api::core::v1::Pod;
use corten_api::meta::LabelSelector;
use corten_api::selector::Labels;
use corten_client::{Informer, Key, Next, Writes, reference};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::claims::{self, Claims};
use crate::context::{Context, Error, namespace_ends, or_gone};
use crate::{owners, statuses};
use plan::{Op, Plan, View, plan};
use status::{NOT_CREATED, not_created};

pub(crate) async fn run(cx: Context) {
    let (deployments, sets) = (cx.informers.of::<Deployment>(), cx.informers.of::<ReplicaSet>());
    let pods = cx.informers.of::<Pod>();
    let queue = cx.queue.clone();
    deployments.on_change(move |old, new| queue.add(Key::of(new.or(old).unwrap_or(&Deployment::default()))));
    let (queue, known) = (cx.queue.clone(), deployments.clone());
    sets.on_change(move |old, new| {
        for set in [old, new].into_iter().flatten() {
            let namespace = set.namespace().unwrap_or_default();
            match owners::controller(&set.metadata) {
                Some(owner) if owner.kind == "Deployment" => queue.add(Key::new(namespace, &*owner.name)),
                Some(_) => {}
                None => known.list_in(&namespace).iter().for_each(|own| queue.add(Key::of(&**own))),
            }
        }
    });
    // A deployment that recreates waits until its last old pod is gone.
    let (queue, known) = (cx.queue.clone(), sets.clone());
    pods.on_change(move |old, new| {
        let (Some(pod), None) = (old, new) else { return };
        let Some(owner) = owners::controller(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet") else { return };
        let namespace = pod.namespace().unwrap_or_default();
        let set = known.get(&namespace, &owner.name);
        if let Some(owner) = set.as_ref().and_then(|set| owners::controller(&set.metadata)) {
            queue.add(Key::new(namespace, &*owner.name));
        }
    });
    tokio::join!(deployments.synced(), sets.synced(), pods.synced());
    let caches = Arc::new(Caches { deployments, sets, pods });
    cx.work(8, move |cx, key| sync(cx, Arc::clone(&caches), key)).await;
}

struct Caches {
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
}

async fn sync(cx: Context, caches: Arc<Caches>, key: Key) -> Result<Next, Error> {
    let Some(deployment) = caches.deployments.by_key(&key) else { return Ok(Next::Wait) };
    let mut writes = Writes::default();
    let result = bring(&cx, &deployment, &caches, &mut writes).await;
    writes.settle().await;
    Ok(result?.map_or(Next::Wait, Next::After))
}

/// Brings the deployment one step nearer to what it should be.
async fn bring(
    cx: &Context,
    deployment: &Arc<Deployment>,
    caches: &Caches,
    writes: &mut Writes,
) -> Result<Option<Duration>, Error> {
    let Some(spec) = &deployment.spec else { return Ok(None) };
    let Ok(selector) = Labels::from_selector(&spec.selector) else { return Ok(None) };
    if spec.selector == LabelSelector::default() {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        cx.recorder.warning(&cx.config.clock, reference(&**deployment), "SelectingAll", message);
        return Ok(None);
    }
    let namespace = deployment.namespace().unwrap_or_default();
    let own = Claims::of(&deployment.metadata, &selector, &caches.sets.list_in(&namespace));
    claims::settle(cx, &**deployment, &own, &[], &caches.sets, writes).await?;
    let pods = caches.pods.list_in(&namespace);
    let view = View { sets: own.own, pods, deployment: Arc::clone(deployment) };
    let Plan { ops, again } = plan(&view, cx.config.clock.now());
    carry_out(cx, deployment, ops, caches, writes).await?;
    Ok(again)
}

async fn carry_out(
    cx: &Context,
    deployment: &Arc<Deployment>,
    ops: Vec<Op>,
    caches: &Caches,
    writes: &mut Writes,
) -> Result<(), Error> {
    let namespace = deployment.namespace().unwrap_or_default();
    let sets: Api<ReplicaSet> = Api::namespaced(cx.client.clone(), &namespace);
    let own: Api<Deployment> = Api::namespaced(cx.client.clone(), &namespace);
    let params = PatchParams::default();
    let before = deployment.status.clone().unwrap_or_default();
    // Writes of the status go over the object that was looked at, or what became of it here.
    let mut latest = Arc::clone(deployment);
    for op in ops {
        match op {
            Op::CreateSet(set) => {
                if !create(cx, deployment, &set, caches, writes).await? {
                    return Ok(());
                }
            }
            Op::PatchSet { name, patch } => {
                let patched = sets.patch(&name, &params, &Patch::Strategic(patch)).await;
                or_gone(patched)?.iter().for_each(|set| writes.note(&caches.sets, set));
            }
            Op::DeleteSet(set) => {
                let preconditions = Some(Preconditions { uid: set.uid, resource_version: set.resource_version });
                let params = DeleteParams { preconditions, ..DeleteParams::background() };
                // One that was changed meanwhile may have pods again: it is looked at again.
                drop(or_gone(sets.delete(&set.name.unwrap_or_default(), &params).await)?);
            }
            Op::Annotate(annotations) => {
                let metadata = json!({"annotations": annotations, "resourceVersion": latest.resource_version()});
                let patch = Patch::Merge(json!({"metadata": metadata}));
                let Some(patched) = or_gone(own.patch(&deployment.name_any(), &params, &patch).await)? else {
                    continue;
                };
                writes.note(&caches.deployments, &patched);
                latest = Arc::new(patched);
            }
            Op::Event(message) => {
                cx.recorder.normal(&cx.config.clock, reference(&**deployment), "ScalingReplicaSet", message);
            }
            Op::Status(status) => {
                statuses::write(cx, &*latest, &before, &*status, &caches.deployments, writes).await?;
            }
        }
    }
    Ok(())
}

/// Makes the set of a template. Whether it was made: its name may be taken, and then the next look is for another one.
async fn create(
    cx: &Context,
    deployment: &Deployment,
    set: &ReplicaSet,
    caches: &Caches,
    writes: &mut Writes,
) -> Result<bool, Error> {
    let api: Api<ReplicaSet> = Api::namespaced(cx.client.clone(), &deployment.namespace().unwrap_or_default());
    let before = deployment.status.clone().unwrap_or_default();
    let mut after = before.clone();
    let error = match api.create(&PostParams::default(), set).await {
        Ok(set) => {
            writes.note(&caches.sets, &set);
            return Ok(true);
        }
        Err(error) if namespace_ends(&error) => return Ok(false),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
            let there = api.get_opt(&set.name_any()).await?;
            let ours = |there: &ReplicaSet| owners::is_controlled_by(&there.metadata, &deployment.metadata);
            let template = |set: &ReplicaSet| set.spec.as_ref().and_then(|spec| spec.template.clone());
            if let Some(there) = there.filter(|there| ours(there) && template(there) == template(set)) {
                // Made before, and the cache did not show it yet.
                writes.note(&caches.sets, &there);
                return Ok(false);
            }
            // The hash of another template is the same: count up, and hash anew.
            after.collision_count = Some(before.collision_count.unwrap_or(0).saturating_add(1));
            None
        }
        Err(error) => {
            let (error, name) = (Error::from(error), set.name_any());
            let message = format!("Failed to create new replica set {name:?}: {error}");
            cx.recorder.warning(&cx.config.clock, reference(deployment), NOT_CREATED, message);
            let deadline = deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds);
            if deadline.is_some_and(|seconds| seconds < i32::MAX) {
                after = not_created(&before, &name, &error.to_string(), cx.config.clock.now());
            }
            Some(error)
        }
    };
    statuses::write(cx, deployment, &before, &after, &caches.deployments, writes).await?;
    error.map_or(Ok(false), Err)
}
