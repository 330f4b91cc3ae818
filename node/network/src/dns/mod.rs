//! The cluster's DNS: names of services and pods from memory, all others from the node's own name servers.
//!
//! Spec: <https://github.com/kubernetes/dns/blob/master/docs/specification.md>

mod forward;
mod records;
mod server;

pub(crate) use server::Server;
