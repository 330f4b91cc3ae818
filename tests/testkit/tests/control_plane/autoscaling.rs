//! Targets that follow their load.

use anyhow::{Context, Result, ensure};
use corten_api::api::apps::v1::Deployment;
use corten_api::api::autoscaling::v2::HorizontalPodAutoscaler;
use corten_testkit::Cluster;
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn a_target_is_brought_within_its_bounds_and_stays_where_nothing_is_measured() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    let web = json!({"metadata": {"name": "web"}, "spec": {
        "replicas": 1, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "web:1"}]}},
    }});
    cluster.create::<Deployment>("default", web).await?;
    let autoscaler = json!({"metadata": {"name": "web"}, "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "minReplicas": 3, "maxReplicas": 5,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}],
    }});
    cluster.create::<HorizontalPodAutoscaler>("default", autoscaler).await?;
    let replicas = async || -> Result<Option<i32>> {
        Ok(cluster.api::<Deployment>("default").get("web").await?.spec.and_then(|spec| spec.replicas))
    };
    cluster
        .eventually("there are three", async || {
            ensure!(replicas().await? == Some(3), "{:?}", replicas().await?);
            Ok(())
        })
        .await?;
    cluster
        .eventually("it says that it cannot measure", async || {
            let status = cluster.api::<HorizontalPodAutoscaler>("default").get("web").await?.status.unwrap_or_default();
            let all = status.conditions.unwrap_or_default();
            let active = all.iter().find(|own| own.type_ == "ScalingActive").context("no ScalingActive")?;
            ensure!(
                active.status == "False" && active.reason.as_deref() == Some("FailedGetResourceMetric"),
                "{active:?}"
            );
            ensure!(status.desired_replicas == 3, "{}", status.desired_replicas);
            Ok(())
        })
        .await?;
    cluster.patch::<Deployment>("default", "web", json!({"spec": {"replicas": 9}})).await?;
    cluster
        .eventually("there are five", async || {
            ensure!(replicas().await? == Some(5), "{:?}", replicas().await?);
            Ok(())
        })
        .await
}
