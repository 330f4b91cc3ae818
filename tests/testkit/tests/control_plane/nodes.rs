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
