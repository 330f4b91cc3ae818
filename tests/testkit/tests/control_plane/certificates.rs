//! Requests for certificates.

use anyhow::{Result, ensure};
use corten_api::api::certificates::v1::CertificateSigningRequest;
use corten_testkit::Cluster;
use kube::Api;
use kube::api::Patch;
use serde_json::json;

/// A request for jane of the developers, in PEM and once more in base64.
const REQUEST: &str = include_str!("jane.csr.base64");

#[tokio::test(start_paused = true)]
async fn what_is_approved_is_signed_and_what_is_old_is_forgotten() -> Result<()> {
    let cluster = Cluster::in_process(0).await?;
    let requests: Api<CertificateSigningRequest> = Api::all(cluster.client());
    for (name, usage) in [("good", "client auth"), ("bad", "server auth"), ("idle", "client auth")] {
        let object = json!({"metadata": {"name": name}, "spec": {
            "signerName": "kubernetes.io/kube-apiserver-client", "usages": [usage], "request": REQUEST.trim(),
        }});
        requests.create(&Default::default(), &serde_json::from_value(object)?).await?;
    }
    for name in ["good", "bad"] {
        let approved = json!({"type": "Approved", "status": "True", "reason": "Test", "message": ""});
        let patch = Patch::Merge(json!({"status": {"conditions": [approved]}}));
        requests.patch_approval(name, &Default::default(), &patch).await?;
    }
    cluster
        .eventually("one is signed and one is refused", async || {
            let good = requests.get("good").await?.status.unwrap_or_default();
            let text = String::from_utf8(good.certificate.unwrap_or_default().0)?;
            ensure!(text.starts_with("-----BEGIN CERTIFICATE-----"), "{text}");
            let bad = requests.get("bad").await?.status.unwrap_or_default();
            let failed = bad.conditions.into_iter().flatten().find(|condition| condition.type_ == "Failed");
            ensure!(failed.and_then(|own| own.reason).as_deref() == Some("SignerValidationFailure"));
            Ok(())
        })
        .await?;
    let left = async || -> Result<Vec<String>> {
        let list = requests.list(&Default::default()).await?;
        Ok(list.items.into_iter().filter_map(|request| request.metadata.name).collect())
    };
    cluster.advance(std::time::Duration::from_secs(2 * 3600)).await;
    ensure!(left().await? == ["idle"], "{:?}", left().await?);
    cluster.advance(std::time::Duration::from_secs(24 * 3600)).await;
    ensure!(left().await?.is_empty(), "{:?}", left().await?);
    Ok(())
}
