//! Marks nodes that no longer say that they are well, so that nothing is sent there and what is there moves away.
//!
//! Behaviour: pkg/controller/nodelifecycle of Kubernetes v1.36. Pods are moved by `taint_eviction`.
//! Invariant: where no node of any zone is well, it is the network or this process that is not, and nothing moves.

mod plan;
mod zones;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corten_api::api::coordination::v1::Lease;
use corten_api::api::core::v1::{Node, Pod};
use corten_base::Timestamp;
use corten_client::{Informer, Key, Next, Writes, reference};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use crate::context::{Context, Error, or_gone};
use crate::pods::is_ready;
use plan::{Loss, Plan, plan};
use zones::Zones;

pub(crate) async fn run(cx: Context) {
    let (nodes, pods) = (cx.informers.of::<Node>(), cx.informers.of::<Pod>());
    let leases = cx.informers.of::<Lease>();
    let zones = Arc::new(Mutex::new(Zones::default()));
    let (queue, tally) = (cx.queue.clone(), Arc::clone(&zones));
    nodes.on_change(move |old, new| {
        let concerned = lock(&tally).note(old, new);
        // Whether a node's pods may move hangs on the other nodes too.
        concerned.into_iter().for_each(|name| queue.add(Key::new("", name)));
        new.into_iter().for_each(|node| queue.add(Key::of(node)));
    });
    tokio::join!(nodes.synced(), pods.synced(), leases.synced());
    // While nobody served, no node could renew its lease: silence counts from now at the earliest.
    let start = cx.config.clock.now();
    let caches = Caches { nodes, leases, pods, zones, start };
    cx.work(2, move |cx, key| sync(cx, caches.clone(), key)).await;
}

#[derive(Clone)]
struct Caches {
    nodes: Informer<Node>,
    leases: Informer<Lease>,
    pods: Informer<Pod>,
    zones: Arc<Mutex<Zones>>,
    /// When this controller began to look.
    start: Timestamp,
}

fn lock(zones: &Mutex<Zones>) -> std::sync::MutexGuard<'_, Zones> {
    zones.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn sync(cx: Context, caches: Caches, key: Key) -> Result<Next, Error> {
    let now = cx.config.clock.now();
    let Some(node) = caches.nodes.by_key(&key) else { return Ok(Next::Wait) };
    let renewed = caches
        .leases
        .get("kube-node-lease", &key.name)
        .and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0));
    let plan = {
        let mut zones = lock(&caches.zones);
        plan(&node, renewed, caches.start, now, || zones.may_move(&node, Instant::now()))
    };
    let mut writes = Writes::default();
    let result = carry_out(&cx, &caches, &node, &plan, &mut writes).await;
    writes.settle().await;
    result?;
    Ok(plan.again.map_or(Next::Wait, |again| Next::After(again + Duration::from_millis(100))))
}

async fn carry_out(cx: &Context, caches: &Caches, node: &Node, plan: &Plan, writes: &mut Writes) -> Result<(), Error> {
    let api: Api<Node> = Api::all(cx.client.clone());
    let name = node.name_any();
    if let Some(Loss { conditions, was_ready }) = &plan.lost {
        let patch =
            json!({"metadata": {"resourceVersion": node.resource_version()}, "status": {"conditions": conditions}});
        let patched = api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        or_gone(patched)?.iter().for_each(|node| writes.note(&caches.nodes, node));
        if *was_ready {
            let message = format!("Node {name} status is now: NodeNotReady");
            cx.recorder.normal(&cx.config.clock, reference(node), "NodeNotReady", message);
        }
        // The taints follow when this is seen.
        return Ok(());
    }
    if let Some(taints) = &plan.taints {
        // Others set taints too: only over what was looked at.
        let metadata = json!({"resourceVersion": node.resource_version()});
        let patch = Patch::Merge(json!({"metadata": metadata, "spec": {"taints": taints}}));
        let patched = or_gone(api.patch(&name, &PatchParams::default(), &patch).await)?;
        patched.iter().for_each(|node| writes.note(&caches.nodes, node));
    }
    if !plan.silent {
        return Ok(());
    }
    for pod in caches.pods.list() {
        let here = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(&name);
        if here && is_ready(&pod) {
            not_ready(cx, caches, &pod, writes).await?;
        }
    }
    Ok(())
}

/// Says of a pod what nobody on its node can say, so that services send nobody there.
async fn not_ready(cx: &Context, caches: &Caches, pod: &Pod, writes: &mut Writes) -> Result<(), Error> {
    let now = cx.config.clock.now();
    let at = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let condition = json!({"type": "Ready", "status": "False", "lastTransitionTime": at});
    let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}}));
    let api: Api<Pod> = Api::namespaced(cx.client.clone(), &pod.namespace().unwrap_or_default());
    let patched = api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await;
    or_gone(patched)?.iter().for_each(|pod| writes.note(&caches.pods, pod));
    cx.recorder.warning(&cx.config.clock, reference(pod), "NodeNotReady", "Node is not ready");
    Ok(())
}
