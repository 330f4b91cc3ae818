//! Which objects have changed since the scheduler looked: each once, however often it changed.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use corten_client::Key;
use tokio::sync::Notify;

/// An object that decisions depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Id {
    Pod(Key),
    Node(String),
    Namespace(String),
    Claim(Key),
    Volume(String),
    Class(String),
    CsiNode(String),
    Budget(Key),
    Service(Key),
    ReplicaSet(Key),
    StatefulSet(Key),
    ReplicationController(Key),
}

#[derive(Default)]
pub(super) struct Inbox {
    /// In the order in which they changed first.
    changed: Mutex<(Vec<Id>, HashSet<Id>)>,
    notify: Notify,
}

impl Inbox {
    pub(super) fn add(&self, id: Id) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.1.insert(id.clone()) {
            changed.0.push(id);
            drop(changed);
            self.notify.notify_one();
        }
    }

    pub(super) fn drain(&self) -> Vec<Id> {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        changed.1.clear();
        std::mem::take(&mut changed.0)
    }

    /// Returns once something has changed since the last drain.
    pub(super) async fn changed(&self) {
        self.notify.notified().await;
    }
}
