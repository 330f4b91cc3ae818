//! The runtime itself.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use corten_shim::{Container, PodConfig, Reply, Request};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::cgroup::Cgroups;
use crate::shim::{Connection, ask};
use crate::types::{
    ContainerSpec, ContainerState, EngineConfig, Error, Event, ExecSpec, Exit, PodSpec, PodState, Result, Session,
    Usage,
};

/// The shim, as a program.
static SHIM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/corten-shim"));
const POD_FILE: &str = "pod.json";

/// Runs containers. What it starts outlives it.
pub struct Engine {
    config: EngineConfig,
    cgroups: Cgroups,
    shim: PathBuf,
    events: mpsc::UnboundedSender<Event>,
    receiver: Mutex<Option<mpsc::UnboundedReceiver<Event>>>,
}

impl Engine {
    /// An engine over these folders; pods that an earlier one started are found by `list`.
    pub async fn open(config: EngineConfig) -> Result<Arc<Self>> {
        let cgroups =
            Cgroups::find(&config.cgroup_root).map_err(Error::io("RuntimeError", "cannot find the cgroups"))?;
        let probe = cgroups.clone();
        let root = config.cgroup_root.clone();
        let shim = install(&config.run_dir).map_err(Error::io("RuntimeError", "cannot write the shim"))?;
        for dir in [config.run_dir.join("pods"), config.data_dir.join("containers")] {
            std::fs::create_dir_all(&dir)
                .map_err(Error::io("RuntimeError", format!("cannot make {}", dir.display())))?;
        }
        blocking(move || {
            let path = PathBuf::from(root.strip_prefix("/").unwrap_or(&root)).join("pods");
            probe.make(&path, &crate::types::Resources::default()).map(drop)
        })
        .await?
        .map_err(Error::io("RuntimeError", format!("cannot make cgroups below {}", config.cgroup_root.display())))?;
        let (events, receiver) = mpsc::unbounded_channel();
        Ok(Arc::new(Self { config, cgroups, shim, events, receiver: Mutex::new(Some(receiver)) }))
    }

    fn pod_dir(&self, uid: &str) -> PathBuf {
        self.config.run_dir.join("pods").join(uid)
    }

    fn container_dir(&self, id: &str) -> PathBuf {
        self.config.data_dir.join("containers").join(id)
    }

    fn spec_of(&self, uid: &str) -> Result<PodSpec> {
        let path = self.pod_dir(uid).join(POD_FILE);
        let text = std::fs::read(&path).map_err(Error::io("PodNotFound", format!("there is no pod {uid}")))?;
        serde_json::from_slice(&text).map_err(|error| Error::new("PodLost", format!("{}: {error}", path.display())))
    }

    /// Makes the pod's namespaces, cgroups and shim. Idempotent by UID.
    pub async fn create_pod(&self, spec: PodSpec) -> Result<PodState> {
        let dir = self.pod_dir(&spec.uid);
        if dir.join(POD_FILE).exists() {
            let state = self.state(&spec.uid).await?;
            if !state.broken {
                return Ok(state);
            }
            self.remove_pod(&spec.uid).await?;
        }
        let failed = |what: &'static str| Error::io("CreatePodSandboxError", what);
        std::fs::create_dir_all(&dir).map_err(failed("cannot make the pod's folder"))?;
        let cgroup = self.cgroups.pod(&spec.qos, &spec.uid);
        let (cgroups, resources) = (self.cgroups.clone(), spec.resources);
        let procs = blocking(move || {
            cgroups.make(&cgroup, &resources)?;
            cgroups.make(&cgroup.join("shim"), &crate::types::Resources::default())
        })
        .await?
        .map_err(failed("cannot make the pod's cgroup"))?;
        let config = PodConfig {
            uid: spec.uid.clone(),
            namespace: spec.namespace.clone(),
            name: spec.name.clone(),
            hostname: spec.hostname.clone(),
            dir: dir.clone(),
            host_network: spec.host_network,
            host_ipc: spec.host_ipc,
            cgroups: procs,
        };
        let text = serde_json::to_vec(&spec).map_err(|error| Error::new("CreatePodSandboxError", error.to_string()))?;
        std::fs::write(dir.join(POD_FILE), text).map_err(failed("cannot write the pod's file"))?;
        self.start_shim(&config).await?;
        let state = self.state(&spec.uid).await?;
        self.watch(&spec.uid).await;
        Ok(state)
    }

    async fn start_shim(&self, config: &PodConfig) -> Result<()> {
        let failed = |what: &'static str| Error::io("CreatePodSandboxError", what);
        let argument =
            serde_json::to_string(config).map_err(|error| Error::new("CreatePodSandboxError", error.to_string()))?;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(config.dir.join("shim.log"));
        let log = log.map_err(failed("cannot make the shim's log"))?;
        let output = tokio::process::Command::new(&self.shim)
            .arg(argument)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed("cannot start the shim"))?
            .wait_with_output()
            .await
            .map_err(failed("cannot wait for the shim"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = std::fs::read_to_string(config.dir.join("shim.log")).unwrap_or_default();
        let reason = said.lines().last().unwrap_or("it says nothing").to_owned();
        Err(Error::new("CreatePodSandboxError", format!("the pod's shim does not start: {reason}")))
    }

    /// Follows a pod's shim: tells of every end, and of its own.
    async fn watch(&self, uid: &str) {
        let (dir, events, uid) = (self.pod_dir(uid), self.events.clone(), uid.to_owned());
        let Ok(mut connection) = Connection::open(&dir).await else { return };
        if connection.send(&Request::Watch).await.is_err() || connection.receive().await.is_err() {
            return;
        }
        tokio::spawn(async move {
            loop {
                match connection.receive().await {
                    Ok(Reply::Exited { id, exit }) => {
                        let _ = events.send(Event::Exited { pod_uid: uid.clone(), id, exit });
                    }
                    Ok(_) => {}
                    Err(_) => {
                        // A pod that is being removed is not lost.
                        if dir.join(POD_FILE).exists() {
                            let _ = events.send(Event::PodLost { pod_uid: uid });
                        }
                        return;
                    }
                }
            }
        });
    }

    async fn state(&self, uid: &str) -> Result<PodState> {
        let spec = self.spec_of(uid)?;
        let dir = self.pod_dir(uid);
        let (mut containers, mut netns, mut broken) = (Vec::new(), None, false);
        match ask(&dir, &Request::List).await {
            Ok(Reply::Pod(pod)) => {
                containers = pod.containers.into_iter().map(ContainerState::from).collect();
                if !spec.host_network {
                    netns = Some(PathBuf::from(format!("/proc/{}/ns/net", pod.pid)));
                }
            }
            _ => {
                broken = true;
                for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                    if entry.file_name().to_string_lossy().starts_with("exit-")
                        && let Ok(bytes) = std::fs::read(entry.path())
                        && let Ok(state) = serde_json::from_slice::<corten_shim::State>(&bytes)
                    {
                        containers.push(state.into());
                    }
                }
            }
        }
        let PodSpec { uid, namespace, name, .. } = spec;
        Ok(PodState { uid, namespace, name, netns, containers, broken })
    }

    /// Kills what still runs and removes everything of the pod. Idempotent.
    pub async fn remove_pod(&self, uid: &str) -> Result<()> {
        let dir = self.pod_dir(uid);
        let Ok(spec) = self.spec_of(uid) else {
            let _ = std::fs::remove_dir_all(&dir);
            return Ok(());
        };
        let known = self.state(uid).await?;
        // First of all, so that its watcher knows that this is meant.
        std::fs::rename(dir.join(POD_FILE), dir.join("removing.json"))
            .map_err(Error::io("RemovePodError", "cannot mark the pod"))?;
        let _ = ask(&dir, &Request::Stop).await;
        let (cgroups, path) = (self.cgroups.clone(), self.cgroups.pod(&spec.qos, uid));
        blocking(move || cgroups.remove(&path))
            .await?
            .map_err(Error::io("RemovePodError", "cannot remove the pod's cgroup"))?;
        for container in known.containers {
            let _ = std::fs::remove_dir_all(self.container_dir(&container.id));
        }
        std::fs::remove_dir_all(&dir).map_err(Error::io("RemovePodError", "cannot remove the pod's folder"))
    }

    /// Creates and starts a container.
    pub async fn start_container(&self, spec: ContainerSpec) -> Result<ContainerState> {
        let pod = self.spec_of(&spec.pod_uid)?;
        let cgroup = self.cgroups.pod(&pod.qos, &spec.pod_uid).join(&spec.id);
        let (cgroups, resources, path) = (self.cgroups.clone(), spec.resources, cgroup.clone());
        let procs = blocking(move || cgroups.make(&path, &resources)).await?;
        let procs = procs.map_err(Error::io("CreateContainerError", "cannot make the container's cgroup"))?;
        let capabilities = capabilities(&spec)?;
        let container = Container {
            dir: self.container_dir(&spec.id),
            cgroups: procs,
            oom_file: self.cgroups.oom_file(&cgroup),
            capabilities,
            host_pid: pod.host_pid,
            id: spec.id,
            name: spec.name,
            attempt: spec.attempt,
            image: spec.image,
            layers: spec.layers,
            args: spec.args,
            env: spec.env,
            cwd: spec.cwd,
            mounts: spec.mounts,
            user: spec.user,
            privileged: spec.privileged,
            read_only_root: spec.read_only_root,
            no_new_privileges: spec.no_new_privileges,
            seccomp: spec.seccomp,
            log_path: spec.log_path,
            tty: spec.tty,
            stdin: spec.stdin,
            stdin_once: spec.stdin_once,
            oom_score_adj: spec.oom_score_adj,
        };
        let (id, folder) = (container.id.clone(), container.dir.clone());
        match ask(&self.pod_dir(&spec.pod_uid), &Request::Start(Box::new(container))).await {
            Ok(Reply::Started(state)) => Ok(state.into()),
            Ok(_) => Err(Error::new("CreateContainerError", "the shim gave an answer to another question")),
            Err(error) => {
                let cgroups = self.cgroups.clone();
                let _ = blocking(move || cgroups.remove(&cgroup)).await;
                let _ = std::fs::remove_dir_all(&folder);
                tracing::debug!(container = id, %error, "a container did not start");
                Err(error)
            }
        }
    }

    /// Sends a signal to a container's first process.
    pub async fn signal(&self, pod_uid: &str, id: &str, signal: i32) -> Result<()> {
        ask(&self.pod_dir(pod_uid), &Request::Signal { id: id.to_owned(), signal }).await.map(drop)
    }

    /// Kills every process of a container.
    pub async fn kill(&self, pod_uid: &str, id: &str) -> Result<()> {
        self.signal(pod_uid, id, rustix::process::Signal::KILL.as_raw()).await?;
        let (cgroups, pod) = (self.cgroups.clone(), self.spec_of(pod_uid)?);
        let path = cgroups.pod(&pod.qos, pod_uid).join(id);
        blocking(move || cgroups.kill(&path)).await
    }

    /// Removes an ended container: its root file system, not its log.
    pub async fn remove_container(&self, pod_uid: &str, id: &str) -> Result<()> {
        let pod = self.spec_of(pod_uid)?;
        let (cgroups, path) = (self.cgroups.clone(), self.cgroups.pod(&pod.qos, pod_uid).join(id));
        let _ = ask(&self.pod_dir(pod_uid), &Request::Remove { id: id.to_owned() }).await;
        let folder = self.container_dir(id);
        blocking(move || {
            cgroups.remove(&path)?;
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        })
        .await?
        .map_err(Error::io("RemoveContainerError", format!("cannot remove container {id}")))
    }

    /// All pods, those of an earlier engine included; those are followed from now on.
    pub async fn list(&self) -> Result<Vec<PodState>> {
        let mut pods = Vec::new();
        for entry in std::fs::read_dir(self.config.run_dir.join("pods")).into_iter().flatten().flatten() {
            let uid = entry.file_name().to_string_lossy().into_owned();
            if let Ok(state) = self.state(&uid).await {
                pods.push(state);
            }
        }
        Ok(pods)
    }

    /// Follows the pods that an earlier engine started. To be called once, before `events` is read.
    pub async fn adopt(&self) -> Result<()> {
        for pod in self.list().await? {
            self.watch(&pod.uid).await;
        }
        Ok(())
    }

    /// What happens from now on. There is one receiver; a second call gets one that stays silent.
    pub fn events(&self) -> mpsc::UnboundedReceiver<Event> {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        receiver.unwrap_or_else(|| mpsc::unbounded_channel().1)
    }

    /// Runs a command in a container.
    pub async fn exec(&self, pod_uid: &str, id: &str, spec: ExecSpec) -> Result<Session> {
        let ExecSpec { args, tty, stdin } = spec;
        self.session(pod_uid, &Request::Exec { id: id.to_owned(), args, tty, stdin }).await
    }

    /// Connects to a container's own streams.
    pub async fn attach(&self, pod_uid: &str, id: &str) -> Result<Session> {
        self.session(pod_uid, &Request::Attach { id: id.to_owned() }).await
    }

    async fn session(&self, pod_uid: &str, request: &Request) -> Result<Session> {
        let gone = |error: std::io::Error| Error::new("PodLost", format!("the pod's shim does not answer: {error}"));
        let mut connection = Connection::open(&self.pod_dir(pod_uid)).await.map_err(gone)?;
        connection.send(request).await.map_err(gone)?;
        let streams = match connection.receive().await.map_err(gone)? {
            Reply::Streams { streams } => streams,
            Reply::Failed { reason, message } => return Err(Error { reason, message }),
            _ => return Err(Error::new("StartError", "the shim gave an answer to another question")),
        };
        let mut fds = connection.take_fds().into_iter();
        let mut next = |present: bool| -> Option<OwnedFd> { if present { fds.next() } else { None } };
        let (stdin, stdout, stderr) = (next(streams[0]), next(streams[1]), next(streams[2]));
        let (resize, mut sizes) = mpsc::channel::<(u16, u16)>(4);
        let (ended, exit) = oneshot::channel();
        tokio::spawn(async move {
            let mut ended = Some(ended);
            let mut open = true;
            loop {
                tokio::select! {
                    size = sizes.recv(), if open => match size {
                        Some((columns, rows)) => {
                            if connection.send(&Request::Resize { columns, rows }).await.is_err() {
                                return;
                            }
                        }
                        None => open = false,
                    },
                    reply = connection.receive() => match reply {
                        Ok(Reply::Ended(Exit { code, .. })) => {
                            if let Some(ended) = ended.take() {
                                let _ = ended.send(code);
                            }
                            return;
                        }
                        Ok(_) => {}
                        Err(_) => return,
                    },
                    // Nobody waits for the end any more: let go of an attached container.
                    () = async { match &mut ended { Some(ended) => ended.closed().await, None => std::future::pending().await } } => return,
                }
            }
        });
        Ok(Session { stdin, stdout, stderr, resize, exit })
    }

    /// Connects to a TCP port on the pod's loopback interface.
    pub async fn connect(&self, pod_uid: &str, port: u16) -> Result<TcpStream> {
        let netns = self.state(pod_uid).await?.netns;
        let failed = move |error: std::io::Error| {
            Error::new("ConnectError", format!("dial tcp4 127.0.0.1:{port}: connect: {error}"))
        };
        let Some(netns) = netns else { return TcpStream::connect(("127.0.0.1", port)).await.map_err(failed) };
        // A thread of its own, which ends afterwards: it has left the namespace of all others.
        let (sender, receiver) = oneshot::channel();
        std::thread::spawn(move || {
            let stream = (|| {
                let file = std::fs::File::open(&netns)?;
                let kind = rustix::thread::LinkNameSpaceType::Network;
                rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(kind))?;
                let stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
                stream.set_nonblocking(true)?;
                Ok(stream)
            })();
            let _ = sender.send(stream);
        });
        let stream = receiver.await.map_err(|_| failed(std::io::Error::other("the thread died")))?;
        TcpStream::from_std(stream.map_err(failed)?).map_err(failed)
    }

    /// Starts a new log file under the old name.
    pub async fn reopen_log(&self, pod_uid: &str, id: &str) -> Result<()> {
        ask(&self.pod_dir(pod_uid), &Request::ReopenLog { id: id.to_owned() }).await.map(drop)
    }

    /// What the pod and each of its containers (by id) use.
    pub async fn usage(&self, pod_uid: &str) -> Result<(Usage, BTreeMap<String, Usage>)> {
        let (pod, state) = (self.spec_of(pod_uid)?, self.state(pod_uid).await?);
        let path = self.cgroups.pod(&pod.qos, pod_uid);
        let containers = state.containers.into_iter().map(|own| {
            let usage = self.cgroups.usage(&path.join(&own.id));
            (own.id, usage)
        });
        Ok((self.cgroups.usage(&path), containers.collect()))
    }
}

/// Runs what may block where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::new("RuntimeError", error.to_string()))
}

/// Writes the shim where it can be executed; under a name that tells versions apart, since old ones may still run.
fn install(run_dir: &Path) -> std::io::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = SHIM.iter().fold(0xcbf2_9ce4_8422_2325, fnv);
    let dir = run_dir.join("shim");
    std::fs::create_dir_all(&dir)?;
    let path = dir.join(format!("corten-shim-{hash:016x}"));
    if path.exists() {
        return Ok(path);
    }
    let temporary = dir.join("corten-shim.tmp");
    std::fs::write(&temporary, SHIM)?;
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o700))?;
    std::fs::rename(&temporary, &path)?;
    Ok(path)
}

/// Names of all capabilities, by number.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What containerd gives a container that asks for nothing.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The capabilities a container keeps, by number. Those that this process lacks are left out: nobody can give them.
fn capabilities(spec: &ContainerSpec) -> Result<Vec<u32>> {
    let all = |list: &[String]| list.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let plain = |name: &str| name.to_uppercase().trim_start_matches("CAP_").to_owned();
    let mut kept: Vec<&str> = if spec.privileged || all(&spec.cap_add) {
        CAPABILITIES.to_vec()
    } else if all(&spec.cap_drop) {
        Vec::new()
    } else {
        DEFAULT.to_vec()
    };
    for name in spec.cap_add.iter().map(|name| plain(name)).filter(|name| name != "ALL") {
        let known = CAPABILITIES.iter().find(|own| **own == name);
        let known = known.ok_or_else(|| Error::new("CreateContainerError", format!("unknown capability {name:?}")))?;
        if !kept.contains(known) {
            kept.push(known);
        }
    }
    if !spec.privileged {
        kept.retain(|own| !spec.cap_drop.iter().any(|name| plain(name) == **own));
    }
    let own = rustix::thread::capabilities(None).map(|sets| sets.permitted.bits()).unwrap_or(u64::MAX);
    let numbers =
        CAPABILITIES.iter().zip(0_u32..).filter(|(name, number)| kept.contains(name) && own & (1 << number) != 0);
    Ok(numbers.map(|(_, number)| number).collect())
}
