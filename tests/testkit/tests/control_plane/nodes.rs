//! Nodes that die.

use std::time::Duration;

use anyhow::{Result, ensure};
use corten_api::api::apps::v1::Deployment;
use corten_api::api::core::v1::{Node, Pod};
use corten_testkit::Cluster;
use kube::Api;
use serde_json::{Value, json};

use crate::objects::{complete, deployment, is_ready};

#[tokio::test(start_paused = true)]
async fn pods_of_a_dead_node_are_replaced_after_five_minutes_and_not_before() -> Result<()> {
    let cluster = Cluster::in_process(2).await?;
    cluster.create::<Deployment>("default", deployment("web", 4, "web:1")).await?;
    complete(&cluster, "default", "web").await?;
    cluster.kill_node("node-1");

    cluster
        .eventually("the node is unreachable", async || {
            let node = Api::<Node>::all(cluster.client()).get("node-1").await?;
            let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
            ensure!(taints.iter().any(|taint| taint.key == "node.kubernetes.io/unreachable"), "{taints:?}");
            Ok(())
        })
        .await?;
    let on = |pods: &[Pod], node: &str| {
        let here = |pod: &&Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node);
        pods.iter().filter(here).filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod)).count()
    };
    cluster.advance(Duration::from_secs(240)).await;
    let pods = cluster.list::<Pod>("default").await?;
    assert_eq!((pods.len(), on(&pods, "node-2")), (4, 2), "nothing is moved in the first minutes");
    cluster.advance(Duration::from_secs(70)).await;
    cluster
        .eventually("four pods on the other node", async || {
            let pods = cluster.list::<Pod>("default").await?;
            ensure!(on(&pods, "node-2") == 4, "{} on node-2", on(&pods, "node-2"));
            Ok(())
        })
        .await
}

fn pod_on(node: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "nodeName": node, "containers": [{"name": "c", "image": "web:1"}],
    }})
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_that_is_gone_go_after_forty_seconds() -> Result<()> {
    let cluster = Cluster::in_process(2).await?;
    cluster.create::<Pod>("default", pod_on("node-1", "bare")).await?;
    cluster.create::<Pod>("default", pod_on("nowhere", "astray")).await?;
    cluster.kill_node("node-1");
    Api::<Node>::all(cluster.client()).delete("node-1", &Default::default()).await?;
    cluster.advance(Duration::from_secs(35)).await;
    let pods = cluster.list::<Pod>("default").await?;
    assert_eq!(pods.len(), 2, "a node may come back");
    assert!(pods.iter().all(|pod| pod.metadata.deletion_timestamp.is_none()));
    cluster.advance(Duration::from_secs(10)).await;
    assert_eq!(cluster.list::<Pod>("default").await?.len(), 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_that_comes_back_stay() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    cluster.create::<Pod>("default", pod_on("node-1", "bare")).await?;
    cluster.kill_node("node-1");
    Api::<Node>::all(cluster.client()).delete("node-1", &Default::default()).await?;
    cluster.advance(Duration::from_secs(30)).await;
    cluster.add_node(1).await?;
    cluster.advance(Duration::from_secs(120)).await;
    let pods = cluster.list::<Pod>("default").await?;
    assert!(pods.len() == 1 && pods[0].metadata.deletion_timestamp.is_none());
    Ok(())
}

/// The pod's seconds until it is deleted, counted from now.
async fn leaves_after(cluster: &Cluster, name: &str, most: u64) -> Result<Option<i64>> {
    let start = cluster.now();
    for _ in 0..most {
        if cluster
            .api::<Pod>("default")
            .get_opt(name)
            .await?
            .is_none_or(|pod| pod.metadata.deletion_timestamp.is_some())
        {
            return Ok(Some(cluster.now().as_second() - start.as_second()));
        }
        cluster.advance(Duration::from_secs(1)).await;
    }
    Ok(None)
}

async fn taint(cluster: &Cluster, node: &str, taints: Value) -> Result<()> {
    let patch = kube::api::Patch::Merge(json!({"spec": {"taints": taints}}));
    Api::<Node>::all(cluster.client()).patch(node, &Default::default(), &patch).await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn pods_stand_a_taint_for_as_long_as_they_say() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    let evicting = json!([{"key": "test", "value": "evict", "effect": "NoExecute"}]);
    for (name, seconds) in [("brief", json!(5)), ("long", json!(60)), ("ever", json!(null))] {
        let mut pod = pod_on("node-1", name);
        pod["spec"]["tolerations"] =
            json!([{"key": "test", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
        cluster.create::<Pod>("default", pod).await?;
    }
    cluster.create::<Pod>("default", pod_on("node-1", "never")).await?;
    taint(&cluster, "node-1", evicting.clone()).await?;
    assert_eq!(leaves_after(&cluster, "never", 5).await?.map(|seconds| seconds <= 1), Some(true));
    assert_eq!(leaves_after(&cluster, "brief", 20).await?.map(|seconds| (3..=6).contains(&seconds)), Some(true));
    // The taint goes before the time of the other is over; then its time counts anew.
    taint(&cluster, "node-1", json!([])).await?;
    assert_eq!(leaves_after(&cluster, "long", 90).await?, None);
    taint(&cluster, "node-1", evicting).await?;
    assert_eq!(leaves_after(&cluster, "long", 90).await?.map(|seconds| (59..=62).contains(&seconds)), Some(true));
    assert_eq!(leaves_after(&cluster, "ever", 10).await?, None);
    let told = crate::jobs::reasons(&cluster, "long").await?;
    assert!(told.contains(&"TaintManagerEviction".to_owned()), "{told:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn where_no_node_is_well_nothing_moves() -> Result<()> {
    let cluster = Cluster::in_process(2).await?;
    cluster.create::<Deployment>("default", deployment("web", 2, "web:1")).await?;
    complete(&cluster, "default", "web").await?;
    let before: Vec<_> = cluster.list::<Pod>("default").await?.into_iter().map(|pod| pod.metadata.uid).collect();
    cluster.kill_node("node-1");
    cluster.kill_node("node-2");
    cluster.advance(Duration::from_secs(900)).await;
    for node in Api::<Node>::all(cluster.client()).list(&Default::default()).await? {
        let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        let effects: Vec<&str> = taints.iter().map(|taint| taint.effect.as_str()).collect();
        assert_eq!(effects, ["NoSchedule"], "{taints:?}");
    }
    let after: Vec<_> = cluster.list::<Pod>("default").await?.into_iter().map(|pod| pod.metadata.uid).collect();
    assert_eq!(after, before);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_that_is_out_of_service_end_at_once() -> Result<()> {
    let cluster = Cluster::in_process(2).await?;
    cluster.create::<Pod>("default", pod_on("node-1", "bare")).await?;
    cluster.kill_node("node-1");
    cluster.advance(Duration::from_secs(60)).await;
    cluster.api::<Pod>("default").delete("bare", &Default::default()).await?;
    cluster.advance(Duration::from_secs(60)).await;
    assert_eq!(cluster.list::<Pod>("default").await?.len(), 1, "nobody can end it");
    let node = Api::<Node>::all(cluster.client()).get("node-1").await?;
    let mut taints = json!(node.spec.and_then(|spec| spec.taints).unwrap_or_default());
    let out = json!({"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"});
    taints.as_array_mut().into_iter().for_each(|all| all.push(out.clone()));
    taint(&cluster, "node-1", taints).await?;
    cluster
        .eventually("it is gone", async || {
            ensure!(cluster.list::<Pod>("default").await?.is_empty(), "it is still there");
            Ok(())
        })
        .await
}
