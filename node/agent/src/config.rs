//! What an agent is told when it is made.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_base::{Clock, Random};

use crate::ports::{Images, Network, Runtime};

/// Everything an agent needs: who it is, where it keeps its files, and its ports to the machine.
pub struct Config {
    /// Name of the node object.
    pub node_name: String,
    /// Holds `pods/<uid>/` and `logs/pods/`.
    pub data_dir: PathBuf,
    /// Holds what does not outlive a reboot.
    pub run_dir: PathBuf,
    /// Speaks as `system:node:<node_name>`.
    pub client: kube::Client,
    /// Time of day.
    pub clock: Clock,
    /// Container ids and jitter.
    pub random: Random,
    /// Containers.
    pub runtime: Arc<dyn Runtime>,
    /// Images.
    pub images: Arc<dyn Images>,
    /// Pod networking.
    pub network: Arc<dyn Network>,
    /// Address of the node, published as its InternalIP.
    pub node_ip: IpAddr,
    /// Name servers for pods with `dnsPolicy: ClusterFirst`; empty if the cluster has no DNS.
    pub cluster_dns: Vec<IpAddr>,
    /// Such as `cluster.local`.
    pub cluster_domain: String,
    /// Where the node's own resolver configuration is read from: `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// What the node says it runs.
    pub versions: Versions,
    /// Most pods at a time; upstream's default is 110.
    pub pod_max: u32,
    /// Port of the node's HTTPS server; 10250.
    pub port: u16,
    /// Labels of the node beyond the well-known ones.
    pub labels: BTreeMap<String, String>,
}

/// Versions in `status.nodeInfo`.
#[derive(Clone, Debug)]
pub struct Versions {
    /// Kubernetes version, such as `v1.36.0`.
    pub kubelet: String,
    /// Such as `corten://0.1.0`.
    pub runtime: String,
}

impl Default for Versions {
    fn default() -> Self {
        Self { kubelet: "v1.36.0".to_owned(), runtime: concat!("corten://", env!("CARGO_PKG_VERSION")).to_owned() }
    }
}

impl Config {
    /// Folder of a pod's volumes and generated files.
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.data_dir.join("pods").join(uid)
    }

    /// Folder of the logs of a pod; each container has a folder in it.
    pub(crate) fn pod_log_dir(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        log_root(&self.data_dir).join(format!("{namespace}_{name}_{uid}"))
    }
}

/// Folder of all pods' logs.
pub(crate) fn log_root(data_dir: &Path) -> PathBuf {
    data_dir.join("logs").join("pods")
}
