//! A replicated, revisioned key-value store: etcd's promises, in process.
//!
//! Values are opaque bytes. Every transaction that writes makes one new revision; every revision is an
//! immutable snapshot. See README.md for the promises and the test that holds each one.
//!
//! Architecture invariant: `apply` reads no clock and no randomness; the proposer stamps both.

use std::ops::RangeBounds;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

/// Number of a state of the store. The empty store is at revision 1, as etcd's is.
pub type Revision = u64;

/// Identity of a lease; 0 means none.
pub type LeaseId = i64;

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where log and checkpoints live; `None` keeps everything in memory (tests).
    pub dir: Option<PathBuf>,
    /// How long history stays readable.
    pub history: Duration,
    /// How many bytes of superseded values history may hold before it is cut short.
    pub history_bytes: usize,
    /// Tells when leases end and history is old.
    pub clock: corten_base::Clock,
}

/// A stored value and its place in history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value as readers see it (with the revision stamped in, if asked for).
    pub value: Bytes,
    /// Revision that created the key.
    pub create_revision: Revision,
    /// Revision that wrote this value.
    pub mod_revision: Revision,
    /// Number of writes since creation, from 1.
    pub version: u64,
    /// Lease the key hangs on; 0 for none.
    pub lease: LeaseId,
    /// Offset of the stamped revision's digits in `value`, if it was stamped.
    pub stamp: Option<u32>,
}

/// One condition of a transaction, on one key. A key that is absent has version, create and mod revision 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key was last written by exactly this revision (0: the key does not exist).
    ModRevision(Bytes, Revision),
    /// The key was created by exactly this revision (0: the key does not exist).
    CreateRevision(Bytes, Revision),
}

/// One write of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a value.
    Put {
        /// Key.
        key: Bytes,
        /// Value.
        value: Bytes,
        /// Where to insert the decimal digits of the new revision into `value`.
        stamp: Option<u32>,
        /// Lease to hang the key on; 0 for none.
        lease: LeaseId,
    },
    /// Removes a key; nothing happens if it is absent.
    Delete {
        /// Key.
        key: Bytes,
    },
}

/// Writes that happen together, at one revision, if all conditions hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// Conditions.
    pub compare: Vec<Compare>,
    /// Writes.
    pub then: Vec<Op>,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Applied and durable, at this revision; the entries written, in the order of the puts.
    Committed { revision: Revision, puts: Vec<Entry> },
    /// A condition failed; nothing was written. Holds the current entries of the compared keys.
    Conflict { revision: Revision, current: Vec<Option<Entry>> },
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Key.
    pub key: Bytes,
    /// The new entry; `None` for a deletion.
    pub entry: Option<Entry>,
    /// The entry before.
    pub previous: Option<Entry>,
    /// Revision of the change.
    pub revision: Revision,
}

// Helper "store": replace the bodies below (and split into modules); keep these signatures.

/// A store. Clones are handles on the same one.
#[derive(Clone)]
pub struct Store {}

/// The state at one revision; immutable, cheap to clone, never blocks writers.
#[derive(Clone)]
pub struct Snapshot {}

/// A stream of changes in order of revision, without gaps or repeats.
pub struct Watch {}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the store")]
pub struct OpenError {}

/// A revision that cannot be served.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevisionError {
    /// History before `oldest` is gone.
    #[error("revision {asked} has been compacted; the oldest kept is {oldest}")]
    Compacted { asked: Revision, oldest: Revision },
    /// Not reached yet.
    #[error("revision {asked} is in the future; the store is at {current}")]
    Future { asked: Revision, current: Revision },
    /// The watcher was too slow and was cut off.
    #[error("the watcher fell behind")]
    Slow,
}

/// A write that was not carried out, or whose fate is unknown.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk refused; nothing further is accepted until it recovers.
    #[error("cannot write the log")]
    Log(#[source] Arc<std::io::Error>),
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

impl Store {
    /// Opens a store, recovering what is there. One process may hold a directory at a time.
    pub async fn open(_options: Options) -> Result<Self, OpenError> {
        Err(OpenError {})
    }
    /// The newest applied state.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {}
    }
    /// The state at `revision`.
    pub fn snapshot_at(&self, asked: Revision) -> Result<Snapshot, RevisionError> {
        Err(RevisionError::Future { asked, current: 0 })
    }
    /// Waits until everything acknowledged anywhere before this call is applied here; returns the newest state.
    pub async fn read(&self) -> Result<Snapshot, WriteError> {
        Err(WriteError::Closed)
    }
    /// Waits until `revision` is applied here.
    pub async fn reached(&self, _revision: Revision) {}
    /// Carries out a transaction; returns when it is durable and applied.
    pub async fn transact(&self, _txn: Txn) -> Result<Outcome, WriteError> {
        Err(WriteError::Closed)
    }
    /// Changes of keys that start with `prefix`, of revisions greater than `after`.
    pub fn watch(&self, _prefix: Bytes, after: Revision) -> Result<Watch, RevisionError> {
        Err(RevisionError::Future { asked: after, current: 0 })
    }
    /// Forgets history before `revision`.
    pub async fn compact(&self, _revision: Revision) -> Result<(), WriteError> {
        Ok(())
    }
    /// A lease that ends `ttl` after its last renewal; its keys are deleted with it.
    pub async fn grant(&self, _ttl: Duration) -> Result<LeaseId, WriteError> {
        Ok(0)
    }
    /// Renews a lease; false if it has ended.
    pub async fn keep_alive(&self, _lease: LeaseId) -> Result<bool, WriteError> {
        Ok(false)
    }
    /// Ends a lease now.
    pub async fn revoke(&self, _lease: LeaseId) -> Result<(), WriteError> {
        Ok(())
    }
    /// Flushes and stops; later writes fail with `Closed`.
    pub async fn close(&self) {}
}

impl Snapshot {
    /// Revision of this state.
    #[must_use]
    pub fn revision(&self) -> Revision {
        0
    }
    /// Entry of a key.
    #[must_use]
    pub fn get(&self, _key: &[u8]) -> Option<&Entry> {
        None
    }
    /// Entries in key order.
    pub fn range(&self, _keys: impl RangeBounds<Bytes>) -> impl Iterator<Item = (&Bytes, &Entry)> {
        std::iter::empty()
    }
    /// Entries whose keys start with `prefix`, in key order.
    pub fn prefix(&self, _prefix: &[u8]) -> impl Iterator<Item = (&Bytes, &Entry)> {
        std::iter::empty()
    }
}

impl Watch {
    /// The changes of the next revision that touches the watched keys (all of one revision together).
    pub async fn next(&mut self) -> Result<Arc<[Event]>, RevisionError> {
        Err(RevisionError::Slow)
    }
    /// Every change up to here has been returned by `next`: what a bookmark may promise.
    #[must_use]
    pub fn progress(&self) -> Revision {
        0
    }
}
