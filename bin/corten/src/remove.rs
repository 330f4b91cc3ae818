//! Removing what a cluster made: its containers, and for a reset everything.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::instance::Lock;
use crate::settings::Settings;
use crate::{instance, kubeconfig, mounts, network_namespace};

const PATIENCE: Duration = Duration::from_secs(10);
/// What is ours in the data folder and in the run folder; nothing else is ever removed.
const DATA: [&str; 9] =
    ["store", "pki", "images", "agent", "runtime", "corten.json", "corten.tmp", "corten.lock", ".writable"];
const RUN: [&str; 7] = ["runtime", "agent", "api.sock", "corten.log", "corten.pid", "corten.tmp", ".writable"];

/// The cluster of these folders, as far as it can still be known.
pub(crate) struct Remains {
    pub(crate) settings: Settings,
    /// Whether a process ran it until now.
    pub(crate) was_running: bool,
    /// How many pods ran when it was stopped.
    pub(crate) pods: usize,
    /// Where its links and rules are; `None` if that namespace cannot be reached from here.
    namespace: Option<File>,
    _lock: Lock,
}

/// Stops the cluster's process, if there is one; `None` if there never was a cluster in the data folder. What is not
/// known to be ours is not touched: folders with the names of ours, and the cgroup that another cluster may use.
pub(crate) fn stop(data_dir: &Path, run_dir: &Path) -> anyhow::Result<Option<Remains>> {
    let Some(settings) = Settings::load(data_dir)? else {
        if let Some(running) = instance::find(run_dir)? {
            bail!(
                "process {} runs a cluster in --run-dir {}, but there is none in --data-dir {}: give the one it has",
                running.pid,
                run_dir.display(),
                data_dir.display()
            );
        }
        return Ok(None);
    };
    if settings.run_dir != run_dir {
        bail!(
            "the cluster of {} was started with --run-dir {}: give that one",
            data_dir.display(),
            settings.run_dir.display()
        );
    }
    let mut running = instance::find(run_dir)?;
    let mut namespace = None;
    if let Some(own) = running.take() {
        namespace = own.network_namespace()?;
        // One that ends while it is looked at counts as one that had ended before.
        running = namespace.is_some().then_some(own);
    }
    let namespace = match &running {
        Some(_) => namespace,
        // Without a process to ask, only the namespace we are in can be meant, and only if it is the right one.
        None if settings.network_namespace == network_namespace::own()? => {
            Some(File::open("/proc/self/ns/net").context("cannot open this process's network namespace")?)
        }
        None => None,
    };
    if let Some(running) = &running {
        running.stop(PATIENCE)?;
    }
    // Nobody starts it again while its remains are removed.
    let lock = Lock::take(&settings)?;
    let pods = orphans(&settings)?;
    Ok(Some(Remains { settings, was_running: running.is_some(), pods, namespace, _lock: lock }))
}

/// How many pods run now that no process looks after them.
pub(crate) fn orphans(settings: &Settings) -> anyhow::Result<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(corten_runtime::running_pods(&settings.engine())))
}

/// A number of pods that run, for people.
pub(crate) fn still_running(pods: usize) -> String {
    if pods == 1 { "1 pod still runs".to_owned() } else { format!("{pods} pods still run") }
}

impl Remains {
    /// What `down` and `reset` found, for people.
    pub(crate) fn report(&self) -> Option<String> {
        (!self.was_running && self.pods > 0)
            .then(|| format!("The cluster's process was gone already; {}: ending them.", still_running(self.pods)))
    }

    /// Ends all pods and removes what they had: processes, cgroups, mounts, links and rules. True if links and rules
    /// had to stay, since they are in a namespace that cannot be reached from here.
    pub(crate) fn remove_pods(&self) -> anyhow::Result<bool> {
        if let Some(namespace) = &self.namespace {
            network_namespace::enter(namespace)?;
        }
        let engine = self.settings.engine();
        let folders = [engine.data_dir.clone(), self.settings.agent_dir(), self.settings.run_dir.clone()];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            corten_runtime::purge(&engine).await.context("cannot remove the containers")?;
            mounts::unmount_below(&folders)?;
            if self.namespace.is_some() {
                corten_network::purge().await.context("cannot remove the links and rules")?;
            }
            Ok(self.namespace.is_none() && self.settings.network_namespace != 0)
        })
    }

    /// Removes all files. Returns what was found in the two folders and is not ours.
    pub(crate) fn remove_files(&self) -> anyhow::Result<Vec<String>> {
        kubeconfig::remove(&self.settings.kubeconfig)?;
        let mut foreign = Vec::new();
        for (folder, names) in [(&self.settings.run_dir, &RUN[..]), (&self.settings.data_dir, &DATA[..])] {
            for name in names {
                remove(&folder.join(name))?;
            }
            // The folder itself may be a mount point, or hold files of others: then it stays.
            if fs::remove_dir(folder).is_err() {
                let entries = fs::read_dir(folder).into_iter().flatten().flatten();
                foreign.extend(entries.map(|entry| entry.path().display().to_string()));
            }
        }
        Ok(foreign)
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_cluster_was_nothing_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let images = folder.path().join("images");
        fs::create_dir_all(images.join("holiday")).expect("made");
        assert!(stop(folder.path(), &folder.path().join("run")).expect("looked").is_none());
        assert!(images.join("holiday").exists());
    }

    #[test]
    fn files_of_others_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let (data, run) = (folder.path().join("data"), folder.path().join("run"));
        fs::create_dir_all(data.join("store/x")).expect("made");
        fs::create_dir_all(&run).expect("made");
        fs::write(data.join("thesis.tex"), "text").expect("written");
        let mut settings = Settings::assumed(&data, &run);
        settings.kubeconfig = folder.path().join("admin.conf");
        settings.save().expect("saved");
        let remains = stop(&data, &run).expect("stopped").expect("a cluster");
        let foreign = remains.remove_files().expect("removed");
        assert_eq!(foreign, [data.join("thesis.tex").display().to_string()]);
        assert!(!run.exists() && !data.join("store").exists());
    }

    #[test]
    fn pods_without_a_process_are_told_of() {
        let folder = tempfile::tempdir().expect("a folder");
        let (data, run) = (folder.path().join("data"), folder.path().join("run"));
        fs::create_dir_all(&data).expect("made");
        fs::create_dir_all(&run).expect("made");
        Settings::assumed(&data, &run).save().expect("saved");
        let mut remains = stop(&data, &run).expect("stopped").expect("a cluster");
        assert_eq!(remains.pods, 0);
        assert_eq!(remains.report(), None);
        remains.pods = 2;
        let said = remains.report().unwrap_or_default();
        assert!(said.contains("was gone already; 2 pods still run"), "{said}");
        remains.was_running = true;
        assert_eq!(remains.report(), None);
    }
}
