//! Deletes pods from nodes whose taints they do not stand, or no longer do.
//!
//! Behaviour: pkg/controller/tainteviction of Kubernetes v1.36.
//! Invariant: the time for which a pod stands a taint counts from when this controller first saw both.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corten_api::api::core::v1::{Node, Pod, Taint, Toleration};
use corten_api::placement::covers;
use corten_base::Timestamp;
use corten_client::{Informer, Key, Next, reference};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use crate::context::{Context, Error, or_gone};
use crate::pods::has_ended;

const REASON: &str = "TaintManagerEviction";

/// Since when pods are on a node that they stand only for a time, by UID.
type Waiting = Arc<Mutex<HashMap<Key, (Option<String>, Instant)>>>;

pub(crate) async fn run(cx: Context) {
    let (nodes, pods) = (cx.informers.of::<Node>(), cx.informers.of::<Pod>());
    let (queue, known) = (cx.queue.clone(), pods.clone());
    nodes.on_change(move |old, new| {
        let (before, after) = (old.map(repelling).unwrap_or_default(), new.map(repelling).unwrap_or_default());
        let Some(node) = new.filter(|_| before != after) else { return };
        let name = node.name_any();
        known.list().iter().filter(|pod| node_of(pod) == Some(&name)).for_each(|pod| queue.add(Key::of(&**pod)));
    });
    let (queue, known) = (cx.queue.clone(), nodes.clone());
    let waiting = Waiting::default();
    let remembered = Arc::clone(&waiting);
    pods.on_change(move |old, new| {
        let Some(pod) = new.or(old) else { return };
        let tainted =
            node_of(pod).and_then(|name| known.get("", name)).is_some_and(|node| !repelling(&node).is_empty());
        let news = new.is_none_or(|new| old.is_none_or(|old| asks(old) != asks(new)));
        // One that waits to be deleted is remembered until it is gone.
        let waits = || lock(&remembered).contains_key(&Key::of(pod));
        if news && (tainted || waits()) {
            queue.add(Key::of(pod));
        }
    });
    tokio::join!(nodes.synced(), pods.synced());
    cx.work(4, move |cx, key| sync(cx, nodes.clone(), pods.clone(), Arc::clone(&waiting), key)).await;
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, HashMap<Key, (Option<String>, Instant)>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// What decides whether a pod may stay.
fn asks(pod: &Pod) -> (Option<&str>, Option<&Vec<Toleration>>, Option<&String>) {
    (node_of(pod), pod.spec.as_ref().and_then(|spec| spec.tolerations.as_ref()), pod.metadata.uid.as_ref())
}

/// The taints that nothing may stay under without standing them.
fn repelling(node: &Node) -> Vec<Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints.iter().filter(|taint| taint.effect == "NoExecute").cloned().collect()
}

/// How long a pod stands taints.
#[derive(Debug, PartialEq, Eq)]
enum Stands {
    Forever,
    For(Duration),
}

fn stands(pod: &Pod, taints: &[Taint]) -> Stands {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let mut least: Option<Duration> = None;
    for taint in taints {
        let Some(toleration) = tolerations.iter().find(|own| covers(own, taint)) else {
            return Stands::For(Duration::ZERO);
        };
        if let Some(seconds) = toleration.toleration_seconds {
            let time = Duration::from_secs(seconds.max(0).unsigned_abs());
            least = Some(least.map_or(time, |least| least.min(time)));
        }
    }
    least.map_or(Stands::Forever, Stands::For)
}

async fn sync(
    cx: Context,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    waiting: Waiting,
    key: Key,
) -> Result<Next, Error> {
    let pod = pods.by_key(&key).filter(|pod| pod.metadata.deletion_timestamp.is_none() && !has_ended(pod));
    let Some(pod) = pod else {
        lock(&waiting).remove(&key);
        return Ok(Next::Wait);
    };
    let taints = node_of(&pod).and_then(|name| nodes.get("", name)).map(|node| repelling(&node)).unwrap_or_default();
    let clock = &cx.config.clock;
    let Stands::For(time) = stands(&pod, &taints) else {
        if lock(&waiting).remove(&key).is_some() {
            cx.recorder.normal(clock, reference(&*pod), REASON, format!("Cancelling deletion of Pod {key}"));
        }
        return Ok(Next::Wait);
    };
    let left = if time.is_zero() {
        time
    } else {
        let mut waiting = lock(&waiting);
        let since = waiting.entry(key.clone()).or_insert_with(|| (pod.uid(), Instant::now()));
        if since.0 != pod.uid() {
            *since = (pod.uid(), Instant::now());
        }
        time.saturating_sub(since.1.elapsed())
    };
    if !left.is_zero() {
        return Ok(Next::After(left));
    }
    cx.recorder.normal(clock, reference(&*pod), REASON, format!("Marking for deletion Pod {key}"));
    let api: Api<Pod> = Api::namespaced(cx.client.clone(), &key.namespace);
    let now = clock.now();
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
        "message": "Taint manager: deleting due to NoExecute taint",
        "lastTransitionTime": Timestamp::from_second(now.as_second()).unwrap_or(now),
    });
    let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}}));
    or_gone(api.patch_status(&key.name, &PatchParams::default(), &patch).await)?;
    let only = Preconditions { uid: pod.uid(), resource_version: None };
    or_gone(api.delete(&key.name, &DeleteParams::default().preconditions(only)).await)?;
    lock(&waiting).remove(&key);
    Ok(Next::Wait)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn how_long(tolerations: Value, taints: Value) -> Stands {
        let pod =
            serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [], "tolerations": tolerations}}));
        let taints: Vec<Taint> = serde_json::from_value(taints).expect("taints");
        stands(&pod.expect("a pod"), &taints)
    }

    #[test]
    fn pods_stay_as_long_as_they_stand_every_taint() {
        let taint = |key: &str, value: &str| json!({"key": key, "value": value, "effect": "NoExecute"});
        let seconds = |seconds| Stands::For(Duration::from_secs(seconds));
        let some = json!([
            {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            {"key": "b", "operator": "Equal", "value": "x", "tolerationSeconds": 5},
            {"key": "c", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "d", "operator": "Exists"},
            {"key": "e", "operator": "Exists", "tolerationSeconds": -5},
        ]);
        assert_eq!(how_long(some.clone(), json!([])), Stands::Forever);
        assert_eq!(how_long(some.clone(), json!([taint("a", "1")])), seconds(300));
        assert_eq!(how_long(some.clone(), json!([taint("a", "1"), taint("b", "x")])), seconds(5));
        assert_eq!(how_long(some.clone(), json!([taint("a", "1"), taint("b", "y")])), seconds(0));
        assert_eq!(how_long(some.clone(), json!([taint("c", "")])), seconds(0), "another effect");
        assert_eq!(how_long(some.clone(), json!([taint("d", "")])), Stands::Forever);
        assert_eq!(how_long(some, json!([taint("e", "")])), seconds(0));
        assert_eq!(how_long(json!([{"operator": "Exists"}]), json!([taint("a", "1")])), Stands::Forever);
        assert_eq!(how_long(json!([]), json!([taint("a", "1")])), seconds(0));
    }
}
