//! What must be true before anything is made.

use std::fs;
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

/// Makes the folders, and makes sure that they can be written to.
pub(crate) fn folders(settings: &Settings) -> anyhow::Result<()> {
    for (option, folder) in [("--data-dir", &settings.data_dir), ("--run-dir", &settings.run_dir)] {
        let attempt = || -> std::io::Result<()> {
            fs::create_dir_all(folder)?;
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
