//! StatefulSets, DaemonSets and ReplicationControllers.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use corten_api::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use corten_api::api::core::v1::{Node, PersistentVolumeClaim, Pod, ReplicationController, ResourceQuota};
use corten_testkit::Cluster;
use futures::StreamExt;
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::objects::{image, is_ready};

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn stateful(replicas: u32, image: &str) -> Value {
    json!({"metadata": {"name": "db"}, "spec": {
        "replicas": replicas, "serviceName": "dbs", "selector": {"matchLabels": {"app": "x"}},
        "template": template(image),
    }})
}

fn to_image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

/// Name and image of every pod that is ready, in order.
async fn serving(cluster: &Cluster) -> Result<String> {
    let pods = cluster.list::<Pod>("default").await?;
    let words = pods.iter().map(|pod| {
        let mark = if is_ready(pod) && pod.metadata.deletion_timestamp.is_none() { "" } else { "?" };
        format!("{}={}{mark}", pod.name_any(), image(pod))
    });
    Ok(words.collect::<Vec<_>>().join(" "))
}

async fn settled(cluster: &Cluster, wanted: &str) -> Result<()> {
    cluster
        .eventually(wanted, async || {
            let now = serving(cluster).await?;
            ensure!(now == wanted, "{now}");
            Ok(())
        })
        .await
}

/// What happened to pods since a resourceVersion: `+name` made, `-name` gone.
async fn story(cluster: &Cluster, since: &str) -> Result<String> {
    let mut events = cluster.api::<Pod>("default").watch(&WatchParams::default(), since).await?.boxed();
    let mut words = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_secs(1), events.next()).await {
        match event? {
            WatchEvent::Added(pod) => words.push(format!("+{}", pod.name_any())),
            WatchEvent::Deleted(pod) => words.push(format!("-{}", pod.name_any())),
            _ => {}
        }
    }
    Ok(words.join(" "))
}

async fn version(cluster: &Cluster) -> Result<String> {
    let list = cluster.api::<Pod>("default").list(&Default::default()).await?;
    Ok(list.metadata.resource_version.unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn a_stateful_set_comes_up_rolls_and_goes_in_order() -> Result<()> {
    let cluster = Cluster::in_process(2).await?;
    let start = version(&cluster).await?;
    cluster.create::<StatefulSet>("default", stateful(3, "db:1")).await?;
    settled(&cluster, "db-0=db:1 db-1=db:1 db-2=db:1").await?;
    assert_eq!(story(&cluster, &start).await?, "+db-0 +db-1 +db-2");

    let start = version(&cluster).await?;
    cluster.patch::<StatefulSet>("default", "db", to_image("db:2")).await?;
    settled(&cluster, "db-0=db:2 db-1=db:2 db-2=db:2").await?;
    assert_eq!(story(&cluster, &start).await?, "-db-2 +db-2 -db-1 +db-1 -db-0 +db-0");
    cluster
        .eventually("the rollout is complete", async || {
            let status = cluster.api::<StatefulSet>("default").get("db").await?.status.unwrap_or_default();
            ensure!(status.current_revision == status.update_revision, "{status:?}");
            ensure!(status.updated_replicas == Some(3) && status.current_replicas == Some(3), "{status:?}");
            Ok(())
        })
        .await?;

    let start = version(&cluster).await?;
    cluster.patch::<StatefulSet>("default", "db", json!({"spec": {"replicas": 1}})).await?;
    settled(&cluster, "db-0=db:2").await?;
    assert_eq!(story(&cluster, &start).await?, "-db-2 -db-1");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_broken_stateful_set_stops_and_undoing_mends_it() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    cluster.create::<StatefulSet>("default", stateful(2, "db:1")).await?;
    settled(&cluster, "db-0=db:1 db-1=db:1").await?;
    cluster.patch::<StatefulSet>("default", "db", to_image("db:broken")).await?;
    settled(&cluster, "db-0=db:1 db-1=db:broken?").await?;
    cluster.advance(Duration::from_secs(60)).await;
    assert_eq!(serving(&cluster).await?, "db-0=db:1 db-1=db:broken?", "it goes no further");

    // What `kubectl rollout undo` does: the patch that the first revision keeps.
    let mut revisions = cluster.list::<ControllerRevision>("default").await?;
    revisions.sort_by_key(|revision| revision.revision);
    assert_eq!(revisions.iter().map(|own| own.revision).collect::<Vec<_>>(), [1, 2]);
    let data = revisions[0].data.clone().map(|data| data.0).unwrap_or_default();
    let api = cluster.api::<StatefulSet>("default");
    api.patch("db", &PatchParams::default(), &Patch::Strategic(data)).await?;
    settled(&cluster, "db-0=db:1 db-1=db:1").await?;
    let mut numbers: Vec<(i64, String)> =
        cluster.list::<ControllerRevision>("default").await?.iter().map(|own| (own.revision, own.name_any())).collect();
    numbers.sort();
    assert_eq!(numbers, [(2, revisions[1].name_any()), (3, revisions[0].name_any())], "no third one is made");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn claims_outlive_their_pods_unless_the_set_says_otherwise() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    let mut object = stateful(2, "db:1");
    object["spec"]["podManagementPolicy"] = json!("Parallel");
    object["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
    }}]);
    cluster.create::<StatefulSet>("default", object).await?;
    let names = async || -> Result<String> {
        let claims = cluster.list::<PersistentVolumeClaim>("default").await?;
        Ok(claims.iter().map(ResourceExt::name_any).collect::<Vec<_>>().join(" "))
    };
    let claims = async |wanted: &str| {
        cluster
            .eventually(wanted, async || {
                let now = names().await?;
                ensure!(now == wanted, "{now}");
                Ok(())
            })
            .await
    };
    claims("data-db-0 data-db-1").await?;
    let to = |replicas: u32| json!({"spec": {"replicas": replicas}});
    cluster.patch::<StatefulSet>("default", "db", to(1)).await?;
    cluster.advance(Duration::from_secs(60)).await;
    assert_eq!(names().await?, "data-db-0 data-db-1", "they stay");

    let policy = json!({"spec": {"replicas": 2, "persistentVolumeClaimRetentionPolicy": {
        "whenScaled": "Delete", "whenDeleted": "Delete"}}});
    cluster.patch::<StatefulSet>("default", "db", policy).await?;
    cluster
        .eventually("both pods are there", async || {
            ensure!(cluster.list::<Pod>("default").await?.len() == 2);
            Ok(())
        })
        .await?;
    cluster.patch::<StatefulSet>("default", "db", to(1)).await?;
    claims("data-db-0").await?;
    cluster.api::<StatefulSet>("default").delete("db", &Default::default()).await?;
    claims("").await
}

#[tokio::test(start_paused = true)]
async fn a_daemon_runs_on_every_node_that_fits() -> Result<()> {
    let cluster = Cluster::in_process(2).await?;
    let mut template = template("agent:1");
    template["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchExpressions": [{"key": "idle", "operator": "DoesNotExist"}]}]}}});
    let object = json!({"metadata": {"name": "agent"}, "spec": {
        "selector": {"matchLabels": {"app": "x"}}, "template": template}});
    cluster.create::<DaemonSet>("default", object).await?;
    let on = async |wanted: &[(&str, &str)]| {
        cluster
            .eventually("pods are where they should be", async || {
                let pods = cluster.list::<Pod>("default").await?;
                let ready = pods.iter().filter(|pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none());
                let node = |pod: &Pod| pod.spec.clone().and_then(|spec| spec.node_name).unwrap_or_default();
                let mut now: Vec<(String, String)> = ready.map(|pod| (node(pod), image(pod).to_owned())).collect();
                now.sort();
                let wanted: Vec<(String, String)> =
                    wanted.iter().map(|(node, image)| ((*node).to_owned(), (*image).to_owned())).collect();
                ensure!(now == wanted && pods.len() == wanted.len(), "{now:?}, {} pods", pods.len());
                Ok(())
            })
            .await
    };
    on(&[("node-1", "agent:1"), ("node-2", "agent:1")]).await?;
    cluster.add_node(3).await?;
    on(&[("node-1", "agent:1"), ("node-2", "agent:1"), ("node-3", "agent:1")]).await?;

    let nodes: Api<Node> = Api::all(cluster.client());
    let label = |value: Value| Patch::Merge(json!({"metadata": {"labels": {"idle": value}}}));
    nodes.patch("node-2", &PatchParams::default(), &label(json!("yes"))).await?;
    on(&[("node-1", "agent:1"), ("node-3", "agent:1")]).await?;
    cluster.patch::<DaemonSet>("default", "agent", to_image("agent:2")).await?;
    on(&[("node-1", "agent:2"), ("node-3", "agent:2")]).await?;
    nodes.patch("node-2", &PatchParams::default(), &label(json!(null))).await?;
    on(&[("node-1", "agent:2"), ("node-2", "agent:2"), ("node-3", "agent:2")]).await?;

    cluster
        .eventually("the status says so", async || {
            let set = cluster.api::<DaemonSet>("default").get("agent").await?;
            let status = set.status.unwrap_or_default();
            let numbers = [
                status.desired_number_scheduled,
                status.current_number_scheduled,
                status.updated_number_scheduled.unwrap_or(0),
                status.number_available.unwrap_or(0),
            ];
            ensure!(numbers == [3; 4] && status.observed_generation == set.metadata.generation, "{status:?}");
            Ok(())
        })
        .await?;
    let mut revisions = cluster.list::<ControllerRevision>("default").await?;
    revisions.sort_by_key(|revision| revision.revision);
    assert_eq!(revisions.len(), 2);
    // To the byte what Go makes of the template: clients compare it with their own.
    let kept = revisions[0].data.clone().map(|data| data.0.to_string()).unwrap_or_default();
    let wanted = concat!(
        r#"{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"app":"x"}},"spec":{"affinity":{"nodeAffinity":"#,
        r#"{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":"#,
        r#"[{"key":"idle","operator":"DoesNotExist"}]}]}}},"containers":[{"image":"agent:1","imagePullPolicy":"#,
        r#""IfNotPresent","name":"c","resources":{},"terminationMessagePath":"/dev/termination-log","#,
        r#""terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"#,
        r#""default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}}}"#
    );
    assert_eq!(kept, wanted);
    // A failed pod is replaced.
    let first = cluster.list::<Pod>("default").await?[0].name_any();
    let failed = Patch::Merge(json!({"status": {"phase": "Failed"}}));
    cluster.api::<Pod>("default").patch_status(&first, &PatchParams::default(), &failed).await?;
    cluster
        .eventually("the failed pod is gone", async || {
            ensure!(cluster.api::<Pod>("default").get_opt(&first).await?.is_none());
            Ok(())
        })
        .await?;
    on(&[("node-1", "agent:2"), ("node-2", "agent:2"), ("node-3", "agent:2")]).await
}

#[tokio::test(start_paused = true)]
async fn a_replication_controller_adopts_releases_and_says_when_it_cannot() -> Result<()> {
    let cluster = Cluster::in_process(1).await?;
    let orphan = json!({"metadata": {"name": "orphan", "labels": {"app": "x"}}, "spec": {"containers": [
        {"name": "c", "image": "web:1"}]}});
    cluster.create::<Pod>("default", orphan).await?;
    let object = json!({"metadata": {"name": "rc"}, "spec": {"replicas": 2, "template": template("web:1")}});
    cluster.create::<ReplicationController>("default", object).await?;
    let owners = async || -> Result<BTreeMap<String, String>> {
        let pods = cluster.list::<Pod>("default").await?;
        let owner = |pod: &Pod| pod.owner_references().first().map_or("nobody".to_owned(), |own| own.name.clone());
        Ok(pods.iter().map(|pod| (pod.name_any(), owner(pod))).collect())
    };
    cluster
        .eventually("the orphan is adopted", async || {
            let now = owners().await?;
            ensure!(now.len() == 2 && now.values().all(|own| own == "rc"), "{now:?}");
            Ok(())
        })
        .await?;
    let other = json!({"metadata": {"labels": {"app": "y"}}});
    cluster.patch::<Pod>("default", "orphan", other).await?;
    cluster
        .eventually("it is released and replaced", async || {
            let now = owners().await?;
            ensure!(now.len() == 3 && now["orphan"] == "nobody", "{now:?}");
            Ok(())
        })
        .await?;

    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"pods": "3"}}});
    cluster.create::<ResourceQuota>("default", quota).await?;
    let fails = async |wanted: bool| {
        cluster
            .eventually("the condition", async || {
                let status =
                    cluster.api::<ReplicationController>("default").get("rc").await?.status.unwrap_or_default();
                let mut conditions = status.conditions.iter().flatten();
                let failed = conditions.any(|own| {
                    own.type_ == "ReplicaFailure"
                        && own.status == "True"
                        && own.reason.as_deref() == Some("FailedCreate")
                });
                ensure!(failed == wanted, "{status:?}");
                Ok(())
            })
            .await
    };
    cluster.patch::<ReplicationController>("default", "rc", json!({"spec": {"replicas": 4}})).await?;
    fails(true).await?;
    cluster.patch::<ReplicationController>("default", "rc", json!({"spec": {"replicas": 2}})).await?;
    fails(false).await
}

#[tokio::test(start_paused = true)]
async fn what_is_as_it_should_be_is_left_alone() -> Result<()> {
    let cluster = Cluster::in_process(2).await?;
    let labelled = |app: &str| {
        let mut template = template("x:1");
        template["metadata"]["labels"] = json!({"app": app});
        json!({"metadata": {"name": app}, "spec": {
            "selector": {"matchLabels": {"app": app}}, "minReadySeconds": 5, "template": template}})
    };
    cluster.create::<StatefulSet>("default", labelled("one")).await?;
    cluster.create::<DaemonSet>("default", labelled("two")).await?;
    cluster.create::<Deployment>("default", labelled("three")).await?;
    let mut plain = labelled("four");
    plain["spec"]["selector"] = json!({"app": "four"});
    cluster.create::<ReplicationController>("default", plain).await?;
    let versions = async || -> Result<Vec<(String, Option<String>)>> {
        let mut all = Vec::new();
        let mut note = |name: String, version| all.push((name, version));
        let pods = cluster.list::<Pod>("default").await?;
        pods.iter().for_each(|own| note(own.name_any(), own.resource_version()));
        let sets = cluster.list::<StatefulSet>("default").await?;
        sets.iter().for_each(|own| note(own.name_any(), own.resource_version()));
        let sets = cluster.list::<DaemonSet>("default").await?;
        sets.iter().for_each(|own| note(own.name_any(), own.resource_version()));
        let deployments = cluster.list::<Deployment>("default").await?;
        deployments.iter().for_each(|own| note(own.name_any(), own.resource_version()));
        let sets = cluster.list::<ReplicaSet>("default").await?;
        sets.iter().for_each(|own| note(own.name_any(), own.resource_version()));
        let controllers = cluster.list::<ReplicationController>("default").await?;
        controllers.iter().for_each(|own| note(own.name_any(), own.resource_version()));
        let revisions = cluster.list::<ControllerRevision>("default").await?;
        revisions.iter().for_each(|own| note(own.name_any(), own.resource_version()));
        Ok(all)
    };
    cluster.advance(Duration::from_secs(60)).await;
    let before = versions().await?;
    // Five pods, five owners, two revisions.
    assert_eq!(before.len(), 12, "{before:?}");
    cluster.advance(Duration::from_secs(1200)).await;
    assert_eq!(versions().await?, before);
    Ok(())
}
