//! Turns of those who write with a charge: who would lose the race for a quota waits instead.
//!
//! Quotas are of a namespace, so nobody waits for the writes of another one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

/// A lock for each namespace in which somebody holds or awaits one.
#[derive(Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits for the turn in this namespace, which lasts until the answer is dropped.
    pub(crate) async fn take(&self, namespace: &str) -> OwnedMutexGuard<()> {
        self.lock_of(namespace).lock_owned().await
    }

    fn lock_of(&self, namespace: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = all.get(namespace).and_then(Weak::upgrade) {
            return lock;
        }
        // Those that nobody holds or awaits are forgotten.
        all.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        all.insert(namespace.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn only_those_of_one_namespace_wait_for_each_other() {
        let turns = Turns::default();
        let own = turns.take("a").await;
        assert!(turns.take("a").now_or_never().is_none(), "it is somebody's turn");
        let other = turns.take("b").now_or_never().expect("nobody's turn");
        drop(own);
        assert!(turns.take("a").now_or_never().is_some());
        let _third = turns.take("c").await;
        let known = || turns.0.lock().expect("whole").keys().cloned().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(known(), ["b", "c"].map(str::to_owned).into(), "what is idle is forgotten");
        drop(other);
    }
}
