//! Indexes with a limit of their own: which have failed, and when the others are tried again.
//!
//! How often an index failed is written on its newest pod. So the last pod that failed is kept until another has taken
//! over its count.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use corten_api::api::batch::v1::JobSpec;
use corten_base::Timestamp;

use super::backoff::Backoff;
use super::indexes::Indexes;
use super::members::{Member, finished_at};
use super::policy::{Verdict, judge};
use super::template::Identity;

pub(super) struct Retries<'a> {
    /// Indexes that are given up.
    pub(super) failed: Indexes,
    /// The last failure of each index that is to be tried again.
    last: BTreeMap<i32, Failure<'a>>,
}

struct Failure<'a> {
    uid: &'a str,
    /// How often the index has failed with this, and how often that did not matter.
    failures: i32,
    ignored: i32,
    at: Timestamp,
}

impl<'a> Retries<'a> {
    pub(super) fn of(spec: &JobSpec, limit: i32, before: Indexes, done: &Indexes, members: &[Member<'a>]) -> Self {
        let policy = spec.pod_failure_policy.as_ref();
        let mut given_up = Vec::new();
        let mut failures = Vec::new();
        for member in members.iter().filter(|own| own.failed) {
            let Some(index) = member.index.filter(|index| !done.contains(*index)) else { continue };
            let verdict = judge(policy, member.pod);
            let (failed, ignored) = member.failures_before();
            let counts = verdict != Verdict::Ignore;
            if verdict == Verdict::FailIndex || (counts && failed >= limit) {
                given_up.push(index);
            }
            if member.held {
                let failures_now = failed.saturating_add(counts.into());
                let ignored = ignored.saturating_add((!counts).into());
                let failure = Failure { uid: member.uid, failures: failures_now, ignored, at: finished_at(member.pod) };
                failures.push((index, failure));
            }
        }
        let failed = before.with(given_up);
        let active: BTreeSet<i32> = members.iter().filter(|own| own.active).filter_map(|own| own.index).collect();
        failures.retain(|(index, _)| !failed.contains(*index) && !active.contains(index));
        failures.sort_by_key(|(_, own)| (own.failures.saturating_add(own.ignored), own.at));
        Self { failed, last: failures.into_iter().collect() }
    }

    /// Whether the pod's count is still to be taken over.
    pub(super) fn keeps(&self, member: &Member<'_>) -> bool {
        member.index.and_then(|index| self.last.get(&index)).is_some_and(|last| last.uid == member.uid)
    }

    /// Which of these indexes get their pod now, and when the next one does.
    pub(super) fn due(&self, indexes: Vec<i32>, now: Timestamp) -> (Vec<Identity>, Option<Duration>) {
        let (mut due, mut soonest) = (Vec::new(), None::<Duration>);
        for index in indexes {
            let last = self.last.get(&index);
            let wait = last.map_or(Duration::ZERO, |last| {
                let all = last.failures.saturating_add(last.ignored);
                Backoff::after(all.unsigned_abs(), last.at).left(now)
            });
            if wait.is_zero() {
                let failures = last.map_or((0, 0), |last| (last.failures, last.ignored));
                due.push(Identity { index: Some(index), failures: Some(failures) });
            } else {
                soonest = Some(soonest.map_or(wait, |soonest| soonest.min(wait)));
            }
        }
        (due, soonest)
    }
}
