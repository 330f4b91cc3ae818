//! Jobs.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use corten_api::api::batch::v1::{Job, JobStatus};
use corten_api::api::core::v1::{Event, Pod};
use corten_testkit::Cluster;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

const FINALIZER: &str = "batch.kubernetes.io/job-tracking";

pub(crate) fn job(name: &str, spec: Value) -> Value {
    let mut object = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "work:1"}]}},
    }});
    corten_api::patch::merge_patch(&mut object["spec"], &spec);
    object
}

async fn status(cluster: &Cluster, name: &str) -> Result<JobStatus> {
    Ok(cluster.api::<Job>("default").get(name).await?.status.unwrap_or_default())
}

fn holds(status: &JobStatus, kind: &str) -> Option<String> {
    let mut all = status.conditions.iter().flatten();
    all.find(|own| own.type_ == kind && own.status == "True").map(|own| own.reason.clone().unwrap_or_default())
}

/// Waits for a condition; returns its reason.
pub(crate) async fn condition(cluster: &Cluster, name: &str, kind: &str) -> Result<String> {
    let look = async || {
        let status = status(cluster, name).await?;
        holds(&status, kind).with_context(|| format!("{status:?}"))
    };
    cluster.eventually(&format!("{name} is {kind}"), look).await
}

/// Waits until so many pods run, none of them about to end.
pub(crate) async fn running(cluster: &Cluster, count: usize) -> Result<Vec<Pod>> {
    cluster
        .eventually(&format!("{count} pods run"), async || {
            let all = cluster.list::<Pod>("default").await?;
            let runs = |pod: &&Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
            let pods: Vec<Pod> =
                all.iter().filter(runs).filter(|pod| pod.metadata.deletion_timestamp.is_none()).cloned().collect();
            ensure!(pods.len() == count, "{} run", pods.len());
            Ok(pods)
        })
        .await
}

/// The pod's container exits.
pub(crate) async fn exit(cluster: &Cluster, pod: &Pod, code: i32) -> Result<()> {
    let now = corten_base::Timestamp::from_second(cluster.now().as_second())?;
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    let container = json!({"name": "c", "image": "work:1", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": code, "finishedAt": now}}});
    let ready = json!({"type": "Ready", "status": "False", "lastTransitionTime": now});
    let patch = json!({"status": {"phase": phase, "conditions": [ready], "containerStatuses": [container]}});
    let api = cluster.api::<Pod>("default");
    api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await?;
    Ok(())
}

pub(crate) async fn reasons(cluster: &Cluster, name: &str) -> Result<Vec<String>> {
    let all = cluster.list::<Event>("default").await?;
    let own = all.into_iter().filter(|event| event.involved_object.name.as_deref() == Some(name));
    Ok(own.filter_map(|event| event.reason).collect())
}

async fn newest(cluster: &Cluster) -> Result<Option<String>> {
    let pods = cluster.api::<Pod>("default").list(&ListParams::default()).await?;
    let jobs = cluster.api::<Job>("default").list(&ListParams::default()).await?;
    let versions = pods.iter().filter_map(ResourceExt::resource_version);
    Ok(versions.chain(jobs.iter().filter_map(ResourceExt::resource_version)).max())
}

#[tokio::test(start_paused = true)]
async fn a_job_runs_its_pods_to_completion_and_then_rests() -> Result<()> {
    let cluster = Cluster::in_process(2).await?;
    cluster.create::<Job>("default", job("work", json!({"completions": 3, "parallelism": 2}))).await?;
    let first = running(&cluster, 2).await?;
    assert!(first.iter().all(|pod| pod.finalizers().iter().any(|own| own == FINALIZER)));
    cluster
        .eventually("they are ready", async || {
            let status = status(&cluster, "work").await?;
            ensure!((status.active, status.ready) == (Some(2), Some(2)), "{status:?}");
            Ok(())
        })
        .await?;
    exit(&cluster, &first[0], 0).await?;
    let next = running(&cluster, 2).await?;
    for pod in &next {
        exit(&cluster, pod, 0).await?;
    }
    assert_eq!(condition(&cluster, "work", "Complete").await?, "CompletionsReached");
    let end = status(&cluster, "work").await?;
    assert_eq!((end.active, end.succeeded, end.failed), (None, Some(3), None));
    assert!(end.completion_time >= end.start_time && end.start_time.is_some());
    assert_eq!(holds(&end, "SuccessCriteriaMet").as_deref(), Some("CompletionsReached"));
    let pods = cluster.list::<Pod>("default").await?;
    assert_eq!(pods.len(), 3, "what ran is kept for its logs");
    assert!(pods.iter().all(|pod| pod.finalizers().is_empty()));
    cluster.advance(Duration::from_secs(5)).await;
    let before = newest(&cluster).await?;
    cluster.advance(Duration::from_secs(600)).await;
    assert_eq!(newest(&cluster).await?, before, "a job that is over writes nothing");
    let told = reasons(&cluster, "work").await?;
    assert_eq!(told.iter().filter(|reason| *reason == "SuccessfulCreate").count(), 3);
    assert_eq!(told.iter().filter(|reason| *reason == "Completed").count(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn pods_that_fail_are_replaced_later_each_time_until_they_are_too_many() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    cluster.create::<Job>("default", job("work", json!({"backoffLimit": 2}))).await?;
    let mut waits = Vec::new();
    for _ in 0..2 {
        exit(&cluster, &running(&cluster, 1).await?[0], 1).await?;
        let start = cluster.now();
        running(&cluster, 1).await?;
        waits.push(cluster.now().as_second() - start.as_second());
    }
    assert_eq!(waits, [10, 20]);
    exit(&cluster, &running(&cluster, 1).await?[0], 1).await?;
    assert_eq!(condition(&cluster, "work", "Failed").await?, "BackoffLimitExceeded");
    assert_eq!(status(&cluster, "work").await?.failed, Some(3));
    assert!(reasons(&cluster, "work").await?.contains(&"BackoffLimitExceeded".to_owned()));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_job_that_fails_ends_its_other_pods_first() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    let rules = json!([{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]);
    let spec = json!({"completions": 3, "parallelism": 3, "podFailurePolicy": {"rules": rules}});
    cluster.create::<Job>("default", job("work", spec)).await?;
    exit(&cluster, &running(&cluster, 3).await?[0], 42).await?;
    assert_eq!(condition(&cluster, "work", "Failed").await?, "PodFailurePolicy");
    let end = status(&cluster, "work").await?;
    assert_eq!((end.active, end.terminating, end.failed), (None, Some(0), Some(3)));
    assert_eq!(cluster.list::<Pod>("default").await?.len(), 1, "only the one that had ended is left");

    let late = job("late", json!({"activeDeadlineSeconds": 30}));
    cluster.create::<Job>("default", late).await?;
    running(&cluster, 1).await?;
    assert_eq!(condition(&cluster, "late", "Failed").await?, "DeadlineExceeded");
    let end = status(&cluster, "late").await?;
    let failed = end.conditions.iter().flatten().find(|own| own.type_ == "Failed").context("a condition")?;
    let times = failed.last_transition_time.as_ref().zip(end.start_time.as_ref());
    let (failed, start) = times.context("times")?;
    assert!((30..32).contains(&(failed.0.as_second() - start.0.as_second())), "{end:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn indexes_are_counted_each_and_some_may_suffice() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    let rules = json!([{"succeededIndexes": "1-2", "succeededCount": 2}]);
    let spec = json!({"completionMode": "Indexed", "completions": 4, "parallelism": 4, "backoffLimitPerIndex": 1,
        "successPolicy": {"rules": rules}});
    cluster.create::<Job>("default", job("work", spec)).await?;
    let mut pods = running(&cluster, 4).await?;
    let index = |pod: &Pod| pod.annotations()["batch.kubernetes.io/job-completion-index"].clone();
    pods.sort_by_key(index);
    let hosts: Vec<_> = pods.iter().filter_map(|pod| pod.spec.as_ref()?.hostname.clone()).collect();
    assert_eq!(hosts, ["work-0", "work-1", "work-2", "work-3"]);
    assert!(pods[2].name_any().starts_with("work-2-"), "{}", pods[2].name_any());
    // Index 0 fails twice and is given up; the others go on.
    exit(&cluster, &pods[0], 1).await?;
    let again = running(&cluster, 4).await?;
    let second = again.iter().find(|pod| index(pod) == "0").context("index 0 again")?;
    assert_eq!(second.annotations()["batch.kubernetes.io/job-index-failure-count"], "1");
    exit(&cluster, second, 1).await?;
    exit(&cluster, &pods[1], 0).await?;
    cluster
        .eventually("one is done and one is lost", async || {
            let status = status(&cluster, "work").await?;
            let lists = (status.completed_indexes.as_deref(), status.failed_indexes.as_deref());
            ensure!(lists == (Some("1"), Some("0")), "{status:?}");
            Ok(())
        })
        .await?;
    exit(&cluster, &pods[2], 0).await?;
    assert_eq!(condition(&cluster, "work", "Complete").await?, "SuccessPolicy");
    let end = status(&cluster, "work").await?;
    assert_eq!((end.succeeded, end.failed, end.completed_indexes.as_deref()), (Some(2), Some(2), Some("1,2")));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_suspended_job_has_no_pods_and_goes_on_when_it_may() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    // What the job itself stops is no failure of which it could have too many.
    let spec = json!({"parallelism": 2, "completions": 2, "backoffLimit": 0});
    cluster.create::<Job>("default", job("work", spec)).await?;
    running(&cluster, 2).await?;
    cluster.patch::<Job>("default", "work", json!({"spec": {"suspend": true}})).await?;
    assert_eq!(condition(&cluster, "work", "Suspended").await?, "JobSuspended");
    running(&cluster, 0).await?;
    let suspended = status(&cluster, "work").await?;
    assert_eq!((suspended.start_time, suspended.failed), (None, None));
    cluster.patch::<Job>("default", "work", json!({"spec": {"suspend": false}})).await?;
    for pod in running(&cluster, 2).await? {
        exit(&cluster, &pod, 0).await?;
    }
    condition(&cluster, "work", "Complete").await?;
    let told = reasons(&cluster, "work").await?;
    let told: Vec<&str> =
        told.iter().map(String::as_str).filter(|own| ["Suspended", "Resumed"].contains(own)).collect();
    assert_eq!(told, ["Suspended", "Resumed"]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn orphans_are_adopted_and_strangers_are_released() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    cluster.create::<Job>("default", job("work", json!({"parallelism": 2, "completions": 2}))).await?;
    let pods = running(&cluster, 2).await?;
    let (orphan, stranger) = (pods[0].name_any(), pods[1].name_any());
    cluster.patch::<Pod>("default", &orphan, json!({"metadata": {"ownerReferences": null}})).await?;
    let labels = json!({"metadata": {"labels": {"controller-uid": null, "batch.kubernetes.io/controller-uid": null}}});
    cluster.patch::<Pod>("default", &stranger, labels).await?;
    cluster
        .eventually("one is adopted, one released", async || {
            let orphan = cluster.api::<Pod>("default").get(&orphan).await?;
            let stranger = cluster.api::<Pod>("default").get(&stranger).await?;
            if orphan.owner_references().len() == 1
                && orphan.finalizers() == [FINALIZER]
                && stranger.owner_references().is_empty()
                && stranger.finalizers().is_empty()
            {
                return Ok(());
            }
            bail!("{:?} {:?}", orphan.metadata, stranger.metadata)
        })
        .await?;
    running(&cluster, 3).await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_deleted_job_are_held_by_nothing() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    for (name, params) in [
        ("background", DeleteParams::background()),
        ("foreground", DeleteParams::foreground()),
        (
            "orphan",
            DeleteParams { propagation_policy: Some(kube::api::PropagationPolicy::Orphan), ..Default::default() },
        ),
    ] {
        cluster.create::<Job>("default", job(name, json!({"parallelism": 2, "completions": 2}))).await?;
        running(&cluster, 2).await?;
        cluster.api::<Job>("default").delete(name, &params).await?;
        let left = if name == "orphan" { 2 } else { 0 };
        cluster
            .eventually(&format!("{left} pods are left after {name}"), async || {
                let pods = cluster.list::<Pod>("default").await?;
                ensure!(pods.len() == left, "{} pods", pods.len());
                ensure!(pods.iter().all(|pod| pod.finalizers().is_empty()), "held: {:?}", pods[0].metadata);
                ensure!(cluster.list::<Job>("default").await?.is_empty(), "the job is still there");
                Ok(())
            })
            .await?;
    }
    Ok(())
}
