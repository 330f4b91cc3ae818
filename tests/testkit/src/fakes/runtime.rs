//! Containers that a test can end, and that do as their command says.
//!
//! | command | what it does |
//! |---|---|
//! | `exit CODE` | ends at once |
//! | `exit CODE after SECONDS` | ends later |
//! | `stubborn` | does not listen to signals |
//! | `slow SECONDS` | ends that long after it was asked to |
//! | anything else | runs until it is asked to end, then does so with code 0 |

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use corten_agent::ports::{
    ContainerSpec, ContainerState, ExecSpec, Exit, PodSpec, PodState, PortError, Runtime, RuntimeEvent, Session, Usage,
};
use corten_base::{Clock, Timestamp};
use tokio::sync::{mpsc, oneshot};

use super::lock;

const SIGKILL: i32 = 9;

/// A runtime whose containers are entries in a map. Clones share it.
#[derive(Clone)]
pub struct FakeRuntime {
    clock: Clock,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    pods: BTreeMap<String, Pod>,
    events: Option<mpsc::UnboundedSender<RuntimeEvent>>,
    /// Exit codes of commands; 0 for those not in here.
    answers: BTreeMap<String, i32>,
    /// Containers that do not start, by name.
    refusals: BTreeMap<String, String>,
    /// Containers whose next start is too much for whoever asks.
    bombs: BTreeSet<String>,
    /// Why pods cannot be removed, if they cannot.
    clinging: Option<String>,
    journal: Vec<(Timestamp, String)>,
    last_pid: i32,
}

struct Pod {
    spec: PodSpec,
    containers: Vec<Running>,
    broken: bool,
}

struct Running {
    state: ContainerState,
    command: Vec<String>,
}

impl FakeRuntime {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, state: Arc::default() }
    }

    /// What was asked of the runtime so far, each with its time: `start web/c 0`, `signal web/c 15`, `kill web/c`,
    /// `create web`, `remove web`.
    #[must_use]
    pub fn journal(&self) -> Vec<(Timestamp, String)> {
        lock(&self.state).journal.clone()
    }

    /// When a line of the journal was written, each time.
    #[must_use]
    pub fn times(&self, line: &str) -> Vec<Timestamp> {
        self.journal().into_iter().filter(|(_, own)| own == line).map(|(at, _)| at).collect()
    }

    /// All pods here, running or not.
    #[must_use]
    pub fn pods(&self) -> Vec<PodState> {
        lock(&self.state).pods.values().map(shown).collect()
    }

    /// The newest attempt of a container.
    pub fn container(&self, pod: &str, name: &str) -> Result<ContainerState> {
        let state = lock(&self.state);
        let pod = state.pods.values().find(|own| own.spec.name == pod).context("there is no such pod")?;
        let newest = pod.containers.iter().rfind(|own| own.state.name == name);
        Ok(newest.context("there is no such container")?.state.clone())
    }

    /// Ends a running container's process from within.
    pub fn end(&self, pod: &str, name: &str, code: i32) -> Result<()> {
        let container = self.container(pod, name)?;
        if container.exit.is_some() {
            bail!("{pod}/{name} has ended already");
        }
        self.ended(&container.id, code, 0);
        Ok(())
    }

    /// What a command (its words joined by blanks) ends with when it is run in any container.
    pub fn answer(&self, command: &str, code: i32) {
        lock(&self.state).answers.insert(command.to_owned(), code);
    }

    /// Containers of this name do not start for this reason, or do again.
    pub fn refuse(&self, container: &str, why: Option<&str>) {
        let mut state = lock(&self.state);
        match why {
            Some(why) => drop(state.refusals.insert(container.to_owned(), why.to_owned())),
            None => drop(state.refusals.remove(container)),
        }
    }

    /// Whoever next starts a container of this name panics.
    pub fn plant_bomb(&self, container: &str) {
        lock(&self.state).bombs.insert(container.to_owned());
    }

    /// Pods cannot be removed for this reason, or can again.
    pub fn cling(&self, why: Option<&str>) {
        lock(&self.state).clinging = why.map(str::to_owned);
    }

    /// A pod's supervisor dies, and all containers with it.
    pub fn lose(&self, pod: &str) -> Result<()> {
        let mut state = lock(&self.state);
        let (uid, pod) = state.pods.iter_mut().find(|(_, own)| own.spec.name == pod).context("there is no such pod")?;
        let pod_uid = uid.clone();
        pod.broken = true;
        // Nobody is left who could say how they ended.
        pod.containers.retain(|own| own.state.exit.is_some());
        state.tell(RuntimeEvent::PodLost { pod_uid });
        Ok(())
    }

    /// The machine has lost power: nothing is left, and nobody was told.
    pub(crate) fn reboot(&self) {
        let mut state = lock(&self.state);
        state.pods.clear();
        state.events = None;
    }

    fn ended(&self, id: &str, code: i32, signal: i32) {
        let mut state = lock(&self.state);
        let found = state.pods.iter_mut().find_map(|(uid, pod)| {
            let own = pod.containers.iter_mut().find(|own| own.state.id == id && own.state.exit.is_none())?;
            Some((uid.clone(), own))
        });
        let Some((pod_uid, container)) = found else { return };
        let exit = Exit { code, signal, oom_killed: false, at: self.clock.now() };
        container.state.exit = Some(exit.clone());
        container.state.pid = None;
        let id = id.to_owned();
        state.tell(RuntimeEvent::Exited { pod_uid, id, exit });
    }

    fn ends_after(&self, id: &str, code: i32, delay: Duration) {
        let (own, id) = (self.clone(), id.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            own.ended(&id, code, 0);
        });
    }

    fn signalled(&self, pod_uid: &str, id: &str, signal: i32) -> Result<(), PortError> {
        let command = {
            let mut state = lock(&self.state);
            let pod = state.pods.get(pod_uid).ok_or_else(|| failed("PodNotFound", "there is no such pod"))?;
            let container = pod.containers.iter().find(|own| own.state.id == id);
            let container = container.ok_or_else(|| failed("ContainerNotFound", "there is no such container"))?;
            if container.state.exit.is_some() {
                return Err(failed("ContainerNotRunning", "the container has ended"));
            }
            let what = if signal == SIGKILL { "kill".to_owned() } else { "signal".to_owned() };
            let tail = if signal == SIGKILL { String::new() } else { format!(" {signal}") };
            let (line, command) =
                (format!("{what} {}/{}{tail}", pod.spec.name, container.state.name), container.command.clone());
            state.note(self.clock.now(), line);
            command
        };
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        match (signal, words.as_slice()) {
            (SIGKILL, _) => self.ended(id, 128 + SIGKILL, SIGKILL),
            (_, ["stubborn", ..]) => {}
            (_, ["slow", seconds]) => self.ends_after(id, 0, seconds_of(seconds)),
            _ => self.ended(id, 0, 0),
        }
        Ok(())
    }
}

impl State {
    fn tell(&self, event: RuntimeEvent) {
        if let Some(events) = &self.events {
            let _ = events.send(event);
        }
    }

    fn note(&mut self, now: Timestamp, line: String) {
        self.journal.push((now, line));
    }
}

fn seconds_of(text: &str) -> Duration {
    Duration::from_secs(text.parse().unwrap_or(0))
}

fn failed(reason: &'static str, message: &str) -> PortError {
    PortError { reason, message: message.to_owned() }
}

fn unsupported<T>() -> Result<T, PortError> {
    Err(failed("RuntimeError", "a fake container has no streams"))
}

fn shown(pod: &Pod) -> PodState {
    PodState {
        uid: pod.spec.uid.clone(),
        namespace: pod.spec.namespace.clone(),
        name: pod.spec.name.clone(),
        netns: (!pod.spec.host_network).then(|| PathBuf::from(format!("/fake/{}", pod.spec.uid))),
        containers: pod.containers.iter().map(|own| own.state.clone()).collect(),
        broken: pod.broken,
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    async fn create_pod(&self, spec: PodSpec) -> Result<PodState, PortError> {
        let mut state = lock(&self.state);
        if let Some(pod) = state.pods.get(&spec.uid).filter(|pod| !pod.broken) {
            return Ok(shown(pod));
        }
        state.note(self.clock.now(), format!("create {}", spec.name));
        let pod = Pod { spec, containers: Vec::new(), broken: false };
        let answer = shown(&pod);
        state.pods.insert(answer.uid.clone(), pod);
        Ok(answer)
    }

    async fn remove_pod(&self, uid: &str) -> Result<(), PortError> {
        let mut state = lock(&self.state);
        if let Some(why) = &state.clinging {
            return Err(failed("RemovePodError", why));
        }
        if let Some(pod) = state.pods.remove(uid) {
            state.note(self.clock.now(), format!("remove {}", pod.spec.name));
        }
        Ok(())
    }

    async fn start_container(&self, spec: ContainerSpec) -> Result<ContainerState, PortError> {
        let now = self.clock.now();
        let state = {
            let mut state = lock(&self.state);
            let bomb = state.bombs.remove(&spec.name);
            assert!(!bomb, "a bomb that the test planted");
            if let Some(why) = state.refusals.get(&spec.name) {
                return Err(failed("CreateContainerError", why));
            }
            if spec.args.iter().any(|word| word == "missing") {
                return Err(failed("StartError", "exec: \"missing\": no such file or directory"));
            }
            state.last_pid += 1;
            let pid = state.last_pid;
            let pod = state.pods.get_mut(&spec.pod_uid).filter(|pod| !pod.broken);
            let pod = pod.ok_or_else(|| failed("PodNotFound", "there is no such pod"))?;
            let container = ContainerState {
                id: spec.id.clone(),
                name: spec.name.clone(),
                attempt: spec.attempt,
                image: spec.image,
                pid: Some(pid),
                started_at: now,
                exit: None,
            };
            // The program is the image's or the command's first word.
            let command = spec.args.iter().filter(|word| *word != "/program").cloned().collect();
            pod.containers.push(Running { state: container.clone(), command });
            let line = format!("start {}/{} {}", pod.spec.name, spec.name, spec.attempt);
            state.note(now, line);
            container
        };
        let words: Vec<&str> = spec.args.iter().map(String::as_str).collect();
        match words.as_slice() {
            [.., "exit", code] => self.ended(&spec.id, code.parse().unwrap_or(0), 0),
            [.., "exit", code, "after", seconds] => {
                self.ends_after(&spec.id, code.parse().unwrap_or(0), seconds_of(seconds));
            }
            _ => {}
        }
        Ok(state)
    }

    async fn signal(&self, pod_uid: &str, id: &str, signal: i32) -> Result<(), PortError> {
        self.signalled(pod_uid, id, signal)
    }

    async fn kill(&self, pod_uid: &str, id: &str) -> Result<(), PortError> {
        self.signalled(pod_uid, id, SIGKILL)
    }

    async fn remove_container(&self, pod_uid: &str, id: &str) -> Result<(), PortError> {
        if let Some(pod) = lock(&self.state).pods.get_mut(pod_uid) {
            pod.containers.retain(|own| own.state.id != id);
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<PodState>, PortError> {
        Ok(self.pods())
    }

    fn events(&self) -> mpsc::UnboundedReceiver<RuntimeEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        lock(&self.state).events = Some(sender);
        receiver
    }

    async fn exec(&self, pod_uid: &str, id: &str, spec: ExecSpec) -> Result<Session, PortError> {
        let state = lock(&self.state);
        let pod = state.pods.get(pod_uid).ok_or_else(|| failed("PodNotFound", "there is no such pod"))?;
        let runs = pod.containers.iter().any(|own| own.state.id == id && own.state.exit.is_none());
        if !runs {
            return Err(failed("ContainerNotRunning", "the container does not run"));
        }
        let (sender, exit) = oneshot::channel();
        let _ = sender.send(state.answers.get(&spec.args.join(" ")).copied().unwrap_or(0));
        Ok(Session { stdin: None, stdout: None, stderr: None, resize: mpsc::channel(1).0, exit })
    }

    async fn attach(&self, _pod_uid: &str, _id: &str) -> Result<Session, PortError> {
        unsupported()
    }

    async fn connect(&self, _pod_uid: &str, _port: u16) -> Result<tokio::net::TcpStream, PortError> {
        unsupported()
    }

    async fn reopen_log(&self, _pod_uid: &str, _id: &str) -> Result<(), PortError> {
        Ok(())
    }

    async fn usage(&self, _pod_uid: &str) -> Result<(Usage, BTreeMap<String, Usage>), PortError> {
        Ok(Default::default())
    }
}
