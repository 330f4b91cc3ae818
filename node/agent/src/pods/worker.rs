//! One pod's worker: sees what happens, asks [`plan`] what to do, does it.
//!
//! Everything about a pod happens in its worker's one task, so nothing here needs a lock. What takes long (pulling an
//! image, ending a process) is started here and comes back as a message.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use corten_api::api::core::v1::{Container, Pod};
use corten_base::Timestamp;
use kube::ResourceExt;
use tokio::sync::mpsc;

use super::Shared;
use super::events::Events;
use super::model::{ImageState, Observed, Sandbox, Slot, Stop, Stopping, Trouble, containers, final_phase};
use super::plan::{Action, Plan, deadline, grace_of, plan};
use super::status::status;
use super::view::view;
use super::writer::Writer;
use super::{images, signals, termination};
use crate::container::{self, container_spec, pod_spec};
use crate::files;
use crate::ports::{Exit, Image, PodState, PortError};
use crate::probes::{ProbeKind, Probes, RunningContainer, Tools, Verdict};
use crate::volumes::{PodVolumes, VolumeError};

/// How long a failed pull is shown as such before it is shown as backing off.
const SHOWN: Duration = Duration::from_secs(1);
/// Exit code of a container whose end nobody saw, as upstream.
const UNKNOWN_CODE: i32 = 137;
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// The pod as it is now at the API server.
    Pod(Arc<Pod>),
    /// The pod is gone from the API server.
    Removed,
    /// A container has ended.
    Exited { id: String, exit: Exit },
    /// The pod's supervising process has gone, and all containers with it.
    Lost,
    /// A fetch has come to its end.
    Fetched { container: String, result: Result<Image, PortError> },
    /// A failed fetch has been shown for long enough.
    BackOff { container: String },
}

pub(crate) struct Worker {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    uid: String,
    observed: Observed,
    events: Events,
    probes: Probes,
    volumes: Option<Arc<PodVolumes>>,
    writer: Writer,
    inbox: mpsc::UnboundedReceiver<Message>,
    /// Weak, so that the inbox ends when the agent lets go of this worker.
    own: mpsc::WeakUnboundedSender<Message>,
    verdicts: mpsc::UnboundedReceiver<Verdict>,
    /// The namespaces are new: what the network knows of the pod is about the old ones.
    relink: bool,
    /// Delay after the last failure to make the sandbox.
    sandbox_delay: Option<Duration>,
    /// Containers whose crash back-off has been told about: attempt by name.
    told: HashMap<String, u32>,
}

impl Worker {
    /// A worker for a pod; `found` is what an earlier agent left running of it.
    pub(crate) fn new(
        shared: Arc<Shared>,
        pod: Arc<Pod>,
        found: Option<PodState>,
        (own, inbox): (mpsc::WeakUnboundedSender<Message>, mpsc::UnboundedReceiver<Message>),
    ) -> Self {
        let now = shared.config.clock.now();
        let events = Events::new(Arc::clone(&shared.recorder), shared.config.clock.clone(), Arc::clone(&pod));
        let (sender, verdicts) = mpsc::unbounded_channel();
        let tools = Tools {
            runtime: Arc::clone(&shared.config.runtime),
            recorder: Arc::clone(&shared.recorder),
            clock: shared.config.clock.clone(),
            random: shared.config.random.clone(),
        };
        let probes = Probes::new(tools, sender);
        let writer = Writer::new(shared.config.client.clone(), &pod);
        let relink = found.as_ref().is_some_and(|found| found.broken);
        let observed = adopt(&pod, found, now);
        let uid = pod.uid().unwrap_or_default();
        Self {
            shared,
            pod,
            uid,
            observed,
            events,
            probes,
            volumes: None,
            writer,
            inbox,
            own,
            verdicts,
            relink,
            sandbox_delay: None,
            told: HashMap::new(),
        }
    }

    /// Works until nothing is left of the pod on this node.
    pub(crate) async fn run(mut self) {
        self.notice_deletion();
        loop {
            let (finished, wake) = self.advance().await;
            if finished {
                return self.finish().await;
            }
            self.publish();
            let sleep = async {
                match wake {
                    Some(time) => {
                        let now = self.shared.config.clock.now();
                        tokio::time::sleep(Duration::try_from(time.duration_since(now)).unwrap_or_default()).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(message) => self.hear(message),
                    // The agent stops; the containers go on.
                    None => return,
                },
                Some(verdict) = self.verdicts.recv() => self.judge(verdict).await,
                () = sleep => {}
            }
            // Whatever else has happened meanwhile is looked at together.
            while let Ok(message) = self.inbox.try_recv() {
                self.hear(message);
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.shared.config.clock.now()
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Pod(pod) => {
                self.pod = pod;
                self.events = Events::new(
                    Arc::clone(&self.shared.recorder),
                    self.shared.config.clock.clone(),
                    Arc::clone(&self.pod),
                );
                if let Some(volumes) = &self.volumes {
                    volumes.pod_changed(&self.pod);
                }
                self.notice_deletion();
            }
            Message::Removed => {
                self.observed.removed = true;
                let grace = self.asked_grace().unwrap_or_else(|| self.own_grace());
                self.stop(grace.max(Duration::from_secs(1)));
            }
            Message::Exited { id, exit } => self.ended(&id, exit),
            Message::Lost => self.lost(),
            Message::Fetched { container, result } => self.fetched(&container, result),
            Message::BackOff { container } => self.back_off(&container),
        }
    }

    fn own_grace(&self) -> Duration {
        self.pod.spec.as_ref().map_or(Duration::from_secs(30), grace_of)
    }

    fn asked_grace(&self) -> Option<Duration> {
        let seconds = self.pod.metadata.deletion_grace_period_seconds?;
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }

    fn notice_deletion(&mut self) {
        if self.pod.metadata.deletion_timestamp.is_some() {
            self.stop(self.asked_grace().unwrap_or_else(|| self.own_grace()));
        }
    }

    /// Asks for a stop; of two, the sooner one holds.
    fn stop(&mut self, grace: Duration) {
        let since = self.now();
        if self.observed.stop.is_none_or(|stop| since + grace < stop.since + stop.grace) {
            self.observed.stop = Some(Stop { since, grace });
        }
    }

    fn ended(&mut self, id: &str, exit: Exit) {
        let slots = &mut self.observed.slots;
        let Some((name, slot)) =
            slots.iter_mut().find(|(_, slot)| slot.newest.as_ref().is_some_and(|own| own.id == id))
        else {
            return;
        };
        if slot.exit().is_some() {
            return;
        }
        slot.ended(exit);
        let spec = self.pod.spec.as_ref();
        let container = spec.and_then(|spec| containers(spec).find(|(_, own)| own.name == *name));
        if let (Some(newest), Some((_, container))) = (slot.newest.clone(), container) {
            let log = self.log_dir(&container.name).join(format!("{}.log", newest.attempt));
            let file = files::termination_log(&self.shared.config.pod_dir(&self.uid), &newest.name, newest.attempt);
            let message = termination::message(container, &newest, &file, &log);
            if let Some(slot) = self.observed.slots.get_mut(&container.name) {
                slot.termination_message = message;
            }
        }
    }

    /// Everything that ran is gone, and nobody saw how it ended.
    fn lost(&mut self) {
        let now = self.now();
        for slot in self.observed.slots.values_mut().filter(|slot| slot.is_running()) {
            slot.ended(Exit { code: UNKNOWN_CODE, signal: SIGKILL, oom_killed: false, at: now });
        }
        self.observed.sandbox = Sandbox::Failed { until: now };
        self.relink = true;
        self.events.normal(None, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.");
    }

    fn fetched(&mut self, name: &str, result: Result<Image, PortError>) {
        let now = self.now();
        let Some(slot) = self.observed.slots.get_mut(name) else { return };
        slot.image = match result {
            Ok(image) => {
                slot.pull_delay = None;
                ImageState::Present(Box::new(image))
            }
            Err(PortError { reason, message }) => {
                let delay = images::next_delay(slot.pull_delay);
                slot.pull_delay = Some(delay);
                if reason == "ErrImagePull" {
                    let (own, container) = (self.own.clone(), name.to_owned());
                    tokio::spawn(async move {
                        tokio::time::sleep(SHOWN).await;
                        if let Some(own) = own.upgrade() {
                            let _ = own.send(Message::BackOff { container });
                        }
                    });
                }
                ImageState::Failed { reason, message, until: now + delay, backing_off: false }
            }
        };
    }

    fn back_off(&mut self, name: &str) {
        let spec = self.pod.spec.as_ref();
        let image = spec.and_then(|spec| containers(spec).find(|(_, own)| own.name == name)?.1.image.clone());
        let Some(slot) = self.observed.slots.get_mut(name) else { return };
        if let ImageState::Failed { reason, message, backing_off: backing_off @ false, .. } = &mut slot.image {
            let what = format!("Back-off pulling image \"{}\"", image.unwrap_or_default());
            *message = format!("{what}: {reason}: {message}");
            *reason = "ImagePullBackOff";
            *backing_off = true;
            self.events.normal(Some(name), "BackOff", what);
            self.events.warning(Some(name), "Failed", "Error: ImagePullBackOff");
        }
    }

    async fn judge(&mut self, verdict: Verdict) {
        let Verdict { container, id, kind, healthy } = verdict;
        let spec = self.pod.spec.clone().unwrap_or_default();
        let Some((_, of)) = containers(&spec).find(|(_, own)| own.name == container) else { return };
        let Some(slot) = self.observed.slots.get_mut(&container) else { return };
        if !slot.is_running() || slot.newest.as_ref().is_none_or(|newest| newest.id != id) {
            return;
        }
        let probe = match kind {
            ProbeKind::Readiness => {
                slot.ready = healthy;
                return;
            }
            ProbeKind::Startup if healthy => {
                slot.started = true;
                return;
            }
            ProbeKind::Liveness if healthy => return,
            ProbeKind::Startup => ("startup", &of.startup_probe),
            ProbeKind::Liveness => ("liveness", &of.liveness_probe),
        };
        if slot.stopping.is_none() {
            let seconds = probe.1.as_ref().and_then(|probe| probe.termination_grace_period_seconds);
            let grace = seconds.map_or_else(|| grace_of(&spec), |seconds| Duration::from_secs(seconds.unsigned_abs()));
            let why = format!("Container {container} failed {} probe, will be restarted", probe.0);
            let deadline = self.now() + grace;
            self.stop_container(&container, deadline, &why).await;
        }
    }

    /// Carries out plans until nothing is left to do now: whether the pod is finished, and when to look again.
    async fn advance(&mut self) -> (bool, Option<Timestamp>) {
        loop {
            let now = self.now();
            let spec = self.pod.spec.clone().unwrap_or_default();
            if deadline(&spec, &self.observed).is_some_and(|deadline| deadline <= now)
                && final_phase(&self.pod, &self.observed).is_none()
            {
                self.observed.deadline_exceeded = true;
                let message = "Pod was active on the node longer than the specified deadline";
                self.events.normal(None, "DeadlineExceeded", message);
            }
            let Plan { actions, wake } = plan(&self.pod, &self.observed, now);
            self.sync_probes();
            self.tell_of_crashes();
            if actions.is_empty() {
                return (false, wake);
            }
            for action in actions {
                match action {
                    Action::CreateSandbox => self.create_sandbox().await,
                    Action::FetchImage(container) => self.fetch(&container),
                    Action::Start(container) => self.start(&container).await,
                    Action::Stop { container, deadline, why } => self.stop_container(&container, deadline, &why).await,
                    Action::Kill(container) => self.kill(&container).await,
                    Action::RemoveSandbox => self.remove_sandbox().await,
                    Action::Finish => return (true, None),
                }
            }
            // What has ended meanwhile belongs to the next decision.
            while let Ok(message) = self.inbox.try_recv() {
                self.hear(message);
            }
        }
    }

    async fn create_sandbox(&mut self) {
        let now = self.now();
        match self.try_sandbox().await {
            Ok(()) => {
                self.observed.sandbox = Sandbox::Ready;
                self.sandbox_delay = None;
            }
            Err((reason, message)) => {
                // Half a second, doubled up to two minutes, as upstream's volume manager.
                let delay = self.sandbox_delay.map_or(Duration::from_millis(500), |delay| delay * 2);
                let delay = delay.min(Duration::from_secs(122));
                self.sandbox_delay = Some(delay);
                self.observed.sandbox = Sandbox::Failed { until: now + delay };
                self.events.warning(None, reason, message);
            }
        }
    }

    async fn try_sandbox(&mut self) -> Result<(), (&'static str, String)> {
        const REASON: &str = "FailedCreatePodSandBox";
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: PortError| (REASON, format!("Failed to create pod sandbox: {what}: {}", error.message))
        };
        let config = &self.shared.config;
        let spec = pod_spec(&self.pod, &self.shared.node).map_err(failed("its spec cannot be used"))?;
        let state = config.runtime.create_pod(spec).await.map_err(failed("cannot make its namespaces"))?;
        self.observed.ips = match &state.netns {
            Some(netns) => {
                if std::mem::take(&mut self.relink) {
                    config.network.detach(&self.uid).await.map_err(failed("cannot disconnect the old one"))?;
                }
                config.network.attach(&self.uid, netns).await.map_err(failed("cannot connect it to the network"))?
            }
            None => vec![config.node_ip],
        };
        let volumes = self.shared.volumes.mount(&self.pod, &self.observed.ips).await;
        self.volumes = Some(Arc::new(volumes.map_err(|error| (VolumeError::REASON, error.to_string()))?));
        Ok(())
    }

    async fn remove_sandbox(&mut self) {
        self.probes.sync(&self.pod, &[]);
        self.volumes = None;
        let config = &self.shared.config;
        // Each waits for the kernel, and neither for the other.
        let (detached, removed) = tokio::join!(config.network.detach(&self.uid), config.runtime.remove_pod(&self.uid));
        if let Err(error) = detached.and(removed) {
            self.events.warning(None, "FailedKillPod", format!("error killing pod: {}", error.message));
            tokio::time::sleep(Duration::from_millis(500)).await;
            return;
        }
        if let Err(error) = self.shared.volumes.unmount(&self.uid).await {
            tracing::warn!(pod = self.uid, %error, "cannot remove all of the pod's volumes");
        }
        self.observed.sandbox = Sandbox::Absent;
    }

    fn container(&self, name: &str) -> Option<Container> {
        let spec = self.pod.spec.as_ref()?;
        containers(spec).find(|(_, container)| container.name == name).map(|(_, container)| container.clone())
    }

    fn fetch(&mut self, name: &str) {
        let Some(container) = self.container(name) else { return };
        let slot = self.observed.slots.entry(name.to_owned()).or_default();
        slot.image = ImageState::Pulling;
        let (shared, pod, events) = (Arc::clone(&self.shared), Arc::clone(&self.pod), self.events.clone());
        let work = tokio::spawn(async move {
            images::fetch(&*shared.config.images, &shared.sources, &pod, &container, &events).await
        });
        let (own, name) = (self.own.clone(), name.to_owned());
        tokio::spawn(async move {
            let died = |error| PortError { reason: "ErrImagePull", message: format!("the pull broke off: {error}") };
            let result = work.await.unwrap_or_else(|error| Err(died(error)));
            if let Some(own) = own.upgrade() {
                let _ = own.send(Message::Fetched { container: name, result });
            }
        });
    }

    async fn start(&mut self, name: &str) {
        let Some(container) = self.container(name) else { return };
        let Err(PortError { reason, message }) = self.try_start(&container).await else { return };
        let now = self.now();
        self.events.warning(Some(name), "Failed", format!("Error: {message}"));
        let slot = self.observed.slots.entry(name.to_owned()).or_default();
        let delay = images::next_delay(slot.trouble.as_ref().map(|trouble| trouble.delay));
        slot.trouble = Some(Trouble { reason: reason.to_owned(), message, until: now + delay, delay });
    }

    async fn try_start(&mut self, container: &Container) -> Result<(), PortError> {
        let slot = self.observed.slots.get(&container.name).cloned().unwrap_or_default();
        let (ImageState::Present(image), Some(volumes)) = (&slot.image, &self.volumes) else { return Ok(()) };
        let config = &self.shared.config;
        let random = &config.random;
        let id: String =
            [random.bytes16(), random.bytes16()].concat().iter().map(|byte| format!("{byte:02x}")).collect();
        let attempt = slot.next_attempt();
        let (namespace, pod_name) = (self.pod.namespace().unwrap_or_default(), self.pod.name_any());
        let log_dir = config.pod_log_dir(&namespace, &pod_name, &self.uid);
        let pod = &self.pod;
        let start = container::Start { pod, container, image, volumes, log_dir: &log_dir, id, attempt };
        let spec = container_spec(start).await?;
        let name = Some(container.name.as_str());
        let state = config.runtime.start_container(spec).await?;
        self.events.normal(name, "Created", format!("Created container: {}", container.name));
        self.events.normal(name, "Started", format!("Started container {}", container.name));
        let oldest = {
            let slot = self.observed.slots.entry(container.name.clone()).or_default();
            let oldest = slot.previous.take();
            slot.previous = slot.newest.replace(state);
            slot.trouble = None;
            slot.stopping = None;
            slot.termination_message = None;
            // The next attempt looks again.
            slot.image = ImageState::Unknown;
            slot.started = container.startup_probe.is_none();
            slot.ready = container.readiness_probe.is_none();
            oldest
        };
        if let Some(oldest) = oldest {
            let _ = self.shared.config.runtime.remove_container(&self.uid, &oldest.id).await;
            let log = self.log_dir(&container.name).join(format!("{}.log", oldest.attempt));
            let _ = std::fs::remove_file(log);
        }
        Ok(())
    }

    fn log_dir(&self, container: &str) -> std::path::PathBuf {
        let (namespace, name) = (self.pod.namespace().unwrap_or_default(), self.pod.name_any());
        self.shared.config.pod_log_dir(&namespace, &name, &self.uid).join(container)
    }

    async fn stop_container(&mut self, name: &str, deadline: Timestamp, why: &str) {
        let Some(container) = self.container(name) else { return };
        let signal = self.stop_signal(&container).await;
        let Some(slot) = self.observed.slots.get_mut(name) else { return };
        let Some(id) = slot.newest.as_ref().map(|newest| newest.id.clone()) else { return };
        let again = slot.stopping.is_some();
        slot.stopping = Some(Stopping { deadline, killed: false });
        if again {
            return;
        }
        self.events.normal(Some(name), "Killing", why);
        // If it has ended by itself, its end is on its way here.
        let _ = self.shared.config.runtime.signal(&self.uid, &id, signal).await;
    }

    async fn stop_signal(&self, container: &Container) -> i32 {
        let reference = container.image.as_deref().unwrap_or_default();
        let image = self.shared.config.images.find(reference).await.ok().flatten();
        image.and_then(|image| signals::number(&image.stop_signal)).unwrap_or(SIGTERM)
    }

    async fn kill(&mut self, name: &str) {
        let Some(slot) = self.observed.slots.get_mut(name) else { return };
        if let Some(stopping) = &mut slot.stopping {
            stopping.killed = true;
        }
        let Some(id) = slot.newest.as_ref().map(|newest| newest.id.clone()) else { return };
        if let Err(error) = self.shared.config.runtime.kill(&self.uid, &id).await {
            tracing::warn!(pod = self.uid, container = name, %error, "cannot kill a container");
        }
    }

    fn sync_probes(&mut self) {
        let running: Vec<RunningContainer> = self
            .observed
            .slots
            .iter()
            // What is on its way out is not probed.
            .filter(|(_, slot)| slot.is_running() && slot.stopping.is_none() && self.observed.stop.is_none())
            .filter_map(|(name, slot)| {
                let newest = slot.newest.as_ref()?;
                Some(RunningContainer {
                    name: name.clone(),
                    id: newest.id.clone(),
                    started_at: newest.started_at,
                    started: slot.started,
                    pod_ip: self.observed.ips.first().copied(),
                })
            })
            .collect();
        self.probes.sync(&self.pod, &running);
    }

    fn tell_of_crashes(&mut self) {
        let now = self.now();
        for (name, slot) in &self.observed.slots {
            let waits = slot.restart_at().is_some_and(|until| until > now) && self.observed.stop.is_none();
            let Some(attempt) = slot.newest.as_ref().map(|newest| newest.attempt).filter(|_| waits) else { continue };
            if self.told.insert(name.clone(), attempt) != Some(attempt) {
                let pod = format!("{}_{}({})", self.pod.name_any(), self.pod.namespace().unwrap_or_default(), self.uid);
                let message = format!("Back-off restarting failed container {name} in pod {pod}");
                self.events.warning(Some(name), "BackOff", message);
            }
        }
    }

    /// Shows others where the pod stands.
    fn publish(&self) {
        let config = &self.shared.config;
        let (namespace, name) = (self.pod.namespace().unwrap_or_default(), self.pod.name_any());
        self.shared.lookup.publish(&namespace, &name, view(&self.pod, &self.observed, config));
        if !self.observed.removed {
            self.writer.status(status(&self.pod, &self.observed, config.node_ip, self.now()));
        }
    }

    async fn finish(self) {
        let config = &self.shared.config;
        let (namespace, name) = (self.pod.namespace().unwrap_or_default(), self.pod.name_any());
        if !self.observed.removed {
            let last = status(&self.pod, &self.observed, config.node_ip, self.now());
            self.writer.finish(last).await;
        }
        self.shared.lookup.forget(&namespace, &name, &self.uid);
        let _ = std::fs::remove_dir_all(config.pod_log_dir(&namespace, &name, &self.uid));
        let _ = std::fs::remove_dir_all(config.pod_dir(&self.uid));
    }
}

/// What a worker starts from.
fn adopt(pod: &Pod, found: Option<PodState>, now: Timestamp) -> Observed {
    let status = pod.status.clone().unwrap_or_default();
    let mut observed = Observed {
        seen_at: status.start_time.as_ref().map(|time| time.0).or(Some(now)),
        final_phase: status.phase.filter(|phase| phase == "Succeeded" || phase == "Failed"),
        ips: status.pod_ips.iter().flatten().filter_map(|own| own.ip.parse().ok()).collect(),
        ..Observed::default()
    };
    let known: Vec<_> = status.container_statuses.into_iter().chain(status.init_container_statuses).flatten().collect();
    for status in &known {
        let past = u32::try_from(status.restart_count).unwrap_or(0) + u32::from(status.container_id.is_some());
        observed.slots.insert(status.name.clone(), Slot { past_attempts: past, ..Slot::default() });
    }
    let Some(mut found) = found else { return observed };
    // Made again idempotently, or removed: either way the plan must know that something is there.
    observed.sandbox = Sandbox::Failed { until: now };
    found.containers.sort_by_key(|container| container.attempt);
    for container in found.containers {
        let slot = observed.slots.entry(container.name.clone()).or_default();
        slot.previous = slot.newest.replace(container);
    }
    for (name, slot) in &mut observed.slots {
        let Some(newest) = &slot.newest else { continue };
        let same = known.iter().find(|status| {
            status.name == *name && status.container_id.as_ref().is_some_and(|id| id.ends_with(&newest.id))
        });
        let spec = pod.spec.as_ref().and_then(|spec| containers(spec).find(|(_, own)| own.name == *name));
        let probed = |probe: fn(&Container) -> bool| spec.is_some_and(|(_, container)| probe(container));
        slot.started =
            same.map_or_else(|| !probed(|own| own.startup_probe.is_some()), |status| status.started == Some(true));
        slot.ready = same.map_or_else(|| !probed(|own| own.readiness_probe.is_some()), |status| status.ready);
        if let Some(exit) = newest.exit.clone() {
            slot.ended(exit);
        } else if found.broken {
            slot.ended(Exit { code: UNKNOWN_CODE, signal: SIGKILL, oom_killed: false, at: now });
        }
    }
    observed
}
