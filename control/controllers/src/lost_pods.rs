//! Removes pods whose node is no more: nobody is left who could end them.
//!
//! Behaviour: orphaned pods in pkg/controller/podgc of Kubernetes v1.36.
//! Invariant: a node counts as gone only after it has been missing for a while, since a node that was deleted by hand
//! registers again, and its pods run on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corten_api::api::core::v1::{Node, Pod};
use corten_base::Timestamp;
use corten_client::{Informer, Key, Next};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use crate::context::{Context, Error, or_gone};
use crate::pods::is_active;

/// So long a node may be missing before its pods go.
const QUARANTINE: Duration = Duration::from_secs(40);

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
        if old.is_none() != new.is_none() {
            new.or(old).into_iter().for_each(|node| queue.add(Key::of(node)));
        }
    });
    let (queue, known) = (cx.queue.clone(), nodes.clone());
    pods.on_change(move |_, new| {
        let name = new.and_then(node_of).filter(|name| known.get("", name).is_none());
        name.into_iter().for_each(|name| queue.add(Key::new("", name)));
    });
    tokio::join!(nodes.synced(), pods.synced());
    let missing = Arc::new(Mutex::new(Missing::default()));
    cx.work(1, move |cx, node| sync(cx, nodes.clone(), pods.clone(), Arc::clone(&missing), node)).await;
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
    let lost: Vec<Arc<Pod>> = pods.list().into_iter().filter(|pod| node_of(pod) == Some(&node.name)).collect();
    let left = {
        let mut missing = missing.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.is_empty() || nodes.by_key(&node).is_some() {
            missing.forget(&node.name);
            return Ok(Next::Wait);
        }
        missing.left(&node.name, Instant::now())
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
        remove(&cx, &pod).await?;
    }
    Ok(Next::Wait)
}

/// Ends a pod in the API alone. If something holds the object, it says how the pod ended.
async fn remove(cx: &Context, pod: &Pod) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(cx.client.clone(), &pod.namespace().unwrap_or_default());
    let (name, uid) = (pod.name_any(), pod.uid());
    if is_active(pod) {
        let now = cx.config.clock.now();
        let at = Timestamp::from_second(now.as_second()).unwrap_or(now).to_string();
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "lastTransitionTime": at,
            "reason": "DeletionByPodGC", "message": "PodGC: node no longer exists",
        });
        let status = json!({"phase": "Failed", "conditions": [condition]});
        let patch = Patch::Strategic(json!({"metadata": {"uid": uid}, "status": status}));
        or_gone(api.patch_status(&name, &PatchParams::default(), &patch).await)?;
    }
    let only = Preconditions { uid, resource_version: None };
    or_gone(api.delete(&name, &DeleteParams::default().grace_period(0).preconditions(only)).await)?;
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
