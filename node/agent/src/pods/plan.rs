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

/// What a sidecar has left to end in when the others have used up the time, as upstream.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// A step. Names are those of containers in the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make namespaces, network and volumes.
    CreateSandbox,
    /// See to it that the image is here.
    FetchImage(String),
    /// See whether an image that could not be pulled has come here in another way.
    LookForImage(String),
    /// Start the next attempt.
    Start(String),
    /// Ask the process to end; kill it then. Asked again, only the time changes.
    Stop { container: String, until: Timestamp, why: String },
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
    if observed.stop.is_none() && final_phase(pod, observed).is_none() {
        run(pod, spec, observed, now, &mut plan);
        return plan;
    }
    stop_all(spec, observed, now, &mut plan);
    let anything_runs = observed.slots.values().any(Slot::is_running);
    // Until the API server knows how a pod came to its end, the runtime must remember it: an agent that starts again
    // would run the pod once more.
    let told = observed.stop.is_some() || observed.final_phase.is_some();
    if !anything_runs && told && plan.actions.is_empty() {
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
        let kill_at = slot.stopping.filter(|_| slot.is_running()).and_then(|stopping| stopping.kill_at);
        match kill_at {
            Some(time) if time <= now => plan.actions.push(Action::Kill(name.clone())),
            Some(time) => plan.wake_at(time),
            None => {}
        }
    }
}

/// Main containers end together; then sidecars, the last one first, within the same time.
fn stop_all(spec: &PodSpec, observed: &Observed, now: Timestamp, plan: &mut Plan) {
    let end = observed.stop.map_or_else(|| now + grace_of(spec), |stop| stop.since + stop.grace);
    let running = |listed: &Listed<'_>| observed.slots.get(&listed.1.name).is_some_and(Slot::is_running);
    let (sidecars, others): (Vec<Listed<'_>>, Vec<Listed<'_>>) =
        containers(spec).filter(running).partition(|(kind, _)| *kind == ContainerKind::Sidecar);
    let next: Vec<Listed<'_>> = if others.is_empty() { sidecars.into_iter().rev().take(1).collect() } else { others };
    for (kind, container) in next {
        let stopping = observed.slots.get(&container.name).and_then(|slot| slot.stopping);
        let until = if kind == ContainerKind::Sidecar { end.max(now + LAST_MOMENT) } else { end };
        // A shorter grace period than the one under way takes its place.
        if stopping.is_none_or(|own| observed.stop.is_some() && until < own.deadline) {
            let why = format!("Stopping container {}", container.name);
            plan.actions.push(Action::Stop { container: container.name.clone(), until, why });
        }
    }
}

fn run(pod: &Pod, spec: &PodSpec, observed: &Observed, now: Timestamp, plan: &mut Plan) {
    match observed.sandbox {
        Sandbox::Absent => return plan.actions.push(Action::CreateSandbox),
        Sandbox::Failed { until } if until <= now => return plan.actions.push(Action::CreateSandbox),
        Sandbox::Failed { until } => return plan.wake_at(until),
        Sandbox::Ready => {}
    }
    let has_run = |slot: &Slot| slot.newest.is_some() && !slot.stale;
    let mains_ran = spec.containers.iter().any(|own| has_run(&slot(observed, &own.name)));
    for listed @ (kind, container) in containers(spec) {
        let slot = slot(observed, &container.name);
        match kind {
            // Init containers ran once before the main ones did; a sidecar is kept up.
            ContainerKind::Init if mains_ran => continue,
            ContainerKind::Init if !slot.stale && slot.exit().is_some_and(|exit| exit.code == 0) => continue,
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

/// Whether a container starts again however it ends.
fn always(pod: &Pod, kind: ContainerKind) -> bool {
    let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always");
    kind == ContainerKind::Sidecar || (kind == ContainerKind::Main && policy == "Always")
}

/// Starts a container that should run and does not.
fn keep_up(pod: &Pod, (kind, container): Listed<'_>, slot: &Slot, now: Timestamp, plan: &mut Plan) {
    let name = container.name.clone();
    if slot.is_running() {
        if slot.is_outdated(container) && slot.stopping.is_none() && always(pod, kind) {
            let until = now + pod.spec.as_ref().map_or(Duration::ZERO, grace_of);
            let why = format!("Container {name} definition changed, will be restarted");
            plan.actions.push(Action::Stop { container: name, until, why });
        }
        return;
    }
    let prepares_again = slot.stale && kind == ContainerKind::Init;
    if !prepares_again && slot.exit().is_some_and(|exit| !restarts(pod, kind, exit)) {
        return;
    }
    let trouble = slot.trouble.as_ref().map(|trouble| trouble.until);
    if let Some(until) = slot.restart_at().into_iter().chain(trouble).max().filter(|until| *until > now) {
        return plan.wake_at(until);
    }
    match &slot.image {
        ImageState::Unknown => plan.actions.push(Action::FetchImage(name)),
        ImageState::Pulling => {}
        ImageState::Failed { until, .. } if *until <= now => plan.actions.push(Action::FetchImage(name)),
        ImageState::Failed { look, .. } if *look <= now => plan.actions.push(Action::LookForImage(name)),
        ImageState::Failed { until, look, .. } => plan.wake_at(*until.min(look)),
        ImageState::Present(_) => plan.actions.push(Action::Start(name)),
    }
}
