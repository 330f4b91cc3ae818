//! What pods may know of their node.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::config::Config;

/// The node, as far as the preparation of containers depends on it.
#[derive(Clone, Debug)]
pub(crate) struct NodeFacts {
    /// Host name of the machine: that of pods in its network namespace.
    pub(crate) hostname: String,
    /// Addresses of the node: those of pods in its network namespace.
    pub(crate) ips: Vec<IpAddr>,
    /// What pods may use, which stands in for limits that are not set.
    pub(crate) allocatable: Allocatable,
    /// Memory of the machine, bytes.
    pub(crate) memory_capacity: i64,
    /// Name servers of the cluster.
    pub(crate) cluster_dns: Vec<IpAddr>,
    /// Such as `cluster.local`.
    pub(crate) cluster_domain: String,
    /// The node's own resolver configuration.
    pub(crate) resolv_conf: PathBuf,
}

/// What all pods of a node may use together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allocatable {
    /// Thousandths of a CPU.
    pub(crate) cpu_millis: i64,
    /// Bytes.
    pub(crate) memory_bytes: i64,
    /// Bytes.
    pub(crate) ephemeral_bytes: i64,
}

impl NodeFacts {
    /// The facts that the configuration tells, joined with what was measured.
    pub(crate) fn new(config: &Config, allocatable: Allocatable, memory_capacity: i64) -> Self {
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self {
            hostname,
            ips: vec![config.node_ip],
            allocatable,
            memory_capacity,
            cluster_dns: config.cluster_dns.clone(),
            cluster_domain: config.cluster_domain.clone(),
            resolv_conf: config.resolv_conf.clone(),
        }
    }
}
