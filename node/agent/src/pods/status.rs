//! A pod's status from what is known of it: pure.
//!
//! Behaviour: pkg/kubelet/kubelet_pods.go (convertStatusToAPIStatus) and status/generate.go of Kubernetes v1.36.

use std::net::IpAddr;

use corten_api::api::core::v1::{
    ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use corten_api::meta::Time;
use corten_base::Timestamp;

use super::model::{End, ImageState, Listed, Observed, Sandbox, Slot, containers, final_phase, restarts};
use crate::lookup::ContainerKind;
use crate::ports::{ContainerState, Exit};

/// How container ids are shown.
pub(crate) const ID_SCHEME: &str = "corten://";

/// The whole status as this node sees it. `said` is what it told last, whether or not it has arrived: conditions keep
/// their times by it.
pub(crate) fn status(
    pod: &Pod,
    observed: &Observed,
    said: Option<&PodStatus>,
    node_ip: IpAddr,
    now: Timestamp,
) -> PodStatus {
    let before = pod.status.clone().unwrap_or_default();
    let Some(spec) = &pod.spec else { return before };
    let end = final_phase(pod, observed);
    let describe = |listed: Listed<'_>| container(pod, listed, observed, &before, end.is_some());
    let (init, main): (Vec<Listed<'_>>, Vec<Listed<'_>>) =
        containers(spec).partition(|(kind, _)| *kind != ContainerKind::Main);
    let main: Vec<ContainerStatus> = main.into_iter().map(describe).collect();
    let init: Vec<ContainerStatus> = init.into_iter().map(describe).collect();
    // As upstream: a container that has never run keeps the whole pod pending.
    let phase = end.unwrap_or(if main.iter().all(has_run) { "Running" } else { "Pending" });
    let (reason, message) = if observed.deadline_exceeded {
        let message = "Pod was active on the node longer than the specified deadline".to_owned();
        (Some("DeadlineExceeded".to_owned()), Some(message))
    } else if let Some(refusal) = &observed.refusal {
        (Some(refusal.reason.to_owned()), Some(format!("Pod was rejected: {}", refusal.message)))
    } else {
        (before.reason.clone(), before.message.clone())
    };
    let mut ips: Vec<String> = observed.ips.iter().map(ToString::to_string).collect();
    if ips.is_empty() {
        // A pod that has ended keeps the address it had.
        ips = before.pod_ips.iter().flatten().map(|own| own.ip.clone()).collect();
    }
    PodStatus {
        phase: Some(phase.to_owned()),
        reason,
        message,
        conditions: Some(conditions(pod, observed, said, (&init, &main), end, now)),
        host_ip: Some(node_ip.to_string()),
        host_ips: Some(vec![HostIP { ip: node_ip.to_string() }]),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        start_time: before.start_time.clone().or_else(|| observed.seen_at.map(time)),
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(main),
        observed_generation: pod.metadata.generation,
        ..before
    }
}

fn has_run(status: &ContainerStatus) -> bool {
    let state = status.state.as_ref();
    state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
        || status.last_state.as_ref().is_some_and(|state| state.terminated.is_some())
}

/// API times have no fractions.
fn time(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

fn container(
    pod: &Pod,
    (kind, container): Listed<'_>,
    observed: &Observed,
    before: &PodStatus,
    over: bool,
) -> ContainerStatus {
    let lists = [&before.container_statuses, &before.init_container_statuses];
    let known = lists.into_iter().flatten().flatten().find(|status| status.name == container.name);
    let default = Slot::default();
    let slot = observed.slots.get(&container.name).unwrap_or(&default);
    if (slot.newest.is_none() || slot.stale)
        && let Some(known) = known.filter(|_| observed.final_phase.is_some())
    {
        return known.clone();
    }
    let waits_for_init = pod.spec.as_ref().is_some_and(|spec| spec.init_containers.iter().flatten().next().is_some());
    let (state, last) = states(pod, (kind, container), slot, waits_for_init, over);
    let running = slot.is_running();
    let ready = match kind {
        // An init container is ready when it is done.
        ContainerKind::Init => slot.exit().is_some_and(|exit| exit.code == 0),
        _ => running && slot.ready && slot.started,
    };
    let image_id = slot.newest.as_ref().map_or_else(String::new, |newest| newest.image.clone());
    ContainerStatus {
        name: container.name.clone(),
        state: Some(state),
        last_state: Some(last.unwrap_or_default()),
        ready,
        restart_count: i32::try_from(slot.newest.as_ref().map_or(0, |newest| newest.attempt)).unwrap_or(i32::MAX),
        image: slot.reference.clone().or_else(|| container.image.clone()).unwrap_or_default(),
        image_id,
        container_id: slot.newest.as_ref().map(|newest| format!("{ID_SCHEME}{}", newest.id)),
        started: Some(running && slot.started),
        resources: container.resources.clone(),
        ..ContainerStatus::default()
    }
}

/// The state now, and how the attempt before ended.
fn states(
    pod: &Pod,
    (kind, container): Listed<'_>,
    slot: &Slot,
    waits_for_init: bool,
    over: bool,
) -> (ApiState, Option<ApiState>) {
    let previous = slot.previous.as_ref().and_then(|previous| terminated(previous, &slot.previous_end));
    let Some(newest) = &slot.newest else {
        return (waiting(slot, waits_for_init), previous);
    };
    let Some(exit) = &newest.exit else {
        let running = ContainerStateRunning { started_at: Some(time(newest.started_at)) };
        return (ApiState { running: Some(running), ..ApiState::default() }, previous);
    };
    let ended = terminated(newest, &slot.end);
    if over || !restarts(pod, kind, exit) {
        return (ended.unwrap_or_default(), previous);
    }
    // It is to run again; until then it waits, and its end is the past.
    if slot.trouble.is_some() || matches!(slot.image, ImageState::Failed { .. }) {
        return (waiting(slot, waits_for_init), ended);
    }
    match slot.delay.filter(|delay| !delay.is_zero()) {
        Some(delay) => {
            let metadata = &pod.metadata;
            let message = format!(
                "back-off {} restarting failed container={} pod={}_{}({})",
                go_duration(delay.as_secs()),
                container.name,
                metadata.name.as_deref().unwrap_or_default(),
                metadata.namespace.as_deref().unwrap_or_default(),
                metadata.uid.as_deref().unwrap_or_default(),
            );
            (wait("CrashLoopBackOff", Some(message)), ended)
        }
        None => (ended.unwrap_or_default(), previous),
    }
}

/// Seconds as Go prints a duration.
fn go_duration(seconds: u64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

fn wait(reason: &str, message: Option<String>) -> ApiState {
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ApiState { waiting: Some(waiting), ..ApiState::default() }
}

fn waiting(slot: &Slot, waits_for_init: bool) -> ApiState {
    if let Some(trouble) = &slot.trouble {
        return wait(&trouble.reason, Some(trouble.message.clone()));
    }
    match &slot.image {
        ImageState::Failed { reason, message, .. } => wait(reason, Some(message.clone())),
        _ if waits_for_init => wait("PodInitializing", None),
        _ => wait("ContainerCreating", None),
    }
}

fn terminated(state: &ContainerState, end: &End) -> Option<ApiState> {
    let exit = state.exit.as_ref()?;
    let terminated = ContainerStateTerminated {
        exit_code: exit.code,
        signal: (exit.signal != 0).then_some(exit.signal),
        reason: Some(end.reason.clone().unwrap_or_else(|| reason_of(exit).to_owned())),
        message: end.message.clone(),
        started_at: Some(time(state.started_at)),
        finished_at: Some(time(exit.at)),
        container_id: Some(format!("{ID_SCHEME}{}", state.id)),
    };
    Some(ApiState { terminated: Some(terminated), ..ApiState::default() })
}

/// The reason of an end.
pub(crate) fn reason_of(exit: &Exit) -> &'static str {
    match exit {
        Exit { oom_killed: true, .. } => "OOMKilled",
        Exit { code: 0, .. } => "Completed",
        _ => "Error",
    }
}

/// Names of the containers whose status does not hold.
fn unmet(statuses: &[ContainerStatus], holds: impl Fn(&ContainerStatus) -> bool) -> Vec<&str> {
    statuses.iter().filter(|status| !holds(status)).map(|status| status.name.as_str()).collect()
}

fn conditions(
    pod: &Pod,
    observed: &Observed,
    said: Option<&PodStatus>,
    (init, main): (&[ContainerStatus], &[ContainerStatus]),
    end: Option<&str>,
    now: Timestamp,
) -> Vec<PodCondition> {
    let before: Vec<PodCondition> =
        pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let make = |type_: &str, verdict: Result<(), (&str, Option<String>)>| {
        let status = if verdict.is_ok() { "True" } else { "False" };
        let said = said.and_then(|said| said.conditions.as_ref()).into_iter().flatten();
        let same = said.chain(&before).find(|own| own.type_ == type_).filter(|own| own.status == status);
        let (reason, message) = match verdict {
            Ok(()) => (None, None),
            Err((reason, message)) => (Some(reason.to_owned()), message),
        };
        PodCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason,
            message,
            last_transition_time: same.and_then(|own| own.last_transition_time.clone()).or_else(|| Some(time(now))),
            observed_generation: pod.metadata.generation,
            ..PodCondition::default()
        }
    };
    let succeeded = end == Some("Succeeded");
    let list = |names: &[&str]| format!("[{}]", names.join(" "));
    let has_run = |status: &ContainerStatus| has_run(status);
    let is_sidecar = |status: &ContainerStatus| {
        let mut sidecars = pod.spec.iter().flat_map(containers).filter(|(kind, _)| *kind == ContainerKind::Sidecar);
        sidecars.any(|(_, container)| container.name == status.name)
    };
    let incomplete = unmet(init, |status| {
        let done = if is_sidecar(status) { status.started == Some(true) } else { status.ready };
        done || main.iter().any(has_run)
    });
    let initialized = match () {
        () if succeeded || incomplete.is_empty() => Ok(()),
        () => {
            let message = format!("containers with incomplete status: {}", list(&incomplete));
            Err(("ContainersNotInitialized", Some(message)))
        }
    };
    let mut unready: Vec<&str> = unmet(init, |status| status.ready || !is_sidecar(status));
    unready.extend(unmet(main, |status| status.ready));
    let containers_ready = || match () {
        () if succeeded => Err(("PodCompleted", None)),
        () if end.is_some() => Err(("PodFailed", None)),
        () if unready.is_empty() => Ok(()),
        () => Err(("ContainersNotReady", Some(format!("containers with unready status: {}", list(&unready))))),
    };
    let gates: Vec<&str> = pod
        .spec
        .iter()
        .flat_map(|spec| spec.readiness_gates.iter().flatten())
        .map(|gate| gate.condition_type.as_str())
        .filter(|gate| !before.iter().any(|own| own.type_ == *gate && own.status == "True"))
        .collect();
    let ready = containers_ready().and_then(|()| match gates.first() {
        None => Ok(()),
        Some(_) => Err((
            "ReadinessGatesNotReady",
            Some(format!("the status of pod readiness gates {} is not \"True\"", list(&gates))),
        )),
    });
    let sandbox = if observed.sandbox == Sandbox::Ready { Ok(()) } else { Err(("", None)) };
    let mut all = vec![
        make("PodReadyToStartContainers", sandbox),
        make("Initialized", initialized),
        make("Ready", ready),
        make("ContainersReady", containers_ready()),
    ];
    all[0].reason = None;
    // Whoever placed the pod here may have left it to the node to say so.
    if !before.iter().any(|own| own.type_ == "PodScheduled" && own.status == "True") {
        all.push(make("PodScheduled", Ok(())));
    }
    all
}
