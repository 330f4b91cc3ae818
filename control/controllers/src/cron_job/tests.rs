use std::sync::Arc;

use corten_api::api::batch::v1::{CronJob, Job};
use corten_base::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::plan::{plan, with_started};

fn at(text: &str) -> Timestamp {
    format!("2026-01-{text}Z").parse().expect("a time")
}

fn cron(spec: Value, status: Value) -> CronJob {
    let mut object = json!({
        "metadata": {"name": "c", "namespace": "a", "uid": "cron", "creationTimestamp": at("01T00:00:00")},
        "spec": {"schedule": "*/10 * * * *", "concurrencyPolicy": "Allow", "suspend": false,
            "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1,
            "jobTemplate": {"metadata": {"labels": {"of": "c"}}, "spec": {"template": {"spec": {"containers": []}}}}},
        "status": status,
    });
    corten_api::patch::merge_patch(&mut object["spec"], &spec);
    serde_json::from_value(object).expect("a cron job")
}

/// `name end`: a job that has so ended, or runs.
fn job(text: &str) -> Arc<Job> {
    let (name, end) = text.split_once(' ').unwrap_or((text, ""));
    let time = at(&format!("01T00:{:0>2}:00", name.trim_start_matches(|c: char| !c.is_ascii_digit())));
    let conditions: Vec<Value> =
        Some(end).filter(|end| !end.is_empty()).map(|end| json!({"type": end, "status": "True"})).into_iter().collect();
    let mut object = json!({"metadata": {"name": name, "namespace": "a", "uid": name}, "status": {"startTime": time, "conditions": conditions}});
    if end == "Complete" {
        object["status"]["completionTime"] = json!(time);
    }
    Arc::new(serde_json::from_value(object).expect("a job"))
}

fn active(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"name": name, "uid": name})).collect()
}

fn show(cron: &CronJob, jobs: &[&str], now: &str) -> String {
    let jobs: Vec<Arc<Job>> = jobs.iter().map(|text| job(text)).collect();
    let plan = plan(cron, &jobs, at(now));
    let mut parts: Vec<String> = plan.events.iter().map(|event| format!("event {}", event.reason)).collect();
    if !plan.delete.is_empty() {
        let names: Vec<String> = plan.delete.iter().map(|job| job.name_any()).collect();
        parts.push(format!("delete {}", names.join(",")));
    }
    if let Some((job, due)) = &plan.create {
        parts.push(format!("create {} for {}", job.name_any(), due.strftime("%d %H:%M:%S")));
    }
    let names: Vec<String> = plan.status.active.iter().flatten().filter_map(|own| own.name.clone()).collect();
    parts.push(format!("active [{}]", names.join(",")));
    if let Some(time) = &plan.status.last_successful_time {
        parts.push(format!("succeeded {}", time.0.strftime("%H:%M")));
    }
    parts.push(format!("again {:?}", plan.again.map(|again| again.as_secs())));
    parts.join("; ")
}

#[test]
fn jobs_are_made_in_time() {
    let last = |time: &str| json!({"lastScheduleTime": at(time)});
    let none = json!({});
    let lines = [
        show(&cron(none.clone(), none.clone()), &[], "01T00:05:00"),
        show(&cron(none.clone(), none.clone()), &[], "01T00:10:00"),
        show(&cron(none.clone(), last("01T00:10:00")), &[], "01T00:15:00"),
        show(&cron(none.clone(), last("01T00:10:00")), &[], "01T00:47:00"),
        show(&cron(none.clone(), last("01T00:10:00")), &[], "09T00:00:01"),
        show(&cron(json!({"startingDeadlineSeconds": 60}), last("01T00:10:00")), &[], "01T00:20:59"),
        show(&cron(json!({"startingDeadlineSeconds": 60}), last("01T00:10:00")), &[], "01T00:22:00"),
        show(&cron(json!({"suspend": true}), none.clone()), &[], "01T00:15:00"),
        show(&cron(json!({"timeZone": "Europe/Vienna", "schedule": "0 3 * * *"}), none.clone()), &[], "01T02:00:30"),
        show(&cron(json!({"timeZone": "Mars"}), none.clone()), &[], "01T02:00:30"),
        show(&cron(json!({"schedule": "60 * * * *"}), none.clone()), &[], "01T02:00:30"),
        show(&cron(json!({"schedule": "59 23 31 2 *"}), none.clone()), &[], "01T02:00:30"),
        show(&cron(json!({"schedule": "@every 45s"}), none), &[], "01T00:01:40"),
    ];
    expect_test::expect![[r#"
        active []; again Some(300)
        create c-29453770 for 01 00:10:00; active []; again Some(600)
        active []; again Some(300)
        create c-29453800 for 01 00:40:00; active []; again Some(180)
        event TooManyMissedTimes; create c-29465280 for 09 00:00:00; active []; again Some(599)
        create c-29453780 for 01 00:20:00; active []; again Some(541)
        active []; again Some(480)
        active []; again None
        create c-29453880 for 01 02:00:00; active []; again Some(86370)
        event UnknownTimeZone; active []; again None
        event UnparseableSchedule; active []; again None
        active []; again None
        create c-29453761 for 01 00:01:30; active []; again Some(35)"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn what_still_runs_is_let_run_waited_for_or_replaced() {
    let status = json!({"lastScheduleTime": at("01T00:10:00"), "active": active(&["c-10"])});
    let lines = ["Allow", "Forbid", "Replace"]
        .map(|policy| show(&cron(json!({"concurrencyPolicy": policy}), status.clone()), &["c-10"], "01T00:20:00"));
    expect_test::expect![[r#"
        create c-29453780 for 01 00:20:00; active [c-10]; again Some(600)
        event JobAlreadyActive; active [c-10]; again Some(600)
        delete c-10; create c-29453780 for 01 00:20:00; active []; again Some(600)"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn jobs_that_ended_are_noticed_and_the_last_are_kept() {
    let status = json!({"lastScheduleTime": at("01T00:50:00"), "active": active(&["c-40", "c-45", "c-50", "gone"])});
    let ended = ["c-10 Complete", "c-20 Complete", "c-30 Failed", "c-32 Complete", "c-35 Failed", "c-40 Complete"];
    let jobs = [&ended[..], &["c-45 Failed", "c-50", "stranger-1"]].concat();
    let lines = [
        show(&cron(json!({}), status.clone()), &jobs, "01T00:55:00"),
        show(
            &cron(json!({"successfulJobsHistoryLimit": 0, "failedJobsHistoryLimit": 0}), status),
            &jobs,
            "01T00:55:00",
        ),
    ];
    expect_test::expect![[r#"
        event SawCompletedJob; event SawCompletedJob; event UnexpectedJob; event MissingJob; delete c-10,c-35,c-30; active [c-50]; succeeded 00:40; again Some(300)
        event SawCompletedJob; event SawCompletedJob; event UnexpectedJob; event MissingJob; delete c-40,c-32,c-20,c-10,c-45,c-35,c-30; active [c-50]; succeeded 00:40; again Some(300)"#]].assert_eq(&lines.join("\n"));
}

#[test]
fn a_job_says_for_what_time_it_is_and_is_made_once() {
    let spec = json!({"timeZone": "Europe/Vienna"});
    let mut own = cron(spec, json!({}));
    let now = at("01T00:10:01");
    let first = plan(&own, &[], now);
    let (job, due) = first.create.expect("a job");
    let text = serde_json::to_value(&job).expect("a job");
    let annotations = json!({"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T01:10:00+01:00"});
    assert_eq!(text["metadata"]["annotations"], annotations);
    assert_eq!(text["metadata"]["labels"], json!({"of": "c"}));
    assert_eq!(text["metadata"]["name"], format!("c-{}", due.as_second() / 60));
    let mut job = job;
    job.metadata.uid = Some("new".to_owned());
    own.status = Some(with_started(first.status, &job, due));
    assert!(plan(&own, &[Arc::new(job)], now).create.is_none());
    let zoneless = plan(&cron(json!({}), json!({})), &[], now).create.expect("a job").0;
    assert_eq!(zoneless.annotations().values().collect::<Vec<_>>(), ["2026-01-01T00:10:00Z"]);
}
