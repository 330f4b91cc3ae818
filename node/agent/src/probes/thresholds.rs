//! From single results to verdicts. Pure.

use std::time::Duration;

use corten_api::api::core::v1::Probe;

/// A container that is younger than this may still be on its way: it is asked again soon, and a failure does not count.
pub(super) const INFANCY: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_millis(10);

/// How often a probe runs and what its results amount to.
#[derive(Clone, Debug)]
pub(super) struct Thresholds {
    pub(super) period: Duration,
    pub(super) timeout: Duration,
    initial_delay: Duration,
    success: u32,
    failure: u32,
    /// The last result, and how often it came in a row.
    run: Option<(bool, u32)>,
    verdict: Option<bool>,
    retry: Duration,
}

/// What a result leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The verdict, if it is new.
    pub(super) verdict: Option<bool>,
    /// Whether a failure is worth telling.
    pub(super) told: bool,
    /// Time until the next run.
    pub(super) next: Duration,
}

impl Thresholds {
    pub(super) fn of(probe: &Probe) -> Self {
        let at_least_one = |field: Option<i32>, default: u32| match field {
            Some(number) if number > 0 => number.unsigned_abs(),
            _ => default,
        };
        let seconds = |count: u32| Duration::from_secs(u64::from(count));
        Self {
            period: seconds(at_least_one(probe.period_seconds, 10)),
            timeout: seconds(at_least_one(probe.timeout_seconds, 1)),
            initial_delay: seconds(at_least_one(probe.initial_delay_seconds, 0)),
            success: at_least_one(probe.success_threshold, 1),
            failure: at_least_one(probe.failure_threshold, 3),
            run: None,
            verdict: None,
            retry: FIRST_RETRY,
        }
    }

    /// How long to wait before the first run. `part` of `whole` is a random share of the period, for containers that
    /// have run for a while: an agent that starts again must not ask all of them at once.
    pub(super) fn first_wait(&self, age: Duration, part: u32, whole: u32) -> Duration {
        let delay = self.initial_delay.saturating_sub(age);
        if age < INFANCY || !delay.is_zero() {
            return delay;
        }
        self.period * part / whole.max(1)
    }

    /// How long to wait after a run that could not be made: it counts as nothing.
    pub(super) fn after_unknown(&mut self, age: Duration) -> Duration {
        if age < INFANCY { self.soon() } else { self.period }
    }

    fn soon(&mut self) -> Duration {
        let next = self.retry.min(self.period);
        self.retry *= 2;
        next
    }

    /// Takes a result of a container of this age.
    pub(super) fn take(&mut self, healthy: bool, age: Duration) -> Outcome {
        let infant = age < INFANCY && self.initial_delay.is_zero() && self.verdict.is_none();
        if !healthy && infant {
            return Outcome { verdict: None, told: false, next: self.soon() };
        }
        let count = match self.run {
            Some((last, count)) if last == healthy => count.saturating_add(1),
            _ => 1,
        };
        self.run = Some((healthy, count));
        let reached = count >= if healthy { self.success } else { self.failure };
        let verdict = (reached && self.verdict != Some(healthy)).then_some(healthy);
        if verdict.is_some() {
            self.verdict = verdict;
        }
        Outcome { verdict, told: true, next: self.period }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn thresholds(probe: Value) -> Thresholds {
        Thresholds::of(&serde_json::from_value(probe).expect("a probe"))
    }

    const OLD: Duration = Duration::from_secs(100);

    #[test]
    fn verdicts_come_at_the_thresholds_and_only_when_they_change() {
        let mut own = thresholds(json!({"successThreshold": 2, "failureThreshold": 3}));
        let results = [false, false, true, false, false, false, false, true, true, true, false];
        let verdicts: Vec<Option<bool>> = results.iter().map(|healthy| own.take(*healthy, OLD).verdict).collect();
        let (none, some) = (None, Some);
        assert_eq!(verdicts, [none, none, none, none, none, some(false), none, none, some(true), none, none]);
    }

    #[test]
    fn an_infant_is_asked_again_soon_and_its_failures_do_not_count() {
        let mut own = thresholds(json!({"failureThreshold": 1}));
        let mut age = Duration::ZERO;
        let mut waits = Vec::new();
        while age < INFANCY {
            let outcome = own.take(false, age);
            assert_eq!((outcome.verdict, outcome.told), (None, false));
            waits.push(outcome.next.as_millis());
            age += outcome.next;
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640]);
        let outcome = own.take(false, age);
        assert_eq!(outcome, Outcome { verdict: Some(false), told: true, next: Duration::from_secs(10) });
        // Who asked for a delay has allowed for the start already.
        let mut own = thresholds(json!({"failureThreshold": 1, "initialDelaySeconds": 1}));
        assert_eq!(own.take(false, Duration::from_millis(10)).verdict, Some(false));
        // A first success counts at once.
        assert_eq!(thresholds(json!({})).take(true, Duration::ZERO).verdict, Some(true));
    }

    #[test]
    fn the_first_run() {
        let own = thresholds(json!({"initialDelaySeconds": 5, "periodSeconds": 4}));
        assert_eq!(own.first_wait(Duration::from_secs(2), 1, 2), Duration::from_secs(3));
        assert_eq!(own.first_wait(OLD, 1, 2), Duration::from_secs(2));
        assert_eq!(thresholds(json!({})).first_wait(Duration::ZERO, 1, 2), Duration::ZERO);
    }
}
