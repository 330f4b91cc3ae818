//! The volumes of pods.
//!
//! All that a pod needs is below `<data-dir>/pods/<uid>/`, but for the storage of its claims:
//! ```text
//! volumes/kubernetes.io~<plugin>/<name>/   one folder a volume
//! volume-subpaths/<volume>/<container>/<n> what `subPath` leads to, bound here
//! containers/<name>/<n>.termination-log    last words
//! etc-hosts  hostname  resolv.conf
//! ```
//! Making them again, after a restart of the agent, changes only what is not as it should be. Files that show objects
//! are kept current by one task a pod, which sleeps until an object, the pod or a token changes.
//!
//! Invariant: what a container can write to is never followed by name, and nothing is deleted through a mount.

mod claims;
mod error;
mod host_path;
mod keeper;
mod local;
mod mounts;
mod ownership;
mod payload;
mod render;
mod sub_path;
mod tokens;
mod tree;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_api::api::core::v1::{Pod, Service, Volume};
use corten_base::{Clock, Random};
use rustix::mount::{MountFlags, mount};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use error::VolumeError;
pub(crate) use local::{Janitor, folder as local_folder};

use crate::facts::NodeFacts;
use crate::files::PodFiles;
use crate::sources::{Objects, PodSources, Sources, claim_of};
use payload::{Owner, Payload};
use render::Plan;
use tokens::Tokens;

/// Makes the volumes of all pods of a node.
pub(crate) struct Volumes {
    /// Holds a folder per pod, named by its UID.
    pods_dir: PathBuf,
    /// Holds a folder per volume that was made for a claim on this node.
    local_dir: PathBuf,
    node: Arc<NodeFacts>,
    sources: Arc<Sources>,
    clock: Clock,
    random: Random,
}

/// The volumes of one pod, which are current until this is dropped.
pub(crate) struct PodVolumes {
    dir: PathBuf,
    ips: Vec<IpAddr>,
    node: Arc<NodeFacts>,
    sources: Arc<Sources>,
    used: PodSources,
    /// By the volumes' names.
    plans: BTreeMap<String, Plan>,
    pod: watch::Sender<Arc<Pod>>,
    _keeper: Option<AbortOnDropHandle<()>>,
}

impl Volumes {
    /// Volumes below `<data_dir>/pods`.
    pub(crate) fn new(
        data_dir: &Path,
        node: Arc<NodeFacts>,
        sources: Arc<Sources>,
        clock: Clock,
        random: Random,
    ) -> Self {
        let (pods_dir, local_dir) = (data_dir.join("pods"), local::folder(data_dir));
        Self { pods_dir, local_dir, node, sources, clock, random }
    }

    /// Makes all volumes of a pod and its generated files. Idempotent.
    pub(crate) async fn mount(&self, pod: &Arc<Pod>, ips: &[IpAddr]) -> Result<PodVolumes, VolumeError> {
        let dir = self.pods_dir.join(pod.metadata.uid.as_deref().unwrap_or_default());
        let volumes: Vec<Volume> = pod.spec.as_ref().and_then(|spec| spec.volumes.clone()).unwrap_or_default();
        let used = self.sources.follow(pod);
        let mut plans = BTreeMap::new();
        for volume in &volumes {
            let plan = match claim_of(pod, volume) {
                Some(claim) => self.claimed(pod, volume, &claim, &used).await?,
                None => Plan::of(volume, pod, &dir)?,
            };
            plans.insert(volume.name.clone(), plan);
        }
        used.objects().await.map_err(VolumeError::Pod)?;
        let changes = used.changes();
        let (pod_sender, pod_changes) = watch::channel(Arc::clone(pod));
        let mut keeper = keeper::Keeper {
            pod: pod_changes,
            node: Arc::clone(&self.node),
            client: self.sources.client().clone(),
            used: used.clone(),
            changes,
            clock: self.clock.clone(),
            random: self.random.clone(),
            tokens: Tokens::default(),
            volumes: volumes
                .into_iter()
                .filter_map(|volume| match plans.get(&volume.name) {
                    Some(Plan::Written { dir }) => Some((volume, dir.clone())),
                    _ => None,
                })
                .collect(),
        };
        let files = keeper.render().await?;
        let (stamp, group) = (keeper.stamp(), Owner::of(pod).group);
        let job = Job {
            dir: dir.clone(),
            plans: plans.clone(),
            files,
            stamp,
            group,
            pod: Arc::clone(pod),
            ips: ips.to_vec(),
            node: Arc::clone(&self.node),
        };
        blocking(move || job.run()).await?;
        let keeper = (!keeper.volumes.is_empty()).then(|| AbortOnDropHandle::new(tokio::spawn(keeper.run())));
        Ok(PodVolumes {
            dir,
            ips: ips.to_vec(),
            node: Arc::clone(&self.node),
            sources: Arc::clone(&self.sources),
            used,
            plans,
            pod: pod_sender,
            _keeper: keeper,
        })
    }

    /// Removes everything of a pod; paths of the node that it used stay. Idempotent. Its [`PodVolumes`] must be dropped
    /// before.
    pub(crate) async fn unmount(&self, uid: &str) -> Result<(), VolumeError> {
        // The folder of all pods must never be taken for that of one.
        if uid.is_empty() || uid.contains('/') || uid.starts_with('.') {
            return Err(VolumeError::Pod(format!("{uid:?} is no UID of a pod")));
        }
        let dir = self.pods_dir.join(uid);
        blocking(move || tree::remove(&dir).map_err(VolumeError::io("remove", dir))).await
    }

    /// UIDs of the pods that have a folder, whether they exist or not.
    pub(crate) async fn known(&self) -> Result<Vec<String>, VolumeError> {
        let dir = self.pods_dir.clone();
        blocking(move || match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(VolumeError::io("read", dir)(error)),
            Ok(entries) => Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()),
        })
        .await
    }
}

impl PodVolumes {
    /// The pod's addresses.
    pub(crate) fn ips(&self) -> &[IpAddr] {
        &self.ips
    }

    /// The pod's node.
    pub(crate) fn node(&self) -> &NodeFacts {
        &self.node
    }

    /// The ConfigMaps and Secrets that the pod refers to, as they are now.
    pub(crate) async fn objects(&self) -> Result<Objects, String> {
        self.used.objects().await
    }

    /// All services.
    pub(crate) async fn services(&self) -> Vec<Arc<Service>> {
        self.sources.services().await
    }

    /// Shows a change of the pod's labels or annotations in its volumes.
    pub(crate) fn pod_changed(&self, pod: &Arc<Pod>) {
        self.pod.send_if_modified(|known| {
            let shown = |pod: &Pod| (pod.metadata.labels.clone(), pod.metadata.annotations.clone());
            let changed = shown(known) != shown(pod);
            if changed {
                *known = Arc::clone(pod);
            }
            changed
        });
    }
}

/// Runs what waits for the disk where it holds up nobody.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(VolumeError::Pod(format!("the work on the volumes broke off: {error}"))),
    }
}

/// What is to be on disk before the pod's first container.
struct Job {
    dir: PathBuf,
    plans: BTreeMap<String, Plan>,
    files: Vec<(PathBuf, Payload)>,
    stamp: String,
    group: Option<u32>,
    pod: Arc<Pod>,
    ips: Vec<IpAddr>,
    node: Arc<NodeFacts>,
}

impl Job {
    fn run(self) -> Result<(), VolumeError> {
        make_private(&self.dir)?;
        PodFiles::write(&self.dir, &self.pod, &self.ips, &self.node).map_err(VolumeError::Pod)?;
        for (name, plan) in &self.plans {
            match plan {
                Plan::Scratch { dir, memory: None } => make_volume(dir, false, self.group)?,
                Plan::Scratch { dir, memory: Some(size) } => make_memory(dir, *size, self.group)?,
                Plan::Host { path, kind, .. } => host_path::check(path, kind)
                    .map_err(|message| VolumeError::SetUp { volume: name.clone(), message })?,
                Plan::Local { path, own, read_only } => {
                    let group = self.group.filter(|_| !read_only);
                    local::prepare(path, *own, group, on_root_mismatch(&self.pod))
                        .map_err(|message| VolumeError::SetUp { volume: name.clone(), message })?;
                }
                Plan::Written { dir } => make_volume(dir, true, self.group)?,
            }
        }
        for (dir, payload) in &self.files {
            writer::write(dir, payload, &self.stamp, self.group).map_err(VolumeError::io("write", dir))?;
        }
        Ok(())
    }
}

/// Whether the owner of what is in a volume is looked at only if that of the volume itself is not right.
fn on_root_mismatch(pod: &Pod) -> bool {
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    context.and_then(|context| context.fs_group_change_policy.as_deref()) == Some("OnRootMismatch")
}

/// A folder that users of the node who are not root do not get into.
fn make_private(dir: &Path) -> Result<(), VolumeError> {
    fs::DirBuilder::new().recursive(true).mode(0o750).create(dir).map_err(VolumeError::io("make", dir))
}

/// A folder for a volume. One that is there already belongs to the pod: it stays as the pod left it.
fn make_volume(dir: &Path, read_only: bool, group: Option<u32>) -> Result<(), VolumeError> {
    if dir.exists() {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(dir);
    make_private(parent)?;
    // Made complete under another name, in case we are stopped half-way. No volume's name contains a dot.
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let fresh = parent.join(format!(".new.{name}"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&fresh).map_err(VolumeError::io("make", &fresh))?;
    ownership::give(&fresh, 0o777, read_only, group).map_err(VolumeError::io("set the permissions of", &fresh))?;
    fs::rename(&fresh, dir).map_err(VolumeError::io("make", dir))
}

fn make_memory(dir: &Path, size: Option<i64>, group: Option<u32>) -> Result<(), VolumeError> {
    make_private(dir)?;
    if tree::is_mount(dir) {
        return Ok(());
    }
    let mut options = String::from(if group.is_some() { "mode=2777" } else { "mode=0777" });
    if let Some(group) = group {
        options += &format!(",gid={group}");
    }
    if let Some(size) = size {
        options += &format!(",size={size}");
    }
    let options = std::ffi::CString::new(options).unwrap_or_default();
    mount("tmpfs", dir, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, &*options)
        .map_err(|error| VolumeError::io("mount a tmpfs on", dir)(error.into()))
}
