//! One pod's worker: sees what happens, asks [`plan`] what to do, does it.
//!
//! Everything about a pod happens in its worker's one task, so nothing here needs a lock. What takes long (pulling an
//! image, ending a process) is started here and comes back as a message.

mod steps;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use corten_api::api::core::v1::{Pod, PodStatus};
use corten_base::Timestamp;
use kube::ResourceExt;
use tokio::sync::mpsc;

use super::Shared;
use super::admission::Refusal;
use super::adopt::adopt;
use super::events::Events;
use super::model::{ImageState, Observed, Sandbox, Stop, containers, final_phase};
use super::plan::{Action, Plan, deadline, grace_of, plan};
use super::status::status;
use super::view::view;
use super::writer::Writer;
use super::{images, termination};
use crate::files;
use crate::ports::{Exit, Image, PodState, PortError};
use crate::probes::{ProbeKind, Probes, RunningContainer, Tools, Verdict};
use crate::sources::{Changes, PodSources};
use crate::volumes::PodVolumes;

/// How long a failed pull is shown as such before it is shown as backing off.
const SHOWN: Duration = Duration::from_secs(1);
/// How often to see whether an image that could not be pulled has come here in another way.
const LOOK: Duration = Duration::from_secs(10);
/// However little time is asked for, a process gets so much, as upstream.
const LEAST_GRACE: Duration = Duration::from_secs(1);
/// Exit code of a container whose end nobody saw, as upstream.
pub(super) const UNKNOWN_CODE: i32 = 137;
pub(super) const SIGKILL: i32 = 9;

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
    Fetched { container: String, reference: String, result: Box<Result<Image, PortError>> },
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
    /// The objects that the pod refers to: a change of one may end its trouble.
    sources: Option<(PodSources, Changes)>,
    writer: Writer,
    /// The status that was told last.
    said: Option<PodStatus>,
    inbox: mpsc::UnboundedReceiver<Message>,
    /// Weak, so that the inbox ends when the agent lets go of this worker.
    own: mpsc::WeakUnboundedSender<Message>,
    verdicts: mpsc::UnboundedReceiver<Verdict>,
    /// The namespaces are new: what the network knows of the pod is about the old ones.
    relink: bool,
    /// Delay after the last failure to make the sandbox, or to remove it.
    sandbox_delay: Option<Duration>,
    removal_delay: Option<Duration>,
    /// Containers whose crash back-off has been told about: attempt by name.
    told: HashMap<String, u32>,
}

impl Worker {
    /// A worker for a pod; `found` is what an earlier agent left running of it, `refusal` why this node does not take it.
    pub(crate) fn new(
        shared: Arc<Shared>,
        pod: Arc<Pod>,
        (found, refusal): (Option<PodState>, Option<Refusal>),
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
        let mut observed = adopt(&pod, found, now);
        observed.refusal = refusal;
        let uid = pod.uid().unwrap_or_default();
        let mut own = Self {
            shared,
            pod,
            uid,
            observed,
            events,
            probes,
            volumes: None,
            sources: None,
            writer,
            said: None,
            inbox,
            own,
            verdicts,
            relink,
            sandbox_delay: None,
            removal_delay: None,
            told: HashMap::new(),
        };
        let ended: Vec<String> = own.observed.slots.keys().cloned().collect();
        ended.iter().for_each(|name| own.note_last_words(name));
        own
    }

    /// Works until nothing is left of the pod on this node.
    pub(crate) async fn run(mut self) {
        self.notice_deletion();
        if let Some(refusal) = &self.observed.refusal {
            self.events.warning(None, refusal.reason, refusal.message.clone());
        }
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
                () = changed(&mut self.sources) => self.retry_now(),
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
                let before = std::mem::replace(&mut self.pod, pod);
                self.notice_images(&before);
                self.writer.saw(&self.pod);
                // Ours that has arrived, or somebody else's decision.
                let phase = self.pod.status.as_ref().and_then(|status| status.phase.clone());
                if let Some(phase) = phase.filter(|phase| phase == "Succeeded" || phase == "Failed") {
                    self.observed.final_phase = Some(phase);
                }
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
                self.stop(grace);
            }
            Message::Exited { id, exit } => self.ended(&id, exit),
            Message::Lost => self.lost(),
            Message::Fetched { container, reference, result } => self.fetched(&container, &reference, *result),
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

    /// Whoever corrects the name of an image need not wait for what the wrong one brought.
    fn notice_images(&mut self, before: &Pod) {
        for (_, container) in self.pod.spec.iter().flat_map(containers) {
            let old = before.spec.iter().flat_map(containers).find(|(_, old)| old.name == container.name);
            if old.is_none_or(|(_, old)| old.image == container.image) {
                continue;
            }
            if let Some(slot) = self.observed.slots.get_mut(&container.name) {
                slot.image = ImageState::Unknown;
                slot.pull_delay = None;
                slot.trouble = None;
                slot.delay = None;
            }
        }
    }

    /// Something that the pod refers to has changed.
    fn retry_now(&mut self) {
        let now = self.now();
        if let Sandbox::Failed { until } = &mut self.observed.sandbox {
            *until = now;
        }
        for trouble in self.observed.slots.values_mut().filter_map(|slot| slot.trouble.as_mut()) {
            trouble.until = now;
        }
    }

    /// Asks for a stop; of two, the sooner one holds.
    fn stop(&mut self, grace: Duration) {
        let (since, grace) = (self.now(), grace.max(LEAST_GRACE));
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
        let name = name.clone();
        let container = self.pod.spec.as_ref().and_then(|spec| containers(spec).find(|(_, own)| own.name == name));
        let outdated = container.is_some_and(|(_, container)| slot.is_outdated(container));
        slot.ended(exit);
        if outdated {
            // It was we who ended it.
            slot.delay = None;
        }
        self.note_last_words(&name);
    }

    /// Finds out what a container that has ended said last.
    fn note_last_words(&mut self, name: &str) {
        let Some(container) = self.container(name) else { return };
        let Some(slot) = self.observed.slots.get_mut(name).filter(|slot| slot.end.message.is_none()) else { return };
        let Some(newest) = slot.newest.clone().filter(|newest| newest.exit.is_some()) else { return };
        let (log, file) = self.leavings(name, newest.attempt);
        let message = termination::message(&container, &newest, &file, &log);
        if let Some(slot) = self.observed.slots.get_mut(name) {
            slot.end.message = message;
        }
    }

    /// What an attempt leaves on disk: its log and its last words.
    fn leavings(&self, name: &str, attempt: u32) -> (PathBuf, PathBuf) {
        let log = self.log_dir(name).join(format!("{attempt}.log"));
        (log, files::termination_log(&self.shared.config.pod_dir(&self.uid), name, attempt))
    }

    /// Everything that ran is gone, and nobody saw how it ended.
    fn lost(&mut self) {
        let now = self.now();
        for slot in self.observed.slots.values_mut().filter(|slot| slot.is_running()) {
            slot.ended(Exit { code: UNKNOWN_CODE, signal: SIGKILL, oom_killed: false, at: now });
        }
        for slot in self.observed.slots.values_mut().filter(|slot| slot.newest.is_some()) {
            slot.stale = true;
            if slot.exit().is_some_and(|exit| exit.code == 0) {
                slot.delay = None;
            }
        }
        self.observed.sandbox = Sandbox::Failed { until: now };
        self.relink = true;
        self.events.normal(None, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.");
    }

    fn fetched(&mut self, name: &str, reference: &str, result: Result<Image, PortError>) {
        let now = self.now();
        // Nobody needs an image that the spec no longer names.
        if self.container(name).is_none_or(|container| container.image.as_deref() != Some(reference)) {
            return;
        }
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
                ImageState::Failed { reason, message, until: now + delay, look: now + LOOK, backing_off: false }
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
            let never = spec.restart_policy.as_deref() == Some("Never");
            let what = if never { "" } else { ", will be restarted" };
            let why = format!("Container {container} failed {} probe{what}", probe.0);
            self.stop_container(&container, self.now() + grace, &why).await;
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
                    Action::LookForImage(container) => self.look_for_image(&container).await,
                    Action::Start(container) => self.start(&container).await,
                    Action::Stop { container, until, why } => self.stop_container(&container, until, &why).await,
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

    fn sync_probes(&mut self) {
        let running: Vec<RunningContainer> = self
            .observed
            .slots
            .iter()
            .filter(|(_, slot)| slot.is_running())
            .filter_map(|(name, slot)| {
                let newest = slot.newest.as_ref()?;
                Some(RunningContainer {
                    name: name.clone(),
                    id: newest.id.clone(),
                    started_at: newest.started_at,
                    started: slot.started,
                    ending: slot.stopping.is_some() || self.observed.stop.is_some(),
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
    fn publish(&mut self) {
        let config = &self.shared.config;
        let (namespace, name) = (self.pod.namespace().unwrap_or_default(), self.pod.name_any());
        self.shared.lookup.publish(&namespace, &name, view(&self.pod, &self.observed, config));
        if !self.observed.removed {
            let status = status(&self.pod, &self.observed, self.said.as_ref(), config.node_ip, self.now());
            self.said = Some(status.clone());
            self.writer.status(status);
        }
    }

    /// Tells the end, and cleans up. Returns when the pod is gone from the API server too, which somebody else may hold
    /// up: until then it must not get another worker.
    async fn finish(mut self) {
        let config = &self.shared.config;
        let (namespace, name) = (self.pod.namespace().unwrap_or_default(), self.pod.name_any());
        if !self.observed.removed {
            let last = status(&self.pod, &self.observed, self.said.as_ref(), config.node_ip, self.now());
            self.writer.finish(last).await;
        }
        self.shared.lookup.forget(&namespace, &name, &self.uid);
        let _ = std::fs::remove_dir_all(config.pod_log_dir(&namespace, &name, &self.uid));
        let _ = std::fs::remove_dir_all(config.pod_dir(&self.uid));
        while !self.observed.removed {
            match self.inbox.recv().await {
                Some(message) => self.observed.removed = matches!(message, Message::Removed),
                None => return,
            }
        }
    }
}

/// Returns when something that the pod refers to has changed.
async fn changed(sources: &mut Option<(PodSources, Changes)>) {
    match sources {
        Some((_, changes)) => changes.next().await,
        None => std::future::pending().await,
    }
}
