//! The state that readers see, and the path of a write to it: propose → log → apply → publish → acknowledge.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::command::{Command, LogEntry};
use crate::folders::{self, Folder, Folders, Touched};
use crate::history::History;
use crate::machine::{Keys, Machine};
use crate::model::{Outcome, Revision, WriteError};

/// Gets commands into the one order that all members share, and applies them in it.
///
/// Several members come in behind this interface; nothing above it knows how many there are.
pub(crate) trait Consensus: Send + Sync {
    /// Proposes a command; returns once it is durable on a majority and applied here.
    fn propose(&self, command: Command) -> BoxFuture<'static, Result<Outcome, WriteError>>;
    /// Returns once everything acknowledged before the call is applied here.
    fn read_barrier(&self) -> BoxFuture<'static, Result<(), WriteError>>;
    /// Refuses further proposals and waits for those under way.
    fn close(&self) -> BoxFuture<'static, ()>;
}

/// What readers see of one member.
#[derive(Debug)]
pub(crate) struct View {
    inner: RwLock<Inner>,
    /// All keys.
    everything: Arc<Folder>,
    folders: Folders,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) machine: Machine,
    pub(crate) history: History,
}

impl View {
    pub(crate) fn new(machine: Machine, history: History) -> Arc<Self> {
        let everything = Folder::new(machine.revision, history.oldest());
        Arc::new(Self { inner: RwLock::new(Inner { machine, history }), everything, folders: Folders::default() })
    }

    /// Looks at the state; must be short.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Inner) -> T) -> T {
        look(&self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn keys(&self) -> (Revision, Keys) {
        self.read(|inner| (inner.machine.revision, inner.machine.keys.clone()))
    }

    pub(crate) fn revisions(&self) -> watch::Receiver<Revision> {
        self.everything.subscribe()
    }

    /// The folder that holds everything with this prefix.
    pub(crate) fn folder(&self, prefix: &[u8]) -> Arc<Folder> {
        match folders::name(prefix) {
            // Nothing is applied while the state is looked at, so that no change is missed in between.
            Some(name) => self.read(|inner| self.folders.get(name, inner.machine.revision, inner.history.oldest())),
            None => Arc::clone(&self.everything),
        }
    }

    /// Applies entries in order and then lets watchers know.
    pub(crate) fn apply(&self, entries: &[LogEntry]) -> Vec<Outcome> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let before = inner.machine.revision;
        let mut touched = Touched::default();
        let outcomes = entries.iter().map(|entry| inner.apply(entry, &mut touched)).collect();
        let revision = inner.machine.revision;
        let mut changed = self.folders.note(&touched, revision);
        self.everything.forget(inner.history.oldest());
        if revision != before {
            self.everything.touch(revision);
            changed.push(Arc::clone(&self.everything));
        }
        drop(inner);
        changed.iter().for_each(|folder| folder.wake());
        outcomes
    }
}

impl Inner {
    /// Applies one entry; notes which folders that is about.
    pub(crate) fn apply(&mut self, entry: &LogEntry, touched: &mut Touched) -> Outcome {
        let applied = self.machine.apply(entry);
        touched.change(&applied.events);
        if !applied.events.is_empty() {
            self.history.push(applied.events, &self.machine.keys, entry.at_millis, touched);
        }
        self.history.compact(self.machine.compacted, touched);
        applied.outcome
    }
}

/// Where a durable store keeps its files and when it writes checkpoints.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    pub(crate) segment_bytes: u64,
    /// Bytes of log after which a checkpoint is written.
    pub(crate) checkpoint_bytes: u64,
}
