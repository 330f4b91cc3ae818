//! When leases end. Deadlines live with the proposer; that a lease ended is an entry like any other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::command::Command;
use crate::engine::Consensus;
use crate::model::LeaseId;

/// Deadlines of all leases.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    ends: Mutex<HashMap<LeaseId, (Instant, Duration)>>,
    changed: Notify,
}

impl Deadlines {
    /// Starts a lease's life, or starts it anew.
    pub(crate) fn set(&self, id: LeaseId, ttl: Duration) {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).insert(id, (Instant::now() + ttl, ttl));
        self.changed.notify_one();
    }

    /// Starts a lease's life anew; false if it is not there. Its end only moves away, so nobody needs to be woken.
    pub(crate) fn renew(&self, id: LeaseId) -> bool {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((end, ttl)) = ends.get_mut(&id) else { return false };
        *end = Instant::now() + *ttl;
        true
    }

    pub(crate) fn remove(&self, id: LeaseId) {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    fn earliest(&self) -> Option<(Instant, LeaseId)> {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.iter().map(|(id, (end, _))| (*end, *id)).min()
    }
}

/// Proposes the end of each lease when its time has come. Sleeps as long as nothing is due.
pub(crate) async fn expire(deadlines: Arc<Deadlines>, consensus: Arc<dyn Consensus>) {
    loop {
        let Some((end, id)) = deadlines.earliest() else {
            deadlines.changed.notified().await;
            continue;
        };
        tokio::select! {
            () = tokio::time::sleep_until(end) => {}
            () = deadlines.changed.notified() => continue,
        }
        // It may have been renewed while this task slept.
        if deadlines.earliest() != Some((end, id)) {
            continue;
        }
        if let Err(error) = consensus.propose(Command::Revoke { id }).await {
            tracing::warn!(
                lease = id,
                error = corten_base::chain(&error),
                "cannot end a lease; trying again in a second"
            );
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        }
        deadlines.remove(id);
    }
}
