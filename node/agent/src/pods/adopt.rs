//! What a worker starts from: pure.
//!
//! The runtime knows what runs; what it has forgotten, as after a reboot, the pod's status still tells.

use corten_api::api::core::v1::{
    Container, ContainerState as ApiState, ContainerStateTerminated, ContainerStatus, Pod,
};
use corten_base::Timestamp;

use super::model::{End, Observed, Sandbox, Slot, containers};
use super::status::ID_SCHEME;
use super::worker::{SIGKILL, UNKNOWN_CODE};
use crate::ports::{ContainerState, Exit, PodState};

/// The state of a pod that this agent sees for the first time; `found` is what an earlier one left running of it.
pub(super) fn adopt(pod: &Pod, found: Option<PodState>, now: Timestamp) -> Observed {
    let status = pod.status.clone().unwrap_or_default();
    let mut observed = Observed {
        seen_at: status.start_time.as_ref().map(|time| time.0).or(Some(now)),
        final_phase: status.phase.filter(|phase| phase == "Succeeded" || phase == "Failed"),
        ips: status.pod_ips.iter().flatten().filter_map(|own| own.ip.parse().ok()).collect(),
        ..Observed::default()
    };
    let known: Vec<_> = status.container_statuses.into_iter().chain(status.init_container_statuses).flatten().collect();
    for status in &known {
        observed.slots.insert(status.name.clone(), remembered(status, now));
    }
    let Some(mut found) = found else { return observed };
    // Made again idempotently, or removed: either way the plan must know that something is there.
    observed.sandbox = Sandbox::Failed { until: now };
    found.containers.sort_by_key(|container| container.attempt);
    let broken = found.broken;
    for (_, container) in pod.spec.iter().flat_map(containers) {
        let attempts: Vec<ContainerState> =
            found.containers.iter().filter(|own| own.name == container.name).cloned().collect();
        let status = known.iter().find(|status| status.name == container.name);
        let slot = observed.slots.entry(container.name.clone()).or_default();
        let newest = slot.newest.as_ref().map(|newest| newest.attempt);
        // Of what a lost supervisor ran, only the status is left.
        if attempts.last().is_none_or(|last| newest.is_some_and(|newest| newest > last.attempt)) {
            continue;
        }
        *slot = living(container, attempts, status, broken, now);
    }
    observed
}

/// A container that the runtime knows.
fn living(
    container: &Container,
    mut attempts: Vec<ContainerState>,
    status: Option<&ContainerStatus>,
    broken: bool,
    now: Timestamp,
) -> Slot {
    let newest = attempts.pop();
    let mut slot = Slot { previous: attempts.pop(), stale: broken, ..Slot::default() };
    let Some(newest) = newest else { return slot };
    let told = |id: &str| {
        let status = status?;
        let ends = [&status.state, &status.last_state].into_iter().flatten();
        ends.filter_map(|state| state.terminated.as_ref()).find(|end| plain(end.container_id.as_ref()) == id)
    };
    slot.end = told(&newest.id).map(end_of).unwrap_or_default();
    slot.previous_end = slot.previous.as_ref().and_then(|own| told(&own.id)).map(end_of).unwrap_or_default();
    let same = status.filter(|status| plain(status.container_id.as_ref()) == newest.id);
    // Without a probe there is nobody who could say it later.
    slot.started = container.startup_probe.is_none() || same.is_some_and(|status| status.started == Some(true));
    slot.ready = container.readiness_probe.is_none() || same.is_some_and(|status| status.ready);
    slot.reference = same.map(|status| status.image.clone());
    let exit = newest.exit.clone();
    slot.newest = Some(newest);
    if let Some(exit) = exit {
        slot.ended(exit);
    } else if broken {
        slot.ended(Exit { code: UNKNOWN_CODE, signal: SIGKILL, oom_killed: false, at: now });
    }
    slot
}

/// A container of which only the status is left. One that ran then has come to an end that nobody saw.
fn remembered(status: &ContainerStatus, now: Timestamp) -> Slot {
    let attempt = u32::try_from(status.restart_count).unwrap_or(0);
    let state = status.state.clone().unwrap_or_default();
    let last = status.last_state.as_ref().and_then(|state| state.terminated.clone());
    let id = status.container_id.clone();
    let (newest, previous) = match state {
        ApiState { terminated: Some(end), .. } => (Some(end), last),
        ApiState { running: Some(running), .. } => {
            let end = ContainerStateTerminated {
                exit_code: UNKNOWN_CODE,
                reason: Some("ContainerStatusUnknown".to_owned()),
                message: Some("The container could not be located when the pod was started again".to_owned()),
                started_at: running.started_at,
                finished_at: Some(corten_api::meta::Time(now)),
                container_id: id,
                ..ContainerStateTerminated::default()
            };
            (Some(end), last)
        }
        // It was about to run once more.
        _ => (last, None),
    };
    let state = |end: &ContainerStateTerminated, attempt: u32| ContainerState {
        id: plain(end.container_id.as_ref()).to_owned(),
        name: status.name.clone(),
        attempt,
        image: status.image_id.clone(),
        pid: None,
        started_at: end.started_at.as_ref().map_or(now, |time| time.0),
        exit: Some(Exit {
            code: end.exit_code,
            signal: end.signal.unwrap_or(0),
            oom_killed: end.reason.as_deref() == Some("OOMKilled"),
            at: end.finished_at.as_ref().map_or(now, |time| time.0),
        }),
    };
    Slot {
        stale: true,
        reference: newest.is_some().then(|| status.image.clone()),
        end: newest.as_ref().map(end_of).unwrap_or_default(),
        previous_end: previous.as_ref().map(end_of).unwrap_or_default(),
        newest: newest.map(|end| state(&end, attempt)),
        previous: previous.map(|end| state(&end, attempt.saturating_sub(1))),
        ..Slot::default()
    }
}

fn end_of(end: &ContainerStateTerminated) -> End {
    End { reason: end.reason.clone(), message: end.message.clone() }
}

/// An id without its scheme.
fn plain(id: Option<&String>) -> &str {
    let id = id.map(String::as_str).unwrap_or_default();
    id.strip_prefix(ID_SCHEME).unwrap_or(id)
}
