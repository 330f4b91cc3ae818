//! A replicated, revisioned key-value store: etcd's promises, in process.
//!
//! Values are opaque bytes. Every transaction that writes makes one new revision; every revision is an
//! immutable snapshot. See README.md for the promises and the test that holds each one.
//!
//! The path of a write: [`Store::transact`] → `engine` (propose) → `single` (order, group commit) → `log` (durable) →
//! `machine` (apply) → `history` (publish) → acknowledge.
//!
//! Architecture invariant: `apply` reads no clock and no randomness; the proposer stamps both.

mod checkpoint;
mod command;
mod engine;
mod folders;
mod history;
mod lease;
mod log;
mod machine;
mod model;
mod pace;
mod single;
mod store;
#[cfg(test)]
mod tests;
mod watch;

pub use model::{
    Compare, Entry, Event, LeaseId, Op, OpenError, Options, Outcome, Revision, RevisionError, Txn, WriteError,
};
pub use store::{Snapshot, Store};
pub use watch::Watch;
