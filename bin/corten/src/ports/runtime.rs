//! Containers by `corten-runtime`, their layers by `corten-image`.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use corten_agent::ports::{
    self, ContainerSpec, ContainerState, ExecSpec, Exit, PodSpec, PodState, PortError, RuntimeEvent, Session, Usage,
};
use corten_base::Timestamp;
use corten_image::ImageStore;
use corten_runtime as runtime;
use corten_runtime::Engine;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::images::blocking;

/// Reasons that the runtime gives, and that statuses and events show.
const REASONS: [&str; 12] = [
    "ConnectError",
    "ContainerNotFound",
    "ContainerNotRunning",
    "CreateContainerError",
    "CreatePodSandboxError",
    "KillContainerError",
    "LogError",
    "PodLost",
    "PodNotFound",
    "RemoveContainerError",
    "RemovePodError",
    "StartError",
];

/// The port.
pub(crate) struct Runtime {
    engine: Arc<Engine>,
    images: ImageStore,
    /// Layers of images that were started before, by image id.
    layers: Mutex<HashMap<String, Vec<PathBuf>>>,
}

impl Runtime {
    pub(crate) fn new(engine: Arc<Engine>, images: ImageStore) -> Self {
        Self { engine, images, layers: Mutex::default() }
    }

    async fn layers(&self, image: &str) -> Result<Vec<PathBuf>, PortError> {
        let known = self.layers.lock().unwrap_or_else(PoisonError::into_inner).get(image).cloned();
        if let Some(known) = known.filter(|known| known.iter().all(|layer| layer.exists())) {
            return Ok(known);
        }
        let (store, id) = (self.images.clone(), image.to_owned());
        let found = blocking(move || store.layers(&id)).await?;
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).insert(image.to_owned(), found.clone());
        Ok(found)
    }
}

fn failed(error: runtime::Error) -> PortError {
    let reason = REASONS.into_iter().find(|known| *known == error.reason).unwrap_or("RuntimeError");
    PortError { reason, message: error.message }
}

fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default()
}

fn exit(exit: runtime::Exit) -> Exit {
    let runtime::Exit { code, signal, oom_killed, at } = exit;
    Exit { code, signal, oom_killed, at: timestamp(at) }
}

fn container(state: runtime::ContainerState) -> ContainerState {
    let runtime::ContainerState { id, name, attempt, image, pid, started_at, exit: end } = state;
    ContainerState { id, name, attempt, image, pid, started_at: timestamp(started_at), exit: end.map(exit) }
}

fn pod(state: runtime::PodState) -> PodState {
    let runtime::PodState { uid, namespace, name, netns, containers, broken } = state;
    PodState { uid, namespace, name, netns, containers: containers.into_iter().map(container).collect(), broken }
}

fn resources(resources: ports::Resources) -> runtime::Resources {
    let ports::Resources { cpu_shares, cpu_quota, memory_limit, pids_limit } = resources;
    runtime::Resources { cpu_shares, cpu_quota, memory_limit, pids_limit }
}

fn mount(mount: ports::Mount) -> runtime::Mount {
    let ports::Mount { source, target, read_only } = mount;
    runtime::Mount { source, target, read_only }
}

fn session(session: runtime::Session) -> Session {
    let runtime::Session { stdin, stdout, stderr, resize, exit } = session;
    Session { stdin, stdout, stderr, resize, exit }
}

fn usage(usage: runtime::Usage) -> Usage {
    Usage { cpu_nanos: usage.cpu_nanos, memory_bytes: usage.memory_bytes }
}

fn pod_spec(spec: PodSpec) -> Result<runtime::PodSpec, PortError> {
    let PodSpec {
        uid,
        namespace,
        name,
        hostname,
        host_network,
        host_pid,
        host_ipc,
        share_pid,
        resources: own,
        qos,
        grace,
    } = spec;
    if share_pid {
        let message = "shareProcessNamespace is not supported yet".to_owned();
        return Err(PortError { reason: "CreatePodSandboxError", message });
    }
    let (resources, qos) = (resources(own), qos.to_owned());
    Ok(runtime::PodSpec { uid, namespace, name, hostname, host_network, host_pid, host_ipc, resources, qos, grace })
}

fn container_spec(spec: ContainerSpec, layers: Vec<PathBuf>) -> runtime::ContainerSpec {
    let ports::User { name, uid, gid, groups } = spec.user;
    runtime::ContainerSpec {
        id: spec.id,
        pod_uid: spec.pod_uid,
        name: spec.name,
        attempt: spec.attempt,
        image: spec.image,
        layers,
        args: spec.args,
        env: spec.env,
        cwd: spec.cwd,
        mounts: spec.mounts.into_iter().map(mount).collect(),
        user: runtime::User { name, uid, gid, groups },
        cap_add: spec.cap_add,
        cap_drop: spec.cap_drop,
        privileged: spec.privileged,
        read_only_root: spec.read_only_root,
        no_new_privileges: spec.no_new_privileges,
        seccomp: spec.seccomp,
        resources: resources(spec.resources),
        log_path: spec.log_path,
        tty: spec.tty,
        stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        oom_score_adj: spec.oom_score_adj,
    }
}

#[async_trait]
impl ports::Runtime for Runtime {
    async fn create_pod(&self, spec: PodSpec) -> Result<PodState, PortError> {
        self.engine.create_pod(pod_spec(spec)?).await.map(pod).map_err(failed)
    }

    async fn remove_pod(&self, uid: &str) -> Result<(), PortError> {
        self.engine.remove_pod(uid).await.map_err(failed)
    }

    async fn start_container(&self, spec: ContainerSpec) -> Result<ContainerState, PortError> {
        let layers = self.layers(&spec.image).await?;
        self.engine.start_container(container_spec(spec, layers)).await.map(container).map_err(failed)
    }

    async fn signal(&self, pod_uid: &str, id: &str, signal: i32) -> Result<(), PortError> {
        self.engine.signal(pod_uid, id, signal).await.map_err(failed)
    }

    async fn kill(&self, pod_uid: &str, id: &str) -> Result<(), PortError> {
        self.engine.kill(pod_uid, id).await.map_err(failed)
    }

    async fn remove_container(&self, pod_uid: &str, id: &str) -> Result<(), PortError> {
        self.engine.remove_container(pod_uid, id).await.map_err(failed)
    }

    async fn list(&self) -> Result<Vec<PodState>, PortError> {
        Ok(self.engine.list().await.map_err(failed)?.into_iter().map(pod).collect())
    }

    fn events(&self) -> mpsc::UnboundedReceiver<RuntimeEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut events = self.engine.events();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let event = match event {
                    runtime::Event::Exited { pod_uid, id, exit: end } => {
                        RuntimeEvent::Exited { pod_uid, id, exit: exit(end) }
                    }
                    runtime::Event::PodLost { pod_uid } => RuntimeEvent::PodLost { pod_uid },
                };
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        receiver
    }

    async fn exec(&self, pod_uid: &str, id: &str, spec: ExecSpec) -> Result<Session, PortError> {
        let ExecSpec { args, tty, stdin } = spec;
        self.engine.exec(pod_uid, id, runtime::ExecSpec { args, tty, stdin }).await.map(session).map_err(failed)
    }

    async fn attach(&self, pod_uid: &str, id: &str) -> Result<Session, PortError> {
        self.engine.attach(pod_uid, id).await.map(session).map_err(failed)
    }

    async fn connect(&self, pod_uid: &str, port: u16) -> Result<TcpStream, PortError> {
        self.engine.connect(pod_uid, port).await.map_err(failed)
    }

    async fn reopen_log(&self, pod_uid: &str, id: &str) -> Result<(), PortError> {
        self.engine.reopen_log(pod_uid, id).await.map_err(failed)
    }

    async fn usage(&self, pod_uid: &str) -> Result<(Usage, BTreeMap<String, Usage>), PortError> {
        let (pod, containers) = self.engine.usage(pod_uid).await.map_err(failed)?;
        Ok((usage(pod), containers.into_iter().map(|(id, own)| (id, usage(own))).collect()))
    }
}
