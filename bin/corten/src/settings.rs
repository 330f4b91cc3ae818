//! How a cluster was started: what `status`, `down` and `reset` need to know of it afterwards.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// All pods' addresses.
pub(crate) const POD_RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 42, 0, 0), 16);
/// Cluster IPs.
pub(crate) const SERVICE_RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 43, 0, 0), 16);
/// Where the cluster's DNS answers.
pub(crate) const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 10);
/// Domain of the cluster's names.
pub(crate) const DOMAIN: &str = "cluster.local";
/// cgroup below which everything runs, unless told otherwise.
pub(crate) const CGROUP_ROOT: &str = "/corten";
/// Admin kubeconfig, unless told otherwise.
pub(crate) const KUBECONFIG: &str = "/etc/corten/admin.conf";

const FILE: &str = "corten.json";

/// A cluster's settings, kept in its data folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Settings {
    /// Name of this machine's node.
    pub(crate) node_name: String,
    /// Its address.
    pub(crate) node_ip: Ipv4Addr,
    /// Port of the API server.
    pub(crate) api_port: u16,
    /// Port of the node's own server.
    pub(crate) node_port: u16,
    /// Parent of all cgroups.
    pub(crate) cgroup_root: PathBuf,
    /// The administrator's kubeconfig.
    pub(crate) kubeconfig: PathBuf,
    /// What lasts.
    pub(crate) data_dir: PathBuf,
    /// What does not outlive a reboot.
    pub(crate) run_dir: PathBuf,
    /// Identity of the network namespace in which it runs.
    pub(crate) network_namespace: u64,
}

/// Folder of the images, which `corten image` uses without the rest.
pub(crate) fn images_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("images")
}

impl Settings {
    /// Where the API server is reached.
    pub(crate) fn url(&self) -> String {
        format!("https://{}:{}", self.node_ip, self.api_port)
    }

    pub(crate) fn store_dir(&self) -> PathBuf {
        self.data_dir.join("store")
    }

    pub(crate) fn pki_dir(&self) -> PathBuf {
        self.data_dir.join("pki")
    }

    pub(crate) fn images_dir(&self) -> PathBuf {
        images_dir(&self.data_dir)
    }

    pub(crate) fn agent_dir(&self) -> PathBuf {
        self.data_dir.join("agent")
    }

    pub(crate) fn agent_run_dir(&self) -> PathBuf {
        self.run_dir.join("agent")
    }

    /// Folders of ours in the data or the run folder that nobody else may look into.
    pub(crate) fn own_folders(&self, parent: &Path) -> Vec<PathBuf> {
        let engine = self.engine();
        let all = [
            self.store_dir(),
            self.images_dir(),
            self.agent_dir(),
            self.agent_run_dir(),
            engine.data_dir,
            engine.run_dir,
        ];
        all.into_iter().filter(|path| path.parent() == Some(parent)).collect()
    }

    /// Folders and cgroup of the runtime.
    pub(crate) fn engine(&self) -> corten_runtime::EngineConfig {
        corten_runtime::EngineConfig {
            data_dir: self.data_dir.join("runtime"),
            run_dir: self.run_dir.join("runtime"),
            cgroup_root: self.cgroup_root.clone(),
        }
    }

    /// The settings of the cluster in this data folder, if there is one.
    pub(crate) fn load(data_dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = data_dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).with_context(|| {
                format!("{} is damaged: `corten up` with the settings of the cluster writes it again", path.display())
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Fails if the cluster was started with other places, and pods may still be in them.
    pub(crate) fn check_places(&self) -> anyhow::Result<()> {
        let Some(before) = Self::load(&self.data_dir)? else { return Ok(()) };
        let pods = before.engine().run_dir.join("pods");
        let has_pods = fs::read_dir(pods).is_ok_and(|mut entries| entries.next().is_some());
        if has_pods && (&before.run_dir, &before.cgroup_root) != (&self.run_dir, &self.cgroup_root) {
            anyhow::bail!(
                "pods of the cluster in {} still run below --run-dir {} and --cgroup-root {}: \
                 give these, or stop them first by `corten down`",
                self.data_dir.display(),
                before.run_dir.display(),
                before.cgroup_root.display()
            );
        }
        Ok(())
    }

    /// Keeps them in the data folder.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let path = self.data_dir.join(FILE);
        let temporary = path.with_extension("tmp");
        let text = serde_json::to_string_pretty(self)?;
        fs::write(&temporary, text)
            .and_then(|()| fs::rename(&temporary, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// What a cluster in these folders would have, as far as a clean-up needs it.
    pub(crate) fn assumed(data_dir: &Path, run_dir: &Path) -> Self {
        Self {
            node_name: String::new(),
            node_ip: Ipv4Addr::UNSPECIFIED,
            api_port: 0,
            node_port: 0,
            cgroup_root: PathBuf::from(CGROUP_ROOT),
            kubeconfig: PathBuf::from(KUBECONFIG),
            data_dir: data_dir.to_owned(),
            run_dir: run_dir.to_owned(),
            network_namespace: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_not_left_behind_in_other_places() {
        let folder = tempfile::tempdir().expect("a folder");
        let (run, elsewhere) = (folder.path().join("run"), folder.path().join("elsewhere"));
        let settings = |run: &Path| Settings::assumed(folder.path(), run);
        settings(&run).save().expect("saved");
        settings(&elsewhere).check_places().expect("nothing runs");
        fs::create_dir_all(settings(&run).engine().run_dir.join("pods/uid")).expect("made");
        let why = settings(&elsewhere).check_places().expect_err("a pod may run").to_string();
        assert!(why.contains(&run.display().to_string()), "{why}");
        settings(&run).check_places().expect("the same places");
    }

    #[test]
    fn settings_are_found_again() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Settings::load(folder.path()).expect("readable"), None);
        let settings = Settings::assumed(folder.path(), Path::new("/run/x"));
        settings.save().expect("saved");
        assert_eq!(Settings::load(folder.path()).expect("readable"), Some(settings));
    }
}
