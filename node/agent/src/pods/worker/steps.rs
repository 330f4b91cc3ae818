//! The steps of a plan: what a worker does to its pod.

use std::sync::Arc;
use std::time::Duration;

use corten_api::api::core::v1::Container;
use corten_base::Timestamp;
use kube::ResourceExt;

use super::super::model::{End, ImageState, Sandbox, Stopping, Trouble, containers};
use super::super::{images, signals};
use super::{Message, Worker};
use crate::container::{self, container_spec, pod_spec};
use crate::ports::{ContainerState, Exit, PortError};
use crate::volumes::VolumeError;

/// A container that could not be started, and a pod that could not be made or removed, is tried again after this time
/// at the latest.
const MOST_START_DELAY: Duration = Duration::from_secs(20);
const MOST_SANDBOX_DELAY: Duration = Duration::from_secs(10);
/// Volumes that cannot be made are tried again after this time at the latest, as upstream's volume manager does.
const MOST_VOLUME_DELAY: Duration = Duration::from_secs(122);
const FIRST_SANDBOX_DELAY: Duration = Duration::from_millis(500);
/// What could not be killed is killed again after this time.
const KILL_AGAIN: Duration = Duration::from_secs(1);
const SIGTERM: i32 = 15;
/// How the runtime says that a program cannot be executed, and the exit code that stands for it.
const START_ERROR: &str = "StartError";
const START_ERROR_CODE: i32 = 128;

impl Worker {
    pub(super) async fn create_sandbox(&mut self) {
        if self.sources.is_none() {
            let used = self.shared.sources.follow(&self.pod);
            let changes = used.changes();
            self.sources = Some((used, changes));
        }
        match self.try_sandbox().await {
            Ok(()) => {
                self.observed.sandbox = Sandbox::Ready;
                self.sandbox_delay = None;
            }
            Err((reason, message)) => {
                let most = if reason == VolumeError::REASON { MOST_VOLUME_DELAY } else { MOST_SANDBOX_DELAY };
                let delay = self.sandbox_delay.map_or(FIRST_SANDBOX_DELAY, |delay| delay * 2).min(most);
                self.sandbox_delay = Some(delay);
                self.observed.sandbox = Sandbox::Failed { until: self.now() + delay };
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

    pub(super) async fn remove_sandbox(&mut self) {
        self.probes.sync(&self.pod, &[]);
        self.volumes = None;
        let config = &self.shared.config;
        // Each waits for the kernel, and neither for the other.
        let (detached, removed) = tokio::join!(config.network.detach(&self.uid), config.runtime.remove_pod(&self.uid));
        if let Err(error) = detached.and(removed) {
            self.events.warning(None, "FailedKillPod", format!("error killing pod: {}", error.message));
            let delay = self.removal_delay.map_or(FIRST_SANDBOX_DELAY, |delay| delay * 2).min(MOST_SANDBOX_DELAY);
            self.removal_delay = Some(delay);
            self.publish();
            tokio::time::sleep(delay).await;
            return;
        }
        self.sources = None;
        if let Err(error) = self.shared.volumes.unmount(&self.uid).await {
            tracing::warn!(pod = self.uid, %error, "cannot remove all of the pod's volumes");
        }
        self.observed.sandbox = Sandbox::Absent;
    }

    pub(super) fn container(&self, name: &str) -> Option<Container> {
        let spec = self.pod.spec.as_ref()?;
        containers(spec).find(|(_, container)| container.name == name).map(|(_, container)| container.clone())
    }

    pub(super) fn fetch(&mut self, name: &str) {
        let Some(container) = self.container(name) else { return };
        let slot = self.observed.slots.entry(name.to_owned()).or_default();
        slot.image = ImageState::Pulling;
        let reference = container.image.clone();
        let (shared, pod, events) = (Arc::clone(&self.shared), Arc::clone(&self.pod), self.events.clone());
        let work = tokio::spawn(async move {
            images::fetch(&*shared.config.images, &shared.sources, &pod, &container, &events).await
        });
        let (own, name) = (self.own.clone(), name.to_owned());
        let reference = reference.unwrap_or_default();
        tokio::spawn(async move {
            let died = |error| PortError { reason: "ErrImagePull", message: format!("the pull broke off: {error}") };
            let result = work.await.unwrap_or_else(|error| Err(died(error)));
            if let Some(own) = own.upgrade() {
                let _ = own.send(Message::Fetched { container: name, reference, result: Box::new(result) });
            }
        });
    }

    pub(super) async fn look_for_image(&mut self, name: &str) {
        let Some(container) = self.container(name) else { return };
        let found = images::look(&*self.shared.config.images, &container, &self.events).await;
        let now = self.now();
        let Some(slot) = self.observed.slots.get_mut(name) else { return };
        match (found, &mut slot.image) {
            (Some(image), _) => {
                slot.pull_delay = None;
                slot.image = ImageState::Present(Box::new(image));
            }
            (None, ImageState::Failed { look, .. }) => *look = now + super::LOOK,
            (None, _) => {}
        }
    }

    pub(super) async fn start(&mut self, name: &str) {
        let Some(container) = self.container(name) else { return };
        let random = &self.shared.config.random;
        let id: String =
            [random.bytes16(), random.bytes16()].concat().iter().map(|byte| format!("{byte:02x}")).collect();
        let Err(PortError { reason, message }) = self.try_start(&container, id.clone()).await else { return };
        let now = self.now();
        self.events.warning(Some(name), "Failed", format!("Error: {message}"));
        if reason == START_ERROR {
            return self.could_not_execute(&container, id, message).await;
        }
        let slot = self.observed.slots.entry(name.to_owned()).or_default();
        let delay = images::next_delay(slot.trouble.as_ref().map(|trouble| trouble.delay)).min(MOST_START_DELAY);
        slot.trouble = Some(Trouble { reason: reason.to_owned(), message, until: now + delay, delay });
    }

    async fn try_start(&mut self, container: &Container, id: String) -> Result<(), PortError> {
        let slot = self.observed.slots.get(&container.name).cloned().unwrap_or_default();
        let (ImageState::Present(image), Some(volumes)) = (&slot.image, &self.volumes) else { return Ok(()) };
        let config = &self.shared.config;
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
        self.began(container, state).await;
        Ok(())
    }

    /// A program that cannot be executed counts as one that ended at once, as upstream's runtimes tell it.
    async fn could_not_execute(&mut self, container: &Container, id: String, message: String) {
        let slot = self.observed.slots.get(&container.name).cloned().unwrap_or_default();
        let image = match &slot.image {
            ImageState::Present(image) => image.id.clone(),
            _ => String::new(),
        };
        let (name, attempt, now) = (container.name.clone(), slot.next_attempt(), self.now());
        self.began(container, ContainerState { id, name, attempt, image, pid: None, started_at: now, exit: None })
            .await;
        let slot = self.observed.slots.entry(container.name.clone()).or_default();
        slot.ended(Exit { code: START_ERROR_CODE, signal: 0, oom_killed: false, at: now });
        slot.end = End { reason: Some(START_ERROR.to_owned()), message: Some(message) };
    }

    /// Notes a new attempt; the one before the last goes.
    async fn began(&mut self, container: &Container, state: ContainerState) {
        let attempt = state.attempt;
        let slot = self.observed.slots.entry(container.name.clone()).or_default();
        let oldest = slot.previous.take();
        slot.previous = slot.newest.replace(state);
        slot.trouble = None;
        slot.stopping = None;
        slot.stale = false;
        slot.reference = container.image.clone();
        slot.previous_end = std::mem::take(&mut slot.end);
        // The next attempt looks again.
        slot.image = ImageState::Unknown;
        slot.started = container.startup_probe.is_none();
        slot.ready = container.readiness_probe.is_none();
        if let Some(oldest) = oldest {
            let _ = self.shared.config.runtime.remove_container(&self.uid, &oldest.id).await;
        }
        if let Some(oldest) = attempt.checked_sub(2) {
            let (log, last_words) = self.leavings(&container.name, oldest);
            let _ = std::fs::remove_file(log);
            let _ = std::fs::remove_file(last_words);
        }
    }

    pub(super) fn log_dir(&self, container: &str) -> std::path::PathBuf {
        let (namespace, name) = (self.pod.namespace().unwrap_or_default(), self.pod.name_any());
        self.shared.config.pod_log_dir(&namespace, &name, &self.uid).join(container)
    }

    pub(super) async fn stop_container(&mut self, name: &str, until: Timestamp, why: &str) {
        let Some(container) = self.container(name) else { return };
        let Some(slot) = self.observed.slots.get_mut(name) else { return };
        let Some(id) = slot.newest.as_ref().map(|newest| newest.id.clone()) else { return };
        let again = slot.stopping.is_some();
        slot.stopping = Some(Stopping::until(until));
        if again {
            return;
        }
        let signal = self.stop_signal(&container).await;
        self.events.normal(Some(name), "Killing", why);
        // If it has ended by itself, its end is on its way here.
        let _ = self.shared.config.runtime.signal(&self.uid, &id, signal).await;
    }

    async fn stop_signal(&self, container: &Container) -> i32 {
        let reference = container.image.as_deref().unwrap_or_default();
        let image = self.shared.config.images.find(reference).await.ok().flatten();
        image.and_then(|image| signals::number(&image.stop_signal)).unwrap_or(SIGTERM)
    }

    pub(super) async fn kill(&mut self, name: &str) {
        let Some(slot) = self.observed.slots.get_mut(name) else { return };
        let Some(id) = slot.newest.as_ref().map(|newest| newest.id.clone()) else { return };
        let result = self.shared.config.runtime.kill(&self.uid, &id).await;
        if let Err(error) = &result {
            tracing::warn!(pod = self.uid, container = name, %error, "cannot kill a container");
        }
        if let Some(stopping) = &mut slot.stopping {
            stopping.kill_at = result.is_err().then(|| self.shared.config.clock.now() + KILL_AGAIN);
        }
    }
}
