//! The runtime itself.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use corten_shim::{Container, PodConfig, Reply, Request};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::capabilities;
use crate::cgroup::Cgroups;
use crate::folders::{Folders, is_name};
use crate::shim::{self, Connection, ask};
use crate::types::{
    ContainerSpec, ContainerState, EngineConfig, Error, Event, ExecSpec, Exit, PodSpec, PodState, Resources, Result,
    Session, Usage,
};

/// The shim, as a program.
static SHIM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/corten-shim"));

/// Runs containers. What it starts outlives it.
pub struct Engine {
    folders: Folders,
    cgroups: Cgroups,
    shim: PathBuf,
    events: mpsc::UnboundedSender<Event>,
    receiver: Mutex<Option<mpsc::UnboundedReceiver<Event>>>,
    /// One thing at a time is made or removed in a pod.
    locks: Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Engine {
    /// An engine over these folders; pods that an earlier one started are found by `list`. What an earlier one had begun
    /// to remove, or left without an owner, is removed.
    pub async fn open(config: EngineConfig) -> Result<Arc<Self>> {
        let cgroups =
            Cgroups::find(&config.cgroup_root).map_err(Error::io("RuntimeError", "cannot find the cgroups"))?;
        let shim = install(&config.run_dir).map_err(Error::io("RuntimeError", "cannot write the shim"))?;
        let folders = Folders::open(&config)?;
        let probe = cgroups.clone();
        blocking(move || probe.make_root()).await?.map_err(Error::io(
            "RuntimeError",
            format!("cannot make cgroups below {}", config.cgroup_root.display()),
        ))?;
        let (events, receiver) = mpsc::unbounded_channel();
        let (receiver, locks) = (Mutex::new(Some(receiver)), Mutex::default());
        let engine = Arc::new(Self { folders, cgroups, shim, events, receiver, locks });
        engine.recover().await;
        Ok(engine)
    }

    /// Finishes what an earlier engine was at when it died.
    async fn recover(&self) {
        for uid in self.folders.pods() {
            if self.folders.spec(&uid).is_err()
                && let Err(error) = self.finish_removal(&uid).await
            {
                tracing::warn!(pod = uid, %error, "cannot remove what is left of a pod");
            }
        }
        // Those that claim nothing were started by an engine that knew no claims.
        let known = self.list().await.unwrap_or_default();
        let known: BTreeSet<String> =
            known.into_iter().flat_map(|pod| pod.containers).map(|container| container.id).collect();
        let folders = self.folders.clone();
        let _ = blocking(move || folders.sweep(&known)).await;
    }

    fn lock_of(&self, uid: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(uid).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        locks.insert(uid.to_owned(), Arc::downgrade(&lock));
        lock
    }

    /// Makes the pod's namespaces, cgroups and shim. Idempotent by UID.
    pub async fn create_pod(&self, spec: PodSpec) -> Result<PodState> {
        if !is_name(&spec.uid) {
            return Err(Error::new("CreatePodSandboxError", format!("{:?} is no pod UID", spec.uid)));
        }
        let lock = self.lock_of(&spec.uid);
        let _held = lock.lock().await;
        if self.folders.is_kept(&spec.uid) {
            let state = self.state(&spec.uid).await?;
            if !state.broken {
                return Ok(state);
            }
        }
        self.finish_removal(&spec.uid).await?;
        let made = self.make_pod(&spec).await;
        if made.is_err()
            && let Err(error) = self.finish_removal(&spec.uid).await
        {
            tracing::warn!(pod = spec.uid, %error, "cannot remove what was made of a pod");
        }
        made
    }

    async fn make_pod(&self, spec: &PodSpec) -> Result<PodState> {
        let failed = |what: &'static str| Error::io("CreatePodSandboxError", what);
        // First of all: what follows is found by it, should this process die.
        self.folders.keep(spec).map_err(failed("cannot write the pod's file"))?;
        let cgroup = self.cgroups.pod(&spec.qos, &spec.uid);
        let (cgroups, resources) = (self.cgroups.clone(), spec.resources);
        let procs = blocking(move || {
            cgroups.make(&cgroup, &resources)?;
            cgroups.make(&cgroup.join("shim"), &Resources::default())
        })
        .await?
        .map_err(failed("cannot make the pod's cgroup"))?;
        self.start_shim(&PodConfig {
            uid: spec.uid.clone(),
            namespace: spec.namespace.clone(),
            name: spec.name.clone(),
            hostname: spec.hostname.clone(),
            dir: self.folders.pod(&spec.uid),
            host_network: spec.host_network,
            host_ipc: spec.host_ipc,
            cgroups: procs,
        })
        .await?;
        let state = self.state(&spec.uid).await?;
        self.watch(&spec.uid).await;
        Ok(state)
    }

    async fn start_shim(&self, config: &PodConfig) -> Result<()> {
        let failed = |what: &'static str| Error::io("CreatePodSandboxError", what);
        let told =
            serde_json::to_vec(config).map_err(|error| Error::new("CreatePodSandboxError", error.to_string()))?;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(config.dir.join("shim.log"));
        let log = log.map_err(failed("cannot make the shim's log"))?;
        let mut shim = tokio::process::Command::new(&self.shim)
            // For those who look at the machine's processes.
            .arg0("corten-shim")
            .arg(format!("{}/{}", config.namespace, config.name))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed("cannot start the shim"))?;
        if let Some(mut stdin) = shim.stdin.take() {
            // One that does not listen says why when it ends.
            let _ = stdin.write_all(&told).await;
        }
        let output = shim.wait_with_output().await.map_err(failed("cannot wait for the shim"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = std::fs::read_to_string(config.dir.join("shim.log")).unwrap_or_default();
        let reason = said.lines().last().unwrap_or("it says nothing").to_owned();
        Err(Error::new("CreatePodSandboxError", format!("the pod's shim does not start: {reason}")))
    }

    /// Follows a pod's shim: tells of every end, and of its own.
    async fn watch(&self, uid: &str) {
        let (folders, events, uid) = (self.folders.clone(), self.events.clone(), uid.to_owned());
        let Ok(mut connection) = Connection::open(&folders.pod(&uid)).await else { return };
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
                        if folders.is_kept(&uid) {
                            let _ = events.send(Event::PodLost { pod_uid: uid });
                        }
                        return;
                    }
                }
            }
        });
    }

    async fn state(&self, uid: &str) -> Result<PodState> {
        let spec = self.folders.spec(uid)?;
        let dir = self.folders.pod(uid);
        let (mut containers, mut netns, mut broken) = (Vec::new(), None, false);
        match ask(&dir, &Request::List).await {
            Ok(Reply::Pod(pod)) => {
                containers = pod.containers.into_iter().map(ContainerState::from).collect();
                if !spec.host_network {
                    netns = Some(PathBuf::from(format!("/proc/{}/ns/net", pod.pid)));
                }
            }
            Err(error) if error.reason != shim::GONE => return Err(error),
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
        if !is_name(uid) {
            return Ok(());
        }
        let lock = self.lock_of(uid);
        let _held = lock.lock().await;
        self.finish_removal(uid).await
    }

    /// Removes a pod, whole, half made or half removed.
    async fn finish_removal(&self, uid: &str) -> Result<()> {
        let dir = self.folders.pod(uid);
        if !dir.exists() {
            return Ok(());
        }
        let spec = self.folders.last_spec(uid);
        // First of all, so that its watcher knows that this is meant, and a later engine goes on with it.
        self.folders.give_up(uid).map_err(Error::io("RemovePodError", "cannot mark the pod"))?;
        let known = match ask(&dir, &Request::List).await {
            Ok(Reply::Pod(pod)) => pod.containers.into_iter().map(|state| state.id).collect(),
            _ => Vec::new(),
        };
        let _ = ask(&dir, &Request::Stop).await;
        let places = match &spec {
            Some(spec) => vec![self.cgroups.pod(&spec.qos, uid)],
            None => self.cgroups.of_pod(uid).to_vec(),
        };
        let (cgroups, folders, uid) = (self.cgroups.clone(), self.folders.clone(), uid.to_owned());
        blocking(move || {
            places.iter().try_for_each(|place| cgroups.remove(place))?;
            known.iter().try_for_each(|id| folders.remove_container(&uid, id))?;
            folders.remove_pod(&uid)
        })
        .await?
        .map_err(Error::io("RemovePodError", "cannot remove the pod"))
    }

    /// Creates and starts a container.
    pub async fn start_container(&self, spec: ContainerSpec) -> Result<ContainerState> {
        let failed = |what: &'static str| Error::io("CreateContainerError", what);
        if !is_name(&spec.id) {
            return Err(Error::new("CreateContainerError", format!("{:?} is no container id", spec.id)));
        }
        let lock = self.lock_of(&spec.pod_uid);
        let _held = lock.lock().await;
        let pod = self.folders.spec(&spec.pod_uid)?;
        let mut capabilities = capabilities::of(&spec)?;
        self.folders.claim(&spec.pod_uid, &spec.id).map_err(failed("cannot claim the container's folder"))?;
        let cgroup = self.cgroups.pod(&pod.qos, &spec.pod_uid).join(&spec.id);
        let (cgroups, resources, path, free) = (self.cgroups.clone(), spec.resources, cgroup.clone(), spec.privileged);
        let made = blocking(move || -> std::io::Result<_> {
            let procs = cgroups.make(&path, &resources)?;
            Ok((procs, free || cgroups.restrict_devices(&path)))
        });
        let (procs, restricted) = made.await?.map_err(failed("cannot make the container's cgroup"))?;
        if !restricted {
            capabilities.retain(|capability| *capability != capabilities::MKNOD);
        }
        let container = Container {
            dir: self.folders.container(&spec.id),
            cgroups: procs,
            oom_file: self.cgroups.oom_file(&cgroup),
            capabilities,
            host_pid: pod.host_pid,
            no_devices: !restricted,
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
        let (id, uid) = (container.id.clone(), spec.pod_uid);
        match ask(&self.folders.pod(&uid), &Request::Start(Box::new(container))).await {
            Ok(Reply::Started(state)) => Ok(state.into()),
            Ok(_) => Err(Error::new("CreateContainerError", "the shim gave an answer to another question")),
            Err(error) => {
                tracing::debug!(container = id, %error, "a container did not start");
                let (cgroups, folders) = (self.cgroups.clone(), self.folders.clone());
                let _ =
                    blocking(move || cgroups.remove(&cgroup).and_then(|()| folders.remove_container(&uid, &id))).await;
                Err(error)
            }
        }
    }

    /// Sends a signal to a container's first process.
    pub async fn signal(&self, pod_uid: &str, id: &str, signal: i32) -> Result<()> {
        ask(&self.folders.pod(pod_uid), &Request::Signal { id: id.to_owned(), signal }).await.map(drop)
    }

    /// Kills every process of a container, even if its shim is gone.
    pub async fn kill(&self, pod_uid: &str, id: &str) -> Result<()> {
        let signalled = self.signal(pod_uid, id, rustix::process::Signal::KILL.as_raw()).await;
        let (cgroups, pod) = (self.cgroups.clone(), self.folders.spec(pod_uid)?);
        if is_name(id) {
            let path = cgroups.pod(&pod.qos, pod_uid).join(id);
            blocking(move || cgroups.kill(&path)).await?;
        }
        signalled
    }

    /// Removes an ended container: its root file system, not its log. Idempotent; one that still runs is killed.
    pub async fn remove_container(&self, pod_uid: &str, id: &str) -> Result<()> {
        if !is_name(pod_uid) || !is_name(id) {
            return Ok(());
        }
        let lock = self.lock_of(pod_uid);
        let _held = lock.lock().await;
        let path = self.folders.last_spec(pod_uid).map(|pod| self.cgroups.pod(&pod.qos, pod_uid).join(id));
        let failed = |error| Error::io("RemoveContainerError", format!("cannot remove container {id}"))(error);
        let cgroups = self.cgroups.clone();
        blocking(move || path.map_or(Ok(()), |path| cgroups.remove(&path))).await?.map_err(failed)?;
        let _ = ask(&self.folders.pod(pod_uid), &Request::Remove { id: id.to_owned() }).await;
        let (folders, uid, own) = (self.folders.clone(), pod_uid.to_owned(), id.to_owned());
        blocking(move || folders.remove_container(&uid, &own)).await?.map_err(failed)
    }

    /// All pods, those of an earlier engine included; those are followed from now on.
    pub async fn list(&self) -> Result<Vec<PodState>> {
        let mut pods = Vec::new();
        for uid in self.folders.pods().into_iter().filter(|uid| self.folders.is_kept(uid)) {
            match self.state(&uid).await {
                Ok(state) => pods.push(state),
                Err(error) => tracing::warn!(pod = uid, %error, "cannot tell the state of a pod"),
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

    /// Runs a command in a container. It is killed when nobody waits for its exit code any more, so that one which takes
    /// too long does not stay; if this process dies, it runs on.
    pub async fn exec(&self, pod_uid: &str, id: &str, spec: ExecSpec) -> Result<Session> {
        let ExecSpec { args, tty, stdin } = spec;
        self.session(pod_uid, &Request::Exec { id: id.to_owned(), args, tty, stdin }, Some(Request::Kill)).await
    }

    /// Connects to a container's own streams.
    pub async fn attach(&self, pod_uid: &str, id: &str) -> Result<Session> {
        self.session(pod_uid, &Request::Attach { id: id.to_owned() }, None).await
    }

    /// Streams that a shim gives; `farewell` is what it is told when nobody waits for the end any more.
    async fn session(&self, pod_uid: &str, request: &Request, farewell: Option<Request>) -> Result<Session> {
        let mut connection = Connection::open(&self.folders.pod(pod_uid)).await.map_err(shim::gone)?;
        let streams = match connection.ask(request).await? {
            Reply::Streams { streams } => streams,
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
                    () = async { match &mut ended { Some(ended) => ended.closed().await, None => std::future::pending().await } } => {
                        if let Some(farewell) = farewell {
                            let _ = connection.send(&farewell).await;
                        }
                        return;
                    }
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
                let stream = std::net::TcpStream::connect(("127.0.0.1", port))
                    .or_else(|error| std::net::TcpStream::connect(("::1", port)).map_err(|_| error))?;
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
        ask(&self.folders.pod(pod_uid), &Request::ReopenLog { id: id.to_owned() }).await.map(drop)
    }

    /// What the pod and each of its containers (by id) use.
    pub async fn usage(&self, pod_uid: &str) -> Result<(Usage, BTreeMap<String, Usage>)> {
        let (pod, state) = (self.folders.spec(pod_uid)?, self.state(pod_uid).await?);
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
    // One that is there was written by an engine; but it is run as root, so it is looked at.
    if std::fs::read(&path).is_ok_and(|own| own == SHIM) {
        return Ok(path);
    }
    let temporary = dir.join(format!("corten-shim.{}.tmp", std::process::id()));
    std::fs::write(&temporary, SHIM)?;
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o700))?;
    std::fs::rename(&temporary, &path)?;
    Ok(path)
}
