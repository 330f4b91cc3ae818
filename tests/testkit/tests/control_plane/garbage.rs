//! Owners and what they own.

use anyhow::{Result, bail, ensure};
use corten_api::api::apps::v1::{Deployment, ReplicaSet};
use corten_api::api::core::v1::{ConfigMap, Pod, Secret};
use corten_testkit::Cluster;
use kube::api::{DeleteParams, PropagationPolicy};
use serde_json::{Value, json};

use crate::objects::{complete, deployment};

async fn counts(cluster: &Cluster) -> Result<(usize, usize, usize)> {
    let deployments = cluster.list::<Deployment>("default").await?.len();
    let sets = cluster.list::<ReplicaSet>("default").await?.len();
    Ok((deployments, sets, cluster.list::<Pod>("default").await?.len()))
}

async fn deleted(policy: PropagationPolicy, expected: (usize, usize, usize)) -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    cluster.create::<Deployment>("default", deployment("web", 2, "web:1")).await?;
    complete(&cluster, "default", "web").await?;
    let parameters = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
    cluster.api::<Deployment>("default").delete("web", &parameters).await?;
    cluster
        .eventually("the rest is gone", async || match counts(&cluster).await? {
            now if now == expected => Ok(()),
            now => bail!("{now:?}"),
        })
        .await?;
    cluster.advance(std::time::Duration::from_secs(60)).await;
    ensure!(counts(&cluster).await? == expected);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_a_deployment_owns_goes_after_it() -> Result<()> {
    deleted(PropagationPolicy::Background, (0, 0, 0)).await
}

#[tokio::test(start_paused = true)]
async fn what_a_deployment_owns_goes_before_it_if_asked() -> Result<()> {
    deleted(PropagationPolicy::Foreground, (0, 0, 0)).await
}

#[tokio::test(start_paused = true)]
async fn what_a_deployment_owns_stays_if_asked() -> Result<()> {
    deleted(PropagationPolicy::Orphan, (0, 1, 2)).await
}

fn owned(name: &str, owner: Option<&ConfigMap>) -> Value {
    let owners: Vec<Value> = owner.into_iter().map(reference).collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": owners}})
}

fn reference(owner: &ConfigMap) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "name": owner.metadata.name, "uid": owner.metadata.uid,
        "controller": true, "blockOwnerDeletion": true,
    })
}

async fn gone(cluster: &Cluster) -> Result<()> {
    let look = async || {
        let maps = cluster.list::<ConfigMap>("default").await?;
        let left: Vec<_> = maps.iter().filter_map(|map| map.metadata.name.clone()).collect();
        ensure!(left == ["kube-root-ca.crt"], "{} left, such as {:?}", left.len(), left.first());
        Ok(())
    };
    cluster.eventually("all are gone", look).await
}

#[tokio::test(start_paused = true)]
async fn owners_in_a_circle_go_together() -> Result<()> {
    let cluster = Cluster::in_process(0).await?;
    let first: ConfigMap = cluster.create("default", owned("a", None)).await?;
    let second: ConfigMap = cluster.create("default", owned("b", Some(&first))).await?;
    let third: ConfigMap = cluster.create("default", owned("c", Some(&second))).await?;
    let circle = json!({"metadata": {"ownerReferences": [reference(&third)]}});
    cluster.patch::<ConfigMap>("default", "a", circle).await?;
    cluster.advance(std::time::Duration::from_secs(5)).await;
    cluster.api::<ConfigMap>("default").delete("a", &DeleteParams::foreground()).await?;
    gone(&cluster).await
}

#[tokio::test(start_paused = true)]
async fn many_dependents_go_with_their_owner() -> Result<()> {
    let cluster = Cluster::in_process(0).await?;
    let owner: ConfigMap = cluster.create("default", owned("owner", None)).await?;
    for number in 0..300 {
        cluster.create::<ConfigMap>("default", owned(&format!("dependent-{number}"), Some(&owner))).await?;
    }
    cluster.api::<ConfigMap>("default").delete("owner", &DeleteParams::background()).await?;
    gone(&cluster).await
}

#[tokio::test(start_paused = true)]
async fn an_owner_of_another_namespace_owns_nothing() -> Result<()> {
    let cluster = Cluster::in_process(0).await?;
    let owner: ConfigMap = cluster.create("kube-system", owned("owner", None)).await?;
    cluster.create::<ConfigMap>("default", owned("stranger", Some(&owner))).await?;
    gone(&cluster).await
}

#[tokio::test(start_paused = true)]
async fn many_orphans_survive_their_owner() -> Result<()> {
    let cluster = Cluster::in_process(0).await?;
    let owner: Secret = cluster.create("default", json!({"metadata": {"name": "owner"}})).await?;
    let reference = json!({"apiVersion": "v1", "kind": "Secret", "name": "owner", "uid": owner.metadata.uid});
    for number in 0..200 {
        let meta = json!({"name": format!("orphan-{number}"), "ownerReferences": [reference]});
        cluster.create::<ConfigMap>("default", json!({"metadata": meta})).await?;
    }
    let policy = Some(PropagationPolicy::Orphan);
    let parameters = DeleteParams { propagation_policy: policy, ..DeleteParams::default() };
    cluster.api::<Secret>("default").delete("owner", &parameters).await?;
    let look = async || {
        ensure!(cluster.api::<Secret>("default").get_opt("owner").await?.is_none(), "the owner is still there");
        Ok(())
    };
    cluster.eventually("the owner is gone", look).await?;
    cluster.advance(std::time::Duration::from_secs(10)).await;
    let left = cluster.list::<ConfigMap>("default").await?.len();
    ensure!(left == 201, "{left} of 200 orphans and the authority's map are left");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_dependents_lets_those_go_that_another_keeps() -> Result<()> {
    let cluster = Cluster::in_process(0).await?;
    let going: ConfigMap = cluster.create("default", owned("going", None)).await?;
    let staying: ConfigMap = cluster.create("default", owned("staying", None)).await?;
    let mut kept = reference(&staying);
    kept["controller"] = false.into();
    let meta = json!({"name": "shared", "ownerReferences": [reference(&going), kept]});
    cluster.create::<ConfigMap>("default", json!({"metadata": meta})).await?;
    cluster.advance(std::time::Duration::from_secs(2)).await;
    cluster.api::<ConfigMap>("default").delete("going", &DeleteParams::foreground()).await?;
    let look = async || {
        ensure!(cluster.api::<ConfigMap>("default").get_opt("going").await?.is_none(), "it still waits");
        Ok(())
    };
    cluster.eventually("the one is gone", look).await?;
    let shared = cluster.api::<ConfigMap>("default").get("shared").await?;
    let owners = shared.metadata.owner_references.unwrap_or_default();
    ensure!(owners.iter().map(|own| own.name.as_str()).eq(["staying"]), "{owners:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_wrong_reference_does_no_harm_to_right_ones() -> Result<()> {
    let cluster = Cluster::in_process(0).await?;
    let owner: ConfigMap = cluster.create("default", owned("owner", None)).await?;
    cluster.create::<ConfigMap>("kube-system", owned("stranger", Some(&owner))).await?;
    let look = async || {
        ensure!(cluster.api::<ConfigMap>("kube-system").get_opt("stranger").await?.is_none(), "it is still there");
        Ok(())
    };
    cluster.eventually("the stranger is gone", look).await?;
    cluster.create::<ConfigMap>("default", owned("dependent", Some(&owner))).await?;
    cluster.advance(std::time::Duration::from_secs(5)).await;
    ensure!(cluster.api::<ConfigMap>("default").get_opt("dependent").await?.is_some(), "its owner is there");
    Ok(())
}
