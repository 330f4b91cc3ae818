//! Disruption budgets, and the evictions that honour them.

use std::time::Duration;

use anyhow::{Result, ensure};
use corten_api::api::apps::v1::Deployment;
use corten_api::api::core::v1::Pod;
use corten_api::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use corten_testkit::Cluster;
use kube::ResourceExt;
use kube::api::{EvictParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::objects::{complete, deployment};

fn budget(spec: Value) -> Value {
    let mut object = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}}});
    corten_api::patch::merge_patch(&mut object["spec"], &spec);
    object
}

/// Waits until so many disruptions are allowed.
async fn allowed(cluster: &Cluster, count: i32) -> Result<PodDisruptionBudgetStatus> {
    cluster
        .eventually(&format!("{count} may go"), async || {
            let own = cluster.api::<PodDisruptionBudget>("default").get("web").await?;
            let status = own.status.clone().unwrap_or_default();
            ensure!(status.observed_generation == own.metadata.generation, "not seen yet");
            ensure!(status.disruptions_allowed == Some(count), "{status:?}");
            Ok(status)
        })
        .await
}

async fn evict(cluster: &Cluster, name: &str) -> Result<(), kube::Error> {
    cluster.api::<Pod>("default").evict(name, &EvictParams::default()).await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn evictions_take_from_a_budget_and_new_pods_give_back() -> Result<()> {
    let cluster = Cluster::in_process(2).await?;
    cluster.create::<Deployment>("default", deployment("web", 3, "web:1")).await?;
    cluster.create::<PodDisruptionBudget>("default", budget(json!({"maxUnavailable": 1}))).await?;
    complete(&cluster, "default", "web").await?;
    let status = allowed(&cluster, 1).await?;
    assert_eq!((status.current_healthy, status.desired_healthy, status.expected_pods), (Some(3), Some(2), Some(3)));
    let reasons: Vec<String> = status.conditions.into_iter().flatten().map(|own| own.reason).collect();
    assert_eq!(reasons, ["SufficientPods"]);
    let pods: Vec<String> = cluster.list::<Pod>("default").await?.iter().map(ResourceExt::name_any).collect();
    evict(&cluster, &pods[0]).await?;
    let refused = evict(&cluster, &pods[1]).await.expect_err("is refused");
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 429), "{refused}");
    allowed(&cluster, 1).await?;
    evict(&cluster, &pods[1]).await?;
    complete(&cluster, "default", "web").await?;
    // All three are needed now.
    let more = json!({"spec": {"maxUnavailable": null, "minAvailable": "100%"}});
    cluster.patch::<PodDisruptionBudget>("default", "web", more).await?;
    let status = allowed(&cluster, 0).await?;
    assert_eq!(status.conditions.into_iter().flatten().map(|own| own.reason).collect::<Vec<_>>(), ["InsufficientPods"]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn pods_of_owners_that_cannot_be_scaled_are_told_of() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    let work = json!({"template": {"metadata": {"labels": {"app": "web"}}}});
    cluster.create::<corten_api::api::batch::v1::Job>("default", crate::jobs::job("work", work)).await?;
    crate::jobs::running(&cluster, 1).await?;
    cluster.create::<PodDisruptionBudget>("default", budget(json!({"maxUnavailable": 1}))).await?;
    cluster
        .eventually("it says why it fails", async || {
            let own = cluster.api::<PodDisruptionBudget>("default").get("web").await?;
            let told: Vec<_> = own.status.and_then(|status| status.conditions).into_iter().flatten().collect();
            let wanted = ("SyncFailed", "jobs.batch does not implement the scale subresource");
            ensure!(told.iter().any(|own| (own.reason.as_str(), own.message.as_str()) == wanted), "{told:?}");
            Ok(())
        })
        .await?;
    let least = json!({"spec": {"maxUnavailable": null, "minAvailable": 1}});
    cluster.patch::<PodDisruptionBudget>("default", "web", least).await?;
    allowed(&cluster, 0).await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_not_disrupted_after_all_loses_its_mark() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    cluster.create::<Deployment>("default", deployment("web", 1, "web:1")).await?;
    complete(&cluster, "default", "web").await?;
    let name = cluster.list::<Pod>("default").await?[0].name_any();
    let condition =
        json!({"type": "DisruptionTarget", "status": "True", "reason": "Test", "lastTransitionTime": cluster.now()});
    let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
    cluster.api::<Pod>("default").patch_status(&name, &PatchParams::default(), &patch).await?;
    let marked = async || {
        let pod = cluster.api::<Pod>("default").get(&name).await?;
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        anyhow::Ok(conditions.iter().any(|own| own.type_ == "DisruptionTarget" && own.status == "True"))
    };
    cluster.advance(Duration::from_secs(110)).await;
    assert!(marked().await?);
    cluster.advance(Duration::from_secs(15)).await;
    assert!(!marked().await?);
    Ok(())
}
