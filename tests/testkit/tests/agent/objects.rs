//! What the scenarios make, and how they look at it.

use std::time::Duration;

use anyhow::{Result, ensure};
use corten_api::api::core::v1::{ContainerState, Event, Pod};
use corten_testkit::{Cluster, Machine};
use serde_json::{Value, json};

/// A cluster of one machine.
pub(crate) async fn one_machine() -> Result<(Cluster, Machine)> {
    let cluster = Cluster::in_process(0).await?;
    let machine = cluster.add_machine("node-1").await?;
    Ok((cluster, machine))
}

/// A container `c` with this command.
pub(crate) fn container(command: &str) -> Value {
    json!({"name": "c", "image": "web:1", "command": command.split(' ').collect::<Vec<_>>()})
}

/// A spec of one container `c` with this command.
pub(crate) fn running(command: &str) -> Value {
    json!({"containers": [container(command)]})
}

/// Creates the pod `web` and returns it.
pub(crate) async fn create(cluster: &Cluster, spec: Value) -> Result<Pod> {
    create_named(cluster, "web", spec).await
}

/// Creates a pod, once its namespace lets it in.
pub(crate) async fn create_named(cluster: &Cluster, name: &str, spec: Value) -> Result<Pod> {
    let object = json!({"metadata": {"name": name, "labels": {"app": "web"}}, "spec": spec});
    cluster.eventually("the pod is let in", async || cluster.create::<Pod>("default", object.clone()).await).await
}

pub(crate) async fn get(cluster: &Cluster) -> Result<Pod> {
    Ok(cluster.api::<Pod>("default").get("web").await?)
}

/// A pod in a line: phase, then each container's state, `+` if it is ready, and its restarts.
pub(crate) fn show(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let mut text = status.phase.unwrap_or_default();
    for own in status.init_container_statuses.iter().chain(&status.container_statuses).flatten() {
        let ready = if own.ready { "+" } else { "" };
        text += &format!(" {}={}{ready}/{}", own.name, state(own.state.as_ref()), own.restart_count);
    }
    text
}

/// A state in a word.
pub(crate) fn state(state: Option<&ContainerState>) -> String {
    let Some(state) = state else { return "none".to_owned() };
    match (&state.waiting, &state.running, &state.terminated) {
        (Some(waiting), ..) => waiting.reason.clone().unwrap_or_default(),
        (_, Some(_), _) => "running".to_owned(),
        (.., Some(ended)) => format!("{}({})", ended.reason.clone().unwrap_or_default(), ended.exit_code),
        _ => "none".to_owned(),
    }
}

/// Waits until the pod `web` looks like this.
pub(crate) async fn reach(cluster: &Cluster, expected: &str) -> Result<Pod> {
    cluster
        .eventually(expected, async || {
            let pod = get(cluster).await?;
            let shown = show(&pod);
            ensure!(shown == expected, "{shown}");
            Ok(pod)
        })
        .await
}

/// Waits until the pod `web` is gone.
pub(crate) async fn gone(cluster: &Cluster) -> Result<()> {
    cluster
        .eventually("the pod is gone", async || {
            let pod = cluster.api::<Pod>("default").get_opt("web").await?;
            ensure!(pod.is_none(), "{}", pod.as_ref().map(show).unwrap_or_default());
            Ok(())
        })
        .await
}

/// Status of a condition of a pod.
pub(crate) fn condition(pod: &Pod, kind: &str) -> String {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let own = conditions.into_iter().flatten().find(|own| own.type_ == kind);
    own.map(|own| own.status.clone()).unwrap_or_default()
}

/// How often an event with this reason about the pod `web` was told.
pub(crate) async fn events(cluster: &Cluster, reason: &str) -> Result<i32> {
    let all = cluster.list::<Event>("default").await?;
    let own = |event: &&Event| {
        event.reason.as_deref() == Some(reason) && event.involved_object.name.as_deref() == Some("web")
    };
    Ok(all.iter().filter(own).map(|event| event.count.unwrap_or(1)).sum())
}

/// Whole seconds between a line of the machine's journal and the one after it, for all of these lines.
pub(crate) fn gaps(machine: &Machine, lines: impl Fn(&str) -> bool) -> Vec<u64> {
    let journal = machine.runtime.journal();
    let times: Vec<_> = journal.into_iter().filter(|(_, line)| lines(line)).map(|(at, _)| at).collect();
    let gap = |pair: &[corten_base::Timestamp]| {
        Duration::try_from(pair[1].duration_since(pair[0])).unwrap_or_default().as_millis().div_ceil(1000)
    };
    times.windows(2).map(|pair| u64::try_from(gap(pair)).unwrap_or(u64::MAX)).collect()
}

/// Lines of the machine's journal.
pub(crate) fn journal(machine: &Machine) -> Vec<String> {
    machine.runtime.journal().into_iter().map(|(_, line)| line).collect()
}

pub(crate) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
