//! Deployments.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use corten_api::api::apps::v1::{Deployment, ReplicaSet};
use corten_api::api::core::v1::{Endpoints, Pod};
use corten_testkit::Cluster;
use futures::StreamExt;
use kube::api::{WatchEvent, WatchParams};
use serde_json::json;

use crate::objects::{complete, deployment, image, is_ready};

#[tokio::test(start_paused = true)]
async fn a_deployment_gets_its_pods_spread_over_the_nodes_and_its_service_their_addresses() -> Result<()> {
    let cluster = Cluster::in_process(3).await?;
    cluster.create::<Deployment>("default", deployment("web", 3, "web:1")).await?;
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    cluster.create::<corten_api::api::core::v1::Service>("default", service).await?;
    complete(&cluster, "default", "web").await?;
    let mut nodes: Vec<String> = cluster
        .list::<Pod>("default")
        .await?
        .into_iter()
        .filter_map(|pod| pod.spec.and_then(|spec| spec.node_name))
        .collect();
    nodes.sort();
    assert_eq!(nodes, ["node-1", "node-2", "node-3"]);
    cluster
        .eventually("three endpoints", async || {
            let endpoints = cluster.api::<Endpoints>("default").get("web").await?;
            let addresses = endpoints.subsets.iter().flatten().flat_map(|subset| subset.addresses.iter().flatten());
            ensure!(addresses.count() == 3, "{:?}", endpoints.subsets);
            Ok(())
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_never_falls_below_what_is_allowed() -> Result<()> {
    let cluster = Cluster::in_process(2).await?;
    let mut object = deployment("web", 4, "web:1");
    object["spec"]["strategy"] =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 1}});
    cluster.create::<Deployment>("default", object).await?;
    complete(&cluster, "default", "web").await?;

    let pods = cluster.api::<Pod>("default");
    let version = pods.list(&Default::default()).await?.metadata.resource_version.unwrap_or_default();
    let mut events = pods.watch(&WatchParams::default(), &version).await?.boxed();
    let mut known: std::collections::BTreeMap<String, bool> = cluster
        .list::<Pod>("default")
        .await?
        .iter()
        .map(|pod| (pod.metadata.name.clone().unwrap_or_default(), true))
        .collect();
    let update = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "web:2"}]}}}});
    cluster.patch::<Deployment>("default", "web", update).await?;
    complete(&cluster, "default", "web").await?;

    // Every state that the pods went through, in order.
    let (mut fewest, mut most) = (usize::MAX, 0);
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_secs(1), events.next()).await {
        match event? {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                let serves = is_ready(&pod) && pod.metadata.deletion_timestamp.is_none();
                let name = pod.metadata.name.clone().unwrap_or_default();
                if pod.metadata.deletion_timestamp.is_some() {
                    known.remove(&name);
                } else {
                    known.insert(name, serves);
                }
            }
            WatchEvent::Deleted(pod) => drop(known.remove(&pod.metadata.name.unwrap_or_default())),
            _ => {}
        }
        fewest = fewest.min(known.values().filter(|serves| **serves).count());
        most = most.max(known.len());
    }
    assert!(fewest >= 3, "only {fewest} of 4 served at a time");
    assert!(most <= 5, "{most} pods at a time");
    assert!(cluster.list::<Pod>("default").await?.iter().all(|pod| image(pod) == "web:2"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_broken_update_keeps_the_old_pods_and_is_reported_and_can_be_rolled_back() -> Result<()> {
    let cluster = Cluster::in_process(2).await?;
    let mut object = deployment("web", 3, "web:1");
    object["spec"]["progressDeadlineSeconds"] = json!(30);
    cluster.create::<Deployment>("default", object).await?;
    complete(&cluster, "default", "web").await?;
    let update = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    cluster.patch::<Deployment>("default", "web", update("web:broken")).await?;
    cluster
        .eventually("the deployment gives up", async || {
            let status = cluster.api::<Deployment>("default").get("web").await?.status.unwrap_or_default();
            let reasons: Vec<_> = status.conditions.into_iter().flatten().filter_map(|own| own.reason).collect();
            ensure!(reasons.iter().any(|reason| reason == "ProgressDeadlineExceeded"), "{reasons:?}");
            Ok(())
        })
        .await?;
    let old = cluster.list::<Pod>("default").await?.iter().filter(|pod| is_ready(pod) && image(pod) == "web:1").count();
    assert!(old >= 3, "only {old} old pods are left");

    // What `kubectl rollout undo` does: the old template again, so the old ReplicaSet.
    cluster.patch::<Deployment>("default", "web", update("web:1")).await?;
    complete(&cluster, "default", "web").await?;
    let sets = cluster.list::<ReplicaSet>("default").await?;
    let mut revisions: Vec<(String, i32)> = sets
        .iter()
        .map(|set| {
            let notes = set.metadata.annotations.clone().unwrap_or_default();
            let revision = notes.get("deployment.kubernetes.io/revision").cloned().unwrap_or_default();
            (revision, set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0))
        })
        .collect();
    revisions.sort();
    assert_eq!(revisions, [("2".to_owned(), 0), ("3".to_owned(), 3)]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_is_replaced() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    cluster.create::<Deployment>("default", deployment("web", 2, "web:1")).await?;
    complete(&cluster, "default", "web").await?;
    let name = cluster.list::<Pod>("default").await?[0].metadata.name.clone().unwrap_or_default();
    cluster.api::<Pod>("default").delete(&name, &Default::default()).await?;
    cluster
        .eventually("another pod", async || {
            let pods = cluster.list::<Pod>("default").await?;
            if pods.len() == 2 && pods.iter().all(|pod| is_ready(pod) && pod.metadata.name.as_deref() != Some(&name)) {
                return Ok(());
            }
            bail!("{} pods", pods.len())
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn conditions_of_others_stay_in_the_status() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    cluster.create::<Deployment>("default", deployment("web", 1, "web:1")).await?;
    complete(&cluster, "default", "web").await?;
    let deployments = cluster.api::<Deployment>("default");
    let mut own = deployments.get("web").await?;
    let conditions = own.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.push(serde_json::from_value(json!({"type": "Approved", "status": "True", "reason": "ByOthers"}))?);
    // At once with a rollout, whose status is written again and again.
    let update = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "web:2"}]}}}});
    deployments.replace_status("web", &Default::default(), &own).await?;
    cluster.patch::<Deployment>("default", "web", update).await?;
    complete(&cluster, "default", "web").await?;
    let status = deployments.get("web").await?.status.unwrap_or_default();
    let kept = status.conditions.iter().flatten().any(|condition| condition.type_ == "Approved");
    ensure!(kept, "{:?}", status.conditions);
    Ok(())
}
