//! Watches, binds, explains, and tries again.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corten_api::api::core::v1::{Binding, Node, ObjectReference, Pod};
use corten_api::meta::{ObjectMeta, Time};
use corten_base::{Clock, Random, Timestamp};
use corten_client::{Client, Informer, Informers, Key, Next, Queue, Recorder, reference, run_controller};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::schedule::schedule;
use crate::snapshot::{NodeInfo, PodInfo};

const NAME: &str = "default-scheduler";

/// Schedules until `cancel` fires: reads from `informers`, writes as `client`.
pub async fn run(client: Client, informers: Informers, clock: Clock, random: Random, cancel: CancellationToken) {
    let (pods, nodes) = (informers.of::<Pod>(), informers.of::<Node>());
    let scheduler = Arc::new(Scheduler {
        recorder: Recorder::new(client.clone(), NAME, None),
        client,
        clock,
        random,
        assumed: Arc::default(),
        waiting: Arc::default(),
        pods: pods.clone(),
        nodes: nodes.clone(),
    });
    let queue = Queue::default();
    feed(&queue, &scheduler);
    tokio::join!(pods.synced(), nodes.synced());
    run_controller("scheduler", queue, 1, cancel, move |key| {
        let scheduler = Arc::clone(&scheduler);
        async move { scheduler.place(&key).await }
    })
    .await;
}

struct Scheduler {
    client: Client,
    clock: Clock,
    random: Random,
    recorder: Arc<Recorder>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    /// Pods that were bound and do not show it in the cache yet: UID → node.
    assumed: Arc<Mutex<HashMap<String, String>>>,
    /// Pods that fit nowhere, which a change may help.
    waiting: Arc<Mutex<HashMap<Key, ()>>>,
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

fn has_ended(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"))
}

/// Whether this scheduler is to place the pod now.
fn is_ours(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    node_of(pod).is_none()
        && spec.scheduler_name.as_deref().is_none_or(|name| name == NAME)
        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
        && pod.metadata.deletion_timestamp.is_none()
        && !has_ended(pod)
}

fn feed(queue: &Queue, scheduler: &Scheduler) {
    let (own, waiting, assumed) = (queue.clone(), Arc::clone(&scheduler.waiting), Arc::clone(&scheduler.assumed));
    scheduler.pods.on_change(move |old, new| {
        if let Some(pod) = new.filter(|pod| is_ours(pod)) {
            // Its own status is no reason to look again.
            if old.is_none_or(|old| !is_ours(old) || old.spec != pod.spec) {
                own.add(Key::of(pod));
            }
        }
        let freed = old.is_some_and(|old| node_of(old).is_some()) && new.is_none_or(has_ended);
        let shown = new.or(old).filter(|pod| new.is_none() || node_of(pod).is_some());
        if let Some(uid) = shown.and_then(ResourceExt::uid) {
            assumed.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
        }
        if freed {
            retry(&own, &waiting);
        }
    });
    let (own, waiting) = (queue.clone(), Arc::clone(&scheduler.waiting));
    scheduler.nodes.on_change(move |old, new| {
        let relevant = |node: &Node| {
            let allocatable = node.status.as_ref().and_then(|status| status.allocatable.clone());
            (node.spec.clone(), node.metadata.labels.clone(), allocatable)
        };
        if old.map(relevant) != new.map(relevant) {
            retry(&own, &waiting);
        }
    });
}

/// Gives the pods that fit nowhere another chance.
fn retry(queue: &Queue, waiting: &Mutex<HashMap<Key, ()>>) {
    let keys = std::mem::take(&mut *waiting.lock().unwrap_or_else(PoisonError::into_inner));
    keys.into_keys().for_each(|key| queue.add(key));
}

impl Scheduler {
    /// The nodes and what is on them, those that were just bound included.
    fn snapshot(&self) -> Vec<NodeInfo> {
        let mut nodes: Vec<NodeInfo> = self.nodes.list().iter().map(|node| NodeInfo::of(node)).collect();
        let assumed = self.assumed.lock().unwrap_or_else(PoisonError::into_inner);
        for pod in self.pods.list() {
            let on = node_of(&pod).or_else(|| assumed.get(pod.metadata.uid.as_ref()?).map(String::as_str));
            if let Some(node) = on.and_then(|on| nodes.iter_mut().find(|node| node.name == on))
                && !has_ended(&pod)
            {
                node.add(&PodInfo::of(&pod));
            }
        }
        nodes
    }

    async fn place(&self, key: &Key) -> Result<Next, Failure> {
        let Some(pod) = self.pods.by_key(key).filter(|pod| is_ours(pod)) else { return Ok(Next::Wait) };
        let uid = pod.uid().unwrap_or_default();
        if self.assumed.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&uid) {
            return Ok(Next::Wait);
        }
        let nodes = self.snapshot();
        let seed = self.random.below(usize::MAX);
        match schedule(&PodInfo::of(&pod), &nodes, seed) {
            Ok(node) => self.bind(&pod, &uid, node).await,
            Err(unfit) => {
                let message = unfit.to_string();
                // Before anything is awaited, so that no change is missed.
                self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), ());
                self.recorder.warning(&self.clock, reference(&*pod), "FailedScheduling", message.clone());
                self.explain(&pod, &message).await?;
                Ok(Next::Wait)
            }
        }
    }

    async fn bind(&self, pod: &Pod, uid: &str, node: &str) -> Result<Next, Failure> {
        let namespace = pod.namespace().unwrap_or_default();
        let name = pod.name_any();
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                uid: Some(uid.to_owned()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        self.assumed.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned(), node.to_owned());
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let bound: Result<serde_json::Value, kube::Error> =
            api.create_subresource("binding", &name, &PostParams::default(), &binding).await;
        match bound {
            Ok(_) => {
                let message = format!("Successfully assigned {namespace}/{name} to {node}");
                self.recorder.normal(&self.clock, reference(pod), "Scheduled", message);
                Ok(Next::Wait)
            }
            Err(error) => {
                self.assumed.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
                match error {
                    // It is gone or bound: the cache will say so.
                    kube::Error::Api(status) if status.code == 404 || status.code == 409 => {
                        Ok(Next::After(Duration::from_secs(1)))
                    }
                    error => Err(Failure(corten_base::chain(&error))),
                }
            }
        }
    }

    /// Says in the pod's status why it has no node.
    async fn explain(&self, pod: &Pod, message: &str) -> Result<(), Failure> {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        let old = conditions.iter().find(|condition| condition.type_ == "PodScheduled");
        if old.is_some_and(|old| old.status == "False" && old.message.as_deref() == Some(message)) {
            return Ok(());
        }
        let now = self.clock.now();
        let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastProbeTime": null, "lastTransitionTime": now,
        });
        let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}}));
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        match api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            result => result.map(|_| ()).map_err(|error| Failure(corten_base::chain(&error))),
        }
    }
}

/// Why a pod could not be placed although it could be; it is tried again.
#[derive(Debug)]
struct Failure(String);

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
