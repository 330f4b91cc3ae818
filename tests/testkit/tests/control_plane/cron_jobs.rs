//! Cron jobs, and jobs whose time is over.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corten_api::api::batch::v1::{CronJob, CronJobStatus, Job};
use corten_testkit::Cluster;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::jobs::{condition, exit, job, reasons, running};

const TEN_MINUTES: Duration = Duration::from_secs(600);

fn cron(name: &str, spec: Value) -> Value {
    let mut object = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": {
        "schedule": "*/10 * * * *", "jobTemplate": {"metadata": {"labels": {"of": name}}, "spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "c", "image": "work:1"}]}}}},
    }});
    corten_api::patch::merge_patch(&mut object["spec"], &spec);
    object
}

/// Names of the jobs, once there are so many.
async fn jobs(cluster: &Cluster, count: usize) -> Result<Vec<String>> {
    cluster
        .eventually(&format!("{count} jobs"), async || {
            let jobs = cluster.list::<Job>("default").await?;
            ensure!(jobs.len() == count, "{} jobs", jobs.len());
            Ok(jobs.iter().map(ResourceExt::name_any).collect())
        })
        .await
}

async fn status(cluster: &Cluster, name: &str) -> Result<CronJobStatus> {
    Ok(cluster.api::<CronJob>("default").get(name).await?.status.unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn jobs_are_made_in_time_and_the_last_ones_are_kept() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    let spec = json!({"successfulJobsHistoryLimit": 1, "timeZone": "Europe/Vienna"});
    cluster.create::<CronJob>("default", cron("tick", spec)).await?;
    let mut last = Vec::new();
    for _ in 0..3 {
        cluster.advance(TEN_MINUTES).await;
        exit(&cluster, &running(&cluster, 1).await?[0], 0).await?;
        // Time to end it, and to delete the one before.
        cluster.advance(Duration::from_secs(5)).await;
        last = jobs(&cluster, 1).await?;
    }
    let own = cluster.api::<Job>("default").get(&last[0]).await?;
    let at = &own.annotations()["batch.kubernetes.io/cronjob-scheduled-timestamp"];
    assert_eq!(at, "2026-01-01T01:30:00+01:00");
    let minutes = at.parse::<corten_base::Timestamp>()?.as_second() / 60;
    assert_eq!(last, [format!("tick-{minutes}")]);
    assert_eq!(own.labels()["of"], "tick");
    let status = status(&cluster, "tick").await?;
    assert_eq!(status.active, None);
    assert_eq!(status.last_schedule_time.map(|time| time.0.to_string()).as_deref(), Some("2026-01-01T00:30:00Z"));
    assert!(status.last_successful_time.is_some());
    let told = reasons(&cluster, "tick").await?;
    for reason in ["SuccessfulCreate", "SawCompletedJob", "SuccessfulDelete"] {
        assert!(told.iter().any(|own| own == reason), "{reason}: {told:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_job_that_still_runs_is_waited_for_or_replaced() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    cluster.create::<CronJob>("default", cron("wait", json!({"concurrencyPolicy": "Forbid"}))).await?;
    cluster.advance(2 * TEN_MINUTES + Duration::from_secs(1)).await;
    let first = jobs(&cluster, 1).await?;
    assert!(reasons(&cluster, "wait").await?.contains(&"JobAlreadyActive".to_owned()));
    // When it ends, the start that was missed is made up for.
    exit(&cluster, &running(&cluster, 1).await?[0], 0).await?;
    jobs(&cluster, 2).await?;
    cluster.patch::<CronJob>("default", "wait", json!({"spec": {"concurrencyPolicy": "Replace"}})).await?;
    cluster.advance(TEN_MINUTES).await;
    let after = jobs(&cluster, 2).await?;
    assert!(after.contains(&first[0]), "what ended is kept");
    let active = status(&cluster, "wait").await?.active.context("one is active")?;
    assert_eq!(active.len(), 1);
    assert!(active[0].name.as_ref().is_some_and(|name| after.contains(name)));
    running(&cluster, 1).await?;
    // And none is made while it is suspended.
    cluster.patch::<CronJob>("default", "wait", json!({"spec": {"suspend": true}})).await?;
    cluster.advance(3 * TEN_MINUTES).await;
    jobs(&cluster, 2).await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_job_goes_when_its_time_is_over() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    cluster.create::<Job>("default", job("brief", json!({"ttlSecondsAfterFinished": 100}))).await?;
    exit(&cluster, &running(&cluster, 1).await?[0], 0).await?;
    condition(&cluster, "brief", "Complete").await?;
    cluster.advance(Duration::from_secs(90)).await;
    jobs(&cluster, 1).await?;
    cluster.advance(Duration::from_secs(15)).await;
    jobs(&cluster, 0).await?;
    assert!(cluster.list::<corten_api::api::core::v1::Pod>("default").await?.is_empty());
    Ok(())
}
