//! What outlives what.

use anyhow::{Result, ensure};
use corten_api::api::core::v1::Pod;
use serde_json::json;

use crate::objects::{condition, create, events, get, journal, one_machine, reach, running, seconds, show, state};

#[tokio::test(start_paused = true)]
async fn another_agent_takes_over_what_runs() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    let mut spec = running("serve");
    spec["containers"][0]["readinessProbe"] = json!({"exec": {"command": ["ready"]}, "periodSeconds": 30});
    create(&cluster, spec).await?;
    let before = reach(&cluster, "Running c=running+/0").await?;
    let id = machine.runtime.container("web", "c")?.id;
    cluster.advance(seconds(100)).await;
    machine.stop_agent().await;
    cluster.advance(seconds(5)).await;
    machine.start_agent().await;
    for _ in 0..120 {
        cluster.advance(seconds(1)).await;
        assert_eq!(condition(&get(&cluster).await?, "Ready"), "True", "it must not flap");
    }
    let after = get(&cluster).await?;
    assert_eq!(show(&after), "Running c=running+/0");
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version, "there was nothing to write");
    assert_eq!(machine.runtime.container("web", "c")?.id, id);
    // And it is looked after.
    machine.runtime.end("web", "c", 1)?;
    reach(&cluster, "Running c=running+/1").await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_ended_and_what_was_deleted_while_no_agent_looked_is_noticed() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    create(&cluster, running("serve")).await?;
    crate::objects::create_named(&cluster, "other", running("serve")).await?;
    reach(&cluster, "Running c=running+/0").await?;
    cluster.advance(seconds(5)).await;
    machine.stop_agent().await;
    machine.runtime.end("web", "c", 9)?;
    let force = kube::api::DeleteParams::default().grace_period(0);
    cluster.api::<Pod>("default").delete("other", &force).await?;
    machine.start_agent().await;
    let pod = reach(&cluster, "Running c=running+/1").await?;
    let last = pod.status.and_then(|status| status.container_statuses?.into_iter().next()?.last_state);
    assert_eq!(state(last.as_ref()), "Error(9)");
    assert_eq!(machine.runtime.pods().len(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_end_just_before_the_takeover_is_not_missed() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    create(&cluster, running("serve")).await?;
    reach(&cluster, "Running c=running+/0").await?;
    for attempt in 1..=6 {
        cluster.advance(seconds(700)).await;
        machine.stop_agent().await;
        let agent = machine.start_agent_alone();
        // While it starts, at another moment each time.
        for _ in 0..attempt * 7 {
            tokio::task::yield_now().await;
        }
        machine.runtime.end("web", "c", 1)?;
        agent.ready().await;
        reach(&cluster, &format!("Running c=running+/{attempt}")).await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_lost_supervisor_is_replaced_and_init_containers_run_again() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    let init = json!([{"name": "a", "image": "web:1", "command": ["exit", "0"]}]);
    create(&cluster, json!({"initContainers": init, "containers": running("serve")["containers"]})).await?;
    reach(&cluster, "Running a=Completed(0)+/0 c=running+/0").await?;
    machine.runtime.lose("web")?;
    let pod = reach(&cluster, "Running a=Completed(0)+/1 c=running+/1").await?;
    let last = pod.status.and_then(|status| status.container_statuses?.into_iter().next()?.last_state);
    assert_eq!(state(last.as_ref()), "Error(137)");
    assert_eq!(events(&cluster, "SandboxChanged").await?, 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_everything_that_should_run_starts_again_and_only_that() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    let mut spec = running("serve");
    spec["restartPolicy"] = json!("OnFailure");
    spec["containers"].as_array_mut().expect("a list").push(json!(
        {"name": "done", "image": "web:1", "command": ["exit", "0"]}
    ));
    create(&cluster, spec).await?;
    reach(&cluster, "Running c=running+/0 done=Completed(0)/0").await?;
    for restarts in 1..=2 {
        machine.reboot().await;
        let pod = reach(&cluster, &format!("Running c=running+/{restarts} done=Completed(0)/0")).await?;
        let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
        assert_eq!(state(statuses[0].last_state.as_ref()), "ContainerStatusUnknown(137)");
    }
    assert_eq!(machine.runtime.times("start web/done 0").len(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_does_not_take_its_pod_with_it() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    create(&cluster, json!({"containers": [{"name": "c", "image": "web:1"}, {"name": "d", "image": "web:1"}]})).await?;
    reach(&cluster, "Running c=running+/0 d=running+/0").await?;
    // A pod that is gone from the API and still ends keeps its link meanwhile.
    crate::objects::create_named(&cluster, "other", running("stubborn")).await?;
    cluster
        .eventually("the other pod", async || {
            ensure!(machine.runtime.container("other", "c").is_ok());
            Ok(())
        })
        .await?;
    let force = kube::api::DeleteParams::default().grace_period(0);
    cluster.api::<Pod>("default").delete("other", &force).await?;
    let kept = machine.runtime.container("web", "c")?.id;
    machine.runtime.plant_bomb("d");
    machine.runtime.end("web", "d", 1)?;
    reach(&cluster, "Running c=running+/0 d=running+/1").await?;
    assert_eq!(machine.runtime.container("web", "c")?.id, kept);
    assert_eq!(machine.network.links().len(), 2);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn without_the_api_server_containers_go_on_and_are_told_of_later() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    create(&cluster, running("serve")).await?;
    reach(&cluster, "Running c=running+/0").await?;
    machine.wire.cut();
    cluster.advance(seconds(5)).await;
    machine.runtime.end("web", "c", 4)?;
    cluster.advance(seconds(60)).await;
    assert_eq!(journal(&machine), ["create web", "start web/c 0", "start web/c 1"]);
    assert_eq!(show(&get(&cluster).await?), "Running c=running+/0");
    machine.wire.mend();
    let pod = reach(&cluster, "Running c=running+/1").await?;
    cluster
        .eventually("it is ready again", async || {
            ensure!(condition(&get(&cluster).await?, "Ready") == "True");
            Ok(())
        })
        .await?;
    let last = pod.status.and_then(|status| status.container_statuses?.into_iter().next()?.last_state);
    assert_eq!(state(last.as_ref()), "Error(4)");
    Ok(())
}
