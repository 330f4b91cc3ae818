//! Keys that need work.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Display;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Key;

/// First delay after a failure; doubles with each further one, as in client-go.
const FIRST_DELAY: Duration = Duration::from_millis(5);
/// Nothing is put off for longer at a time: times that people write may be beyond what clocks count.
const LATEST: Duration = Duration::from_secs(30 * 86_400);
/// Longest delay.
const MOST_DELAY: Duration = Duration::from_secs(1000);

/// A set of keys that wait for work. A key that is added while it is worked on is worked on again afterwards,
/// never by two at a time. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    added: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Key>,
    queued: HashSet<Key>,
    working: HashSet<Key>,
    failures: HashMap<Key, u32>,
    /// When a key will be added.
    later: HashMap<Key, Instant>,
}

impl Queue {
    /// Adds a key, unless it waits already.
    pub fn add(&self, key: Key) {
        let mut state = self.state();
        if !state.queued.insert(key.clone()) || state.working.contains(&key) {
            return;
        }
        state.waiting.push_back(key);
        drop(state);
        self.0.added.notify_one();
    }

    /// Adds a key after a while, unless it will be added sooner anyway: whoever works on it then says when to look
    /// again. So a key has one time at most, however often it is worked on.
    pub fn add_after(&self, key: Key, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        // Who asks for more is woken early: it looks, and asks again.
        let at = Instant::now() + delay.min(LATEST);
        if self.state().later.get(&key).is_some_and(|sooner| *sooner <= at) {
            return;
        }
        self.state().later.insert(key.clone(), at);
        let queue = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            let due = {
                let mut state = queue.state();
                // Another time than this one is a sooner one that came in later.
                let due = state.later.get(&key) == Some(&at);
                if due {
                    state.later.remove(&key);
                }
                due
            };
            if due {
                queue.add(key);
            }
        });
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(&self) -> Key {
        loop {
            let taken = {
                let mut state = self.state();
                let key = state.waiting.pop_front();
                if let Some(key) = &key {
                    state.queued.remove(key);
                    state.working.insert(key.clone());
                }
                let more = !state.waiting.is_empty();
                drop(state);
                // One notification may stand for several keys.
                if key.is_some() && more {
                    self.0.added.notify_one();
                }
                key
            };
            match taken {
                Some(key) => return key,
                None => self.0.added.notified().await,
            }
        }
    }

    fn done(&self, key: &Key) {
        let mut state = self.state();
        state.working.remove(key);
        if state.queued.contains(key) {
            state.waiting.push_back(key.clone());
            drop(state);
            self.0.added.notify_one();
        }
    }

    /// How long to wait after a failure.
    fn failed(&self, key: &Key) -> Duration {
        let mut state = self.state();
        let failures = state.failures.entry(key.clone()).or_default();
        let delay = FIRST_DELAY.saturating_mul(1_u32.checked_shl(*failures).unwrap_or(u32::MAX)).min(MOST_DELAY);
        *failures += 1;
        delay
    }

    fn succeeded(&self, key: &Key) {
        self.state().failures.remove(key);
    }
}

/// What is to become of a key after it was worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing until something changes.
    Wait,
    /// Look again after this time, whether or not something changes.
    After(Duration),
}

/// Works on the keys of a queue with so many tasks until `cancel` fires. A failure is logged and tried again, later
/// each time.
pub async fn run_controller<F, R, E>(
    name: &'static str,
    queue: Queue,
    workers: usize,
    cancel: CancellationToken,
    work: F,
) where
    F: Fn(Key) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Next, E>> + Send,
    E: Display + Send,
{
    let work = Arc::new(work);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..workers {
        let (queue, cancel, work) = (queue.clone(), cancel.clone(), Arc::clone(&work));
        tasks.spawn(async move {
            loop {
                let key = tokio::select! {
                    () = cancel.cancelled() => return,
                    key = queue.take() => key,
                };
                let result = tokio::select! {
                    () = cancel.cancelled() => return,
                    result = work(key.clone()) => result,
                };
                queue.done(&key);
                match result {
                    Ok(next) => {
                        queue.succeeded(&key);
                        if let Next::After(delay) = next {
                            queue.add_after(key, delay);
                        }
                    }
                    Err(error) => {
                        let delay = queue.failed(&key);
                        tracing::debug!(controller = name, %key, %error, ?delay, "will try again");
                        queue.add_after(key, delay);
                    }
                }
            }
        });
    }
    while let Some(result) = tasks.join_next().await {
        if let Err(error) = result
            && error.is_panic()
        {
            tracing::error!(controller = name, "a worker panicked");
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_delay_is_too_long() {
        let queue = Queue::default();
        queue.add_after(Key::new("a", "b"), Duration::MAX);
        let start = Instant::now();
        assert_eq!(queue.take().await, Key::new("a", "b"));
        assert!(start.elapsed() >= LATEST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_worked_on_by_one_at_a_time_and_never_forgotten() {
        let (queue, cancel) = (Queue::default(), CancellationToken::new());
        let (runs, inside) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (counted, entered) = (Arc::clone(&runs), Arc::clone(&inside));
        let work = move |_key| {
            let (runs, inside) = (Arc::clone(&counted), Arc::clone(&entered));
            async move {
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                tokio::time::sleep(Duration::from_millis(10)).await;
                inside.fetch_sub(1, Ordering::SeqCst);
                runs.fetch_add(1, Ordering::SeqCst);
                Ok::<_, String>(Next::Wait)
            }
        };
        tokio::spawn(run_controller("test", queue.clone(), 4, cancel.clone(), work));
        let key = Key::new("a", "b");
        queue.add(key.clone());
        tokio::time::sleep(Duration::from_millis(5)).await;
        (0..3).for_each(|_| queue.add(key.clone()));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(runs.load(Ordering::SeqCst), 2, "added while worked on: once more");
        cancel.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_has_one_time_at_most_and_the_soonest_counts() {
        let (queue, key) = (Queue::default(), Key::new("a", "b"));
        let start = Instant::now();
        for seconds in [60, 90, 10, 30] {
            queue.add_after(key.clone(), Duration::from_secs(seconds));
        }
        assert_eq!(queue.take().await, key);
        assert_eq!(start.elapsed().as_secs(), 10);
        queue.done(&key);
        let again = tokio::time::timeout(Duration::from_secs(300), queue.take()).await;
        assert!(again.is_err(), "the others are void");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_each_time() {
        let queue = Queue::default();
        let key = Key::new("a", "b");
        let delays: Vec<u128> = (0..4).map(|_| queue.failed(&key).as_millis()).collect();
        assert_eq!(delays, [5, 10, 20, 40]);
        for _ in 0..30 {
            queue.failed(&key);
        }
        assert_eq!(queue.failed(&key), MOST_DELAY);
        queue.succeeded(&key);
        assert_eq!(queue.failed(&key).as_millis(), 5);
    }
}
