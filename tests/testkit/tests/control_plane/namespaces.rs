//! Namespaces.

use anyhow::{Result, bail, ensure};
use corten_api::api::apps::v1::Deployment;
use corten_api::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use corten_testkit::Cluster;
use kube::Api;
use serde_json::json;

use crate::objects::{complete, deployment};

#[tokio::test(start_paused = true)]
async fn a_namespace_is_born_with_what_pods_need_and_dies_with_all_that_is_in_it() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    let object = serde_json::from_value(json!({"metadata": {"name": "demo"}}))?;
    namespaces.create(&Default::default(), &object).await?;
    cluster
        .eventually("the default service account and the CA", async || {
            cluster.api::<ServiceAccount>("demo").get("default").await?;
            cluster.api::<ConfigMap>("demo").get("kube-root-ca.crt").await?;
            Ok(())
        })
        .await?;
    cluster.create::<Deployment>("demo", deployment("web", 2, "web:1")).await?;
    cluster.create::<ConfigMap>("demo", json!({"metadata": {"name": "settings"}})).await?;
    complete(&cluster, "demo", "web").await?;

    namespaces.delete("demo", &Default::default()).await?;
    let refused = cluster.create::<ConfigMap>("demo", json!({"metadata": {"name": "late"}})).await;
    let refused = refused.map(drop).map_err(|error| format!("{error:#}")).expect_err("it is terminating");
    assert!(refused.contains("because it is being terminated"), "{refused}");
    cluster
        .eventually("the namespace is gone", async || match namespaces.get_opt("demo").await? {
            None => Ok(()),
            Some(namespace) => bail!("{:?}", namespace.status),
        })
        .await?;
    ensure!(cluster.list::<Pod>("demo").await?.is_empty());
    ensure!(cluster.list::<ConfigMap>("demo").await?.is_empty());
    Ok(())
}
