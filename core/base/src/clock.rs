//! Wall-clock time that tests can hold still.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// Tells the time of day. Cheap to clone; every clone tells the same time.
///
/// Pure code takes `now: Timestamp` as an argument; only the shells that call it own a clock.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    /// Follows tokio's clock, which a test pauses and advances.
    Virtual {
        epoch: Timestamp,
        start: Instant,
    },
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that shows `epoch` now and moves only as tokio's time does, so that
    /// `tokio::time::pause` and `advance` move it too. Needs a tokio runtime.
    #[must_use]
    pub fn virtual_from(epoch: Timestamp) -> Self {
        Self(Source::Virtual { epoch, start: Instant::now() })
    }

    /// The time of day, UTC.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::now(),
            Source::Virtual { epoch, start } => *epoch + start.elapsed(),
        }
    }

    /// Time since `then`; zero if `then` is in the future.
    #[must_use]
    pub fn since(&self, then: Timestamp) -> Duration {
        Duration::try_from(self.now().duration_since(then)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn virtual_time_moves_only_when_advanced() {
        let epoch: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a timestamp");
        let clock = Clock::virtual_from(epoch);
        assert_eq!(clock.now(), epoch);
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.since(epoch), Duration::from_secs(90));
        assert_eq!(clock.since(clock.now() + Duration::from_secs(1)), Duration::ZERO);
    }
}
