//! What is to be done next for a pod: pure.
//!
//! The worker calls [`plan`] after everything that happens, carries out what it says, and calls it again until nothing
//! is left to do.
//!
//! Behaviour: pkg/kubelet/kuberuntime/kuberuntime_manager.go (computePodActions) of Kubernetes v1.36.

use std::time::Duration;

use corten_api::api::core::v1::{Pod, PodSpec};
use corten_base::Timestamp;

use super::model::{ImageState, Listed, Observed, Sandbox, Slot, containers, final_phase, restarts};
use crate::lookup::ContainerKind;

/// The least time that a sidecar gets to end.
const SIDECAR_GRACE: Duration = Duration::from_secs(2);

/// A step. Names are those of containers in the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make namespaces, network and volumes.
    CreateSandbox,
    /// See to it that the image is here.
    FetchImage(String),
    /// Start the next attempt.
    Start(String),
    /// Ask the process to end; kill it if it still runs then.
    Stop { container: String, deadline: Timestamp, why: String },
    /// Kill it now.
    Kill(String),
    /// Everything has ended: give back namespaces, network and volumes.
    RemoveSandbox,
    /// Nothing is left on this node: the pod may go from the API server.
    Finish,
}

/// Steps to take now, and when to look again if nothing happens before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    pub(crate) wake: Option<Timestamp>,
}

impl Plan {
    fn wake_at(&mut self, time: Timestamp) {
        self.wake = Some(self.wake.map_or(time, |own| own.min(time)));
    }
}

/// Decides.
pub(crate) fn plan(pod: &Pod, observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(spec) = &pod.spec else { return plan };
    if let Some(deadline) = deadline(spec, observed) {
        plan.wake_at(deadline);
    }
    kill_overdue(observed, now, &mut plan);
    let ends = final_phase(pod, observed).is_some();
    if let Some(stop) = observed.stop {
        stop_all(spec, observed, stop.since + stop.grace, now, &mut plan);
    } else if ends {
        stop_all(spec, observed, now + grace_of(spec), now, &mut plan);
    } else {
        run(pod, spec, observed, now, &mut plan);
        return plan;
    }
    let anything_runs = observed.slots.values().any(Slot::is_running);
    if !anything_runs && plan.actions.is_empty() {
        if observed.sandbox != Sandbox::Absent {
            plan.actions.push(Action::RemoveSandbox);
        } else if observed.stop.is_some() {
            plan.actions.push(Action::Finish);
        }
    }
    plan
}

/// When the pod has run for as long as it may.
pub(crate) fn deadline(spec: &PodSpec, observed: &Observed) -> Option<Timestamp> {
    let seconds = spec.active_deadline_seconds.filter(|_| !observed.deadline_exceeded && observed.stop.is_none())?;
    Some(observed.seen_at? + Duration::from_secs(seconds.unsigned_abs()))
}

/// How long a container may take to end when nobody says otherwise.
pub(crate) fn grace_of(spec: &PodSpec) -> Duration {
    let seconds = spec.termination_grace_period_seconds.unwrap_or(30);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(1))
}

fn kill_overdue(observed: &Observed, now: Timestamp, plan: &mut Plan) {
    for (name, slot) in &observed.slots {
        let Some(stopping) = slot.stopping.filter(|stopping| slot.is_running() && !stopping.killed) else { continue };
        if stopping.deadline <= now {
            plan.actions.push(Action::Kill(name.clone()));
        } else {
            plan.wake_at(stopping.deadline);
        }
    }
}

/// Main containers end together; then sidecars, the last one first.
fn stop_all(spec: &PodSpec, observed: &Observed, deadline: Timestamp, now: Timestamp, plan: &mut Plan) {
    let slot = |listed: &Listed<'_>| observed.slots.get(&listed.1.name).filter(|slot| slot.is_running());
    let (sidecars, others): (Vec<Listed<'_>>, Vec<Listed<'_>>) =
        containers(spec).filter(|listed| slot(listed).is_some()).partition(|(kind, _)| *kind == ContainerKind::Sidecar);
    let mut stop = |listed: &Listed<'_>, deadline: Timestamp| {
        let container = listed.1.name.clone();
        let why = format!("Stopping container {container}");
        plan.actions.push(Action::Stop { container, deadline, why });
    };
    for listed in &others {
        let under_way = slot(listed).and_then(|slot| slot.stopping);
        // A deadline that the pod was given later, and that comes sooner, takes the place of the one under way.
        if under_way.is_none_or(|own| observed.stop.is_some() && !own.killed && own.deadline > deadline) {
            stop(listed, deadline);
        }
    }
    if others.is_empty()
        && let Some(listed) = sidecars.last().filter(|listed| slot(listed).is_some_and(|slot| slot.stopping.is_none()))
    {
        // What the others left of the time, but never none.
        stop(listed, deadline.max(now + SIDECAR_GRACE));
    }
}

fn run(pod: &Pod, spec: &PodSpec, observed: &Observed, now: Timestamp, plan: &mut Plan) {
    match observed.sandbox {
        Sandbox::Absent => return plan.actions.push(Action::CreateSandbox),
        Sandbox::Failed { until } if until <= now => return plan.actions.push(Action::CreateSandbox),
        Sandbox::Failed { until } => return plan.wake_at(until),
        Sandbox::Ready => {}
    }
    let mains_ran = spec.containers.iter().any(|own| slot(observed, &own.name).newest.is_some());
    for listed @ (kind, container) in containers(spec) {
        let slot = slot(observed, &container.name);
        match kind {
            // Init containers ran once before the main ones did; a sidecar is kept up.
            ContainerKind::Init if mains_ran => continue,
            ContainerKind::Init if slot.exit().is_some_and(|exit| exit.code == 0) => continue,
            _ => keep_up(pod, listed, &slot, now, plan),
        }
        let blocks = match kind {
            ContainerKind::Init => true,
            ContainerKind::Sidecar => {
                let up = slot.is_running() && slot.started;
                !up && !mains_ran
            }
            ContainerKind::Main => false,
        };
        if blocks {
            return;
        }
    }
}

fn slot(observed: &Observed, name: &str) -> Slot {
    observed.slots.get(name).cloned().unwrap_or_default()
}

/// Starts a container that should run and does not.
fn keep_up(pod: &Pod, (kind, container): Listed<'_>, slot: &Slot, now: Timestamp, plan: &mut Plan) {
    if slot.is_running() || slot.exit().is_some_and(|exit| !restarts(pod, kind, exit)) {
        return;
    }
    let name = container.name.clone();
    let trouble = slot.trouble.as_ref().map(|trouble| trouble.until);
    if let Some(until) = slot.restart_at().into_iter().chain(trouble).max().filter(|until| *until > now) {
        return plan.wake_at(until);
    }
    match &slot.image {
        ImageState::Unknown => plan.actions.push(Action::FetchImage(name)),
        ImageState::Pulling => {}
        ImageState::Failed { until, .. } if *until <= now => plan.actions.push(Action::FetchImage(name)),
        ImageState::Failed { until, .. } => plan.wake_at(*until),
        ImageState::Present(_) => plan.actions.push(Action::Start(name)),
    }
}
