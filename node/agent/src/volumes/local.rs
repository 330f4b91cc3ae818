//! The folders that this node keeps for claims: the node's half of the built-in local-path provisioner.
//!
//! The controllers make a volume that names a folder of this node; the folder itself is made here when a pod first
//! mounts it. When the volume goes, its finalizer waits for this node, which may be away: whenever it is back, it
//! removes the folder and lets the volume go.
//!
//! Invariant: a folder is removed only on a volume's own word, that it is being deleted and that its data goes with it;
//! never because a volume is not to be found.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use corten_api::api::core::v1::PersistentVolume;
use corten_base::chain;
use corten_client::{Client, Key, Next, Queue, run_controller};
use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{VolumeError, blocking, ownership, tree};

/// Label of a volume: the node that keeps its folder.
/// Holds a volume while it is bound to a claim.
const PROTECTION: &str = "kubernetes.io/pv-protection";
const NODE: &str = "corten.dev/node";
/// Keeps a volume until its node has removed its folder.
const FINALIZER: &str = "corten.dev/local-path";

/// Where a node keeps the folders.
pub(crate) fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("volumes")
}

/// Makes sure that the storage of a volume is there, and belongs to the pod's group.
pub(super) fn prepare(path: &Path, own: bool, group: Option<u32>, on_mismatch: bool) -> Result<(), String> {
    let failed = |what: &str, error: std::io::Error| format!("cannot {what} {}: {error}", path.display());
    if own && !path.exists() {
        if let Some(parent) = path.parent() {
            // Who gets into a container's volume is decided here: inside it anybody may do anything.
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
            made.map_err(|error| failed("make the folder of", error))?;
        }
        fs::DirBuilder::new().recursive(true).mode(0o777).create(path).map_err(|error| failed("make", error))?;
        // The process's mask may have taken bits away.
        ownership::give(path, 0o777, false, None).map_err(|error| failed("set the permissions of", error))?;
    }
    let metadata = fs::metadata(path).map_err(|_| format!("path {:?} does not exist", path.display().to_string()))?;
    match group {
        Some(group) if metadata.is_dir() => {
            ownership::give_all(path, group, on_mismatch).map_err(|error| failed("give the pod's group", error))
        }
        _ => Ok(()),
    }
}

/// Removes the folders of volumes that are being deleted.
pub(crate) struct Janitor {
    client: Client,
    node: String,
    folder: PathBuf,
    /// The volumes of this node that wait for it.
    waiting: Mutex<BTreeMap<String, PersistentVolume>>,
}

impl Janitor {
    /// One for the folders of a node, which are in `folder`.
    pub(crate) fn new(client: Client, node: &str, folder: PathBuf) -> Arc<Self> {
        Arc::new(Self { client, node: node.to_owned(), folder, waiting: Mutex::default() })
    }

    /// Works until it is dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        let queue = Queue::default();
        let work = {
            let own = Arc::clone(&self);
            move |key: Key| {
                let own = Arc::clone(&own);
                async move { own.clean(&key.name).await }
            }
        };
        let cleaning = run_controller("local-path", queue.clone(), 1, CancellationToken::new(), work);
        tokio::join!(self.follow(&queue), cleaning);
    }

    async fn follow(&self, queue: &Queue) {
        let config = watcher::Config::default().labels(&format!("{NODE}={}", self.node));
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let mut events = std::pin::pin!(watcher::watcher(volumes, config).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::InitApply(volume) | Event::Apply(volume)) if waits(&volume) => {
                    let name = volume.name_any();
                    self.waiting().insert(name.clone(), volume);
                    queue.add(Key::new("", name));
                }
                Ok(Event::Delete(volume)) => drop(self.waiting().remove(&volume.name_any())),
                Ok(_) => {}
                Err(error) => tracing::debug!(error = chain(&error), "the watch of this node's volumes broke"),
            }
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, PersistentVolume>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn clean(&self, name: &str) -> Result<Next, String> {
        let Some(volume) = self.waiting().get(name).cloned() else { return Ok(Next::Wait) };
        if let Some(path) = goes(&volume, &self.folder) {
            let removed = blocking(move || tree::remove(&path).map_err(VolumeError::io("remove", path))).await;
            removed.map_err(|error| chain(&error))?;
        }
        let rest: Vec<&String> = volume.finalizers().iter().filter(|own| *own != FINALIZER).collect();
        let patch = json!({"metadata": {"finalizers": rest, "resourceVersion": volume.resource_version()}});
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        match volumes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            // It changed meanwhile: the watch brings it again.
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(Next::Wait),
            result => drop(result.map_err(|error| chain(&error))?),
        }
        self.waiting().remove(name);
        Ok(Next::Wait)
    }
}

/// Whether a volume is being deleted, and waits for its node alone: while a claim holds it, its data stays.
fn waits(volume: &PersistentVolume) -> bool {
    let has = |name: &str| volume.finalizers().iter().any(|own| own == name);
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    volume.metadata.deletion_timestamp.is_some() && has(FINALIZER) && !has(PROTECTION) && phase != Some("Bound")
}

/// The folder that goes with a volume. Data that is to be retained stays, and so does whatever is not in our folder.
fn goes(volume: &PersistentVolume, folder: &Path) -> Option<PathBuf> {
    let spec = volume.spec.as_ref()?;
    let path = folder.join(volume.name_any());
    let is_here = spec.local.as_ref().is_some_and(|local| Path::new(&local.path) == path);
    (is_here && spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete")).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_ours_whose_data_is_to_go_are_removed() {
        let folder = Path::new("/data/volumes");
        for (path, policy, expected) in [
            ("/data/volumes/pv", "Delete", Some("/data/volumes/pv")),
            ("/data/volumes/pv", "Retain", None),
            ("/data/volumes/other", "Delete", None),
            ("/data/volumes/pv/..", "Delete", None),
            ("/", "Delete", None),
        ] {
            let volume = json!({"metadata": {"name": "pv"}, "spec": {
                "local": {"path": path}, "persistentVolumeReclaimPolicy": policy,
            }});
            let volume = serde_json::from_value(volume).expect("a volume");
            assert_eq!(goes(&volume, folder), expected.map(PathBuf::from), "{path} {policy}");
        }
    }

    #[test]
    fn data_stays_while_a_claim_holds_the_volume() {
        for (deleted, finalizers, phase, expected) in [
            (true, json!([FINALIZER]), "Released", true),
            (true, json!([FINALIZER, PROTECTION]), "Bound", false),
            (true, json!([FINALIZER]), "Bound", false),
            (true, json!([PROTECTION]), "Released", false),
            (false, json!([FINALIZER]), "Released", false),
        ] {
            let at = deleted.then_some("2026-01-01T00:00:00Z");
            let volume = json!({"metadata": {"name": "pv", "deletionTimestamp": at, "finalizers": finalizers},
                "status": {"phase": phase}});
            let volume = serde_json::from_value(volume).expect("a volume");
            assert_eq!(waits(&volume), expected, "{deleted} {finalizers} {phase}");
        }
    }

    #[test]
    fn a_folder_is_made_for_us_only() {
        let dir = tempfile::tempdir().expect("a folder");
        let (own, other) = (dir.path().join("volumes/pv"), dir.path().join("disk"));
        prepare(&own, true, None, false).expect("made");
        fs::write(own.join("kept"), "x").expect("written");
        prepare(&own, true, None, false).expect("there");
        assert!(own.join("kept").exists());
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&own).expect("metadata").permissions().mode() & 0o7777, 0o777);
        let error = prepare(&other, false, None, false).expect_err("it is not there");
        assert_eq!(error, format!("path {:?} does not exist", other.display().to_string()));
    }
}
