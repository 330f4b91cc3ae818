//! How often the disk is synced.
//!
//! A sync costs the processor about as much as a write's whole way through the server. While few write, each write is
//! synced at once; while many do, they wait a moment for each other.

use std::time::{Duration, Instant};

/// Time over which writes are counted.
const WINDOW: Duration = Duration::from_millis(4);
/// So many writes in a window are many.
const MANY: usize = 16;
/// Least time between the beginnings of two groups while there are many.
const APART: Duration = Duration::from_millis(1);

/// Counts writes and spaces groups of them.
#[derive(Debug)]
pub(crate) struct Pace {
    /// When the last group began.
    last: Instant,
    window: Instant,
    in_window: usize,
    are_many: bool,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { last: now, window: now, in_window: 0, are_many: false }
    }

    /// How long to wait before the next group is taken.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        let quiet = now.saturating_duration_since(self.window) > 2 * WINDOW;
        if quiet || !self.are_many { Duration::ZERO } else { (self.last + APART).saturating_duration_since(now) }
    }

    /// A group of so many writes begins.
    pub(crate) fn begun(&mut self, now: Instant, writes: usize) {
        self.last = now;
        if now.saturating_duration_since(self.window) >= WINDOW {
            let quiet = now.saturating_duration_since(self.window) > 2 * WINDOW;
            self.are_many = !quiet && self.in_window >= MANY;
            (self.window, self.in_window) = (now, 0);
        }
        self.in_window += writes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups of so many writes, so many microseconds apart: the last wait.
    fn last_wait(writes: usize, micros: u64, groups: u64) -> Duration {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut now = start;
        for _ in 0..groups {
            now += Duration::from_micros(micros);
            pace.begun(now, writes);
        }
        pace.wait(now + Duration::from_micros(100))
    }

    #[test]
    fn only_many_wait_for_each_other() {
        let table = [
            ("one client, as fast as it can", last_wait(1, 400, 100), 0),
            ("a burst at once", last_wait(500, 400, 3), 0),
            ("many clients", last_wait(1, 120, 200), 900),
            ("many clients, in groups", last_wait(8, 1000, 50), 900),
            ("many, but rarely", last_wait(100, 50_000, 20), 0),
        ];
        for (what, wait, micros) in table {
            assert_eq!(wait, Duration::from_micros(micros), "{what}");
        }
    }

    #[test]
    fn nobody_waits_after_a_pause() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for number in 1..100 {
            pace.begun(start + Duration::from_millis(number), 20);
        }
        assert!(pace.wait(start + Duration::from_millis(99)) > Duration::ZERO);
        assert_eq!(pace.wait(start + Duration::from_millis(120)), Duration::ZERO);
    }
}
