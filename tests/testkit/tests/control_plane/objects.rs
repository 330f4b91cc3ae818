//! Objects that the tests make, and what they look at.

use anyhow::{Result, bail};
use corten_api::api::apps::v1::Deployment;
use corten_api::api::core::v1::Pod;
use corten_testkit::Cluster;
use serde_json::{Value, json};

/// A deployment of so many pods of an image.
pub(crate) fn deployment(name: &str, replicas: u32, image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": name}},
        "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": image}]},
        },
    }})
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

pub(crate) fn image(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.containers[0].image.as_deref()).unwrap_or_default()
}

/// Waits until the deployment is complete: as many ready pods of the newest template as asked for, and no others.
pub(crate) async fn complete(cluster: &Cluster, namespace: &str, name: &str) -> Result<()> {
    cluster
        .eventually("the rollout is complete", async || {
            let deployment = cluster.api::<Deployment>(namespace).get(name).await?;
            let want = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let status = deployment.status.clone().unwrap_or_default();
            let seen = status.observed_generation >= deployment.metadata.generation;
            let counts = [status.replicas, status.updated_replicas, status.available_replicas];
            let pods = cluster.list::<Pod>(namespace).await?.len();
            if seen && counts.iter().all(|count| count.unwrap_or(0) == want) && i32::try_from(pods)? == want {
                return Ok(());
            }
            bail!("{pods} pods, status {status:?}")
        })
        .await
}
