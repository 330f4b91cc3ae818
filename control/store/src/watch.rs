//! Following changes.

use std::sync::Arc;

use bytes::Bytes;

use crate::engine::View;
use crate::history::Next;
use crate::model::{Event, Revision, RevisionError};

/// A stream of changes in order of revision, without gaps or repeats.
///
/// All watchers read the one ring of commits; a watcher is a position in it. One that the ring has passed is told so.
#[derive(Debug)]
pub struct Watch {
    view: Arc<View>,
    prefix: Bytes,
    /// Everything up to here has been returned or does not concern this watcher.
    position: Revision,
    revisions: tokio::sync::watch::Receiver<Revision>,
}

impl Watch {
    pub(crate) fn new(view: Arc<View>, prefix: Bytes, after: Revision) -> Result<Self, RevisionError> {
        let oldest = view.read(|inner| inner.history.oldest());
        if after < oldest {
            return Err(RevisionError::Compacted { asked: after, oldest });
        }
        let revisions = view.revisions();
        Ok(Self { view, prefix, position: after, revisions })
    }

    /// The changes of the next revision that touches the watched keys (all of one revision together).
    /// Nothing is lost if the returned future is dropped.
    pub async fn next(&mut self) -> Result<Arc<[Event]>, RevisionError> {
        loop {
            self.revisions.borrow_and_update();
            let found = self.view.read(|inner| inner.history.next(&self.prefix, self.position));
            match found {
                Ok(Next::Events(revision, events)) => {
                    self.position = revision;
                    return Ok(events);
                }
                Ok(Next::Nothing(revision)) => self.position = revision,
                Err(_) => return Err(RevisionError::Slow),
            }
            // The sender lives in the view that this watcher holds.
            if self.revisions.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Every change up to here has been returned by `next`: what a bookmark may promise.
    #[must_use]
    pub fn progress(&self) -> Revision {
        self.position
    }
}
