//! Where pods go, and what is said if they can go nowhere.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corten_api::api::core::v1::{Event, Pod, PodCondition};
use corten_api::api::scheduling::v1::PriorityClass;
use corten_testkit::Cluster;
use kube::Api;
use kube::api::PostParams;
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

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|own| own.type_ == kind)
}

#[tokio::test(start_paused = true)]
async fn a_more_important_pod_takes_the_room_of_a_lesser_one() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    let class = json!({"metadata": {"name": "high"}, "value": 1000});
    Api::<PriorityClass>::all(cluster.client()).create(&PostParams::default(), &serde_json::from_value(class)?).await?;
    let mut low = pod("low", "3");
    // As in upstream's test: the victim stays until somebody lets go of it.
    low["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.create::<Pod>("default", low).await?;
    let placed = |name: &'static str| {
        let cluster = &cluster;
        cluster.eventually(name, async move || {
            let pod = cluster.api::<Pod>("default").get(name).await?;
            ensure!(node_of(&pod) == Some("node-1"), "{:?}", pod.status);
            Ok(())
        })
    };
    placed("low").await?;
    let mut high = pod("high", "3");
    high["spec"]["priorityClassName"] = "high".into();
    cluster.create::<Pod>("default", high).await?;
    cluster
        .eventually("the lesser pod is asked to leave", async || {
            let low = cluster.api::<Pod>("default").get("low").await?;
            let target = condition(&low, "DisruptionTarget").context("no condition")?;
            ensure!(target.status == "True" && target.reason.as_deref() == Some("PreemptionByScheduler"));
            ensure!(low.metadata.deletion_timestamp.is_some(), "it is not being deleted");
            let high = cluster.api::<Pod>("default").get("high").await?;
            let nominated = high.status.and_then(|status| status.nominated_node_name);
            ensure!(nominated.as_deref() == Some("node-1"), "{nominated:?}");
            let events = cluster.list::<Event>("default").await?;
            ensure!(events.iter().any(|event| event.reason.as_deref() == Some("Preempted")), "no event");
            Ok(())
        })
        .await?;
    cluster.patch::<Pod>("default", "low", json!({"metadata": {"finalizers": null}})).await?;
    placed("high").await
}

#[tokio::test(start_paused = true)]
async fn a_gated_pod_says_so_and_waits() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    let mut gated = pod("gated", "1");
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
    cluster.create::<Pod>("default", gated).await?;
    cluster
        .eventually("it says so", async || {
            let pod = cluster.api::<Pod>("default").get("gated").await?;
            let own = condition(&pod, "PodScheduled").context("no condition")?;
            ensure!(own.status == "False" && own.reason.as_deref() == Some("SchedulingGated"), "{own:?}");
            Ok(())
        })
        .await?;
    cluster.advance(Duration::from_secs(600)).await;
    ensure!(node_of(&cluster.api::<Pod>("default").get("gated").await?).is_none());
    cluster.patch::<Pod>("default", "gated", json!({"spec": {"schedulingGates": null}})).await?;
    cluster
        .eventually("it is placed", async || {
            let pod = cluster.api::<Pod>("default").get("gated").await?;
            ensure!(node_of(&pod).is_some());
            let events = cluster.list::<Event>("default").await?;
            let told = events.iter().filter(|event| event.reason.as_deref() == Some("Scheduled"));
            let told: Vec<_> = told.filter_map(|event| event.message.as_deref()).collect();
            ensure!(told == ["Successfully assigned default/gated to node-1"], "{told:?}");
            Ok(())
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn pods_that_keep_apart_get_a_node_each_and_reasons_are_kept() -> Result<()> {
    let cluster = Cluster::in_process(3).await?;
    for number in 0..4 {
        let mut apart = pod(&format!("apart-{number}"), "100m");
        apart["metadata"]["labels"] = json!({"app": "apart"});
        apart["spec"]["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "apart"}}}]}});
        cluster.create::<Pod>("default", apart).await?;
    }
    let left = cluster
        .eventually("three are placed, one is not", async || {
            let pods = cluster.list::<Pod>("default").await?;
            let nodes: BTreeSet<&str> = pods.iter().filter_map(node_of).collect();
            let left = pods.iter().find(|pod| node_of(pod).is_none()).context("all are placed")?;
            ensure!(nodes.len() == 3, "{nodes:?}");
            let message = condition(left, "PodScheduled").and_then(|own| own.message.clone()).unwrap_or_default();
            ensure!(
                message.starts_with("0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules."),
                "{message}"
            );
            left.metadata.name.clone().context("no name")
        })
        .await?;
    let path = format!("/corten/v1/scheduling/namespaces/default/pods/{left}");
    let decision: Value = cluster.client().request(http::Request::get(path).body(Vec::new())?).await?;
    let verdicts = decision["nodes"].as_array().context("no verdicts")?;
    ensure!(verdicts.len() == 3, "{decision}");
    ensure!(verdicts.iter().all(|own| own["rejectedBy"] == "InterPodAffinity"), "{decision}");
    let none: Result<Value, _> = cluster
        .client()
        .request(http::Request::get("/corten/v1/scheduling/namespaces/default/pods/x").body(Vec::new())?)
        .await;
    ensure!(matches!(none, Err(kube::Error::Api(status)) if status.code == 404));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_waits_causes_no_writes() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    cluster.create::<Pod>("default", pod("huge", "300")).await?;
    let version = async || {
        let pod = cluster.api::<Pod>("default").get("huge").await?;
        condition(&pod, "PodScheduled").and_then(|own| own.message.clone()).context("no message")?;
        pod.metadata.resource_version.context("no version")
    };
    let told = cluster.eventually("it is told", version).await?;
    cluster.advance(Duration::from_secs(1800)).await;
    ensure!(version().await? == told);
    Ok(())
}
