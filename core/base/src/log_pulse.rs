//! Whether the log still takes lines.
//!
//! Lines are written where they come up. A log that takes none (a pipe that nobody reads) stops one thread after the
//! other, and whoever asks must not have to write a line to find out.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Writes that are under way, and since when nothing has been written although something was to be.
static PULSE: Mutex<Pulse> = Mutex::new(Pulse { under_way: 0, since: None });

struct Pulse {
    under_way: usize,
    since: Option<Instant>,
}

impl Pulse {
    fn begin(&mut self, now: Instant) {
        self.under_way += 1;
        self.since.get_or_insert(now);
    }

    fn end(&mut self, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        self.since = (self.under_way > 0).then_some(now);
    }
}

/// A log whose pulse is felt.
pub struct Pulsing<W>(pub W);

impl<W: Write> Write for Pulsing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _beat = Beat::begin();
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        let _beat = Beat::begin();
        self.0.flush()
    }
}

struct Beat;

impl Beat {
    fn begin() -> Self {
        PULSE.lock().unwrap_or_else(PoisonError::into_inner).begin(Instant::now());
        Self
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        PULSE.lock().unwrap_or_else(PoisonError::into_inner).end(Instant::now());
    }
}

/// How long the log has taken no line although there was one; nothing while it is quiet.
#[must_use]
pub fn log_stuck_for() -> Option<Duration> {
    PULSE.lock().unwrap_or_else(PoisonError::into_inner).since.map(|since| since.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_write_that_does_not_end_counts() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut pulse = Pulse { under_way: 0, since: None };
        pulse.begin(start);
        pulse.begin(start + second);
        assert_eq!(pulse.since, Some(start), "the first waits longest");
        pulse.end(start + second * 2);
        assert_eq!(pulse.since, Some(start + second * 2), "one got through");
        pulse.end(start + second * 3);
        assert_eq!(pulse.since, None);
    }

    #[test]
    fn what_is_written_arrives() {
        let mut log = Pulsing(Vec::new());
        log.write_all(b"line").expect("written");
        log.flush().expect("flushed");
        assert_eq!(log.0, b"line");
    }
}
