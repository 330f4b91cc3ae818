//! Who stands behind services.

use anyhow::{Result, ensure};
use corten_api::api::core::v1::{Endpoints, Service};
use corten_api::api::discovery::v1::EndpointSlice;
use corten_testkit::Cluster;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::json;

async fn addresses(cluster: &Cluster) -> Result<Vec<String>> {
    let slices = cluster.list::<EndpointSlice>("default").await?;
    let own =
        slices.iter().filter(|slice| slice.labels().get("kubernetes.io/service-name").is_some_and(|to| to == "db"));
    Ok(own.flat_map(|slice| slice.endpoints.iter().flatten()).flat_map(|own| own.addresses.clone()).collect())
}

#[tokio::test(start_paused = true)]
async fn endpoints_written_by_hand_are_copied_into_slices() -> Result<()> {
    let cluster = Cluster::in_process(0).await?;
    let service = json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}});
    cluster.create::<Service>("default", service).await?;
    let subsets = |ip: &str| json!([{"addresses": [{"ip": ip}], "ports": [{"port": 5432}]}]);
    let endpoints = json!({"metadata": {"name": "db"}, "subsets": subsets("10.9.8.7")});
    cluster.create::<Endpoints>("default", endpoints).await?;
    let shows = async |wanted: &[&str]| {
        let look = async || {
            let shown = addresses(&cluster).await?;
            ensure!(shown == wanted, "{shown:?}");
            Ok(())
        };
        cluster.eventually("the slices follow", look).await
    };
    shows(&["10.9.8.7"]).await?;
    cluster.patch::<Endpoints>("default", "db", json!({"subsets": subsets("10.9.8.6")})).await?;
    shows(&["10.9.8.6"]).await?;
    cluster.api::<Endpoints>("default").delete("db", &DeleteParams::default()).await?;
    shows(&[]).await
}
