//! What the runtime is told and what it tells.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

pub use corten_shim::{Exit, Mount, User};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

/// Where an engine keeps its things.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Holds `containers/`.
    pub data_dir: PathBuf,
    /// Holds `shim/` and `pods/`.
    pub run_dir: PathBuf,
    /// Parent of all cgroups, relative to each hierarchy's mount.
    pub cgroup_root: PathBuf,
}

/// A failure: a CamelCase reason for statuses, and what failed and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Such as `CreateContainerError`.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl Error {
    pub(crate) fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into() }
    }

    pub(crate) fn io(reason: &'static str, what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::new(reason, format!("{what}: {error}"))
    }
}

/// Result of the runtime's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a pod needs before its containers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodSpec {
    /// Identity.
    pub uid: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Host name inside.
    pub hostname: String,
    /// Uses the node's network namespace.
    pub host_network: bool,
    /// Its containers use the node's PID namespace.
    pub host_pid: bool,
    /// Uses the node's IPC namespace.
    pub host_ipc: bool,
    /// Limits of the whole pod.
    pub resources: Resources,
    /// `Guaranteed`, `Burstable` or `BestEffort`.
    pub qos: String,
    /// How long its containers may take to end when everything is purged.
    #[serde(default)]
    pub grace: Duration,
}

/// Limits; `None` sets none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// A container to start.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// Unique id.
    pub id: String,
    /// Its pod.
    pub pod_uid: String,
    /// Name in the pod.
    pub name: String,
    /// Restart count.
    pub attempt: u32,
    /// Image id, for the record.
    pub image: String,
    /// Layers of the image, topmost first.
    pub layers: Vec<PathBuf>,
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: PathBuf,
    /// Mounts, in order.
    pub mounts: Vec<Mount>,
    /// User.
    pub user: User,
    /// Capabilities to add to the default ones, without `CAP_`; `ALL` for all.
    pub cap_add: Vec<String>,
    /// Capabilities to drop.
    pub cap_drop: Vec<String>,
    /// No confinement.
    pub privileged: bool,
    /// Root file system is read-only.
    pub read_only_root: bool,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// Default seccomp profile.
    pub seccomp: bool,
    /// Limits.
    pub resources: Resources,
    /// Log file; its folder exists.
    pub log_path: PathBuf,
    /// With a terminal.
    pub tty: bool,
    /// Keep stdin open.
    pub stdin: bool,
    /// Close stdin after the first attach.
    pub stdin_once: bool,
    /// Best effort.
    pub oom_score_adj: i32,
}

/// A container as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerState {
    /// Id.
    pub id: String,
    /// Name in the pod.
    pub name: String,
    /// Restart count.
    pub attempt: u32,
    /// Image id.
    pub image: String,
    /// Process id on the host, while it runs.
    pub pid: Option<i32>,
    /// Unix time, nanoseconds.
    pub started_at: i64,
    /// How it ended, if it did.
    pub exit: Option<Exit>,
}

impl From<corten_shim::State> for ContainerState {
    fn from(state: corten_shim::State) -> Self {
        let corten_shim::State { id, name, attempt, image, pid, started_at, exit } = state;
        Self { id, name, attempt, image, pid, started_at, exit }
    }
}

/// A pod as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodState {
    /// Identity.
    pub uid: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Network namespace; `None` if it is the node's.
    pub netns: Option<PathBuf>,
    /// Its containers, running and ended.
    pub containers: Vec<ContainerState>,
    /// Its shim is gone; it can only be removed.
    pub broken: bool,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A container ended.
    Exited {
        /// Pod.
        pod_uid: String,
        /// Container.
        id: String,
        /// How.
        exit: Exit,
    },
    /// A pod's shim is gone.
    PodLost {
        /// Pod.
        pod_uid: String,
    },
}

/// A command to run in a container.
#[derive(Clone, Debug)]
pub struct ExecSpec {
    /// Program and arguments.
    pub args: Vec<String>,
    /// With a terminal.
    pub tty: bool,
    /// With stdin.
    pub stdin: bool,
}

/// The streams of a command or of an attached container.
pub struct Session {
    /// To write to.
    pub stdin: Option<OwnedFd>,
    /// To read from.
    pub stdout: Option<OwnedFd>,
    /// To read from.
    pub stderr: Option<OwnedFd>,
    /// Takes (columns, rows).
    pub resize: mpsc::Sender<(u16, u16)>,
    /// Gives the exit code at the end.
    pub exit: oneshot::Receiver<i32>,
}

/// Use of a cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, nanoseconds.
    pub cpu_nanos: u64,
    /// Working set, bytes.
    pub memory_bytes: u64,
}
