//! The network of one node: pod links and addresses, service rules, cluster DNS.
//!
//! Everything is made in the network namespace in which the process runs, and found again there by the next process.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

/// An address range: network address and prefix length.
pub type Range = (Ipv4Addr, u8);

/// What a node's network is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this node, for `internalTrafficPolicy: Local` and node ports.
    pub node_name: String,
    /// Address of this node.
    pub node_ip: IpAddr,
    /// All pods' addresses, of every node.
    pub cluster_range: Range,
    /// Cluster IPs.
    pub service_range: Range,
    /// Where the cluster's DNS answers: an address of the service range.
    pub dns_address: Ipv4Addr,
    /// Such as `cluster.local`.
    pub cluster_domain: String,
    /// The node's own resolver configuration, to which other names are forwarded.
    pub resolv_conf: std::path::PathBuf,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What failed and why.
    pub message: String,
}

/// A node's network.
pub struct Network {
    config: Config,
}

impl Network {
    /// Sets up what does not depend on pods: forwarding, the DNS address, the rules' table.
    pub async fn open(config: Config) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self { config }))
    }

    /// Gives a pod's network namespace an address and a link. Idempotent by UID, also across processes.
    pub async fn attach(&self, _pod_uid: &str, _netns: &Path) -> Result<Vec<IpAddr>, Error> {
        Err(Error { message: format!("{} has no pod network yet", self.config.node_name) })
    }

    /// Takes them away. Idempotent.
    pub async fn detach(&self, _pod_uid: &str) -> Result<(), Error> {
        Ok(())
    }

    /// Removes the links of all pods but these.
    pub async fn retain(&self, _pod_uids: &[String]) -> Result<(), Error> {
        Ok(())
    }

    /// Tells the range from which this node's pods get their addresses.
    pub async fn set_pod_range(&self, _range: Range) -> Result<(), Error> {
        Ok(())
    }

    /// Keeps service rules and DNS true to the API until `cancel` fires. Rules stay when it returns.
    pub async fn run(&self, _client: corten_client::Client, cancel: CancellationToken) -> Result<(), Error> {
        cancel.cancelled().await;
        Ok(())
    }
}

/// Removes every link, route and rule that this crate made in this network namespace. Idempotent.
pub async fn purge() -> Result<(), Error> {
    Ok(())
}
