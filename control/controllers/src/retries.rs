//! How long what fails again and again is left alone before it is replaced.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The wait after the second failure; it doubles with each further one.
const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(15 * 60);

/// Remembers failures by place (an ordinal, a node): the first is replaced at once. Clones share what they remember.
#[derive(Clone, Debug, Default)]
pub(crate) struct Retries(Arc<Mutex<HashMap<String, Entry>>>);

#[derive(Debug)]
struct Entry {
    /// The pod that failed last in this place.
    uid: String,
    /// From when on it may be replaced.
    due: Instant,
    /// How long the next one will have to wait.
    next: Duration,
}

impl Retries {
    /// How much longer this failed pod stays in its place. A pod counts as a failure when it is first asked about.
    pub(crate) fn left(&self, place: &str, uid: &str, now: Instant) -> Duration {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What has not failed for long starts over, and is forgotten when there is much of it.
        if known.len() > 1000 {
            known.retain(|_, entry| now.saturating_duration_since(entry.due) <= 2 * MOST);
        }
        let entry =
            known.entry(place.to_owned()).or_insert_with(|| Entry { uid: uid.to_owned(), due: now, next: FIRST });
        if entry.uid != uid {
            let fresh = now.saturating_duration_since(entry.due) > 2 * MOST;
            let wait = if fresh { Duration::ZERO } else { entry.next };
            let next = if fresh { FIRST } else { (entry.next * 2).min(MOST) };
            *entry = Entry { uid: uid.to_owned(), due: now + wait, next };
        }
        entry.due.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_in_a_place_waits_twice_as_long() {
        let (retries, start) = (Retries::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(retries.left("node-1", "a", start), Duration::ZERO);
        assert_eq!(retries.left("node-1", "a", start), Duration::ZERO, "the same pod is one failure");
        assert_eq!(retries.left("node-1", "b", start), second);
        assert_eq!(retries.left("node-1", "b", start + second), Duration::ZERO);
        assert_eq!(retries.left("node-1", "c", start + second), 2 * second);
        assert_eq!(retries.left("node-2", "d", start), Duration::ZERO, "another place");
        assert_eq!(retries.left("node-1", "e", start + 3 * MOST), Duration::ZERO, "long ago");
    }
}
