//! How `kubectl get pods` shows a pod.
//!
//! Behaviour of the STATUS column: printPod of pkg/printers/internalversion/printers.go.

use corten_api::api::core::v1::{Container, ContainerStatus, Pod};
use corten_api::meta::Time;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::ColumnHead;
use crate::table::{NAME, age, column, or_none, wide};

pub(super) const COLUMNS: &[ColumnHead] = &[
    NAME,
    column("Ready"),
    column("Status"),
    column("Restarts"),
    column("Age"),
    wide("IP"),
    wide("Node"),
    wide("Nominated Node"),
    wide("Readiness Gates"),
];

pub(super) fn cells(pod: &Pod, now: Timestamp) -> Vec<Value> {
    let spec = pod.spec.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let summary = summarize(pod, now);
    let ips = status.pod_ips.as_ref().and_then(|ips| ips.first()).map(|ip| ip.ip.clone()).or(status.pod_ip);
    let gates = spec.readiness_gates.as_deref().unwrap_or_default();
    let met = gates.iter().filter(|gate| {
        let conditions = status.conditions.iter().flatten();
        conditions.into_iter().any(|condition| condition.type_ == gate.condition_type && condition.status == "True")
    });
    let gates_text = if gates.is_empty() { "<none>".to_owned() } else { format!("{}/{}", met.count(), gates.len()) };
    vec![
        json!(pod.metadata.name),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        summary.restarts.into(),
        age(pod.metadata.creation_timestamp.as_ref(), now).into(),
        or_none(ips.unwrap_or_default()).into(),
        or_none(spec.node_name.unwrap_or_default()).into(),
        or_none(status.nominated_node_name.unwrap_or_default()).into(),
        gates_text.into(),
    ]
}

struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: String,
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn summarize(pod: &Pod, now: Timestamp) -> Summary {
    let spec = pod.spec.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    let init_statuses = status.init_container_statuses.as_deref().unwrap_or_default();
    let statuses = status.container_statuses.as_deref().unwrap_or_default();
    let total = spec.containers.len() + inits.iter().filter(|container| is_sidecar(container)).count();
    let mut reason =
        status.reason.clone().filter(|reason| !reason.is_empty()).or(status.phase.clone()).unwrap_or_default();
    let gated =
        status.conditions.iter().flatten().any(|condition| {
            condition.type_ == "PodScheduled" && condition.reason.as_deref() == Some("SchedulingGated")
        });
    if gated {
        reason = "SchedulingGated".to_owned();
    }
    let sidecar = |name: &str| inits.iter().any(|container| container.name == name && is_sidecar(container));
    let (mut restarts, mut last, mut ready) = (0, None, 0);
    let mut count = |statuses: &mut dyn Iterator<Item = &ContainerStatus>| {
        let (mut sum, mut newest): (i32, Option<Time>) = (0, None);
        for status in statuses {
            sum += status.restart_count;
            let ended = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            newest = newest.max(ended.and_then(|ended| ended.finished_at.clone()));
        }
        (restarts, last) = (sum, newest);
    };
    count(&mut init_statuses.iter());
    let mut initializing = false;
    for (index, init) in init_statuses.iter().enumerate() {
        let state = init.state.clone().unwrap_or_default();
        if let Some(ended) = &state.terminated
            && ended.exit_code == 0
        {
            continue;
        }
        if sidecar(&init.name) && init.started == Some(true) {
            ready += usize::from(init.ready);
            continue;
        }
        initializing = true;
        reason = match (&state.terminated, &state.waiting) {
            (Some(ended), _) => match (ended.reason.as_deref(), ended.signal) {
                (Some(why), _) if !why.is_empty() => format!("Init:{why}"),
                (_, Some(signal)) if signal != 0 => format!("Init:Signal:{signal}"),
                _ => format!("Init:ExitCode:{}", ended.exit_code),
            },
            (None, Some(waiting))
                if waiting.reason.as_deref().is_some_and(|why| !why.is_empty() && why != "PodInitializing") =>
            {
                format!("Init:{}", waiting.reason.as_deref().unwrap_or_default())
            }
            _ => format!("Init:{index}/{}", inits.len()),
        };
        break;
    }
    let initialized = status.conditions.iter().flatten().any(|c| c.type_ == "Initialized" && c.status == "True");
    if !initializing || initialized {
        let sidecars = || init_statuses.iter().filter(|init| sidecar(&init.name));
        count(&mut statuses.iter().chain(sidecars()));
        let mut running = false;
        for container in statuses.iter().rev() {
            let state = container.state.clone().unwrap_or_default();
            match (state.waiting, state.terminated, state.running) {
                (Some(waiting), ..) if waiting.reason.as_deref().is_some_and(|why| !why.is_empty()) => {
                    reason = waiting.reason.unwrap_or_default();
                }
                (_, Some(ended), _) => {
                    reason = match (ended.reason, ended.signal) {
                        (Some(why), _) if !why.is_empty() => why,
                        (_, Some(signal)) if signal != 0 => format!("Signal:{signal}"),
                        _ => format!("ExitCode:{}", ended.exit_code),
                    };
                }
                (_, _, Some(_)) if container.ready => {
                    running = true;
                    ready += 1;
                }
                _ => {}
            }
        }
        if reason == "Completed" && running {
            let is_ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
            reason = if is_ready { "Running" } else { "NotReady" }.to_owned();
        }
    }
    if pod.metadata.deletion_timestamp.is_some() {
        let ended = ["Succeeded", "Failed"].contains(&status.phase.as_deref().unwrap_or_default());
        if status.reason.as_deref() == Some("NodeLost") {
            reason = "Unknown".to_owned();
        } else if !ended {
            reason = "Terminating".to_owned();
        }
    }
    let restarts = match last {
        Some(time) if restarts > 0 => format!("{restarts} ({} ago)", age(Some(&time), now)),
        _ => restarts.to_string(),
    };
    Summary { ready, total, reason, restarts }
}
