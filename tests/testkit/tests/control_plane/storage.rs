//! Volumes and claims.

use anyhow::{Result, bail, ensure};
use corten_api::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, Pod};
use corten_testkit::Cluster;
use kube::Api;
use serde_json::{Value, json};

fn claim(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
    }})
}

#[tokio::test(start_paused = true)]
async fn a_claim_stays_as_long_as_a_pod_mounts_it() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    for name in ["used", "free"] {
        cluster.create::<PersistentVolumeClaim>("default", claim(name)).await?;
    }
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "nodeName": "node-1", "containers": [{"name": "c", "image": "web:1"}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "used"}}],
    }});
    cluster.create::<Pod>("default", pod).await?;
    let claims: Api<PersistentVolumeClaim> = cluster.api("default");
    for name in ["used", "free"] {
        claims.delete(name, &Default::default()).await?;
    }
    let gone = async |name: &str| match claims.get_opt(name).await? {
        None => Ok(()),
        Some(claim) => bail!("{:?}", claim.metadata),
    };
    cluster.eventually("the claim that nobody mounts is gone", async || gone("free").await).await?;
    let used = claims.get("used").await?;
    ensure!(used.metadata.deletion_timestamp.is_some(), "it is marked");
    cluster.api::<Pod>("default").delete("p", &Default::default()).await?;
    cluster.eventually("the other one is gone", async || gone("used").await).await
}

#[tokio::test(start_paused = true)]
async fn volumes_stay_while_they_are_bound_and_claims_go_with_their_namespace() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    let volumes: Api<PersistentVolume> = Api::all(cluster.client());
    let volume = json!({"metadata": {"name": "v"}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data"},
    }});
    volumes.create(&Default::default(), &serde_json::from_value(volume)?).await?;
    let phase = |phase: &str| kube::api::Patch::Merge(json!({"status": {"phase": phase}}));
    volumes.patch_status("v", &Default::default(), &phase("Bound")).await?;
    volumes.delete("v", &Default::default()).await?;
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    namespaces.create(&Default::default(), &serde_json::from_value(json!({"metadata": {"name": "demo"}}))?).await?;
    cluster.create::<PersistentVolumeClaim>("demo", claim("c")).await?;
    namespaces.delete("demo", &Default::default()).await?;
    cluster
        .eventually("the namespace is gone", async || match namespaces.get_opt("demo").await? {
            None => Ok(()),
            Some(namespace) => bail!("{:?}", namespace.status),
        })
        .await?;
    ensure!(volumes.get("v").await?.metadata.deletion_timestamp.is_some(), "it is bound, so it stays");
    volumes.patch_status("v", &Default::default(), &phase("Released")).await?;
    cluster
        .eventually("the volume is gone", async || match volumes.get_opt("v").await? {
            None => Ok(()),
            Some(volume) => bail!("{:?}", volume.metadata),
        })
        .await
}
