//! What a worker knows of its pod: the state that decisions start from.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use corten_api::api::core::v1::{Container, Pod, PodSpec};
use corten_base::Timestamp;

use super::admission::Refusal;
use crate::lookup::ContainerKind;
use crate::ports::{ContainerState, Exit, Image};

/// First delay before a container that keeps ending is started again, and the longest.
const FIRST_DELAY: Duration = Duration::from_secs(10);
const MOST_DELAY: Duration = Duration::from_secs(300);
/// A container that ran for so long starts over without delay.
const FORGIVEN: Duration = Duration::from_secs(600);

/// Everything a worker has seen of its pod on this node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// Namespaces, network and volumes.
    pub(crate) sandbox: Sandbox,
    /// By container name.
    pub(crate) slots: BTreeMap<String, Slot>,
    /// The pod is gone from the API server, or was never there: nothing is to be written.
    pub(crate) removed: bool,
    /// When the pod was asked to stop, and how long it may take.
    pub(crate) stop: Option<Stop>,
    /// The API server holds a final phase: nothing is started any more.
    pub(crate) final_phase: Option<String>,
    /// The pod ran for longer than it may.
    pub(crate) deadline_exceeded: bool,
    /// This node does not take the pod.
    pub(crate) refusal: Option<Refusal>,
    /// When this node first saw the pod.
    pub(crate) seen_at: Option<Timestamp>,
    /// Host addresses, once known.
    pub(crate) ips: Vec<IpAddr>,
}

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) since: Timestamp,
    pub(crate) grace: Duration,
}

/// What containers stand in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sandbox {
    /// Not made yet, or removed.
    #[default]
    Absent,
    /// Could not be made; to be tried again then.
    Failed { until: Timestamp },
    /// There.
    Ready,
}

/// One container of the spec over all its attempts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) newest: Option<ContainerState>,
    pub(crate) previous: Option<ContainerState>,
    /// The newest attempt belongs to namespaces that are gone: what prepares the pod has to run again.
    pub(crate) stale: bool,
    /// The image, as the spec named it when the newest attempt started.
    pub(crate) reference: Option<String>,
    pub(crate) image: ImageState,
    /// Delay that the last failed pull brought.
    pub(crate) pull_delay: Option<Duration>,
    /// Why it did not start, and when it is tried again.
    pub(crate) trouble: Option<Trouble>,
    /// Delay that the last end brought; none yet.
    pub(crate) delay: Option<Duration>,
    /// The newest attempt was asked to end.
    pub(crate) stopping: Option<Stopping>,
    /// Its startup probe has succeeded, or it has none.
    pub(crate) started: bool,
    /// Its readiness probe succeeds, or it has none.
    pub(crate) ready: bool,
    /// How the newest attempt's end is told.
    pub(crate) end: End,
    /// How the end of the attempt before is told.
    pub(crate) previous_end: End,
}

/// What is told of an end beyond what the runtime knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    /// Instead of the reason that the exit code gives.
    pub(crate) reason: Option<String>,
    /// The last words of the process.
    pub(crate) message: Option<String>,
}

/// How a running container comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopping {
    pub(crate) deadline: Timestamp,
    /// When it is killed; `None` once it has been.
    pub(crate) kill_at: Option<Timestamp>,
}

impl Stopping {
    pub(crate) fn until(deadline: Timestamp) -> Self {
        Self { deadline, kill_at: Some(deadline) }
    }
}

/// Why a container does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) until: Timestamp,
    pub(crate) delay: Duration,
}

/// Where a container's image stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ImageState {
    /// Nobody looked yet.
    #[default]
    Unknown,
    /// On its way.
    Pulling,
    /// Here.
    Present(Box<Image>),
    /// Not to be had before `until`, but from `look` on it may have come here in another way. `backing_off` once the
    /// failure itself has been shown.
    Failed { reason: &'static str, message: String, until: Timestamp, look: Timestamp, backing_off: bool },
}

impl Slot {
    pub(crate) fn is_running(&self) -> bool {
        self.newest.as_ref().is_some_and(|newest| newest.exit.is_none())
    }

    pub(crate) fn exit(&self) -> Option<&Exit> {
        self.newest.as_ref()?.exit.as_ref()
    }

    /// The number of the attempt that comes next.
    pub(crate) fn next_attempt(&self) -> u32 {
        self.newest.as_ref().map_or(0, |newest| newest.attempt + 1)
    }

    /// The newest attempt runs another image than the spec now names.
    pub(crate) fn is_outdated(&self, container: &Container) -> bool {
        self.is_running() && self.reference.is_some() && self.reference != container.image
    }

    /// Notes an end.
    pub(crate) fn ended(&mut self, exit: Exit) {
        let Some(newest) = &mut self.newest else { return };
        let ran = Duration::try_from(exit.at.duration_since(newest.started_at)).unwrap_or_default();
        newest.exit = Some(exit);
        self.delay = Some(next_delay(self.delay, ran));
        self.stopping = None;
        self.started = false;
        self.ready = false;
    }

    /// When it may be started again.
    pub(crate) fn restart_at(&self) -> Option<Timestamp> {
        Some(self.exit()?.at + self.delay.unwrap_or_default())
    }
}

/// The first restart comes at once, then 10 s, 20 s and so on up to five minutes, as upstream.
fn next_delay(before: Option<Duration>, ran: Duration) -> Duration {
    match before {
        None => Duration::ZERO,
        Some(_) if ran >= FORGIVEN => Duration::ZERO,
        Some(delay) => (delay * 2).clamp(FIRST_DELAY, MOST_DELAY),
    }
}

/// A container of the spec and which list it is from.
pub(crate) type Listed<'a> = (ContainerKind, &'a Container);

/// All containers: init containers first, in the spec's order.
pub(crate) fn containers(spec: &PodSpec) -> impl Iterator<Item = Listed<'_>> {
    let init = spec.init_containers.iter().flatten().map(|container| {
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        (if sidecar { ContainerKind::Sidecar } else { ContainerKind::Init }, container)
    });
    init.chain(spec.containers.iter().map(|container| (ContainerKind::Main, container)))
}

/// What becomes of a container that has ended.
pub(crate) fn restarts(pod: &Pod, kind: ContainerKind, exit: &Exit) -> bool {
    let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always");
    match (kind, policy) {
        (ContainerKind::Sidecar, _) => true,
        // An init container that has succeeded is done.
        (ContainerKind::Init, "Never") => false,
        (ContainerKind::Init, _) | (ContainerKind::Main, "OnFailure") => exit.code != 0,
        (ContainerKind::Main, "Never") => false,
        (ContainerKind::Main, _) => true,
    }
}

/// The phase that a pod has reached for good, if it has: all its containers have ended and none starts again.
pub(crate) fn final_phase(pod: &Pod, observed: &Observed) -> Option<&'static str> {
    if observed.deadline_exceeded || observed.refusal.is_some() {
        return Some("Failed");
    }
    match observed.final_phase.as_deref() {
        Some("Succeeded") => return Some("Succeeded"),
        Some(_) => return Some("Failed"),
        None => {}
    }
    let spec = pod.spec.as_ref()?;
    if observed.stop.is_some() && !observed.slots.values().any(Slot::is_running) {
        // Nothing starts again after a stop.
        let exit = |container: &Container| observed.slots.get(&container.name).and_then(Slot::exit);
        let fine = spec.containers.iter().all(|container| exit(container).is_some_and(|exit| exit.code == 0));
        return Some(if fine { "Succeeded" } else { "Failed" });
    }
    let mut failed = false;
    for (kind, container) in containers(spec) {
        let exit = observed.slots.get(&container.name).and_then(Slot::exit);
        match (kind, exit) {
            (ContainerKind::Sidecar, _) => {}
            (ContainerKind::Init, Some(exit)) if exit.code != 0 && !restarts(pod, kind, exit) => return Some("Failed"),
            (ContainerKind::Init, _) => {}
            (ContainerKind::Main, Some(exit)) if !restarts(pod, kind, exit) => failed |= exit.code != 0,
            (ContainerKind::Main, _) => return None,
        }
    }
    Some(if failed { "Failed" } else { "Succeeded" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_comes_at_once_and_each_further_one_later() {
        let mut delay = None;
        let delays: Vec<u64> = (0..8)
            .map(|_| {
                let next = next_delay(delay, Duration::from_secs(1));
                delay = Some(next);
                next.as_secs()
            })
            .collect();
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(next_delay(delay, Duration::from_secs(601)), Duration::ZERO, "it ran well for long");
    }
}
