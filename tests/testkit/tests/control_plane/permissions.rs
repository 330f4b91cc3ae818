//! What controllers do for those who come in: sums of roles, the cluster's certificate, tokens of accounts.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use corten_api::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use corten_api::api::rbac::v1::ClusterRole;
use corten_testkit::Cluster;
use kube::Api;
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn a_role_that_aggregates_follows_those_that_it_selects() -> Result<()> {
    let cluster = Cluster::in_process(0).await?;
    let roles: Api<ClusterRole> = Api::all(cluster.client());
    let view = async || -> Result<Vec<String>> {
        let role = roles.get("view").await?;
        let resources = role.rules.into_iter().flatten().flat_map(|rule| rule.resources.unwrap_or_default());
        Ok(resources.collect())
    };
    let before = view().await?;
    ensure!(before.iter().any(|resource| resource == "pods"), "{before:?}");
    let part = serde_json::from_value(json!({
        "metadata": {"name": "of-things", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"verbs": ["get"], "apiGroups": ["any.example"], "resources": ["things"]}],
    }))?;
    roles.create(&Default::default(), &part).await?;
    let has_things = async |role: &str| -> Result<bool> {
        let rules = roles.get(role).await?.rules.unwrap_or_default();
        Ok(rules.iter().any(|rule| rule.resources.iter().flatten().any(|resource| resource == "things")))
    };
    // `view` is part of `edit`, and that of `admin`.
    for role in ["view", "edit", "admin"] {
        let what = format!("{role} has it");
        let look = async || if has_things(role).await? { Ok(()) } else { bail!("not yet") };
        cluster.eventually(&what, look).await?;
    }
    roles.delete("of-things", &Default::default()).await?;
    let look = async || {
        let (now, admin) = (view().await?, has_things("admin").await?);
        if now == before && !admin { Ok(()) } else { bail!("{now:?}, {admin}") }
    };
    cluster.eventually("it is taken out again", look).await
}

#[tokio::test(start_paused = true)]
async fn the_clusters_certificate_comes_back() -> Result<()> {
    let cluster = Cluster::in_process(0).await?;
    let maps = cluster.api::<ConfigMap>("default");
    let data = async || -> Result<BTreeMap<String, String>> {
        Ok(maps.get("kube-root-ca.crt").await?.data.unwrap_or_default())
    };
    let first = cluster.eventually("it is there", data).await?;
    ensure!(first["ca.crt"].contains("BEGIN CERTIFICATE"));
    let look = async || {
        let now = data().await?;
        if now == first { Ok(()) } else { bail!("{now:?}") }
    };
    maps.delete("kube-root-ca.crt", &Default::default()).await?;
    cluster.eventually("it is made again", look).await?;
    cluster.patch::<ConfigMap>("default", "kube-root-ca.crt", json!({"data": {"ca.crt": "x", "more": "y"}})).await?;
    cluster.eventually("it is set right", look).await
}

#[tokio::test(start_paused = true)]
async fn a_token_of_an_account_goes_with_it() -> Result<()> {
    let cluster = Cluster::in_process(0).await?;
    let accounts = cluster.api::<ServiceAccount>("default");
    let secrets = cluster.api::<Secret>("default");
    cluster.create::<ServiceAccount>("default", json!({"metadata": {"name": "robot"}})).await?;
    let secret = |name: &str, account: &str| {
        json!({
            "metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": account}},
            "type": "kubernetes.io/service-account-token",
        })
    };
    let made = cluster.create::<Secret>("default", secret("s", "robot")).await?;
    ensure!(made.data.context("no data")?.contains_key("token"));
    cluster.create::<Secret>("default", secret("lost", "nobody")).await?;
    let gone =
        async |name: &str| if secrets.get_opt(name).await?.is_none() { Ok(()) } else { bail!("{name} is there") };
    cluster.eventually("a secret of nobody is gone", async || gone("lost").await).await?;
    ensure!(secrets.get_opt("s").await?.is_some());
    accounts.delete("robot", &Default::default()).await?;
    cluster.eventually("the secret is gone", async || gone("s").await).await
}
