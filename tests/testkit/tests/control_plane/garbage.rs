//! Owners and what they own.

use anyhow::{Result, bail, ensure};
use corten_api::api::apps::v1::{Deployment, ReplicaSet};
use corten_api::api::core::v1::Pod;
use corten_testkit::Cluster;
use kube::api::{DeleteParams, PropagationPolicy};

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
