//! Probes: asking containers how they are.
//!
//! One task a probe of a running container sleeps until the next run is due. It tells the pod's worker of verdicts,
//! that is, when the results have reached a threshold and amount to something new.
//! - Liveness and readiness wait for the startup probe.
//! - A liveness or startup probe that has failed says so once and ends: its container is about to be killed.
//! - A container in its first second is asked again after 10, 20, 40… ms, so that its pod is Ready the moment it is.
//!
//! After a restart of the agent no verdict is known of a container that has long been running; its first run comes
//! after a random part of its period. Until then the worker keeps what the pod's status said.

mod answer;
mod exec;
mod grpc;
mod http;
mod prober;
mod tcp;
mod thresholds;
mod trust;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use corten_api::api::core::v1::{Container, Pod, Probe};
use corten_base::{Clock, Random, Timestamp};
use corten_client::Recorder;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::ports::Runtime;
use prober::Prober;

/// Which of a container's probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ProbeKind {
    /// Has it started?
    Startup,
    /// Must it be restarted?
    Liveness,
    /// Can it serve?
    Readiness,
}

impl ProbeKind {
    const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }

    /// As it begins a sentence.
    fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// What the results of a probe amount to. Sent when it is first known and when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Name of the container.
    pub(crate) container: String,
    /// Id of the container at the runtime.
    pub(crate) id: String,
    /// Which probe.
    pub(crate) kind: ProbeKind,
    /// Whether all is well.
    pub(crate) healthy: bool,
}

/// A container that runs.
#[derive(Clone, Debug)]
pub(crate) struct RunningContainer {
    /// Name in the pod.
    pub(crate) name: String,
    /// Id at the runtime.
    pub(crate) id: String,
    /// When it was started.
    pub(crate) started_at: Timestamp,
    /// Its startup probe is known to have succeeded, such as by an earlier agent.
    pub(crate) started: bool,
    /// It has been asked to end.
    pub(crate) ending: bool,
    /// Where it listens; the node's address for pods in the node's network.
    pub(crate) pod_ip: Option<IpAddr>,
}

/// What probing needs of the agent. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tools {
    /// Runs commands in containers.
    pub(crate) runtime: Arc<dyn Runtime>,
    /// Tells people.
    pub(crate) recorder: Arc<Recorder>,
    /// Age of containers.
    pub(crate) clock: Clock,
    /// Spreads first runs.
    pub(crate) random: Random,
}

/// The probes of one pod's containers.
pub(crate) struct Probes {
    tools: Tools,
    verdicts: mpsc::UnboundedSender<Verdict>,
    /// By the containers' ids.
    running: HashMap<String, Running>,
}

/// The probes of one container.
struct Running {
    started: watch::Sender<bool>,
    tasks: HashMap<ProbeKind, AbortOnDropHandle<()>>,
}

impl Probes {
    /// Nothing is probed yet.
    pub(crate) fn new(tools: Tools, verdicts: mpsc::UnboundedSender<Verdict>) -> Self {
        Self { tools, verdicts, running: HashMap::new() }
    }

    /// Probes exactly these containers: starts what is missing, stops what is over. What is about to end is only asked
    /// whether it can serve.
    pub(crate) fn sync(&mut self, pod: &Arc<Pod>, running: &[RunningContainer]) {
        self.running.retain(|id, _| running.iter().any(|container| container.id == *id));
        for container in running {
            let Some(spec) = container_named(pod, &container.name) else { continue };
            let own = self.running.entry(container.id.clone()).or_insert_with(|| {
                let started = container.started || spec.startup_probe.is_none();
                let probers = |kind: ProbeKind| {
                    let probe = kind.of(spec).filter(|_| !(kind == ProbeKind::Startup && started));
                    probe.map(|probe| (kind, probe.clone()))
                };
                let wanted: Vec<(ProbeKind, Probe)> = ProbeKind::ALL.into_iter().filter_map(probers).collect();
                let sender = watch::Sender::new(started);
                let tasks = wanted.into_iter().map(|(kind, probe)| {
                    let prober = Prober {
                        tools: self.tools.clone(),
                        verdicts: self.verdicts.clone(),
                        pod: Arc::clone(pod),
                        spec: spec.clone(),
                        running: container.clone(),
                        kind,
                        probe,
                        started: sender.clone(),
                    };
                    (kind, AbortOnDropHandle::new(tokio::spawn(prober.run())))
                });
                Running { tasks: tasks.collect(), started: sender }
            });
            if container.started {
                own.started.send_if_modified(|started| !std::mem::replace(started, true));
            }
            if container.ending {
                own.tasks.retain(|kind, _| *kind == ProbeKind::Readiness);
            }
        }
    }
}

/// Containers and sidecars; nothing else is probed.
fn container_named<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten().filter(|container| crate::resources::is_sidecar(container));
    spec.containers.iter().chain(sidecars).find(|container| container.name == name)
}
