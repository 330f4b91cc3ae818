//! What goes into the store and what comes out of it.

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
    /// Tells when history is old. Leases follow tokio's time.
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

/// One condition of a transaction, on one key. A key that is absent has create and mod revision 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key was last written by exactly this revision (0: the key does not exist).
    ModRevision(Bytes, Revision),
    /// The key was created by exactly this revision (0: the key does not exist).
    CreateRevision(Bytes, Revision),
}

impl Compare {
    /// The key that is looked at.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        match self {
            Self::ModRevision(key, _) | Self::CreateRevision(key, _) => key,
        }
    }

    /// Whether the condition holds for the key's current entry.
    pub(crate) fn holds(&self, entry: Option<&Entry>) -> bool {
        match self {
            Self::ModRevision(_, revision) => entry.map_or(0, |entry| entry.mod_revision) == *revision,
            Self::CreateRevision(_, revision) => entry.map_or(0, |entry| entry.create_revision) == *revision,
        }
    }
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
    Committed {
        /// The new revision, or the current one if nothing changed.
        revision: Revision,
        /// One for each put.
        puts: Vec<Entry>,
    },
    /// A condition failed; nothing was written.
    Conflict {
        /// The revision at which it failed.
        revision: Revision,
        /// The current entries of the compared keys.
        current: Vec<Option<Entry>>,
    },
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

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the store in {} is in use by {holder}: stop that process, or choose another data directory", dir.display())]
    InUse {
        /// The store's folder.
        dir: PathBuf,
        /// `pid N`, or `another process`.
        holder: String,
    },
    /// Written by something else.
    #[error("the store in {} has format {found:?}, and this program knows {known:?} only", dir.display())]
    Version {
        /// The store's folder.
        dir: PathBuf,
        /// What its VERSION file says.
        found: String,
        /// What this program writes.
        known: &'static str,
    },
    /// Data that was once acknowledged cannot be read any more.
    #[error(
        "{} is corrupt at offset {offset} ({what}): restore the folder from a backup, or move the file away to go on with what was written before it",
        path.display()
    )]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What was found there.
        what: String,
    },
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted, such as `read`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// A revision that cannot be served.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevisionError {
    /// History before `oldest` is gone.
    #[error("revision {asked} has been compacted; the oldest kept is {oldest}")]
    Compacted {
        /// What was asked for.
        asked: Revision,
        /// What could be asked for.
        oldest: Revision,
    },
    /// Not reached yet.
    #[error("revision {asked} is in the future; the store is at {current}")]
    Future {
        /// What was asked for.
        asked: Revision,
        /// Where the store is.
        current: Revision,
    },
    /// The watcher was too slow and was cut off.
    #[error("the watcher fell behind")]
    Slow,
}

/// A write that was not carried out, or whose fate is unknown.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk refused; the write was not carried out.
    #[error("cannot write the log")]
    Log(#[source] Arc<std::io::Error>),
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}
