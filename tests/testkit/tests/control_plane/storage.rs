//! Volumes and claims.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use corten_api::api::core::v1::{Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use corten_api::api::storage::v1::{StorageClass, VolumeAttachment};
use corten_testkit::Cluster;
use kube::Api;
use kube::api::Patch;
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

fn volume(name: &str, size: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data"},
        "storageClassName": "by-hand",
    }})
}

fn claim_of(name: &str, class: &str) -> Value {
    let mut claim = claim(name);
    claim["spec"]["storageClassName"] = class.into();
    claim
}

async fn make_volume(cluster: &Cluster, volume: Value) -> Result<()> {
    let volumes: Api<PersistentVolume> = Api::all(cluster.client());
    volumes.create(&Default::default(), &serde_json::from_value(volume)?).await?;
    Ok(())
}

/// Waits until a volume has this phase; `gone` stands for none.
async fn volume_is(cluster: &Cluster, name: &str, expected: &str) -> Result<()> {
    let volumes: Api<PersistentVolume> = Api::all(cluster.client());
    cluster
        .eventually(&format!("volume {name} is {expected}"), async || {
            let volume = volumes.get_opt(name).await?;
            let phase =
                volume.map_or("gone".to_owned(), |volume| volume.status.unwrap_or_default().phase.unwrap_or_default());
            ensure!(phase == expected, "{phase}");
            Ok(())
        })
        .await
}

async fn claim_is(cluster: &Cluster, namespace: &str, name: &str, expected: &str) -> Result<PersistentVolumeClaim> {
    cluster
        .eventually(&format!("claim {name} is {expected}"), async || {
            let claim = cluster.api::<PersistentVolumeClaim>(namespace).get(name).await?;
            let phase = claim.status.clone().unwrap_or_default().phase.unwrap_or_default();
            ensure!(phase == expected, "{phase}");
            Ok(claim)
        })
        .await
}

async fn told(cluster: &Cluster, object: &str, reason: &str) -> Result<String> {
    cluster
        .eventually(&format!("{object} is told {reason}"), async || {
            let events = cluster.list::<Event>("default").await?;
            let own = |event: &Event| {
                event.involved_object.name.as_deref() == Some(object) && event.reason.as_deref() == Some(reason)
            };
            match events.into_iter().find(own) {
                Some(event) => Ok(event.message.unwrap_or_default()),
                None => bail!("it is not"),
            }
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn volumes_stay_while_they_are_bound_and_claims_go_with_their_namespace() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    let volumes: Api<PersistentVolume> = Api::all(cluster.client());
    make_volume(&cluster, volume("v", "1Gi")).await?;
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    namespaces.create(&Default::default(), &serde_json::from_value(json!({"metadata": {"name": "demo"}}))?).await?;
    cluster.create::<PersistentVolumeClaim>("demo", claim_of("c", "by-hand")).await?;
    claim_is(&cluster, "demo", "c", "Bound").await?;
    volumes.delete("v", &Default::default()).await?;
    cluster.advance(Duration::from_secs(1)).await;
    ensure!(volumes.get("v").await?.metadata.deletion_timestamp.is_some(), "it is bound, so it stays");
    namespaces.delete("demo", &Default::default()).await?;
    cluster
        .eventually("the namespace is gone", async || match namespaces.get_opt("demo").await? {
            None => Ok(()),
            Some(namespace) => bail!("{:?}", namespace.status),
        })
        .await?;
    volume_is(&cluster, "v", "gone").await
}

#[tokio::test(start_paused = true)]
async fn a_claim_gets_the_smallest_volume_and_leaves_it_released() -> Result<()> {
    let cluster = Cluster::in_process(0).await?;
    for (name, size) in [("tiny", "1Mi"), ("big", "9Gi"), ("right", "2Gi")] {
        make_volume(&cluster, volume(name, size)).await?;
        volume_is(&cluster, name, "Available").await?;
    }
    cluster.create::<PersistentVolumeClaim>("default", claim_of("c", "by-hand")).await?;
    let claim = claim_is(&cluster, "default", "c", "Bound").await?;
    ensure!(claim.spec.unwrap_or_default().volume_name.as_deref() == Some("right"));
    let capacity = claim.status.unwrap_or_default().capacity.unwrap_or_default();
    ensure!(capacity["storage"].0 == "2Gi", "{capacity:?}");
    volume_is(&cluster, "right", "Bound").await?;
    cluster.api::<PersistentVolumeClaim>("default").delete("c", &Default::default()).await?;
    volume_is(&cluster, "right", "Released").await?;
    // A claim that came too early gets its volume when that comes, and many never get the same one.
    for name in ["one", "two", "three"] {
        cluster.create::<PersistentVolumeClaim>("default", claim_of(name, "late")).await?;
    }
    let message = told(&cluster, "one", "ProvisioningFailed").await?;
    ensure!(message == r#"storageclass.storage.k8s.io "late" not found"#, "{message}");
    for name in ["x", "y", "z"] {
        let mut volume = volume(name, "1Gi");
        volume["spec"]["storageClassName"] = "late".into();
        make_volume(&cluster, volume).await?;
    }
    for (claim, volume) in [("one", "x"), ("two", "y"), ("three", "z")] {
        claim_is(&cluster, "default", claim, "Bound").await?;
        volume_is(&cluster, volume, "Bound").await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_the_default_class_gets_a_folder_of_its_first_pods_node() -> Result<()> {
    let cluster = Cluster::in_process(2).await?;
    cluster.create::<PersistentVolumeClaim>("default", claim("data")).await?;
    let message = told(&cluster, "data", "WaitForFirstConsumer").await?;
    ensure!(message == "waiting for first consumer to be created before binding", "{message}");
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "nodeName": "node-2", "containers": [{"name": "c", "image": "web:1"}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}],
    }});
    cluster.create::<Pod>("default", pod).await?;
    let bound = claim_is(&cluster, "default", "data", "Bound").await?;
    told(&cluster, "data", "ProvisioningSucceeded").await?;
    let volumes: Api<PersistentVolume> = Api::all(cluster.client());
    let name = bound.spec.unwrap_or_default().volume_name.unwrap_or_default();
    let spec = volumes.get(&name).await?.spec.unwrap_or_default();
    let path = spec.local.unwrap_or_default().path;
    ensure!(path == format!("/var/lib/corten/agent/volumes/{name}"), "{path}");
    let terms = spec.node_affinity.and_then(|affinity| affinity.required).unwrap_or_default().node_selector_terms;
    ensure!(serde_json::to_string(&terms)?.contains("node-2"), "{terms:?}");
    // It grows when it is asked to.
    let more = json!({"spec": {"resources": {"requests": {"storage": "3Gi"}}}});
    cluster.patch::<PersistentVolumeClaim>("default", "data", more).await?;
    cluster
        .eventually("the claim has grown", async || {
            let claim = cluster.api::<PersistentVolumeClaim>("default").get("data").await?;
            let capacity = claim.status.unwrap_or_default().capacity.unwrap_or_default();
            ensure!(capacity["storage"].0 == "3Gi", "{capacity:?}");
            Ok(())
        })
        .await?;
    ensure!(volumes.get(&name).await?.spec.unwrap_or_default().capacity.unwrap_or_default()["storage"].0 == "3Gi");
    // Its node has the data: the volume waits for it, and gives up when the node is removed.
    cluster.api::<Pod>("default").delete("p", &Default::default()).await?;
    cluster.api::<PersistentVolumeClaim>("default").delete("data", &Default::default()).await?;
    volume_is(&cluster, &name, "Released").await?;
    cluster.advance(Duration::from_secs(60)).await;
    ensure!(volumes.get(&name).await?.metadata.deletion_timestamp.is_some(), "it is marked, and waits");
    cluster.kill_node("node-2");
    Api::<Node>::all(cluster.client()).delete("node-2", &Default::default()).await?;
    volume_is(&cluster, &name, "gone").await
}

#[tokio::test(start_paused = true)]
async fn a_claim_without_a_class_gets_the_default_one_when_there_is_one() -> Result<()> {
    let cluster = Cluster::in_process(0).await?;
    let classes: Api<StorageClass> = Api::all(cluster.client());
    let mark = |value: &str| {
        let annotations = json!({"storageclass.kubernetes.io/is-default-class": value});
        Patch::Merge(json!({"metadata": {"annotations": annotations}}))
    };
    classes.patch("local-path", &Default::default(), &mark("false")).await?;
    cluster.create::<PersistentVolumeClaim>("default", claim("c")).await?;
    told(&cluster, "c", "FailedBinding").await?;
    classes.patch("local-path", &Default::default(), &mark("true")).await?;
    told(&cluster, "c", "WaitForFirstConsumer").await?;
    let claim = cluster.api::<PersistentVolumeClaim>("default").get("c").await?;
    ensure!(claim.spec.unwrap_or_default().storage_class_name.as_deref() == Some("local-path"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_volume_has_a_claim_that_lives_as_long_as_its_pod() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    let template = json!({"metadata": {"labels": {"app": "cache"}}, "spec": claim("")["spec"]});
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "nodeName": "node-1", "containers": [{"name": "c", "image": "web:1"}],
        "volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": template}}],
    }});
    cluster.create::<Pod>("default", pod).await?;
    let made = claim_is(&cluster, "default", "p-v", "Bound").await?;
    ensure!(made.metadata.labels.unwrap_or_default()["app"] == "cache");
    cluster.api::<Pod>("default").delete("p", &Default::default()).await?;
    cluster
        .eventually("its claim is gone", async || {
            let left = cluster.list::<PersistentVolumeClaim>("default").await?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn claims_that_wait_cost_nothing() -> Result<()> {
    let cluster = Cluster::in_process(0).await?;
    for (name, class) in [("a", "none"), ("b", ""), ("c", "local-path")] {
        cluster.create::<PersistentVolumeClaim>("default", claim_of(name, class)).await?;
    }
    make_volume(&cluster, volume("v", "1Gi")).await?;
    cluster.advance(Duration::from_secs(30)).await;
    let version = async || -> Result<String> {
        let list = cluster.api::<PersistentVolumeClaim>("default").list(&Default::default()).await?;
        Ok(list.metadata.resource_version.unwrap_or_default())
    };
    let before = version().await?;
    cluster.advance(Duration::from_secs(600)).await;
    let after = version().await?;
    ensure!(before == after, "{before} became {after}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_scheduler_says_where_a_claim_gets_its_folder() -> Result<()> {
    let cluster = Cluster::in_process(3).await?;
    cluster.create::<PersistentVolumeClaim>("default", claim("data")).await?;
    let user = |name: &str| {
        let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "data"}});
        json!({"metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "image": "web:1"}], "volumes": [volume]}})
    };
    let placed = async |name: &str| {
        cluster
            .eventually("the pod has a node", async || {
                let pod = cluster.api::<Pod>("default").get(name).await?;
                pod.spec.and_then(|spec| spec.node_name).context("it has none")
            })
            .await
    };
    cluster.create::<Pod>("default", user("first")).await?;
    let node = placed("first").await?;
    let claim = claim_is(&cluster, "default", "data", "Bound").await?;
    ensure!(claim.metadata.annotations.unwrap_or_default()["volume.kubernetes.io/selected-node"] == node);
    // Whoever uses it later goes where it is.
    for name in ["second", "third"] {
        cluster.create::<Pod>("default", user(name)).await?;
        ensure!(placed(name).await? == node);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn volumes_of_drivers_are_attached_to_one_node_after_the_other() -> Result<()> {
    let cluster = Cluster::in_process(2).await?;
    let mut disk = volume("disk", "1Gi");
    disk["spec"]["hostPath"] = Value::Null;
    disk["spec"]["csi"] = json!({"driver": "disks.example.com", "volumeHandle": "d-1"});
    make_volume(&cluster, disk).await?;
    cluster.create::<PersistentVolumeClaim>("default", claim_of("data", "by-hand")).await?;
    claim_is(&cluster, "default", "data", "Bound").await?;
    let user = |name: &str, node: &str| {
        let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "data"}});
        json!({"metadata": {"name": name},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "web:1"}], "volumes": [volume]}})
    };
    let attachments: Api<VolumeAttachment> = Api::all(cluster.client());
    let attached_to = async |expected: &str| {
        cluster
            .eventually(&format!("attached to {expected}"), async || {
                let all = attachments.list(&Default::default()).await?.items;
                let nodes: Vec<&str> = all.iter().map(|own| own.spec.node_name.as_str()).collect();
                ensure!(nodes.join(",") == expected, "{nodes:?}");
                Ok(all.into_iter().next().and_then(|own| own.metadata.name).unwrap_or_default())
            })
            .await
    };
    cluster.create::<Pod>("default", user("one", "node-1")).await?;
    let name = attached_to("node-1").await?;
    attachments.patch_status(&name, &Default::default(), &Patch::Merge(json!({"status": {"attached": true}}))).await?;
    cluster
        .eventually("the node's status says so", async || {
            let node = Api::<Node>::all(cluster.client()).get("node-1").await?;
            let volumes = node.status.unwrap_or_default().volumes_attached.unwrap_or_default();
            ensure!(volumes.iter().any(|own| own.name == "kubernetes.io/csi/disks.example.com^d-1"), "{volumes:?}");
            Ok(())
        })
        .await?;
    cluster.create::<Pod>("default", user("two", "node-2")).await?;
    let message = told(&cluster, "two", "FailedAttachVolume").await?;
    ensure!(message.starts_with("Multi-Attach error for volume \"disk\""), "{message}");
    cluster.api::<Pod>("default").delete("one", &Default::default()).await?;
    attached_to("node-2").await?;
    Ok(())
}
