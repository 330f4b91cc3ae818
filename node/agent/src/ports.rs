//! What the agent needs of the machine: containers, images, pod networking.
//!
//! The agent declares these traits; `bin/corten` connects them to the runtime, image and network crates, and
//! tests connect them to fakes. They follow CRI in meaning, not in form.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use corten_base::Timestamp;
use tokio::sync::mpsc;

/// A failure of a port: what failed and why, for people; `reason` is what a pod's status shows.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct PortError {
    /// CamelCase reason for statuses and events, such as `ErrImageNeverPull`, `CreateContainerError`.
    pub reason: &'static str,
    /// What failed and why.
    pub message: String,
}

/// What a pod needs before its containers.
#[derive(Clone, Debug)]
pub struct PodSpec {
    /// Pod UID: the identity of everything below.
    pub uid: String,
    /// Pod namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// Host name inside.
    pub hostname: String,
    /// Uses the node's network namespace.
    pub host_network: bool,
    /// Uses the node's PID namespace.
    pub host_pid: bool,
    /// Uses the node's IPC namespace.
    pub host_ipc: bool,
    /// One PID namespace for all containers.
    pub share_pid: bool,
    /// Pod-level cgroup limits.
    pub resources: Resources,
    /// QoS class, which places the pod's cgroup: `Guaranteed`, `Burstable`, `BestEffort`.
    pub qos: &'static str,
    /// How long its containers may take to end when the whole node is taken down.
    pub grace: Duration,
}

/// cgroup limits; `None` sets none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Relative weight, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU per 100 ms.
    pub cpu_quota: Option<i64>,
    /// Bytes.
    pub memory_limit: Option<i64>,
    /// Processes.
    pub pids_limit: Option<i64>,
}

/// A bind mount into a container, or a fresh tmpfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Path on the host; empty for a fresh tmpfs.
    pub source: PathBuf,
    /// Path in the container.
    pub target: PathBuf,
    /// Read-only.
    pub read_only: bool,
}

/// A container to start.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// 64 hex digits, unique.
    pub id: String,
    /// UID of its pod.
    pub pod_uid: String,
    /// Name in the pod.
    pub name: String,
    /// Restart count: names the log file `<attempt>.log`.
    pub attempt: u32,
    /// Image id (digest of its config), present on this node.
    pub image: String,
    /// Program and arguments, merged with the image's; never empty.
    pub args: Vec<String>,
    /// Environment, `NAME=value`, merged with the image's.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: PathBuf,
    /// Mounts, in order.
    pub mounts: Vec<Mount>,
    /// User and groups.
    pub user: User,
    /// Capabilities to add to the default set, without `CAP_`; `ALL` for all.
    pub cap_add: Vec<String>,
    /// Capabilities to drop.
    pub cap_drop: Vec<String>,
    /// Everything of the host, no confinement.
    pub privileged: bool,
    /// Root file system is read-only.
    pub read_only_root: bool,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// Default seccomp profile, or none.
    pub seccomp: bool,
    /// Container-level cgroup limits.
    pub resources: Resources,
    /// CRI-format log file; its folder exists.
    pub log_path: PathBuf,
    /// Allocate a terminal.
    pub tty: bool,
    /// Keep stdin open for attach.
    pub stdin: bool,
    /// Close stdin after the first attach session ends.
    pub stdin_once: bool,
    /// Best effort.
    pub oom_score_adj: i32,
}

/// User and groups of a process. `name` is looked up in the image's /etc/passwd and /etc/group if set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// `user[:group]` from the image config, names or numbers.
    pub name: String,
    /// Overrides of the pod's security context.
    pub uid: Option<u32>,
    /// Primary group.
    pub gid: Option<u32>,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// How a container's process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code; 128 + signal if it was killed.
    pub code: i32,
    /// Signal that killed it, or 0.
    pub signal: i32,
    /// The kernel killed it for memory.
    pub oom_killed: bool,
    /// When it ended.
    pub at: Timestamp,
}

/// A container as the runtime sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerState {
    /// Id.
    pub id: String,
    /// Name in the pod.
    pub name: String,
    /// Restart count.
    pub attempt: u32,
    /// Image id it was started from.
    pub image: String,
    /// Process id on the host, while it runs.
    pub pid: Option<i32>,
    /// When it started.
    pub started_at: Timestamp,
    /// How it ended, if it did.
    pub exit: Option<Exit>,
}

/// A pod as the runtime sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodState {
    /// Pod UID.
    pub uid: String,
    /// Pod namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// Network namespace; `None` with host network.
    pub netns: Option<PathBuf>,
    /// Its containers, running and ended.
    pub containers: Vec<ContainerState>,
    /// The supervising process is gone; the pod can only be removed.
    pub broken: bool,
}

/// Something that happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// A container ended.
    Exited {
        /// Pod.
        pod_uid: String,
        /// Container.
        id: String,
        /// How.
        exit: Exit,
    },
    /// The pod's supervising process is gone.
    PodLost {
        /// Pod.
        pod_uid: String,
    },
}

/// A command to run in a running container.
#[derive(Clone, Debug)]
pub struct ExecSpec {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Allocate a terminal.
    pub tty: bool,
    /// Connect stdin.
    pub stdin: bool,
}

/// The streams of a running command or an attached container. With a terminal, `stdin` and `stdout` are
/// two handles of it and `stderr` is `None`.
pub struct Session {
    /// To write to.
    pub stdin: Option<OwnedFd>,
    /// To read from.
    pub stdout: Option<OwnedFd>,
    /// To read from.
    pub stderr: Option<OwnedFd>,
    /// Takes (columns, rows).
    pub resize: mpsc::Sender<(u16, u16)>,
    /// Gives the exit code when the process has ended; for attach, when the container has.
    pub exit: tokio::sync::oneshot::Receiver<i32>,
}

/// Use of a container's or pod's cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, nanoseconds.
    pub cpu_nanos: u64,
    /// Memory working set, bytes.
    pub memory_bytes: u64,
}

/// Runs containers. Everything it starts outlives this process.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Makes the pod's namespaces, cgroup and supervising process. Idempotent by UID.
    async fn create_pod(&self, spec: PodSpec) -> Result<PodState, PortError>;
    /// Kills what still runs and removes everything of the pod. Idempotent.
    async fn remove_pod(&self, uid: &str) -> Result<(), PortError>;
    /// Creates and starts a container.
    async fn start_container(&self, spec: ContainerSpec) -> Result<ContainerState, PortError>;
    /// Sends a signal to a container's first process.
    async fn signal(&self, pod_uid: &str, id: &str, signal: i32) -> Result<(), PortError>;
    /// Kills every process of a container.
    async fn kill(&self, pod_uid: &str, id: &str) -> Result<(), PortError>;
    /// Removes an ended container (its root file system, not its log).
    async fn remove_container(&self, pod_uid: &str, id: &str) -> Result<(), PortError>;
    /// All pods, including those started by an earlier process.
    async fn list(&self) -> Result<Vec<PodState>, PortError>;
    /// Events from now on; one receiver per process.
    fn events(&self) -> mpsc::UnboundedReceiver<RuntimeEvent>;
    /// Runs a command in a container.
    async fn exec(&self, pod_uid: &str, id: &str, spec: ExecSpec) -> Result<Session, PortError>;
    /// Connects to a container's own streams.
    async fn attach(&self, pod_uid: &str, id: &str) -> Result<Session, PortError>;
    /// Connects to a TCP port on the pod's loopback interface.
    async fn connect(&self, pod_uid: &str, port: u16) -> Result<tokio::net::TcpStream, PortError>;
    /// Starts a fresh log file after rotation.
    async fn reopen_log(&self, pod_uid: &str, id: &str) -> Result<(), PortError>;
    /// What the pod and each of its containers (by id) use.
    async fn usage(&self, pod_uid: &str) -> Result<(Usage, BTreeMap<String, Usage>), PortError>;
}

/// What an image says about running it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Digest of its config, `sha256:...`.
    pub id: String,
    /// Names it is known by.
    pub tags: Vec<String>,
    /// Names with digests.
    pub digests: Vec<String>,
    /// Bytes on disk.
    pub size: u64,
    /// Default program.
    pub entrypoint: Vec<String>,
    /// Default arguments.
    pub cmd: Vec<String>,
    /// Environment.
    pub env: Vec<String>,
    /// Working directory.
    pub working_dir: String,
    /// `user[:group]`.
    pub user: String,
    /// Signal that asks it to stop, such as `SIGQUIT`; empty for SIGTERM.
    pub stop_signal: String,
}

/// Keeps images.
#[async_trait]
pub trait Images: Send + Sync + 'static {
    /// The image a reference names, if it is here.
    async fn find(&self, reference: &str) -> Result<Option<Image>, PortError>;
    /// Fetches an image. Error reasons: `ErrImagePull`, `InvalidImageName`.
    async fn pull(&self, reference: &str, credentials: &[(String, String)]) -> Result<Image, PortError>;
    /// All images here.
    async fn list(&self) -> Result<Vec<Image>, PortError>;
}

/// Connects pods to the network.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// Gives a pod's network namespace an address and a link. Idempotent by UID: after a restart it returns what is there.
    async fn attach(&self, pod_uid: &str, netns: &std::path::Path) -> Result<Vec<IpAddr>, PortError>;
    /// Takes them away. Idempotent.
    async fn detach(&self, pod_uid: &str) -> Result<(), PortError>;
    /// Removes what belongs to none of these pods.
    async fn retain(&self, pod_uids: &[String]) -> Result<(), PortError>;
    /// Tells the range this node's pods get their addresses from, once it is known.
    async fn set_pod_range(&self, range: (Ipv4Addr, u8)) -> Result<(), PortError>;
}
