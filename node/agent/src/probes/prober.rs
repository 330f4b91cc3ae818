//! One probe of one container, from its first run to its last.

use std::sync::Arc;
use std::time::Duration;

use corten_api::IntOrString;
use corten_api::api::core::v1::{Container, HTTPGetAction, Pod, Probe};
use corten_client::reference;
use tokio::sync::{mpsc, watch};

use super::answer::Answer;
use super::thresholds::{INFANCY, Thresholds};
use super::{ProbeKind, RunningContainer, Tools, Verdict, exec, grpc, http, tcp};
use crate::env::expand;

/// How finely the wait before a first run is drawn.
const PARTS: u32 = 1000;
/// Tries of a run that could not be made, as upstream.
const TRIES: u32 = 3;

pub(super) struct Prober {
    pub(super) tools: Tools,
    pub(super) verdicts: mpsc::UnboundedSender<Verdict>,
    pub(super) pod: Arc<Pod>,
    pub(super) spec: Container,
    pub(super) running: RunningContainer,
    pub(super) kind: ProbeKind,
    pub(super) probe: Probe,
    /// Whether the container has started, which the startup probe says.
    pub(super) started: watch::Sender<bool>,
}

impl Prober {
    pub(super) async fn run(self) {
        if self.kind != ProbeKind::Startup && self.started.subscribe().wait_for(|started| *started).await.is_err() {
            return;
        }
        let mut thresholds = Thresholds::of(&self.probe);
        let part = u32::try_from(self.tools.random.below(PARTS as usize)).unwrap_or(0);
        let waited_for_start = self.spec.startup_probe.is_some() && !self.running.started;
        let first = thresholds.first_wait(self.age(), part, PARTS);
        // What has just started is not spread: it is not many at once.
        tokio::time::sleep(if waited_for_start && self.kind != ProbeKind::Startup { Duration::ZERO } else { first })
            .await;
        loop {
            let answer = self.ask(thresholds.timeout).await;
            let healthy = match &answer {
                Answer::Healthy | Answer::Warning(_) => true,
                Answer::Unhealthy(_) => false,
                Answer::Unknown(_) => {
                    if self.age() >= INFANCY {
                        self.tell(&answer);
                    }
                    tokio::time::sleep(thresholds.after_unknown(self.age())).await;
                    continue;
                }
            };
            let outcome = thresholds.take(healthy, self.age());
            if outcome.told {
                self.tell(&answer);
            }
            if let Some(healthy) = outcome.verdict {
                let (container, id) = (self.running.name.clone(), self.running.id.clone());
                let verdict = Verdict { container, id, kind: self.kind, healthy };
                if self.verdicts.send(verdict).is_err() {
                    return;
                }
                match (self.kind, healthy) {
                    (ProbeKind::Startup, true) => {
                        self.started.send_replace(true);
                        return;
                    }
                    (ProbeKind::Startup | ProbeKind::Liveness, false) => return,
                    _ => {}
                }
            }
            tokio::time::sleep(outcome.next).await;
        }
    }

    fn age(&self) -> Duration {
        self.tools.clock.since(self.running.started_at)
    }

    async fn ask(&self, timeout: Duration) -> Answer {
        let mut answer = self.ask_once(timeout).await;
        for _ in 1..TRIES {
            if !matches!(answer, Answer::Unknown(_)) {
                break;
            }
            answer = self.ask_once(timeout).await;
        }
        answer
    }

    async fn ask_once(&self, timeout: Duration) -> Answer {
        let pod_ip = || self.running.pod_ip.map(|ip| ip.to_string()).unwrap_or_default();
        let host = |own: Option<&String>| own.filter(|host| !host.is_empty()).cloned().unwrap_or_else(pod_ip);
        if let Some(action) = &self.probe.exec {
            let command = self.command(action.command.as_deref().unwrap_or_default());
            let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
            exec::run(&self.tools.runtime, uid, &self.running.id, &command, timeout).await
        } else if let Some(action) = &self.probe.http_get {
            match target(action, &self.spec, host(action.host.as_ref())) {
                Ok(target) => http::run(&target, timeout).await,
                Err(error) => Answer::Unknown(error),
            }
        } else if let Some(action) = &self.probe.tcp_socket {
            match port(&action.port, &self.spec) {
                Ok(port) => tcp::run(&host(action.host.as_ref()), port, timeout).await,
                Err(error) => Answer::Unknown(error),
            }
        } else if let Some(action) = &self.probe.grpc {
            let service = action.service.as_deref().unwrap_or_default();
            match u16::try_from(action.port) {
                Ok(port) => grpc::run(&pod_ip(), port, service, timeout).await,
                Err(_) => Answer::Unknown(format!("invalid port number: {}", action.port)),
            }
        } else {
            Answer::Unknown(format!("missing probe handler for container {}", self.spec.name))
        }
    }

    /// The command with variables replaced, as far as the spec itself says what they are.
    fn command(&self, command: &[String]) -> Vec<String> {
        let variables = self.spec.env.as_deref().unwrap_or_default();
        let value = |name: &str| {
            let variable = variables.iter().rfind(|variable| variable.name == name)?;
            Some(variable.value.clone().unwrap_or_default())
        };
        command.iter().map(|text| expand(text, value)).collect()
    }

    /// Tells people of anything but health.
    fn tell(&self, answer: &Answer) {
        let kind = self.kind.name();
        let (reason, message) = match answer {
            Answer::Healthy => return,
            Answer::Warning(why) => ("ProbeWarning", format!("{kind} probe warning: {why}")),
            Answer::Unhealthy(why) => ("Unhealthy", format!("{kind} probe failed: {why}")),
            Answer::Unknown(why) => ("Unhealthy", format!("{kind} probe errored and resulted in unknown state: {why}")),
        };
        let mut object = reference(&*self.pod);
        let is_main =
            self.pod.spec.as_ref().is_some_and(|spec| spec.containers.iter().any(|own| own.name == self.spec.name));
        let list = if is_main { "containers" } else { "initContainers" };
        object.field_path = Some(format!("spec.{list}{{{}}}", self.spec.name));
        self.tools.recorder.warning(&self.tools.clock, object, reason, message);
    }
}

fn target(action: &HTTPGetAction, container: &Container, host: String) -> Result<http::Target, String> {
    let path = action.path.as_deref().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let headers = action.http_headers.iter().flatten().map(|header| (header.name.clone(), header.value.clone()));
    Ok(http::Target {
        https: action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
        host,
        port: port(&action.port, container)?,
        path,
        headers: headers.collect(),
    })
}

/// A port, by number or by the name that the container gives it.
fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
            match named {
                Some(port) => port.container_port,
                None => name.parse().map_err(|_| format!("port {name} not found"))?,
            }
        }
    };
    u16::try_from(number).ok().filter(|port| *port > 0).ok_or_else(|| format!("invalid port number: {number}"))
}
