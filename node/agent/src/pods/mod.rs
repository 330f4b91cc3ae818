//! The pods of this node: one worker each.
//!
//! ```text
//! watch of bound pods ─┐
//! runtime events ──────┼─▶ Pods (who gets it) ─▶ Worker (one a pod) ─▶ plan ─▶ runtime, images, network, volumes
//! probes' verdicts ────┘                                            └─▶ status ─▶ Writer ─▶ API server
//! ```
//! `plan`, `status`, `view` and `model` are pure.

mod admission;
mod adopt;
mod credentials;
pub(crate) mod events;
mod images;
pub(crate) mod model;
mod plan;
mod signals;
mod status;
mod termination;
#[cfg(test)]
mod tests;
mod view;
mod worker;
mod writer;

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use corten_api::api::core::v1::Pod;
use corten_client::{Informer, Recorder};
use futures::FutureExt;
use kube::ResourceExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::facts::NodeFacts;
use crate::lookup::Lookup;
use crate::ports::{PodState, RuntimeEvent};
use crate::sources::Sources;
use crate::volumes::Volumes;
use admission::Refusal;
pub(crate) use plan::grace_of;
use worker::{Message, Worker};

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) lookup: Lookup,
    pub(crate) sources: Arc<Sources>,
    pub(crate) volumes: Volumes,
    pub(crate) node: Arc<NodeFacts>,
}

/// A pod came, changed or went: before and after.
type Change = (Option<Arc<Pod>>, Option<Arc<Pod>>);

/// A dead worker's pod gets a new one after this time.
const REVIVAL: Duration = Duration::from_secs(1);

/// How a worker came to its end, with the pod's UID.
enum Ended {
    /// Nothing is left of the pod.
    Gone(String),
    /// The worker itself failed; its containers may go on.
    Died(String),
}

/// Gives every pod its worker and every worker its messages.
pub(crate) struct Pods {
    shared: Arc<Shared>,
    informer: Informer<Pod>,
    workers: HashMap<String, mpsc::UnboundedSender<Message>>,
    tasks: JoinSet<Ended>,
    /// What an earlier agent left, by UID, until a worker takes it.
    found: HashMap<String, PodState>,
    /// UIDs of pods that this node did not take: they hold nothing here.
    refused: HashSet<String>,
}

impl Pods {
    /// Runs until it is dropped; containers go on after that.
    pub(crate) async fn run(shared: Arc<Shared>, informer: Informer<Pod>) {
        let mut events = shared.config.runtime.events();
        informer.synced().await;
        let (found, known) = (found(&shared).await, informer.list());
        // Each pod has its worker before the first event is looked at.
        let mut changes = follow(&informer);
        let mut pods =
            Self { shared, informer, workers: HashMap::new(), tasks: JoinSet::new(), found, refused: HashSet::new() };
        pods.remove_orphans(&known).await;
        loop {
            tokio::select! {
                biased;
                Some((before, after)) = changes.recv() => pods.changed(before, after),
                Some(event) = events.recv() => pods.happened(event),
                Some(Ok(ended)) = pods.tasks.join_next() => match ended {
                    Ended::Gone(uid) => {
                        pods.workers.remove(&uid);
                        pods.refused.remove(&uid);
                    }
                    Ended::Died(uid) => pods.revive(&uid).await,
                },
            }
        }
    }

    /// Removes what runs here for pods that no longer exist, and whatever belongs to no pod at all.
    async fn remove_orphans(&mut self, known: &[Arc<Pod>]) {
        // Those that still come to their end have a worker.
        let uids: Vec<String> = known.iter().filter_map(|pod| pod.uid()).chain(self.workers.keys().cloned()).collect();
        let orphans: Vec<String> = self.found.keys().filter(|uid| !uids.contains(uid)).cloned().collect();
        let config = &self.shared.config;
        if let Err(error) = config.network.retain(&uids).await {
            tracing::warn!(%error, "cannot remove the links of pods that are gone");
        }
        for uid in orphans {
            self.found.remove(&uid);
            if let Err(error) = config.runtime.remove_pod(&uid).await {
                tracing::warn!(pod = uid, %error, "cannot remove a pod that is gone");
            }
        }
        let folders = self.shared.volumes.known().await.unwrap_or_default();
        for uid in folders.into_iter().filter(|uid| !uids.contains(uid)) {
            if let Err(error) = self.shared.volumes.unmount(&uid).await {
                tracing::warn!(pod = uid, %error, "cannot remove the volumes of a pod that is gone");
            }
        }
    }

    fn changed(&mut self, before: Option<Arc<Pod>>, after: Option<Arc<Pod>>) {
        let uid_of = |pod: &Option<Arc<Pod>>| pod.as_ref().and_then(|pod| pod.uid());
        let (old, new) = (uid_of(&before), uid_of(&after));
        if let Some(old) = old.filter(|old| Some(old) != new.as_ref()) {
            self.send(&old, Message::Removed);
        }
        let (Some(uid), Some(pod)) = (new, after) else { return };
        if let Some(worker) = self.workers.get(&uid) {
            // One that has just died is about to be replaced, and its successor looks for itself.
            let _ = worker.send(Message::Pod(pod));
            return;
        }
        self.start(uid, pod);
    }

    fn start(&mut self, uid: String, pod: Arc<Pod>) {
        let found = self.found.remove(&uid);
        let (sender, inbox) = mpsc::unbounded_channel();
        let refusal = self.refusal(&uid, &pod, found.is_some());
        if refusal.is_some() {
            self.refused.insert(uid.clone());
        }
        let worker = Worker::new(Arc::clone(&self.shared), pod, (found, refusal), (sender.downgrade(), inbox));
        self.workers.insert(uid.clone(), sender);
        self.tasks.spawn(async move {
            if AssertUnwindSafe(worker.run()).catch_unwind().await.is_ok() {
                return Ended::Gone(uid);
            }
            tracing::error!(pod = uid, "a pod's worker died");
            tokio::time::sleep(REVIVAL).await;
            Ended::Died(uid)
        });
    }

    /// Whether this node cannot take a pod. One that it has taken before stays.
    fn refusal(&self, uid: &str, pod: &Pod, is_here: bool) -> Option<Refusal> {
        let started = pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
        if is_here || started || pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let runs = |other: &Arc<Pod>| {
            let phase = other.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
            let known = other.uid().filter(|own| own != uid && self.workers.contains_key(own));
            known.is_some_and(|own| !self.refused.contains(&own)) && !["Succeeded", "Failed"].contains(&phase)
        };
        admission::refusal(pod, &self.informer.list().into_iter().filter(runs).collect::<Vec<_>>())
    }

    /// Gives the pod of a dead worker a new one, which adopts what runs.
    async fn revive(&mut self, uid: &str) {
        self.workers.remove(uid);
        self.found.extend(found(&self.shared).await.remove_entry(uid));
        let known = self.informer.list();
        match known.iter().find(|pod| pod.uid().as_deref() == Some(uid)) {
            Some(pod) => self.start(uid.to_owned(), Arc::clone(pod)),
            None => self.remove_orphans(&known).await,
        }
    }

    fn happened(&mut self, event: RuntimeEvent) {
        match event {
            RuntimeEvent::Exited { pod_uid, id, exit } => self.send(&pod_uid, Message::Exited { id, exit }),
            RuntimeEvent::PodLost { pod_uid } => self.send(&pod_uid, Message::Lost),
        }
    }

    fn send(&self, uid: &str, message: Message) {
        if let Some(worker) = self.workers.get(uid) {
            let _ = worker.send(message);
        }
    }
}

/// What an earlier agent left running.
async fn found(shared: &Shared) -> HashMap<String, PodState> {
    match shared.config.runtime.list().await {
        Ok(pods) => pods.into_iter().map(|pod| (pod.uid.clone(), pod)).collect(),
        Err(error) => {
            tracing::error!(%error, "cannot list the pods that run here");
            HashMap::new()
        }
    }
}

/// The changes of a cache as a stream, what is in it first.
fn follow(informer: &Informer<Pod>) -> mpsc::UnboundedReceiver<Change> {
    let (sender, receiver) = mpsc::unbounded_channel();
    informer.on_change(move |before, after| {
        let _ = sender.send((before.cloned().map(Arc::new), after.cloned().map(Arc::new)));
    });
    receiver
}
