//! Service rules: redirects connections to services to their endpoints.
//!
//! The packet filter holds flat maps, one per number of endpoints: address, protocol, port and a random slot lead to
//! an endpoint. A change of services becomes a few elements added and deleted, in one transaction.

mod connections;
mod encode;
mod expressions;
mod plan;
mod tables;

use std::io;

pub(crate) use self::encode::Ranges;
pub(crate) use self::plan::Node;
use self::tables::Tables;
use crate::directory::Directory;
use crate::netlink::Socket;

/// Keeps the packet filter's table true to a directory.
pub(crate) struct Services {
    node: Node,
    ranges: Ranges,
    /// What the kernel holds; unknown at first, and after a failure.
    programmed: Option<Tables>,
}

impl Services {
    /// Nothing is done before the first update: the rules of an earlier process stay until they can be replaced.
    pub(crate) fn new(node: Node, ranges: Ranges) -> Self {
        Self { node, ranges, programmed: None }
    }

    /// What the kernel should hold.
    pub(crate) fn plan(&self, directory: &Directory) -> Tables {
        plan::plan(directory, &self.node)
    }

    /// Makes the kernel hold it. Blocks, for well under a millisecond if little has changed.
    pub(crate) fn program(&mut self, tables: Tables) -> io::Result<()> {
        let lost = self.programmed.as_ref().map(|old| old.lost_udp_ways(&tables)).unwrap_or_default();
        let changed = match self.programmed.take() {
            Some(old) => change(&old, &tables, &self.ranges),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        if let Err(error) = changed {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(%error, "service rules could not be changed; writing all of them anew");
            }
            Socket::netfilter()?.commit(&encode::replace_all(&tables, &self.ranges))?;
        }
        self.programmed = Some(tables);
        if let Err(error) = connections::forget(&lost) {
            tracing::warn!(%error, "cannot forget UDP connections to endpoints that are gone");
        }
        Ok(())
    }
}

fn change(old: &Tables, new: &Tables, ranges: &Ranges) -> io::Result<()> {
    let changes = old.changes_to(new);
    if changes.is_empty() {
        return Ok(());
    }
    let mut transaction = encode::Transaction::new();
    transaction.apply(&changes, new, ranges);
    Socket::netfilter()?.commit(&transaction.finish())
}

/// Creates the table where there is none, so that pods reach the outside before the first service is known.
pub(crate) fn open(ranges: &Ranges) -> io::Result<()> {
    let mut transaction = encode::Transaction::new();
    transaction.create_frame(ranges);
    match Socket::netfilter()?.commit(&transaction.finish()) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Removes the table.
pub(crate) fn purge() -> io::Result<()> {
    let mut transaction = encode::Transaction::new();
    transaction.delete_table();
    Socket::netfilter()?.commit(&transaction.finish())
}
