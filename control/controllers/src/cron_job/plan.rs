//! What is to be done for a cron job.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use corten_api::api::batch::v1::{CronJob, CronJobStatus, Job};
use corten_api::api::core::v1::ObjectReference;
use corten_api::cron::{self, Schedule};
use corten_api::k8s_openapi::jiff::tz::TimeZone;
use corten_api::meta::{ObjectMeta, Time};
use corten_base::Timestamp;
use corten_client::reference;
use kube::ResourceExt;

use crate::job::{COMPLETE, finished};
use crate::owners;

/// For what time a job was made.
const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More missed starts than this are told of.
const MANY: usize = 100;
/// So much after its time a job is made: timers may be early.
const DELTA: Duration = Duration::from_millis(100);

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) events: Vec<Event>,
    /// Jobs that are replaced, or too old to be kept.
    pub(super) delete: Vec<Arc<Job>>,
    /// The next job, and for what time it is.
    pub(super) create: Option<(Job, Timestamp)>,
    /// The status, before that job is made.
    pub(super) status: CronJobStatus,
    /// When the next time of the schedule comes.
    pub(super) again: Option<Duration>,
}

/// What people are told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) warning: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Event {
    pub(super) fn normal(reason: &'static str, message: String) -> Self {
        Self { warning: false, reason, message }
    }

    pub(super) fn warning(reason: &'static str, message: String) -> Self {
        Self { warning: true, reason, message }
    }
}

/// Plans for a cron job and the jobs that it owns.
pub(super) fn plan(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Plan {
    let mut plan = Plan { status: cron.status.clone().unwrap_or_default(), ..Plan::default() };
    look_at_jobs(jobs, &mut plan);
    keep_the_last(cron, jobs, &mut plan);
    if cron.metadata.deletion_timestamp.is_none() {
        start(cron, jobs, now, &mut plan);
    }
    plan.status.active.take_if(|active| active.is_empty());
    plan
}

/// The status once a job was made.
pub(super) fn with_started(mut status: CronJobStatus, job: &Job, at: Timestamp) -> CronJobStatus {
    let active = status.active.get_or_insert_default();
    if !active.iter().any(|own| own.uid == job.metadata.uid) {
        active.push(reference(job));
    }
    status.last_schedule_time = Some(Time(at));
    status
}

fn is_active(status: &CronJobStatus, job: &Job) -> bool {
    status.active.iter().flatten().any(|own| own.uid == job.metadata.uid)
}

/// Notices which jobs have ended, and which are there unexpectedly or are no more.
fn look_at_jobs(jobs: &[Arc<Job>], plan: &mut Plan) {
    for job in jobs {
        let name = job.name_any();
        match (is_active(&plan.status, job), finished(job)) {
            (false, None) => {
                let message = format!("Saw a job that the controller did not create or forgot: {name}");
                plan.events.push(Event::warning("UnexpectedJob", message));
            }
            (true, Some(end)) => {
                plan.status.active.iter_mut().for_each(|active| active.retain(|own| own.uid != job.metadata.uid));
                let message = format!("Saw completed job: {name}, condition: {}", end.type_);
                plan.events.push(Event::normal("SawCompletedJob", message));
            }
            _ => {}
        }
        if finished(job).is_some_and(|end| end.type_ == COMPLETE) {
            let end = job.status.as_ref().and_then(|status| status.completion_time.clone());
            let last = plan.status.last_successful_time.take();
            plan.status.last_successful_time = end.max(last);
        }
    }
    let mut missing = Vec::new();
    let there = |own: &ObjectReference| jobs.iter().any(|job| job.metadata.uid == own.uid);
    for active in plan.status.active.iter_mut() {
        missing.extend(active.extract_if(.., |own| !there(own)));
    }
    for gone in missing {
        let message = format!("Active job went missing: {}", gone.name.unwrap_or_default());
        plan.events.push(Event::normal("MissingJob", message));
    }
}

/// Deletes the oldest of those that have ended.
fn keep_the_last(cron: &CronJob, jobs: &[Arc<Job>], plan: &mut Plan) {
    let limits = [(true, cron.spec.successful_jobs_history_limit), (false, cron.spec.failed_jobs_history_limit)];
    for (success, limit) in limits {
        let Some(limit) = limit else { continue };
        let ended = |job: &&Arc<Job>| finished(job).is_some_and(|end| (end.type_ == COMPLETE) == success);
        let mut ended: Vec<&Arc<Job>> = jobs.iter().filter(ended).collect();
        ended.sort_by_cached_key(|job| {
            let start = job.status.as_ref().and_then(|status| status.start_time.clone());
            Reverse((start.or_else(|| job.metadata.creation_timestamp.clone()), job.name_any()))
        });
        let kept = usize::try_from(limit).unwrap_or(0);
        plan.delete.extend(ended.into_iter().skip(kept).map(Arc::clone));
    }
}

/// Makes a job if it is time for one.
fn start(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp, plan: &mut Plan) {
    let spec = &cron.spec;
    let zone = match spec.time_zone.as_deref() {
        None => TimeZone::UTC,
        Some(name) => match cron::zone(name) {
            Some(zone) => zone,
            None => {
                let message = format!("invalid timeZone: {name:?}: unknown time zone {name}");
                return plan.events.push(Event::warning("UnknownTimeZone", message));
            }
        },
    };
    if spec.suspend == Some(true) {
        return;
    }
    let schedule = match Schedule::parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(why) => {
            let message = format!("unparseable schedule: {:?} : {why}", spec.schedule);
            return plan.events.push(Event::warning("UnparseableSchedule", message));
        }
    };
    let earliest = earliest(cron, now);
    let due = schedule.last(earliest, now, &zone);
    let next = schedule.next(due.unwrap_or(earliest), &zone);
    plan.again = next.map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default() + DELTA);
    let Some(due) = due else { return };
    let mut missed = 0;
    let mut time = Some(earliest);
    while missed <= MANY && time.is_some_and(|time| time < due) {
        time = time.and_then(|time| schedule.next(time, &zone));
        missed += 1;
    }
    if missed > MANY {
        let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.events.push(Event::warning("TooManyMissedTimes", message.to_owned()));
    }
    let name = format!("{}-{}", cron.name_any(), due.as_second().div_euclid(60));
    let started = plan.status.active.iter().flatten().any(|own| own.name.as_deref() == Some(&name));
    let last = plan.status.last_schedule_time.as_ref().map(|time| time.0);
    if started || last == Some(due) {
        return;
    }
    let active = plan.status.active.as_ref().map_or(0, Vec::len);
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if active > 0 => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            return plan.events.push(Event::normal("JobAlreadyActive", message.to_owned()));
        }
        Some("Replace") => {
            let replaced = jobs.iter().filter(|job| is_active(&plan.status, job));
            plan.delete.extend(replaced.map(Arc::clone));
            plan.status.active = None;
        }
        _ => {}
    }
    plan.create = Some((job_of(cron, name, due, spec.time_zone.as_ref().map(|_| &zone)), due));
}

/// From when on starts are looked for: those that are too late are none.
fn earliest(cron: &CronJob, now: Timestamp) -> Timestamp {
    let last = cron.status.as_ref().and_then(|status| status.last_schedule_time.as_ref());
    let since = last.or(cron.metadata.creation_timestamp.as_ref()).map_or(now, |time| time.0);
    let seconds = cron.spec.starting_deadline_seconds.map(|seconds| seconds.max(0).unsigned_abs());
    let deadline = seconds.and_then(|seconds| now.checked_sub(Duration::from_secs(seconds)).ok());
    deadline.map_or(since, |deadline| since.max(deadline))
}

fn job_of(cron: &CronJob, name: String, due: Timestamp, zone: Option<&TimeZone>) -> Job {
    let template = &cron.spec.job_template;
    let meta = template.metadata.clone().unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    let text = zone.map_or_else(|| due.to_string(), |zone| in_zone(due, zone));
    annotations.insert(SCHEDULED_AT.to_owned(), text);
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: cron.namespace(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owners::reference(cron)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// A time as RFC 3339 has it, with the offset of a zone.
fn in_zone(time: Timestamp, zone: &TimeZone) -> String {
    let offset = zone.to_offset(time);
    if offset.seconds() == 0 { time.to_string() } else { time.display_with_offset(offset).to_string() }
}
