//! The pods of this node as others may see them: what logs, exec, attach and port-forward start from.
//!
//! Workers publish, the HTTPS server reads. A view is an immutable snapshot.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use corten_api::api::core::v1::Pod;
use corten_base::Timestamp;
use tokio::sync::watch;

use crate::ports::Runtime;

/// Finds pods by name. Cheap to clone; every clone sees the same pods.
#[derive(Clone)]
pub struct Lookup {
    runtime: Arc<dyn Runtime>,
    pods: Arc<RwLock<HashMap<Key, Arc<PodView>>>>,
    changed: watch::Sender<u64>,
}

/// Namespace and name.
type Key = (String, String);

/// A pod and its containers at one moment.
#[derive(Clone, Debug)]
pub struct PodView {
    /// Pod UID: names the pod at the runtime.
    pub uid: String,
    /// The pod as last seen at the API server.
    pub pod: Arc<Pod>,
    /// Its addresses, once it has any.
    pub ips: Vec<IpAddr>,
    /// Every container of the spec: init containers first, then containers, in the spec's order.
    pub containers: Vec<ContainerView>,
}

/// Which list of the spec a container is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerKind {
    /// Runs to completion before the next.
    Init,
    /// Init container with `restartPolicy: Always`: keeps running beside the others.
    Sidecar,
    /// One of `spec.containers`.
    Main,
}

/// A container of a pod at one moment.
#[derive(Clone, Debug)]
pub struct ContainerView {
    /// Name in the pod.
    pub name: String,
    /// Which list it is from.
    pub kind: ContainerKind,
    /// Id of the newest attempt at the runtime; `None` before the first start.
    pub id: Option<String>,
    /// Restart count of the newest attempt.
    pub attempt: u32,
    /// The newest attempt runs now.
    pub running: bool,
    /// When the newest attempt started.
    pub started_at: Option<Timestamp>,
    /// Has a terminal.
    pub tty: bool,
    /// Keeps stdin open for attach.
    pub stdin: bool,
    /// Closes stdin after the first attach session.
    pub stdin_once: bool,
    /// Holds `<attempt>.log`; the previous attempt's log is `<attempt - 1>.log` if it is still there.
    pub log_dir: PathBuf,
    /// Why it does not run, as `status.containerStatuses[].state.waiting` says: `ContainerCreating`, `CrashLoopBackOff`.
    pub waiting: Option<String>,
}

impl ContainerView {
    /// Log of the newest attempt.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.log_dir.join(format!("{}.log", self.attempt))
    }

    /// Log of the attempt before the newest, if there was one.
    #[must_use]
    pub fn previous_log_path(&self) -> Option<PathBuf> {
        let attempt = self.attempt.checked_sub(1)?;
        Some(self.log_dir.join(format!("{attempt}.log")))
    }
}

impl PodView {
    /// The container with this name.
    #[must_use]
    pub fn container(&self, name: &str) -> Option<&ContainerView> {
        self.containers.iter().find(|container| container.name == name)
    }
}

impl Lookup {
    /// No pods yet.
    pub(crate) fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self { runtime, pods: Arc::default(), changed: watch::Sender::new(0) }
    }

    /// The pod of that name on this node.
    #[must_use]
    pub fn pod(&self, namespace: &str, name: &str) -> Option<Arc<PodView>> {
        let pods = self.pods.read().unwrap_or_else(PoisonError::into_inner);
        pods.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All pods of this node, in no order.
    #[must_use]
    pub fn pods(&self) -> Vec<Arc<PodView>> {
        self.pods.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Changes whenever any view does: to wait for a container to start or restart without polling.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Where the containers run.
    #[must_use]
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.runtime
    }

    /// Replaces the view of a pod.
    pub(crate) fn publish(&self, namespace: &str, name: &str, view: PodView) {
        let mut pods = self.pods.write().unwrap_or_else(PoisonError::into_inner);
        pods.insert((namespace.to_owned(), name.to_owned()), Arc::new(view));
        drop(pods);
        self.changed.send_modify(|version| *version += 1);
    }

    /// Forgets a pod, unless the name has passed to another pod since.
    pub(crate) fn forget(&self, namespace: &str, name: &str, uid: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut pods = self.pods.write().unwrap_or_else(PoisonError::into_inner);
        if pods.get(&key).is_some_and(|view| view.uid == uid) {
            pods.remove(&key);
        }
        drop(pods);
        self.changed.send_modify(|version| *version += 1);
    }
}
