//! The network of one node: pod links and addresses, service rules, cluster DNS.
//!
//! Everything is made in the network namespace in which the process runs, and found again there by the next process.
//!
//! - [`Network::open`] sets up the node, [`Network::attach`] and [`Network::detach`] connect pods, [`Network::run`]
//!   keeps rules and names true to the API, [`purge`] removes every trace.
//!
//! Architecture invariant: no program is started, and no file says what the kernel knows better.

mod addresses;
mod directory;
mod dns;
mod error;
mod host;
mod links;
mod netlink;
mod network;
mod routing;
mod services;

use std::net::{IpAddr, Ipv4Addr};

pub use error::Error;
pub use network::{Network, purge};

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
