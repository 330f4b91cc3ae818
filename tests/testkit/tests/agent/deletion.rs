//! How pods end when somebody wants them to.

use anyhow::Result;
use corten_api::api::core::v1::Pod;
use corten_testkit::Cluster;
use kube::api::DeleteParams;
use serde_json::json;

use crate::objects::{create, gaps, get, gone, journal, one_machine, reach, running, seconds, show};

async fn delete(cluster: &Cluster, grace: Option<u32>) -> Result<()> {
    let options = DeleteParams { grace_period_seconds: grace, ..DeleteParams::default() };
    cluster.api::<Pod>("default").delete("web", &options).await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_ends_by_itself_and_then_it_is_gone() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    let uid = create(&cluster, running("slow 3")).await?.metadata.uid.unwrap_or_default();
    reach(&cluster, "Running c=running+/0").await?;
    delete(&cluster, None).await?;
    cluster.advance(seconds(2)).await;
    assert_eq!(show(&get(&cluster).await?), "Running c=running+/0", "it is still ending");
    gone(&cluster).await?;
    assert_eq!(journal(&machine), ["create web", "start web/c 0", "signal web/c 15", "remove web"]);
    assert!(machine.network.links().is_empty() && !machine.has_files_of(&uid));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_stubborn_container_is_killed_when_its_time_is_over() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    create(&cluster, running("stubborn")).await?;
    reach(&cluster, "Running c=running+/0").await?;
    machine.images.set_find_delay(std::time::Duration::from_millis(3));
    delete(&cluster, None).await?;
    cluster.advance(seconds(29)).await;
    assert_eq!(show(&get(&cluster).await?), "Running c=running+/0");
    gone(&cluster).await?;
    assert_eq!(journal(&machine)[2..], ["signal web/c 15", "kill web/c", "remove web"]);
    assert_eq!(gaps(&machine, |line| line.starts_with("signal") || line.starts_with("kill")), [30]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_second_deletion_may_be_shorter() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    create(&cluster, running("stubborn")).await?;
    reach(&cluster, "Running c=running+/0").await?;
    delete(&cluster, Some(600)).await?;
    cluster.advance(seconds(10)).await;
    delete(&cluster, Some(5)).await?;
    gone(&cluster).await?;
    assert_eq!(gaps(&machine, |line| line.starts_with("signal") || line.starts_with("kill")), [15]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_forced_deletion_leaves_nothing_behind() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    let mut spec = running("stubborn");
    spec["terminationGracePeriodSeconds"] = json!(20);
    let uid = create(&cluster, spec).await?.metadata.uid.unwrap_or_default();
    reach(&cluster, "Running c=running+/0").await?;
    delete(&cluster, Some(0)).await?;
    gone(&cluster).await?;
    // As upstream: the process still gets the time that the pod asked for.
    cluster.advance(seconds(21)).await;
    assert_eq!(journal(&machine)[2..], ["signal web/c 15", "kill web/c", "remove web"]);
    assert!(machine.network.links().is_empty() && !machine.has_files_of(&uid));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn sidecars_share_the_time_of_the_pod() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    let mut side = json!({"name": "side", "image": "web:1", "command": ["stubborn"], "restartPolicy": "Always"});
    side["terminationMessagePath"] = json!("/dev/termination-log");
    let mut spec = running("stubborn");
    spec["initContainers"] = json!([side]);
    create(&cluster, spec).await?;
    reach(&cluster, "Running side=running+/0 c=running+/0").await?;
    delete(&cluster, Some(10)).await?;
    gone(&cluster).await?;
    let ends = ["signal web/c 15", "kill web/c", "signal web/side 15", "kill web/side"];
    assert_eq!(journal(&machine)[3..7], ends);
    assert_eq!(gaps(&machine, |line| ends.contains(&line)), [10, 0, 2]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_somebody_holds_ends_with_a_final_phase_and_stays() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    create(&cluster, running("serve")).await?;
    reach(&cluster, "Running c=running+/0").await?;
    let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    cluster.patch::<Pod>("default", "web", hold).await?;
    delete(&cluster, None).await?;
    reach(&cluster, "Succeeded c=Completed(0)/0").await?;
    cluster.patch::<Pod>("default", "web", json!({"metadata": {"labels": {"more": "yes"}}})).await?;
    cluster.advance(seconds(60)).await;
    assert_eq!(show(&get(&cluster).await?), "Succeeded c=Completed(0)/0");
    assert_eq!(journal(&machine).len(), 4, "nothing was started again");
    cluster.patch::<Pod>("default", "web", json!({"metadata": {"finalizers": null}})).await?;
    gone(&cluster).await
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_cannot_be_removed_is_tried_again() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    create(&cluster, running("serve")).await?;
    reach(&cluster, "Running c=running+/0").await?;
    machine.runtime.cling(Some("device or resource busy"));
    delete(&cluster, None).await?;
    cluster.advance(seconds(600)).await;
    get(&cluster).await?;
    let told = crate::objects::events(&cluster, "FailedKillPod").await?;
    assert!((2..60).contains(&told), "told {told} times");
    machine.runtime.cling(None);
    gone(&cluster).await
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_waits_for_its_image_goes_at_once() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    machine.images.evict("web:1");
    machine.images.set_delay(seconds(500));
    create(&cluster, running("serve")).await?;
    reach(&cluster, "Pending c=ContainerCreating/0").await?;
    delete(&cluster, None).await?;
    cluster.advance(seconds(1)).await;
    gone(&cluster).await
}
