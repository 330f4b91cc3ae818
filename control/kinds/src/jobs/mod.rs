//! Jobs: pods that run to their end.

mod indexes;
mod policies;
mod spec;
mod status;
mod update;

use std::collections::BTreeMap;

use corten_api::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::{Kind, at, plain};
use crate::pods::template;
use crate::table::{NAME, age, column, containers, human, selector, wide};
use crate::{ColumnHead, Subresource, WriteContext};

pub(crate) use spec::{default_conditions, validate_any as validate_spec};

const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
const OLD_JOB_NAME: &str = "job-name";
const OLD_CONTROLLER_UID: &str = "controller-uid";
const INDEXED: &str = "Indexed";

pub(crate) struct Jobs;

impl Kind for Jobs {
    type Object = Job;

    const NAMES: Names = Names {
        group: "batch",
        version: "v1",
        kind: "Job",
        plural: "jobs",
        singular: "job",
        short: &[],
        categories: &["all"],
    };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [ColumnHead] = &[
        NAME,
        column("Status"),
        column("Completions"),
        column("Duration"),
        column("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ];
    const GENERATION: bool = true;
    const FIELDS: &'static [&'static str] = &["status.successful"];
    // As upstream, for the sake of old clients.
    const ORPHAN_DEPENDENTS: bool = true;
    const ORPHAN_WARNING: Option<&'static str> = Some(
        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
    );

    fn cells(job: &Job, now: Timestamp) -> Vec<Value> {
        let spec = job.spec.clone().unwrap_or_default();
        let status = job.status.clone().unwrap_or_default();
        let (names, images) = containers(spec.template.spec.as_ref());
        let duration = status.start_time.as_ref().map_or_else(String::new, |start| {
            let end = status.completion_time.as_ref().map_or(now, |end| end.0);
            human(end.as_second() - start.0.as_second())
        });
        vec![
            json!(job.metadata.name),
            phase(job).into(),
            completions(&spec, &status).into(),
            duration.into(),
            age(job.metadata.creation_timestamp.as_ref(), now).into(),
            names.into(),
            images.into(),
            spec.selector.as_ref().map_or_else(|| "<none>".to_owned(), selector).into(),
        ]
    }

    fn default(job: &mut Job) {
        let spec = job.spec.get_or_insert_default();
        template::default(&mut spec.template);
        // With a parallelism alone it is a work queue, whose pods decide when it is done.
        if spec.parallelism.is_none() {
            spec.completions.get_or_insert(1);
        }
        spec.parallelism.get_or_insert(1);
        let limit = if spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 };
        spec.backoff_limit.get_or_insert(limit);
        spec.completion_mode.get_or_insert_with(|| "NonIndexed".to_owned());
        spec.suspend.get_or_insert(false);
        let replacement = if spec.pod_failure_policy.is_some() { "Failed" } else { "TerminatingOrFailed" };
        spec.pod_replacement_policy.get_or_insert_with(|| replacement.to_owned());
        spec.manual_selector.get_or_insert(false);
        default_conditions(spec);
    }

    fn prepare(new: &mut Job, old: Option<&Job>, _cx: &WriteContext<'_>) -> Result<(), Status> {
        if old.is_none() {
            new.status = Some(JobStatus::default());
            generate_selector(new);
        }
        if new.metadata.labels.as_ref().is_none_or(BTreeMap::is_empty) {
            let labels = new.spec.as_ref().map(|spec| template::labels(&spec.template)).unwrap_or_default();
            new.metadata.labels = Some(labels).filter(|labels| !labels.is_empty());
        }
        Ok(())
    }

    fn validate(job: &Job, old: Option<&Job>, errs: &mut FieldErrors) {
        spec::validate(job, old, errs);
        if let Some(old) = old {
            update::validate(job, old, errs);
        }
    }

    fn unknown_field(name: &str) -> String {
        format!("field label {name:?} not supported for Job")
    }

    fn warnings(new: &Job, old: Option<&Job>) -> Vec<String> {
        let mut warnings = old.map_or_else(|| template::name_warnings(&new.metadata), |_| Vec::new());
        warnings.extend(new.spec.as_ref().and_then(spec::warning));
        if let Some(spec) = &new.spec {
            let before = old.and_then(|old| old.spec.as_ref()).map(|spec| &spec.template);
            warnings.extend(template::warnings(&spec.template, before, "spec.template"));
        }
        warnings
    }

    fn validate_status(new: &Job, old: &Job, errs: &mut FieldErrors) {
        status::validate(new, old, errs);
    }

    fn field(object: &Value, name: &str) -> String {
        match name {
            "status.successful" => at(object, "status.succeeded").as_i64().unwrap_or(0).to_string(),
            other => plain(at(object, other)),
        }
    }
}

/// Gives the pods of a job labels that no other job's have, and selects them by these.
fn generate_selector(job: &mut Job) {
    let name = job.metadata.name.clone().unwrap_or_default();
    let uid = job.metadata.uid.clone().unwrap_or_default();
    let Some(spec) = job.spec.as_mut().filter(|spec| spec.manual_selector != Some(true)) else { return };
    let labels = spec.template.metadata.get_or_insert_default().labels.get_or_insert_default();
    let own = [(OLD_JOB_NAME, &name), (JOB_NAME, &name), (OLD_CONTROLLER_UID, &uid), (CONTROLLER_UID, &uid)];
    // What the client set stays, and is refused if it is wrong.
    for (key, value) in own {
        labels.entry(key.to_owned()).or_insert_with(|| value.clone());
    }
    let demanded = spec.selector.get_or_insert_default().match_labels.get_or_insert_default();
    demanded.entry(CONTROLLER_UID.to_owned()).or_insert(uid);
}

fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some(INDEXED)
}

/// Whether a condition holds.
fn holds(conditions: Option<&[JobCondition]>, kind: &str) -> bool {
    conditions.into_iter().flatten().any(|condition| condition.type_ == kind && condition.status == "True")
}

fn phase(job: &Job) -> &'static str {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref());
    let is = |kind| holds(conditions, kind);
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if job.metadata.deletion_timestamp.is_some() {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(spec: &JobSpec, status: &JobStatus) -> String {
    let succeeded = status.succeeded.unwrap_or(0);
    match (spec.completions, spec.parallelism.unwrap_or(0)) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}
