//! What is to be done for a job.
//!
//! Every end of a pod is counted once: a finalizer holds the pod until its UID (or its index, if the job has indexes) is
//! in the status; then the finalizer goes; then, as the pod is held no more, the UID becomes one more in a count.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use corten_api::api::batch::v1::{Job, JobSpec, JobStatus, UncountedTerminatedPods};
use corten_api::api::core::v1::Pod;
use corten_api::meta::Time;
use corten_base::Timestamp;

use super::backoff::Backoff;
use super::conditions::{self, COMPLETE, FAILED, FAILURE_TARGET, SUCCESS_CRITERIA_MET, SUSPENDED, holding};
use super::indexes::Indexes;
use super::members::{Member, finished_at, is_foreign, is_indexed, replaces_only_failed};
use super::policy::{Verdict, judge, suffices};
use super::retries::Retries;
use super::template::Identity;

/// Most pods made or deleted at one go.
const BURST: usize = 500;
/// Most UIDs in the status: a status must not grow without bounds.
const MOST_UNCOUNTED: usize = 500;

/// What is to be done, in this order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) delete: Vec<Arc<Pod>>,
    /// Whether those are held no longer before they go: what the job stops has not failed.
    pub(super) free_first: bool,
    pub(super) create: Vec<Identity>,
    /// The status, as it is after pods were deleted and made, if it changes.
    pub(super) status: Option<JobStatus>,
    /// What is told once the status is stored.
    pub(super) events: Vec<Event>,
    /// Pods that are held no longer once the status is stored.
    pub(super) let_go: Vec<Arc<Pod>>,
    /// What becomes of the back-off once the status is stored.
    pub(super) backoff: Backoff,
    /// When something is due.
    pub(super) again: Option<Duration>,
}

impl Plan {
    fn look_again(&mut self, after: Duration) {
        self.again = Some(self.again.map_or(after, |again| again.min(after)));
    }
}

/// What people are told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) warning: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

/// How a job ends, and why.
#[derive(Clone, Debug)]
struct Outcome {
    success: bool,
    reason: String,
    message: String,
}

impl Outcome {
    fn success(reason: &str, message: impl Into<String>) -> Self {
        Self { success: true, reason: reason.to_owned(), message: message.into() }
    }

    fn failure(reason: &str, message: impl Into<String>) -> Self {
        Self { success: false, reason: reason.to_owned(), message: message.into() }
    }
}

/// What is known of a job while its plan is made.
struct View<'a> {
    job: &'a Job,
    spec: &'a JobSpec,
    members: Vec<Member<'a>>,
    now: Timestamp,
    /// How many pods run or will, how many of them are ready, and how many are about to end.
    active: i32,
    ready: i32,
    terminating: i32,
    /// How many ended well, as of now.
    succeeded: i32,
    /// Indexes that ended well: as the status has them, and as of now.
    done_before: Indexes,
    done: Indexes,
    retries: Option<Retries<'a>>,
}

pub(super) fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Plans for a job and its pods. `backoff` is what the last plan left, if there was one.
pub(super) fn plan(job: &Job, pods: &[Arc<Pod>], backoff: Option<&Backoff>, now: Timestamp) -> Plan {
    let mut plan = Plan { backoff: backoff.cloned().unwrap_or_default(), ..Plan::default() };
    let Some(spec) = job.spec.as_ref().filter(|_| !is_foreign(job) && conditions::finished(job).is_none()) else {
        return plan;
    };
    // Times in the API have no fractions; what was written must be what is read.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let mut members: Vec<Member<'_>> = pods.iter().map(|pod| Member::of(spec, pod)).collect();
    members.sort_by(|left, right| (left.index, left.uid).cmp(&(right.index, right.uid)));
    let mut status = job.status.clone().unwrap_or_default();
    fold(&mut status, &members);
    let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let is_new = |member: &&Member<'_>| {
        member.held
            && (member.index.is_some() || !is_indexed(spec))
            && !listed(&uncounted.succeeded, member.uid)
            && !listed(&uncounted.failed, member.uid)
    };
    let ended_well: Vec<&Member<'_>> = members.iter().filter(is_new).filter(|own| own.succeeded).collect();
    let ended_badly: Vec<&Member<'_>> = members.iter().filter(is_new).filter(|own| own.failed).collect();
    let failed = status.failed.unwrap_or(0)
        + count(uncounted.failed.iter().flatten().count())
        + count(ended_badly.iter().filter(|own| counts(spec, own.pod)).count());
    plan.backoff = next_backoff(backoff, &members, &ended_well, &ended_badly);

    if status.start_time.is_none() && spec.suspend != Some(true) {
        status.start_time = Some(Time(now));
    }
    let completions = spec.completions.unwrap_or(0);
    let done_before = Indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), completions);
    let failed_before = status.failed_indexes.as_deref().map(|text| Indexes::parse(text, completions));
    let lost = |index: i32| failed_before.as_ref().is_some_and(|failed| failed.contains(index));
    let fresh = ended_well.iter().filter_map(|own| own.index).filter(|index| !lost(*index));
    let done = done_before.with(fresh);
    let succeeded = if is_indexed(spec) {
        done.total()
    } else {
        status.succeeded.unwrap_or(0) + count(uncounted.succeeded.iter().flatten().count()) + count(ended_well.len())
    };
    let limit = spec.backoff_limit_per_index.filter(|_| is_indexed(spec));
    let retries = limit.map(|limit| Retries::of(spec, limit, failed_before.unwrap_or_default(), &done, &members));
    let number = |filter: fn(&Member<'_>) -> bool| count(members.iter().filter(|own| filter(own)).count());
    let (active, terminating) = (number(|own| own.active), number(|own| own.terminating));
    let ready = number(|own| own.active && own.ready());
    let mut view = View { job, spec, members, now, active, ready, terminating, succeeded, done_before, done, retries };

    let mut outcome = verdict(&view, &status, failed);
    let deadline = deadline(&view, &status);
    if let Some(left) = deadline.filter(|_| outcome.is_none()) {
        if left.is_zero() {
            outcome = Some(Outcome::failure("DeadlineExceeded", "Job was active longer than specified deadline"));
        } else {
            plan.look_again(left);
        }
    }
    outcome = outcome.or_else(|| verdict_of_indexes(&view));
    if outcome.is_some() {
        delete(&mut view, &mut plan, usize::MAX);
    } else if job.metadata.deletion_timestamp.is_none() {
        manage(&mut view, &mut plan);
        let wanted = spec.completions.unwrap_or(1);
        if view.succeeded >= wanted && view.active == 0 {
            outcome = Some(Outcome::success("CompletionsReached", "Reached expected number of succeeded pods"));
        } else {
            tell_suspension(&view, &mut status, &mut plan);
        }
    }
    track(&mut view, &mut status, &mut plan, outcome.as_ref());
    status.active = Some(view.active).filter(|active| *active > 0);
    status.ready = Some(view.ready);
    status.terminating = Some(view.terminating);
    if let Some(outcome) = &outcome {
        finish(&view, &mut status, &mut plan, outcome);
    }
    plan.status = (job.status.as_ref() != Some(&status)).then_some(status);
    plan
}

fn listed(uids: &Option<Vec<String>>, uid: &str) -> bool {
    uids.iter().flatten().any(|own| own == uid)
}

/// Whether a pod's failure counts.
fn counts(spec: &JobSpec, pod: &Pod) -> bool {
    judge(spec.pod_failure_policy.as_ref(), pod) != Verdict::Ignore
}

/// Counts the pods that wait to be counted and are held no more.
fn fold(status: &mut JobStatus, members: &[Member<'_>]) {
    let held: BTreeSet<&str> = members.iter().filter(|own| own.held).map(|own| own.uid).collect();
    let uncounted = status.uncounted_terminated_pods.get_or_insert_default();
    let folds = [(&mut uncounted.succeeded, &mut status.succeeded), (&mut uncounted.failed, &mut status.failed)];
    for (uids, total) in folds {
        let all = uids.take().unwrap_or_default();
        let before = all.len();
        let rest: Vec<String> = all.into_iter().filter(|uid| held.contains(uid.as_str())).collect();
        if before > rest.len() {
            *total = Some(total.unwrap_or(0) + count(before - rest.len()));
        }
        *uids = Some(rest).filter(|rest| !rest.is_empty());
    }
}

fn next_backoff(
    before: Option<&Backoff>,
    members: &[Member<'_>],
    ended_well: &[&Member<'_>],
    ended_badly: &[&Member<'_>],
) -> Backoff {
    let times = |pods: &[&Member<'_>]| pods.iter().map(|own| finished_at(own.pod)).collect::<Vec<_>>();
    let before = before.cloned().unwrap_or_else(|| {
        // What an earlier process saw is told by the pods that are still there.
        let counted = |filter: fn(&Member<'_>) -> bool| {
            let pods: Vec<&Member<'_>> = members.iter().filter(|own| !own.held && filter(own)).collect();
            times(&pods)
        };
        Backoff::default().next(&counted(|own| own.succeeded), &counted(|own| own.failed))
    });
    before.next(&times(ended_well), &times(ended_badly))
}

/// How the job ends, if that is settled by its status or by its pods as a whole.
fn verdict(view: &View<'_>, status: &JobStatus, failed: i32) -> Option<Outcome> {
    let spec = view.spec;
    for (kind, success) in [(SUCCESS_CRITERIA_MET, true), (FAILURE_TARGET, false)] {
        if let Some(settled) = holding(status, kind) {
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            return Some(Outcome { success, reason: text(&settled.reason), message: text(&settled.message) });
        }
    }
    let policy = spec.pod_failure_policy.as_ref();
    let fatal = view.members.iter().filter(|own| own.failed && policy.is_some());
    for verdict in fatal.map(|own| judge(policy, own.pod)) {
        if let Verdict::FailJob(why) = verdict {
            return Some(Outcome::failure("PodFailurePolicy", why));
        }
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    let too_many = failed > limit || (restarts_in_place(spec) && too_many_restarts(view, limit));
    too_many.then(|| Outcome::failure("BackoffLimitExceeded", "Job has reached the specified backoff limit"))
}

fn restarts_in_place(spec: &JobSpec) -> bool {
    spec.template.spec.as_ref().and_then(|pod| pod.restart_policy.as_deref()) == Some("OnFailure")
}

/// Whether containers that were started again count as failures enough.
fn too_many_restarts(view: &View<'_>, limit: i32) -> bool {
    let alive = view.members.iter().filter(|own| !own.succeeded && crate::pods::phase(own.pod) != "Failed");
    let statuses = alive
        .filter_map(|own| own.pod.status.as_ref())
        .flat_map(|status| status.container_statuses.iter().chain(&status.init_container_statuses).flatten());
    let restarts: i32 = statuses.map(|own| own.restart_count).sum();
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

/// How long the job may still run.
fn deadline(view: &View<'_>, status: &JobStatus) -> Option<Duration> {
    let seconds = view.spec.active_deadline_seconds.filter(|_| view.spec.suspend != Some(true))?;
    let start = status.start_time.as_ref()?;
    let ran = Duration::try_from(view.now.duration_since(start.0)).unwrap_or_default();
    Some(Duration::from_secs(seconds.max(0).unsigned_abs()).saturating_sub(ran))
}

/// How the job ends, if that is settled by its indexes.
fn verdict_of_indexes(view: &View<'_>) -> Option<Outcome> {
    let completions = view.spec.completions.filter(|_| is_indexed(view.spec))?;
    if let Some(retries) = &view.retries {
        let failed = retries.failed.total();
        if view.spec.max_failed_indexes.is_some_and(|most| failed > most) {
            let why = "Job has exceeded the specified maximal number of failed indexes";
            return Some(Outcome::failure("MaxFailedIndexesExceeded", why));
        }
        if failed > 0 && failed + view.done.total() >= completions {
            return Some(Outcome::failure("FailedIndexes", "Job has failed indexes"));
        }
    }
    let policy = view.spec.success_policy.as_ref()?;
    Some(Outcome::success("SuccessPolicy", suffices(policy, &view.done, completions)?))
}

/// Deletes active pods: those whose index another has too, and at least so many.
fn delete(view: &mut View<'_>, plan: &mut Plan, at_least: usize) {
    let mut active: Vec<&Member<'_>> = view.members.iter().filter(|own| own.active).collect();
    active.sort_by_cached_key(|own| own.deletion_rank());
    let (mut surplus, mut rest) = (Vec::new(), Vec::new());
    let mut taken = BTreeSet::new();
    // The one that goes last is the one that keeps its index.
    for member in active.into_iter().rev() {
        match member.index {
            Some(index) if taken.insert(index) => rest.push(member),
            None if !is_indexed(view.spec) => rest.push(member),
            _ => surplus.push(member),
        }
    }
    rest.reverse();
    let missing = at_least.saturating_sub(surplus.len());
    surplus.extend(rest.into_iter().take(missing));
    if at_least != usize::MAX {
        surplus.truncate(BURST);
    }
    view.active -= count(surplus.len());
    view.ready -= count(surplus.iter().filter(|own| own.ready()).count());
    view.terminating += count(surplus.len());
    plan.delete = surplus.into_iter().map(|own| Arc::clone(own.pod)).collect();
}

/// Brings the number of pods to what it should be.
fn manage(view: &mut View<'_>, plan: &mut Plan) {
    plan.free_first = true;
    if view.spec.suspend == Some(true) {
        return delete(view, plan, usize::MAX);
    }
    let parallelism = view.spec.parallelism.unwrap_or(1).max(0);
    let wanted = match view.spec.completions {
        Some(completions) => parallelism.min(completions - view.succeeded).max(0),
        // A work queue: once a pod has ended well there is no more work, and the others finish what they have.
        None if view.succeeded > 0 => view.active,
        None => parallelism,
    };
    delete(view, plan, usize::try_from(view.active - wanted).unwrap_or(0));
    if !plan.delete.is_empty() {
        return;
    }
    let ending = if replaces_only_failed(view.spec) { view.terminating } else { 0 };
    let missing = usize::try_from(wanted - ending - view.active).unwrap_or(0).min(BURST);
    if missing == 0 {
        return;
    }
    if let Some(retries) = &view.retries {
        let free = pending(view, missing);
        let (now, later) = retries.due(free, view.now);
        plan.create = now;
        later.into_iter().for_each(|wait| plan.look_again(wait));
    } else {
        let wait = plan.backoff.left(view.now);
        if !wait.is_zero() {
            return plan.look_again(wait);
        }
        plan.create = if is_indexed(view.spec) {
            let of = |index| Identity { index: Some(index), failures: None };
            pending(view, missing).into_iter().map(of).collect()
        } else {
            vec![Identity::default(); missing]
        };
    }
    view.active += count(plan.create.len());
}

/// The first indexes on which nobody works, or did.
fn pending(view: &View<'_>, most: usize) -> Vec<i32> {
    let waits = replaces_only_failed(view.spec);
    let busy = view.members.iter().filter(|own| own.active || (own.terminating && waits));
    let mut taken = view.done.with(busy.filter_map(|own| own.index));
    if let Some(retries) = &view.retries {
        taken = taken.union(&retries.failed);
    }
    taken.missing(most, view.spec.completions.unwrap_or(0))
}

fn tell_suspension(view: &View<'_>, status: &mut JobStatus, plan: &mut Plan) {
    let suspended = view.spec.suspend == Some(true);
    let (reason, message, event) = if suspended {
        ("JobSuspended", "Job suspended", "Suspended")
    } else {
        ("JobResumed", "Job resumed", "Resumed")
    };
    if conditions::set(status, (SUSPENDED, suspended), (reason, message), view.now) {
        // The time that it may run counts anew from when it goes on.
        status.start_time = (!suspended).then_some(Time(view.now));
        plan.events.push(Event { warning: false, reason: event.to_owned(), message: message.to_owned() });
    }
}

/// Writes down which pods have ended, and lets go of them.
fn track(view: &mut View<'_>, status: &mut JobStatus, plan: &mut Plan, outcome: Option<&Outcome>) {
    let indexed = is_indexed(view.spec);
    let before = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let mut succeeded = before.succeeded.clone().unwrap_or_default();
    let mut failed = before.failed.clone().unwrap_or_default();
    let mut indexes = Vec::new();
    let ending = view.job.metadata.deletion_timestamp.is_some() || outcome.is_some();
    for member in view.members.iter().filter(|own| own.held) {
        let kept = view.retries.as_ref().is_some_and(|retries| retries.keeps(member));
        if !(ending || member.succeeded || (member.failed && !kept)) {
            continue;
        }
        plan.let_go.push(Arc::clone(member.pod));
        let valid = member.index.is_some() || !indexed;
        if !valid || listed(&before.failed, member.uid) || listed(&before.succeeded, member.uid) {
            continue;
        }
        let uid = member.uid.to_owned();
        // Where the job fails, it takes with it what still runs.
        let is_lost = member.failed || outcome.is_some_and(|outcome| !outcome.success);
        match member.index {
            Some(index) if member.succeeded => indexes.push(index),
            _ if member.succeeded => succeeded.push(uid),
            _ if is_lost && counts(view.spec, member.pod) => failed.push(uid),
            _ => {}
        }
        if indexes.len() + succeeded.len() + failed.len() >= MOST_UNCOUNTED {
            break;
        }
    }
    let some = |uids: Vec<String>| Some(uids).filter(|uids| !uids.is_empty());
    status.uncounted_terminated_pods =
        Some(UncountedTerminatedPods { succeeded: some(succeeded), failed: some(failed) });
    if indexed {
        view.done = view.done_before.with(indexes.into_iter().filter(|index| view.done.contains(*index)));
        status.completed_indexes = Some(view.done.to_string()).filter(|text| !text.is_empty());
        status.succeeded = Some(view.done.total()).filter(|total| *total > 0);
        status.failed_indexes = view.retries.as_ref().map(|retries| retries.failed.to_string());
    }
}

/// Says how the job will end, and once nothing is left of its pods, that it has.
fn finish(view: &View<'_>, status: &mut JobStatus, plan: &mut Plan, outcome: &Outcome) {
    let why = (outcome.reason.as_str(), outcome.message.as_str());
    let target = if outcome.success { SUCCESS_CRITERIA_MET } else { FAILURE_TARGET };
    conditions::set(status, (target, true), why, view.now);
    let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let waits = view.members.iter().any(|own| own.held)
        || uncounted.succeeded.is_some()
        || uncounted.failed.is_some()
        || view.active > 0
        || view.terminating > 0;
    if waits {
        return;
    }
    status.start_time.get_or_insert(Time(view.now));
    if outcome.success {
        conditions::set(status, (COMPLETE, true), why, view.now);
        status.completion_time = Some(Time(view.now));
        let wanted = view.spec.completions.filter(|wanted| status.succeeded.unwrap_or(0) > *wanted);
        if wanted.is_some() {
            let message = "Too many succeeded pods recorded after completion count reached".to_owned();
            plan.events.push(Event { warning: true, reason: "TooManySucceededPods".to_owned(), message });
        }
        let (reason, message) = ("Completed".to_owned(), "Job completed".to_owned());
        plan.events.push(Event { warning: false, reason, message });
    } else {
        conditions::set(status, (FAILED, true), why, view.now);
        let (reason, message) = (outcome.reason.clone(), outcome.message.clone());
        plan.events.push(Event { warning: true, reason, message });
    }
}
