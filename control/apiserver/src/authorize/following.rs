//! Indexes of what is stored that take in what was committed since whenever they are looked at.
//!
//! Nothing runs in the background. Invariant: who looks sees at least what was committed before he asked.

use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use corten_store::{Entry, Revision, RevisionError, Store, Watch};
use futures::FutureExt;

/// What is made of the stored objects below some prefixes, whatever the order in which they come in.
pub(super) trait Index: Default {
    /// All keys that matter begin with one of these.
    const PREFIXES: &'static [&'static str];

    /// Takes in what a key has become.
    fn set(&mut self, key: &Bytes, entry: Option<&Entry>);
}

/// An index and the store that it follows.
pub(super) struct Following<I> {
    store: Store,
    state: RwLock<State<I>>,
}

#[derive(Default)]
struct State<I> {
    index: I,
    /// The index is that of this revision.
    revision: Revision,
    watches: Vec<Watch>,
}

impl<I: Index> State<I> {
    /// Takes in what was committed since.
    fn catch_up(&mut self, store: &Store) {
        let target = store.snapshot().revision();
        if self.watches.is_empty() || self.follow().is_err() {
            self.reload(store);
        } else {
            self.revision = target;
        }
    }

    fn follow(&mut self) -> Result<(), RevisionError> {
        for watch in &mut self.watches {
            // What is committed is there at once; what is not is not waited for.
            while let Some(events) = watch.next().now_or_never() {
                for event in events?.iter() {
                    self.index.set(&event.key, event.entry.as_ref());
                }
            }
        }
        Ok(())
    }

    fn reload(&mut self, store: &Store) {
        let snapshot = store.snapshot();
        self.index = I::default();
        self.revision = snapshot.revision();
        for prefix in I::PREFIXES {
            for (key, entry) in snapshot.prefix(prefix.as_bytes()) {
                self.index.set(key, Some(entry));
            }
        }
        let watch = |prefix: &&'static str| store.watch(prefix.as_bytes().into(), self.revision);
        // If the snapshot's history is gone already, the next look loads anew.
        self.watches = I::PREFIXES.iter().map(watch).collect::<Result<_, _>>().unwrap_or_default();
    }
}

impl<I: Index> Following<I> {
    pub(super) fn new(store: Store) -> Self {
        Self { store, state: RwLock::default() }
    }

    /// Looks at the index of now.
    pub(super) fn look<R>(&self, look: impl FnOnce(&I) -> R) -> R {
        let now = self.store.snapshot().revision();
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if state.revision >= now {
            return look(&state.index);
        }
        drop(state);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.revision < now {
            state.catch_up(&self.store);
        }
        drop(state);
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner).index)
    }
}
