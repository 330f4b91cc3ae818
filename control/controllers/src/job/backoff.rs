//! How long a job waits before it replaces pods that failed.

use std::time::Duration;

use corten_base::Timestamp;

const FIRST: Duration = Duration::from_secs(10);
const MOST: Duration = Duration::from_secs(360);

/// The failures of a job's pods since the last success. It is known only to the process; a new one begins with what is
/// left of the pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    failures: u32,
    last: Option<Timestamp>,
}

impl Backoff {
    /// So many failures in a row, the last one at this time.
    pub(super) fn after(failures: u32, last: Timestamp) -> Self {
        Self { failures, last: Some(last) }
    }

    /// What becomes of it when more pods have ended, at these times.
    pub(super) fn next(&self, succeeded: &[Timestamp], failed: &[Timestamp]) -> Self {
        let success = succeeded.iter().max();
        let since: Vec<&Timestamp> = failed.iter().filter(|at| success.is_none_or(|success| *at > success)).collect();
        let before = if success.is_some() { Self::default() } else { self.clone() };
        let failures = before.failures.saturating_add(u32::try_from(since.len()).unwrap_or(u32::MAX));
        Self { failures, last: before.last.max(since.into_iter().max().copied()) }
    }

    /// How long still to wait.
    pub(super) fn left(&self, now: Timestamp) -> Duration {
        let (Some(last), Some(doubled)) = (self.last, self.failures.checked_sub(1)) else { return Duration::ZERO };
        let whole = FIRST.saturating_mul(1_u32.checked_shl(doubled).unwrap_or(u32::MAX)).min(MOST);
        whole.saturating_sub(Duration::try_from(now.duration_since(last)).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn waits_double_up_to_six_minutes() {
        let waits: Vec<u64> = (0..8).map(|failures| Backoff::after(failures, at(0)).left(at(0)).as_secs()).collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 320, 360]);
        assert_eq!(Backoff::after(60, at(0)).left(at(0)), MOST);
        assert_eq!(Backoff::after(2, at(100)).left(at(113)).as_secs(), 7);
        assert_eq!(Backoff::after(2, at(100)).left(at(200)), Duration::ZERO);
    }

    #[test]
    fn a_success_ends_the_row() {
        let two = Backoff::default().next(&[], &[at(10), at(20)]);
        assert_eq!(two, Backoff::after(2, at(20)));
        assert_eq!(two.next(&[], &[at(30)]), Backoff::after(3, at(30)));
        assert_eq!(two.next(&[], &[]), two);
        assert_eq!(two.next(&[at(40)], &[]), Backoff::default());
        assert_eq!(two.next(&[at(40)], &[at(35), at(45)]), Backoff::after(1, at(45)));
    }
}
