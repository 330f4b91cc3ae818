//! Removes pods that nobody is left to end: their node is no more, or is declared out of service, or they were deleted
//! before they had one.
//!
//! Behaviour: pkg/controller/podgc of Kubernetes v1.36.
//! Invariant: a node counts as gone only after it has been missing for a while, since a node that was deleted by hand
//! registers again, and its pods run on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corten_api::api::core::v1::{Node, Pod};
use corten_base::Timestamp;
use corten_client::{Informer, Key, Next, Queue};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::context::{Context, Error, or_gone};
use crate::pods::has_ended;

/// So long a node may be missing before its pods go.
const QUARANTINE: Duration = Duration::from_secs(40);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Since when nodes are missing, as far as this process has seen.
#[derive(Debug, Default)]
struct Missing(HashMap<String, Instant>);

impl Missing {
    /// How much longer the node may stay away. The time counts from the first call for it.
    fn left(&mut self, node: &str, now: Instant) -> Duration {
        let since = *self.0.entry(node.to_owned()).or_insert(now);
        QUARANTINE.saturating_sub(now.duration_since(since))
    }

    /// The node is there, or nothing is left on it.
    fn forget(&mut self, node: &str) {
        self.0.remove(node);
    }
}

pub(crate) async fn run(cx: Context) {
    let (nodes, pods) = (cx.informers.of::<Node>(), cx.informers.of::<Pod>());
    let queue = cx.queue.clone();
    nodes.on_change(move |old, new| {
        // Conditions change often and say nothing about whether the node is there.
        let out = |node: Option<&Node>| node.is_some_and(is_out_of_service);
        if old.is_none() != new.is_none() || out(old) != out(new) {
            new.or(old).into_iter().for_each(|node| queue.add(Key::of(node)));
        }
    });
    let astray = Queue::default();
    let (queue, known, without) = (cx.queue.clone(), nodes.clone(), astray.clone());
    pods.on_change(move |_, new| {
        let Some(pod) = new else { return };
        match node_of(pod).map(|name| (name, known.get("", name))) {
            Some((name, None)) => queue.add(Key::new("", name)),
            Some((name, Some(node))) if is_leaving(pod) && is_out_of_service(&node) => queue.add(Key::new("", name)),
            None if is_leaving(pod) => without.add(Key::of(pod)),
            _ => {}
        }
    });
    tokio::join!(nodes.synced(), pods.synced());
    let missing = Arc::new(Mutex::new(Missing::default()));
    let (rest, known) = (cx.with_queue(astray), pods.clone());
    tokio::join!(
        cx.work(1, move |cx, node| sync(cx, nodes.clone(), pods.clone(), Arc::clone(&missing), node)),
        rest.work(1, move |cx, key| end_unplaced(cx, known.clone(), key)),
    );
}

/// Ordered to end, with time left to do so.
fn is_leaving(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some() && pod.metadata.deletion_grace_period_seconds != Some(0)
}

/// Whether somebody has declared that nothing on the node runs any more, and the node does not contradict.
fn is_out_of_service(node: &Node) -> bool {
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.any(|own| own.type_ == "Ready" && own.status == "True");
    !ready && taints.any(|taint| taint.key == OUT_OF_SERVICE)
}

/// A pod that is deleted has no node that could end it.
async fn end_unplaced(cx: Context, pods: Informer<Pod>, key: Key) -> Result<Next, Error> {
    if let Some(pod) = pods.by_key(&key).filter(|pod| is_leaving(pod) && node_of(pod).is_none()) {
        end(&cx, &pod).await?;
    }
    Ok(Next::Wait)
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

async fn sync(
    cx: Context,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    missing: Arc<Mutex<Missing>>,
    node: Key,
) -> Result<Next, Error> {
    let known = nodes.by_key(&node);
    let lost: Vec<Arc<Pod>> = pods.list().into_iter().filter(|pod| node_of(pod) == Some(&node.name)).collect();
    let left = {
        let mut missing = missing.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.is_empty() || known.is_some() {
            missing.forget(&node.name);
            None
        } else {
            Some(missing.left(&node.name, Instant::now()))
        }
    };
    let Some(left) = left else {
        for pod in
            lost.iter().filter(|pod| known.as_ref().is_some_and(|node| is_out_of_service(node)) && is_leaving(pod))
        {
            fail(&cx, pod, None).await?;
            end(&cx, pod).await?;
        }
        return Ok(Next::Wait);
    };
    if !left.is_zero() {
        return Ok(Next::After(left));
    }
    // A live look: the cache may be behind a node that has just come back.
    if Api::<Node>::all(cx.client.clone()).get_opt(&node.name).await?.is_some() {
        missing.lock().unwrap_or_else(PoisonError::into_inner).forget(&node.name);
        return Ok(Next::Wait);
    }
    for pod in lost {
        let now = cx.config.clock.now();
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists",
            "lastTransitionTime": Timestamp::from_second(now.as_second()).unwrap_or(now),
        });
        fail(&cx, &pod, Some(condition)).await?;
        end(&cx, &pod).await?;
    }
    Ok(Next::Wait)
}

/// Says how a pod ended that did not end itself: if something holds the object, it is to know.
async fn fail(cx: &Context, pod: &Pod, condition: Option<Value>) -> Result<(), Error> {
    if has_ended(pod) {
        return Ok(());
    }
    let conditions: Vec<Value> = condition.into_iter().collect();
    let status = json!({"phase": "Failed", "conditions": conditions});
    let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": status}));
    let api: Api<Pod> = Api::namespaced(cx.client.clone(), &pod.namespace().unwrap_or_default());
    or_gone(api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await)?;
    Ok(())
}

/// Ends a pod in the API alone.
pub(crate) async fn end(cx: &Context, pod: &Pod) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(cx.client.clone(), &pod.namespace().unwrap_or_default());
    let only = Preconditions { uid: pod.uid(), resource_version: None };
    let params = DeleteParams::default().grace_period(0).preconditions(only);
    or_gone(api.delete(&pod.name_any(), &params).await)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_comes_back_has_its_whole_time_again() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut missing = Missing::default();
        assert_eq!(missing.left("n", start), QUARANTINE);
        assert_eq!(missing.left("n", start + 30 * second), 10 * second);
        assert_eq!(missing.left("n", start + 50 * second), Duration::ZERO);
        missing.forget("n");
        assert_eq!(missing.left("n", start + 60 * second), QUARANTINE);
    }
}
