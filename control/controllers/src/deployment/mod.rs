//! Rolls every Deployment's pods from one template to the next, through ReplicaSets.
//!
//! Spec: <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/>
//! Behaviour: pkg/controller/deployment of Kubernetes v1.36.

mod plan;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use corten_api::api::apps::v1::{Deployment, ReplicaSet};
use corten_api::api::core::v1::Pod;
use corten_client::{Informer, Key, Next, Writes, reference};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::context::{Context, Error, or_gone};
use crate::owners;
use plan::{Op, Plan, View, plan};

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
    let view = View {
        sets: caches.sets.list_in(&key.namespace),
        pods: caches.pods.list_in(&key.namespace),
        deployment: Arc::clone(&deployment),
    };
    let Plan { ops, again } = plan(&view, cx.config.clock.now());
    let mut writes = Writes::default();
    let result = carry_out(&cx, &deployment, ops, &caches, &mut writes).await;
    writes.settle().await;
    result?;
    Ok(again.map_or(Next::Wait, Next::After))
}

async fn carry_out(
    cx: &Context,
    deployment: &Deployment,
    ops: Vec<Op>,
    caches: &Caches,
    writes: &mut Writes,
) -> Result<(), Error> {
    let namespace = deployment.namespace().unwrap_or_default();
    let sets: Api<ReplicaSet> = Api::namespaced(cx.client.clone(), &namespace);
    let own: Api<Deployment> = Api::namespaced(cx.client.clone(), &namespace);
    let params = PatchParams::default();
    // Others may write to the status as well, and its conditions are written as a whole: only over what was looked at.
    let mut version = deployment.resource_version();
    for op in ops {
        match op {
            Op::CreateSet(set) => match sets.create(&PostParams::default(), &set).await {
                Ok(set) => writes.note(&caches.sets, &set),
                // The hash of another template is the same: count up, and hash anew.
                Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
                    let count = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
                    let patch = Patch::Merge(json!({"status": {"collisionCount": count + 1}}));
                    writes.note(&caches.deployments, &own.patch_status(&deployment.name_any(), &params, &patch).await?);
                    return Ok(());
                }
                Err(error) => {
                    let message = format!("Failed to create new replica set {:?}: {error}", set.name_any());
                    cx.recorder.warning(&cx.config.clock, reference(deployment), "ReplicaSetCreateError", message);
                    return Err(error.into());
                }
            },
            Op::PatchSet { name, patch } => {
                let patched = sets.patch(&name, &params, &Patch::Strategic(patch)).await;
                or_gone(patched)?.iter().for_each(|set| writes.note(&caches.sets, set));
            }
            Op::DeleteSet(name) => drop(or_gone(sets.delete(&name, &DeleteParams::background()).await)?),
            Op::Annotate(annotations) => {
                let metadata = json!({"annotations": annotations, "resourceVersion": version});
                let patch = Patch::Merge(json!({"metadata": metadata}));
                let Some(patched) = or_gone(own.patch(&deployment.name_any(), &params, &patch).await)? else {
                    continue;
                };
                writes.note(&caches.deployments, &patched);
                version = patched.resource_version();
            }
            Op::Event(message) => {
                cx.recorder.normal(&cx.config.clock, reference(deployment), "ScalingReplicaSet", message);
            }
            Op::Status(status) => {
                let metadata = json!({"uid": deployment.uid(), "resourceVersion": version});
                let patch = Patch::Merge(json!({"metadata": metadata, "status": status}));
                let patched = own.patch_status(&deployment.name_any(), &params, &patch).await;
                or_gone(patched)?.iter().for_each(|own| writes.note(&caches.deployments, own));
            }
        }
    }
    Ok(())
}
