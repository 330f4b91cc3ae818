//! Which network namespace this process is in, and entering another's.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use anyhow::{Context, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const OWN: &str = "/proc/self/ns/net";

/// Name of the socket that stands for a namespace with a cluster.
const CLAIM: &str = "corten";

/// Claims this process's network namespace as long as the answer lives: links and rules of two clusters would be one
/// another's. An abstract socket name is each namespace's own, and goes with its process.
pub(crate) fn claim() -> anyhow::Result<UnixListener> {
    let name = SocketAddr::from_abstract_name(CLAIM).context("cannot name a socket")?;
    UnixListener::bind_addr(&name).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => {
            anyhow!("another cluster runs in this network namespace: stop it first (`corten down`)")
        }
        _ => anyhow!("cannot claim this network namespace: {error}"),
    })
}

/// Identity of this process's network namespace.
pub(crate) fn own() -> anyhow::Result<u64> {
    std::fs::metadata(OWN).map(|meta| meta.ino()).with_context(|| format!("cannot read {OWN}"))
}

/// The network namespace of another process, kept even when that process ends.
pub(crate) fn of(pid: i32) -> anyhow::Result<File> {
    let path = format!("/proc/{pid}/ns/net");
    File::open(&path).with_context(|| format!("cannot open {path}"))
}

/// Moves the calling thread, and those that it starts from now on.
pub(crate) fn enter(namespace: &File) -> anyhow::Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .context("cannot enter the cluster's network namespace")
}
