//! What probes lead to.

use anyhow::{Result, ensure};
use corten_api::api::core::v1::{Endpoints, Service};
use corten_testkit::Cluster;
use serde_json::json;

use crate::objects::{condition, create, events, get, journal, one_machine, reach, running, seconds, show, state};

#[tokio::test(start_paused = true)]
async fn failing_liveness_restarts_the_container() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    let mut spec = running("serve");
    spec["containers"][0]["livenessProbe"] = json!({"exec": {"command": ["alive"]}, "periodSeconds": 5});
    create(&cluster, spec).await?;
    reach(&cluster, "Running c=running+/0").await?;
    machine.runtime.answer("alive", 1);
    cluster.advance(seconds(16)).await;
    machine.runtime.answer("alive", 0);
    let pod = reach(&cluster, "Running c=running+/1").await?;
    let last = pod.status.and_then(|status| status.container_statuses?.into_iter().next()?.last_state);
    assert_eq!(state(last.as_ref()), "Completed(0)");
    assert_eq!(journal(&machine), ["create web", "start web/c 0", "signal web/c 15", "start web/c 1"]);
    assert_eq!((events(&cluster, "Unhealthy").await?, events(&cluster, "Killing").await?), (3, 1));
    cluster.advance(seconds(600)).await;
    assert_eq!(show(&get(&cluster).await?), "Running c=running+/1");
    Ok(())
}

async fn addresses(cluster: &Cluster, count: usize) -> Result<()> {
    cluster
        .eventually("endpoints", async || {
            let endpoints = cluster.api::<Endpoints>("default").get("web").await?;
            let own = endpoints.subsets.iter().flatten().flat_map(|own| own.addresses.iter().flatten()).count();
            ensure!(own == count, "{own} addresses");
            Ok(())
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn readiness_decides_who_is_behind_a_service() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    cluster.create::<Service>("default", service).await?;
    let mut spec = running("serve");
    spec["containers"][0]["readinessProbe"] =
        json!({"exec": {"command": ["ready"]}, "periodSeconds": 1, "failureThreshold": 2});
    machine.runtime.answer("ready", 1);
    create(&cluster, spec).await?;
    reach(&cluster, "Running c=running/0").await?;
    addresses(&cluster, 0).await?;
    machine.runtime.answer("ready", 0);
    reach(&cluster, "Running c=running+/0").await?;
    addresses(&cluster, 1).await?;
    machine.runtime.answer("ready", 1);
    let pod = reach(&cluster, "Running c=running/0").await?;
    assert_eq!(condition(&pod, "Ready"), "False");
    addresses(&cluster, 0).await?;
    assert_eq!(journal(&machine).len(), 2, "nothing is restarted for that");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_slow_start_is_waited_for_and_one_that_is_too_slow_is_not() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    let mut spec = running("serve");
    let own = &mut spec["containers"][0];
    own["startupProbe"] = json!({"exec": {"command": ["up"]}, "periodSeconds": 10, "failureThreshold": 6});
    own["livenessProbe"] = json!({"exec": {"command": ["alive"]}, "periodSeconds": 1, "failureThreshold": 1});
    machine.runtime.answer("up", 1);
    machine.runtime.answer("alive", 1);
    create(&cluster, spec).await?;
    reach(&cluster, "Running c=running/0").await?;
    cluster.advance(seconds(45)).await;
    assert_eq!(show(&get(&cluster).await?), "Running c=running/0", "liveness is not asked yet");
    cluster.advance(seconds(20)).await;
    reach(&cluster, "Running c=running/1").await?;
    machine.runtime.answer("alive", 0);
    machine.runtime.answer("up", 0);
    reach(&cluster, "Running c=running+/1").await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_comes_back_during_a_start_still_sees_it_succeed() -> Result<()> {
    let (cluster, machine) = one_machine().await?;
    let mut spec = running("serve");
    spec["containers"][0]["startupProbe"] =
        json!({"exec": {"command": ["up"]}, "periodSeconds": 5, "failureThreshold": 100});
    machine.runtime.answer("up", 1);
    create(&cluster, spec).await?;
    reach(&cluster, "Running c=running/0").await?;
    cluster.advance(seconds(10)).await;
    machine.stop_agent().await;
    machine.start_agent().await;
    cluster.advance(seconds(10)).await;
    machine.runtime.answer("up", 0);
    reach(&cluster, "Running c=running+/0").await?;
    Ok(())
}
