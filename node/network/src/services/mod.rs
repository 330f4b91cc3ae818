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
    /// What the kernel holds, as far as we know.
    programmed: Option<Programmed>,
}

struct Programmed {
    tables: Tables,
    /// Kept open: a transaction takes effect within microseconds, but closing the socket that sent it waits for the
    /// kernel to free what the transaction removed, which takes some 14 ms.
    socket: Socket,
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
        // Whatever fails leaves us with no knowledge of the kernel's state, and then everything is written anew.
        let Some(old) = self.programmed.take() else { return self.replace(tables) };
        if let Err(error) = change(&old.socket, &old.tables, &tables, &self.ranges) {
            tracing::warn!(%error, "service rules could not be changed; writing all of them anew");
            return self.replace(tables);
        }
        if let Err(error) = connections::forget(&old.socket, &old.tables.lost_udp_ways(&tables)) {
            tracing::warn!(%error, "cannot forget UDP connections to endpoints that are gone");
            return self.replace(tables);
        }
        self.programmed = Some(Programmed { tables, ..old });
        Ok(())
    }

    fn replace(&mut self, tables: Tables) -> io::Result<()> {
        let socket = Socket::netfilter()?;
        socket.commit(&encode::replace_all(&tables, &self.ranges))?;
        self.programmed = Some(Programmed { tables, socket });
        Ok(())
    }
}

fn change(socket: &Socket, old: &Tables, new: &Tables, ranges: &Ranges) -> io::Result<()> {
    let changes = old.changes_to(new);
    if changes.is_empty() {
        return Ok(());
    }
    let mut transaction = encode::Transaction::new();
    transaction.apply(&changes, new, ranges);
    socket.commit(&transaction.finish())
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
