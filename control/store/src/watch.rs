//! Following changes.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::View;
use crate::folders::Folder;
use crate::history::Next;
use crate::model::{Event, Revision, RevisionError};

/// Commits that are fetched from the ring at one go.
const BATCH: usize = 64;

/// A stream of changes in order of revision, without gaps or repeats.
///
/// All watchers read the one ring of commits; a watcher is a position in it. One that the ring has passed is told so.
#[derive(Debug)]
pub struct Watch {
    view: Arc<View>,
    prefix: Bytes,
    /// Everything up to here has been fetched or does not concern this watcher.
    position: Revision,
    /// Fetched, but not returned yet.
    fetched: VecDeque<(Revision, Arc<[Event]>)>,
    /// What is watched, or more.
    folder: Arc<Folder>,
    /// Changes when the folder does.
    changes: tokio::sync::watch::Receiver<Revision>,
}

impl Watch {
    pub(crate) fn new(view: Arc<View>, prefix: Bytes, after: Revision) -> Result<Self, RevisionError> {
        let oldest = view.read(|inner| inner.history.oldest());
        if after < oldest {
            return Err(RevisionError::Compacted { asked: after, oldest });
        }
        let folder = view.folder(&prefix);
        let changes = folder.subscribe();
        Ok(Self { view, prefix, position: after, fetched: VecDeque::new(), folder, changes })
    }

    /// The changes of the next revision that touches the watched keys (all of one revision together).
    /// Nothing is lost if the returned future is dropped.
    pub async fn next(&mut self) -> Result<Arc<[Event]>, RevisionError> {
        loop {
            if let Some((_, events)) = self.fetched.pop_front() {
                return Ok(events);
            }
            self.changes.borrow_and_update();
            self.fetch()?;
            // The sender lives in the view that this watcher holds.
            if self.fetched.is_empty() && self.changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Every change up to here has been returned by `next`: what a bookmark may promise.
    #[must_use]
    pub fn progress(&mut self) -> Revision {
        if self.fetched.is_empty() {
            // What the ring has lost, the next `next` tells.
            let _ = self.fetch();
        }
        self.fetched.front().map_or(self.position, |(revision, _)| revision - 1)
    }

    fn fetch(&mut self) -> Result<(), RevisionError> {
        self.view.read(|inner| {
            // Nobody wakes a watcher for what does not concern it, so the ring may have passed it without any loss.
            if self.folder.lost() <= self.position {
                self.position = self.position.max(inner.history.oldest());
            }
            while self.fetched.len() < BATCH {
                match inner.history.next(&self.prefix, self.position) {
                    Ok(Next::Events(revision, events)) => {
                        self.position = revision;
                        self.fetched.push_back((revision, events));
                    }
                    Ok(Next::Nothing(revision)) => {
                        self.position = revision;
                        break;
                    }
                    // What was fetched before is still good.
                    Err(_) if !self.fetched.is_empty() => break,
                    Err(_) => return Err(RevisionError::Slow),
                }
            }
            Ok(())
        })
    }
}
