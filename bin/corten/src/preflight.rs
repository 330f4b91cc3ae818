//! What must be true before anything is made.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path};

use anyhow::{Context, bail};
use rustix::thread::CapabilitySet;

use crate::address::check_node_name;
use crate::kubeconfig;
use crate::settings::Settings;

/// The store preallocates its log, and images need room as well.
const LEAST_FREE_BYTES: u64 = 64 << 20;
const NEEDED: [(&str, CapabilitySet); 2] =
    [("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN), ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN)];

/// Whether the settings can be right at all.
pub(crate) fn check(settings: &Settings) -> anyhow::Result<()> {
    if let Err(why) = check_node_name(&settings.node_name) {
        bail!("{:?} cannot be the name of a node: {why}; choose one by --node-name", settings.node_name);
    }
    if settings.api_port == settings.node_port {
        bail!("--api-port and --node-port are both {}: they must differ", settings.api_port);
    }
    let plain = |path: &Path| !path.components().any(|part| matches!(part, Component::ParentDir | Component::CurDir));
    let root = &settings.cgroup_root;
    if !root.is_absolute() || root == Path::new("/") || !plain(root) {
        bail!("--cgroup-root {} must be a path such as /corten", root.display());
    }
    if settings.data_dir == settings.run_dir {
        bail!("--data-dir and --run-dir are both {}: they must differ", settings.data_dir.display());
    }
    privileges()?;
    kubeconfig::check(&settings.kubeconfig)
}

fn privileges() -> anyhow::Result<()> {
    let own = rustix::thread::capabilities(None).context("cannot read this process's capabilities")?;
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(_, needed)| !own.effective.contains(*needed)).map(|(name, _)| *name).collect();
    if !missing.is_empty() {
        bail!("corten needs to run as root to make containers; this process lacks {}", missing.join(" and "));
    }
    Ok(())
}

/// Makes a folder that is root's only, and in it those that hold Secrets. A folder that is there and not ours keeps its
/// mode: others may have their files in it.
fn make_private(folder: &Path, own: &[std::path::PathBuf]) -> std::io::Result<()> {
    let private = |path: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    private(folder)?;
    for path in own {
        private(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Makes the folders, and makes sure that they can be written to.
pub(crate) fn folders(settings: &Settings) -> anyhow::Result<()> {
    for (option, folder) in [("--data-dir", &settings.data_dir), ("--run-dir", &settings.run_dir)] {
        let attempt = || -> std::io::Result<()> {
            make_private(folder, &settings.own_folders(folder))?;
            let probe = folder.join(".writable");
            fs::write(&probe, "x")?;
            fs::remove_file(&probe)
        };
        attempt().with_context(|| format!("{option} {} cannot be written to", folder.display()))?;
    }
    let dir = &settings.data_dir;
    let disk = rustix::fs::statvfs(dir).with_context(|| format!("cannot look at the disk of {}", dir.display()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < LEAST_FREE_BYTES {
        bail!(
            "the disk of --data-dir {} has {} MiB free, and at least {} MiB are needed: free some, or choose another folder",
            dir.display(),
            free >> 20,
            LEAST_FREE_BYTES >> 20
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_secrets_is_for_root_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (data, run) = (folder.path().join("data"), folder.path().join("run"));
        fs::create_dir_all(data.join("store")).expect("made by an earlier version");
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).expect("set");
        folders(&Settings::assumed(&data, &run)).expect("made");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!([mode(&data), mode(&run)], [0o755, 0o700], "what was there may be shared with others");
        for name in ["store", "images", "agent", "runtime"] {
            assert_eq!(mode(&data.join(name)), 0o700, "{name}");
        }
        assert_eq!(mode(&run.join("runtime")), 0o700);
    }
}
