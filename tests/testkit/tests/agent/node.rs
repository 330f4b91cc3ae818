//! The node itself.

use anyhow::{Result, ensure};
use corten_api::api::coordination::v1::Lease;
use corten_api::api::core::v1::{Node, Pod};
use corten_testkit::Cluster;
use kube::{Api, ResourceExt};

use crate::objects::{condition, create, get, journal, one_machine, reach, running, seconds, show};

async fn node(cluster: &Cluster) -> Result<Node> {
    Ok(Api::<Node>::all(cluster.client()).get("node-1").await?)
}

fn ready(node: &Node) -> String {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let own = conditions.into_iter().flatten().find(|own| own.type_ == "Ready");
    own.map(|own| own.status.clone()).unwrap_or_default()
}

fn taints(node: &Node) -> usize {
    node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).map_or(0, Vec::len)
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_out_of_reach_is_back_in_seconds() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    create(&cluster, running("serve")).await?;
    reach(&cluster, "Running c=running+/0").await?;
    machine.wire.cut();
    cluster.advance(seconds(70)).await;
    let away = node(&cluster).await?;
    // Where all nodes are out of reach, it is the network: nothing is placed there, and nothing is evicted.
    assert_eq!((ready(&away).as_str(), taints(&away)), ("Unknown", 1));
    assert_eq!(condition(&get(&cluster).await?, "Ready"), "False");
    machine.wire.mend();
    cluster.advance(seconds(10)).await;
    let back = node(&cluster).await?;
    assert_eq!((ready(&back).as_str(), taints(&back)), ("True", 0));
    // A watch that broke is tried again within a minute.
    cluster
        .eventually("the pod is in service again", async || {
            ensure!(condition(&get(&cluster).await?, "Ready") == "True");
            Ok(())
        })
        .await?;
    assert_eq!(show(&get(&cluster).await?), "Running c=running+/0");
    assert_eq!(journal(&machine).len(), 2);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_node_deleted_by_hand_registers_again() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    create(&cluster, running("serve")).await?;
    reach(&cluster, "Running c=running+/0").await?;
    Api::<Node>::all(cluster.client()).delete("node-1", &Default::default()).await?;
    let back = cluster
        .eventually("the node is back", async || {
            let node = node(&cluster).await?;
            ensure!(ready(&node) == "True" && taints(&node) == 0, "{} {}", ready(&node), taints(&node));
            Ok(node)
        })
        .await?;
    cluster.advance(seconds(60)).await;
    let lease = Api::<Lease>::namespaced(cluster.client(), "kube-node-lease").get("node-1").await?;
    let owner = lease.owner_references().first().map(|owner| owner.uid.clone());
    assert_eq!(owner, back.uid(), "the lease is the new node's");
    assert_eq!(ready(&node(&cluster).await?), "True");
    // Its pods belonged to the node that is gone; new ones run.
    crate::objects::create_named(&cluster, "next", running("serve")).await?;
    cluster
        .eventually("a new pod", async || {
            let pod = cluster.api::<Pod>("default").get("next").await?;
            ensure!(condition(&pod, "Ready") == "True", "{}", show(&pod));
            Ok(())
        })
        .await?;
    ensure!(machine.runtime.container("next", "c")?.exit.is_none());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_idle_agent_writes_nothing_but_its_lease() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    create(&cluster, running("serve")).await?;
    reach(&cluster, "Running c=running+/0").await?;
    cluster.advance(seconds(30)).await;
    drop(machine.wire.take_writes());
    cluster.advance(seconds(3600)).await;
    let mut writes = machine.wire.take_writes();
    let leases = writes.iter().filter(|line| line.contains("/leases/")).count();
    assert!((355..=362).contains(&leases), "{leases}");
    writes.retain(|line| !line.contains("/leases/"));
    // As upstream, an unchanged node status every five minutes, and a new token for the pod before the hour is over.
    let status = writes.iter().filter(|line| *line == "PATCH /api/v1/nodes/node-1/status").count();
    assert!(status <= 12, "{status}");
    writes.retain(|line| {
        line != "PATCH /api/v1/nodes/node-1/status" && !line.ends_with("/serviceaccounts/default/token")
    });
    assert!(writes.is_empty(), "{writes:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_somebody_gave_a_node_is_given_out_and_taken_back() -> Result<()> {
    let (cluster, _machine) = one_machine().await?;
    let api: Api<Node> = Api::all(cluster.client());
    for amount in [Some("5"), Some("6"), None] {
        let patch = serde_json::json!({"status": {"capacity": {"example.com/device": amount}}});
        api.patch_status("node-1", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(patch)).await?;
        cluster
            .eventually("it is told", async || {
                let status = node(&cluster).await?.status.unwrap_or_default();
                let gives = status.allocatable.unwrap_or_default().get("example.com/device").map(|own| own.0.clone());
                ensure!(gives.as_deref() == amount, "{gives:?}");
                Ok(())
            })
            .await?;
    }
    Ok(())
}
