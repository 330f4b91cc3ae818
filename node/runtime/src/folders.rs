//! Folders of pods and containers, and how to find those that a crash left without an owner.
//!
//! A container's folder is claimed by a file in its pod's folder before it is made. So whatever happens in between, one
//! that nobody claims belongs to nobody: after a reboot, where the run directory is new, those are all.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use crate::types::{EngineConfig, Error, PodSpec, Result};

/// A pod's spec, while it is to run.
const POD_FILE: &str = "pod.json";
/// The same, from the moment it is to go.
const REMOVING_FILE: &str = "removing.json";
const CLAIM: &str = "container-";

/// Where pods and containers have their folders.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    pods: PathBuf,
    containers: PathBuf,
}

impl Folders {
    /// Makes them. What is inside is for root alone: layers and volumes may hold programs with privileges.
    pub(crate) fn open(config: &EngineConfig) -> Result<Self> {
        let own = Self { pods: config.run_dir.join("pods"), containers: config.data_dir.join("containers") };
        for dir in [&own.pods, &own.containers] {
            fs::create_dir_all(dir)
                .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o700)))
                .map_err(Error::io("RuntimeError", format!("cannot make {}", dir.display())))?;
        }
        Ok(own)
    }

    pub(crate) fn pod(&self, uid: &str) -> PathBuf {
        self.pods.join(uid)
    }

    pub(crate) fn container(&self, id: &str) -> PathBuf {
        self.containers.join(id)
    }

    /// Whether the pod is there, and to stay.
    pub(crate) fn is_kept(&self, uid: &str) -> bool {
        self.pod(uid).join(POD_FILE).exists()
    }

    /// The spec of a pod that is to run.
    pub(crate) fn spec(&self, uid: &str) -> Result<PodSpec> {
        let path = self.pod(uid).join(POD_FILE);
        let text = fs::read(&path).map_err(Error::io("PodNotFound", format!("there is no pod {uid}")))?;
        serde_json::from_slice(&text).map_err(|error| Error::new("PodLost", format!("{}: {error}", path.display())))
    }

    /// The spec of a pod, even if it is on its way out.
    pub(crate) fn last_spec(&self, uid: &str) -> Option<PodSpec> {
        spec_in(&self.pod(uid))
    }

    /// Writes a pod's spec: from now on it is there.
    pub(crate) fn keep(&self, spec: &PodSpec) -> io::Result<()> {
        let dir = self.pod(&spec.uid);
        fs::create_dir_all(&dir)?;
        let temporary = dir.join("pod.tmp");
        fs::write(&temporary, serde_json::to_vec(spec)?)?;
        fs::rename(&temporary, dir.join(POD_FILE))
    }

    /// Marks a pod as one to be removed, whatever happens from now on.
    pub(crate) fn give_up(&self, uid: &str) -> io::Result<()> {
        let dir = self.pod(uid);
        match fs::rename(dir.join(POD_FILE), dir.join(REMOVING_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Lets a container's folder belong to a pod.
    pub(crate) fn claim(&self, uid: &str, id: &str) -> io::Result<()> {
        fs::write(self.pod(uid).join(format!("{CLAIM}{id}")), [])
    }

    /// Removes a container's folder, and the claim.
    pub(crate) fn remove_container(&self, uid: &str, id: &str) -> io::Result<()> {
        gone(fs::remove_dir_all(self.container(id)))?;
        gone(fs::remove_file(self.pod(uid).join(format!("{CLAIM}{id}"))))
    }

    /// Containers that a pod has claimed.
    pub(crate) fn claimed(&self, uid: &str) -> Vec<String> {
        let names = names(&self.pod(uid)).into_iter();
        names.filter_map(|name| name.strip_prefix(CLAIM).map(str::to_owned)).collect()
    }

    /// Removes a pod's folder and those of its containers.
    pub(crate) fn remove_pod(&self, uid: &str) -> io::Result<()> {
        self.claimed(uid).iter().try_for_each(|id| self.remove_container(uid, id))?;
        gone(fs::remove_dir_all(self.pod(uid)))
    }

    /// All pods with a folder, those that are half made or half removed included.
    pub(crate) fn pods(&self) -> Vec<String> {
        names(&self.pods)
    }

    /// Removes folders of containers that no pod has claimed, except these.
    pub(crate) fn sweep(&self, except: &BTreeSet<String>) {
        let claimed: BTreeSet<String> = self.pods().iter().flat_map(|uid| self.claimed(uid)).collect();
        for id in names(&self.containers).into_iter().filter(|id| !claimed.contains(id) && !except.contains(id)) {
            match fs::remove_dir_all(self.container(&id)) {
                Ok(()) => tracing::info!(container = id, "removed the folder of a container that has no pod"),
                Err(error) => tracing::warn!(container = id, %error, "cannot remove the folder of a lost container"),
            }
        }
    }
}

/// The spec of the pod whose folder this is, even if it is on its way out.
pub(crate) fn spec_in(dir: &Path) -> Option<PodSpec> {
    [POD_FILE, REMOVING_FILE].iter().find_map(|file| serde_json::from_slice(&fs::read(dir.join(file)).ok()?).ok())
}

/// An identity that is a file name.
pub(crate) fn is_name(text: &str) -> bool {
    let mut parts = Path::new(text).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == OsStr::new(text))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_plain_names() {
        assert!(["a", "0b8f-1", "a.b"].into_iter().all(is_name));
        assert!(!["", ".", "..", "/", "a/b", "../a", "a/", "/a"].into_iter().any(is_name));
    }

    #[test]
    fn folders_without_a_pod_are_swept() {
        let dir = tempfile::tempdir().expect("a folder");
        let config = EngineConfig {
            data_dir: dir.path().join("data"),
            run_dir: dir.path().join("run"),
            cgroup_root: PathBuf::from("/none"),
        };
        let folders = Folders::open(&config).expect("made");
        fs::create_dir_all(folders.pod("u")).expect("made");
        folders.claim("u", "claimed").expect("claimed");
        for id in ["claimed", "known", "lost"] {
            fs::create_dir_all(folders.container(id).join("upper")).expect("made");
        }
        folders.sweep(&BTreeSet::from(["known".to_owned()]));
        let left = ["claimed", "known", "lost"].map(|id| folders.container(id).exists());
        assert_eq!(left, [true, true, false]);
        folders.remove_pod("u").expect("removed");
        folders.remove_pod("u").expect("again");
        assert!(!folders.container("claimed").exists());
    }
}
