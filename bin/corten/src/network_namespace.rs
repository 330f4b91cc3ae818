//! Which network namespace this process is in, and entering another's.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use anyhow::Context;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const OWN: &str = "/proc/self/ns/net";

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
