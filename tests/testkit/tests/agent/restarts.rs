//! Containers that keep ending.

use anyhow::Result;
use serde_json::json;

use crate::objects::{create, events, gaps, get, one_machine, reach, running, seconds, show, state};

#[tokio::test(start_paused = true)]
async fn a_crash_loop_waits_longer_each_time_up_to_five_minutes() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    create(&cluster, running("exit 1")).await?;
    cluster.advance(seconds(1300)).await;
    let waits = gaps(&machine, |line| line.starts_with("start"));
    assert_eq!(waits[..7], [0, 10, 20, 40, 80, 160, 300]);
    let pod = get(&cluster).await?;
    assert!(show(&pod).starts_with("Running c=CrashLoopBackOff/"), "{}", show(&pod));
    let status = pod.status.unwrap_or_default().container_statuses.unwrap_or_default().remove(0);
    assert_eq!(state(status.last_state.as_ref()), "Error(1)");
    let message = status.state.and_then(|state| state.waiting?.message).unwrap_or_default();
    assert!(message.starts_with("back-off 5m0s restarting failed container=c pod=web_default("), "{message}");
    assert!(events(&cluster, "BackOff").await? >= 4);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn ten_good_minutes_are_forgiven() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    create(&cluster, running("serve")).await?;
    for delay in [1, 1, 11, 700, 1] {
        cluster.advance(seconds(delay)).await;
        let _ = machine.runtime.end("web", "c", 1);
    }
    cluster.advance(seconds(15)).await;
    let waits = gaps(&machine, |line| line.starts_with("start"));
    // It ran for 1 s each time, and waited 0, 10 and 20 s; then it ran for 680 s: 0 and 10 s again.
    assert_eq!(waits, [1, 11, 21, 680, 11]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_program_that_is_not_there_counts_as_one_that_ended() -> Result<()> {
    let (cluster, _machine) = one_machine().await?;
    create(&cluster, running("missing")).await?;
    cluster.advance(seconds(45)).await;
    let pod = get(&cluster).await?;
    assert_eq!(show(&pod), "Running c=CrashLoopBackOff/3");
    let status = pod.status.unwrap_or_default().container_statuses.unwrap_or_default().remove(0);
    assert_eq!(state(status.last_state.as_ref()), "StartError(128)");
    let message = status.last_state.and_then(|state| state.terminated?.message).unwrap_or_default();
    assert_eq!(message, "exec: \"missing\": no such file or directory");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_container_that_cannot_be_made_says_why_and_is_tried_again() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    machine.runtime.refuse("c", Some("no space left on device"));
    create(&cluster, running("serve")).await?;
    reach(&cluster, "Pending c=CreateContainerError/0").await?;
    machine.runtime.refuse("c", None);
    cluster.advance(seconds(10)).await;
    reach(&cluster, "Running c=running+/0").await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_cannot_be_connected_is_tried_again_and_does_not_flood_the_events() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    machine.network.refuse(Some("no link can be made"));
    create(&cluster, running("serve")).await?;
    reach(&cluster, "Pending c=ContainerCreating/0").await?;
    cluster.advance(seconds(3600)).await;
    let told = events(&cluster, "FailedCreatePodSandBox").await?;
    assert!((10..60).contains(&told), "told {told} times in an hour");
    machine.network.refuse(None);
    cluster.advance(seconds(20)).await;
    assert_eq!(show(&get(&cluster).await?), "Running c=running+/0");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn while_a_container_restarts_the_pod_is_not_ready_and_its_end_is_told() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    create(
        &cluster,
        json!({"containers": [
            {"name": "c", "image": "web:1"}, {"name": "d", "image": "web:1", "imagePullPolicy": "Always"},
        ]}),
    )
    .await?;
    reach(&cluster, "Running c=running+/0 d=running+/0").await?;
    machine.images.set_delay(seconds(5));
    machine.runtime.end("web", "d", 2)?;
    let pod = reach(&cluster, "Running c=running+/0 d=Error(2)/0").await?;
    assert_eq!(crate::objects::condition(&pod, "Ready"), "False");
    let pod = reach(&cluster, "Running c=running+/0 d=running+/1").await?;
    assert_eq!(crate::objects::condition(&pod, "Ready"), "True");
    Ok(())
}
