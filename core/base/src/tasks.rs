//! Tasks with an owner that notices when one of them dies.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The long-running tasks of a process. Clones share one set.
///
/// Every task gets the cancellation token and is expected to return soon after it fires. A task that
/// ends before that, or panics, is logged and cancels all the others: a half-working process is worse
/// than one that its supervisor restarts.
#[derive(Clone, Default)]
pub struct Tasks {
    cancel: CancellationToken,
    set: Arc<Mutex<JoinSet<()>>>,
}

impl Tasks {
    /// No tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Fires when the process is to stop.
    #[must_use]
    pub fn cancelled(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Starts a task that runs until the process stops.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let guard = EndGuard { name, cancel: self.cancel.clone() };
        self.set.lock().unwrap_or_else(PoisonError::into_inner).spawn(async move {
            let _guard = guard;
            task.await;
        });
    }

    /// Asks all tasks to stop and waits up to `grace` for them; those still running are aborted.
    pub async fn stop(&self, grace: Duration) {
        self.cancel.cancel();
        let mut set = std::mem::take(&mut *self.set.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async { while set.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            tracing::warn!("tasks did not stop within {grace:?}: aborting them");
            set.abort_all();
        }
    }
}

/// Reports the end of a task, also when it panics.
struct EndGuard {
    name: &'static str,
    cancel: CancellationToken,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        if !self.cancel.is_cancelled() {
            tracing::error!(task = self.name, "a task ended unexpectedly; stopping");
            self.cancel.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_death_of_one_task_stops_the_others() {
        let tasks = Tasks::new();
        tasks.spawn("short", async {});
        tasks.cancelled().cancelled().await;
        tasks.stop(Duration::from_secs(1)).await;
    }
}
