//! Claims on a machine with the real agent: data outlives the pod and goes with the claim.

use anyhow::{Result, bail, ensure};
use corten_api::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use corten_testkit::Cluster;
use kube::Api;
use serde_json::json;

use crate::objects::{container, create, gone, one_machine, reach, seconds};

fn with_claim() -> serde_json::Value {
    let mut container = container("serve");
    container["volumeMounts"] = json!([{"name": "v", "mountPath": "/data"}]);
    let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "data"}});
    json!({"nodeName": "node-1", "containers": [container], "volumes": [volume]})
}

async fn claim(cluster: &Cluster) -> Result<()> {
    let claim = json!({"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    cluster.create::<PersistentVolumeClaim>("default", claim).await?;
    Ok(())
}

/// The folder of the only volume.
async fn folder(cluster: &Cluster) -> Result<std::path::PathBuf> {
    let volumes: Api<PersistentVolume> = Api::all(cluster.client());
    let all = volumes.list(&Default::default()).await?.items;
    let [volume] = &all[..] else { bail!("{all:?}") };
    let spec = volume.spec.clone().unwrap_or_default();
    Ok(spec.local.unwrap_or_default().path.into())
}

async fn release(cluster: &Cluster) -> Result<()> {
    cluster.api::<Pod>("default").delete("web", &Default::default()).await?;
    gone(cluster).await?;
    cluster.api::<PersistentVolumeClaim>("default").delete("data", &Default::default()).await?;
    Ok(())
}

async fn no_volumes(cluster: &Cluster) -> Result<()> {
    let volumes: Api<PersistentVolume> = Api::all(cluster.client());
    cluster
        .eventually("the volume is gone", async || {
            let left = volumes.list(&Default::default()).await?.items;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await
}

async fn running(cluster: &Cluster) -> Result<()> {
    create(cluster, with_claim()).await?;
    reach(cluster, "Running c=running+/0").await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn data_outlives_its_pod_and_goes_with_its_claim() -> Result<()> {
    let (cluster, _machine) = one_machine().await?;
    // The pod may be first: it waits for its claim.
    create(&cluster, with_claim()).await?;
    reach(&cluster, "Pending c=ContainerCreating/0").await?;
    claim(&cluster).await?;
    reach(&cluster, "Running c=running+/0").await?;
    let folder = folder(&cluster).await?;
    std::fs::write(folder.join("kept"), "x")?;
    cluster.api::<Pod>("default").delete("web", &Default::default()).await?;
    gone(&cluster).await?;
    running(&cluster).await?;
    ensure!(folder.join("kept").exists(), "the next pod finds it");
    release(&cluster).await?;
    no_volumes(&cluster).await?;
    ensure!(!folder.exists(), "the data is gone");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_away_cleans_up_when_it_is_back() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    claim(&cluster).await?;
    running(&cluster).await?;
    let folder = folder(&cluster).await?;
    std::fs::write(folder.join("kept"), "x")?;
    cluster.api::<Pod>("default").delete("web", &Default::default()).await?;
    gone(&cluster).await?;
    machine.stop_agent().await;
    cluster.api::<PersistentVolumeClaim>("default").delete("data", &Default::default()).await?;
    cluster.advance(seconds(120)).await;
    ensure!(folder.join("kept").exists(), "nobody else removes it");
    machine.start_agent().await;
    no_volumes(&cluster).await?;
    ensure!(!folder.exists(), "the data is gone");
    Ok(())
}
