//! Exponential back-off as a plain value.

use std::time::Duration;

/// Delays that grow by `factor` from `initial` up to `max`.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    initial: Duration,
    factor: u32,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// A back-off whose first delay is `initial`.
    #[must_use]
    pub const fn new(initial: Duration, factor: u32, max: Duration) -> Self {
        Self { initial, factor, max, next: initial }
    }

    /// The delay to wait now; the one after it is longer.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (self.next * self.factor).min(self.max);
        delay
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.next = self.initial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_limit_and_starts_over() {
        let mut backoff = Backoff::new(Duration::from_secs(10), 2, Duration::from_secs(30));
        let delays: Vec<u64> = (0..4).map(|_| backoff.next_delay().as_secs()).collect();
        assert_eq!(delays, [10, 20, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.next_delay().as_secs(), 10);
    }
}
