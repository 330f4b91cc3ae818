//! CronJobs: jobs on a schedule.

use corten_api::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus};
use corten_api::cron::{self, Schedule};
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::pods::template;
use crate::table::{NAME, age, column, containers, number, selector, wide};
use crate::{ColumnHead, Subresource, WriteContext, counts, jobs};

/// A job's name is the cron job's and eleven letters more.
const MOST_NAME: usize = 52;
const POLICIES: [&str; 3] = ["Allow", "Forbid", "Replace"];

pub(crate) struct CronJobs;

impl Kind for CronJobs {
    type Object = CronJob;

    const NAMES: Names = Names {
        group: "batch",
        version: "v1",
        kind: "CronJob",
        plural: "cronjobs",
        singular: "cronjob",
        short: &["cj"],
        categories: &["all"],
    };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [ColumnHead] = &[
        NAME,
        column("Schedule"),
        column("Timezone"),
        ColumnHead { title: "Suspend", kind: "boolean", format: "", wide: false },
        number("Active"),
        column("Last Schedule"),
        column("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ];
    const GENERATION: bool = true;

    fn cells(job: &CronJob, now: Timestamp) -> Vec<Value> {
        let spec = job.spec.clone();
        let status = job.status.clone().unwrap_or_default();
        let inner = spec.job_template.spec.unwrap_or_default();
        let (names, images) = containers(inner.template.spec.as_ref());
        let none = || "<none>".to_owned();
        // As text: upstream writes booleans as its users know them.
        let suspend = spec.suspend.map_or("<unset>", |suspend| if suspend { "True" } else { "False" });
        vec![
            json!(job.metadata.name),
            spec.schedule.into(),
            spec.time_zone.unwrap_or_else(none).into(),
            suspend.into(),
            json!(status.active.map_or(0, |active| active.len())),
            status.last_schedule_time.as_ref().map_or_else(none, |last| age(Some(last), now)).into(),
            age(job.metadata.creation_timestamp.as_ref(), now).into(),
            names.into(),
            images.into(),
            inner.selector.as_ref().map_or_else(none, selector).into(),
        ]
    }

    fn default(job: &mut CronJob) {
        let spec = &mut job.spec;
        spec.concurrency_policy.get_or_insert_with(|| "Allow".to_owned());
        spec.suspend.get_or_insert(false);
        spec.successful_jobs_history_limit.get_or_insert(3);
        spec.failed_jobs_history_limit.get_or_insert(1);
        // The rest of a job's defaults comes when there is one.
        let inner = spec.job_template.spec.get_or_insert_default();
        template::default(&mut inner.template);
        jobs::default_conditions(inner);
    }

    fn prepare(new: &mut CronJob, old: Option<&CronJob>, _cx: &WriteContext<'_>) -> Result<(), Status> {
        if old.is_none() {
            new.status = Some(CronJobStatus::default());
        }
        Ok(())
    }

    fn validate(job: &CronJob, old: Option<&CronJob>, errs: &mut FieldErrors) {
        validate_spec(&job.spec, old.map(|old| &old.spec), errs);
        let name = job.metadata.name.as_deref().unwrap_or_default();
        if old.is_none() && name.len() > MOST_NAME {
            errs.invalid("metadata.name", name, format!("must be no more than {MOST_NAME} characters"));
        }
    }

    fn warnings(new: &CronJob, old: Option<&CronJob>) -> Vec<String> {
        let mut warnings = old.map_or_else(|| template::name_warnings(&new.metadata), |_| Vec::new());
        if new.spec.schedule.contains("TZ") {
            warnings.push("CRON_TZ or TZ used in spec.schedule is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details".to_owned());
        }
        if let Some(spec) = &new.spec.job_template.spec {
            let before = old.and_then(|old| old.spec.job_template.spec.as_ref()).map(|spec| &spec.template);
            warnings.extend(template::warnings(&spec.template, before, "spec.jobTemplate.spec.template"));
        }
        warnings
    }
}

fn validate_spec(spec: &CronJobSpec, old: Option<&CronJobSpec>, errs: &mut FieldErrors) {
    if spec.schedule.is_empty() {
        errs.required("spec.schedule", "");
    } else {
        validate_schedule(spec, old, errs);
    }
    counts::not_negative(spec.starting_deadline_seconds, "spec.startingDeadlineSeconds", errs);
    if let Some(zone) = &spec.time_zone
        && old.is_none_or(|old| old.time_zone != spec.time_zone)
    {
        validate_time_zone(zone, errs);
    }
    match spec.concurrency_policy.as_deref().unwrap_or_default() {
        "" => errs.required("spec.concurrencyPolicy", ""),
        policy if !POLICIES.contains(&policy) => errs.not_supported("spec.concurrencyPolicy", policy, &POLICIES),
        _ => {}
    }
    let inner = spec.job_template.spec.clone().unwrap_or_default();
    jobs::validate_spec(&inner, "spec.jobTemplate.spec", errs);
    if let Some(selector) = &inner.selector {
        counts::invalid("spec.jobTemplate.spec.selector", selector, "`selector` will be auto-generated", errs);
    }
    if inner.manual_selector == Some(true) {
        counts::not_supported("spec.jobTemplate.spec.manualSelector", &true, &["nil", "false"], errs);
    }
    counts::not_negative(spec.successful_jobs_history_limit, "spec.successfulJobsHistoryLimit", errs);
    counts::not_negative(spec.failed_jobs_history_limit, "spec.failedJobsHistoryLimit", errs);
}

fn validate_schedule(spec: &CronJobSpec, old: Option<&CronJobSpec>, errs: &mut FieldErrors) {
    let (path, text) = ("spec.schedule", &spec.schedule);
    if let Err(why) = Schedule::parse(text) {
        errs.invalid(path, text, why);
    }
    // Schedules that named a zone before there was a field for it may stay.
    let allowed = old.is_some_and(|old| old.schedule.contains("TZ"));
    if text.contains("TZ") && !allowed {
        errs.invalid(path, text, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
    } else if text.contains("TZ") && spec.time_zone.is_some() {
        errs.invalid(path, text, "cannot use both timeZone field and TZ or CRON_TZ in schedule");
    }
}

fn validate_time_zone(zone: &str, errs: &mut FieldErrors) {
    let path = "spec.timeZone";
    if zone.is_empty() {
        return errs.invalid(path, zone, "timeZone must be nil or non-empty string");
    }
    if zone.eq_ignore_ascii_case("Local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errs.invalid(path, zone, why);
    }
    if zone != "Local" && cron::zone(zone).is_none() {
        errs.invalid(path, zone, format!("unknown time zone {zone}"));
    }
}
