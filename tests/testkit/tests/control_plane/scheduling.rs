//! Where pods go, and what is said if they can go nowhere.

use anyhow::{Context, Result, ensure};
use corten_api::api::core::v1::{Event, Pod};
use corten_testkit::Cluster;
use serde_json::{Value, json};

fn pod(name: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [
        {"name": "c", "image": "web:1", "resources": {"requests": {"cpu": cpu}}},
    ]}})
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_fits_nowhere_says_why_and_is_placed_when_it_fits() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    cluster.create::<Pod>("default", pod("first", "3")).await?;
    cluster.create::<Pod>("default", pod("second", "3")).await?;
    cluster
        .eventually("the second pod is explained", async || {
            let pods = cluster.list::<Pod>("default").await?;
            let waiting = pods.iter().find(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none()));
            let status = waiting.context("all are placed")?.status.clone().unwrap_or_default();
            let condition = status.conditions.into_iter().flatten().find(|own| own.type_ == "PodScheduled");
            let condition = condition.context("no condition")?;
            let message = condition.message.unwrap_or_default();
            ensure!(condition.reason.as_deref() == Some("Unschedulable"), "{:?}", condition.reason);
            ensure!(message.starts_with("0/1 nodes are available: 1 Insufficient cpu."), "{message}");
            let events = cluster.list::<Event>("default").await?;
            // Until the new node is ready, its taint was another reason.
            let failed = events.iter().filter(|event| event.reason.as_deref() == Some("FailedScheduling"));
            let told: Vec<&str> = failed.filter_map(|event| event.message.as_deref()).collect();
            ensure!(told.contains(&message.as_str()), "{told:?}");
            Ok(())
        })
        .await?;
    cluster.add_node(2).await?;
    cluster
        .eventually("both run", async || {
            let pods = cluster.list::<Pod>("default").await?;
            let placed = pods.iter().filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()));
            ensure!(placed.count() == 2);
            Ok(())
        })
        .await
}
