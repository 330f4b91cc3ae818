//! What the runtime and a pod's shim say to each other.
//!
//! Over the shim's Unix socket: each message is a 32-bit little-endian length and that many bytes of JSON; file
//! descriptors ride along by `SCM_RIGHTS`. One request a connection; `Watch`, `Exec` and `Attach` keep it open.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How a shim is started: JSON on its standard input. Its argument is for people: the pod, as `namespace/name`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodConfig {
    /// Pod UID.
    pub uid: String,
    /// Pod namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// Host name inside.
    pub hostname: String,
    /// Folder of the socket and of exit files.
    pub dir: PathBuf,
    /// Share the node's network namespace.
    pub host_network: bool,
    /// Share the node's IPC namespace.
    pub host_ipc: bool,
    /// `cgroup.procs` files to join.
    pub cgroups: Vec<PathBuf>,
}

/// Name of the socket in the pod's folder.
pub const SOCKET: &str = "shim.sock";

/// A container to start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Container {
    /// Id.
    pub id: String,
    /// Name in the pod.
    pub name: String,
    /// Restart count.
    pub attempt: u32,
    /// Image id, for the record.
    pub image: String,
    /// Layers of the image, topmost first.
    pub layers: Vec<PathBuf>,
    /// Holds `upper` and `work`; in its own mount namespace, the root.
    pub dir: PathBuf,
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
    /// Capabilities to keep, by number.
    pub capabilities: Vec<u32>,
    /// No confinement.
    pub privileged: bool,
    /// Root file system is read-only.
    pub read_only_root: bool,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// Apply the default seccomp profile.
    pub seccomp: bool,
    /// Share the node's PID namespace.
    pub host_pid: bool,
    /// `cgroup.procs` files to join.
    pub cgroups: Vec<PathBuf>,
    /// File that counts OOM kills.
    pub oom_file: Option<PathBuf>,
    /// Log file.
    pub log_path: PathBuf,
    /// Give it a terminal.
    pub tty: bool,
    /// Keep stdin open.
    pub stdin: bool,
    /// Close stdin after the first attach.
    pub stdin_once: bool,
    /// `oom_score_adj`, best effort.
    pub oom_score_adj: i32,
    /// Nothing but mounts can keep it from the machine's devices: its root file system must not offer any.
    #[serde(default)]
    pub no_devices: bool,
}

/// A bind mount, or a fresh tmpfs if `source` is empty.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub target: PathBuf,
    /// Read-only.
    pub read_only: bool,
}

/// Whom a container runs as.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct User {
    /// `user[:group]` of the image; looked up in the container's own files.
    pub name: String,
    /// Overrides it.
    pub uid: Option<u32>,
    /// Overrides it.
    pub gid: Option<u32>,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// What a shim is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Start a container.
    Start(Box<Container>),
    /// Run a command in a container; its streams come back as descriptors.
    Exec {
        /// Container.
        id: String,
        /// Program and arguments.
        args: Vec<String>,
        /// With a terminal.
        tty: bool,
        /// With stdin.
        stdin: bool,
    },
    /// Connect to a container's own streams.
    Attach {
        /// Container.
        id: String,
    },
    /// Set the size of this connection's terminal.
    Resize {
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// Send a signal to a container's first process.
    Signal {
        /// Container.
        id: String,
        /// Which.
        signal: i32,
    },
    /// Kill this connection's command.
    Kill,
    /// Start a new log file under the old name.
    ReopenLog {
        /// Container.
        id: String,
    },
    /// Forget a container that has ended.
    Remove {
        /// Container.
        id: String,
    },
    /// Tell of all containers.
    List,
    /// Tell of every end from now on, on this connection.
    Watch,
    /// Kill everything and end.
    Stop,
}

/// What a shim answers or tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// Done.
    Done,
    /// A container runs.
    Started(State),
    /// A command runs; descriptors came along: stdin, stdout, stderr, as far as `streams` says.
    Streams {
        /// Whether a descriptor for stdin, stdout and stderr came, in this order.
        streams: [bool; 3],
    },
    /// A command, or an attached container, has ended.
    Ended(Exit),
    /// A container has ended.
    Exited {
        /// Container.
        id: String,
        /// How.
        exit: Exit,
    },
    /// All containers.
    Pod(Pod),
    /// It could not be done: reason and message.
    Failed {
        /// Such as `StartError`.
        reason: String,
        /// What and why.
        message: String,
    },
}

/// A pod as its shim knows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pod {
    /// Process id of the shim.
    pub pid: i32,
    /// Its containers.
    pub containers: Vec<State>,
}

/// A container as its shim knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
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

/// An end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code; 128 + signal if it was killed.
    pub code: i32,
    /// Signal, or 0.
    pub signal: i32,
    /// Killed by the kernel for memory.
    pub oom_killed: bool,
    /// Unix time, nanoseconds.
    pub at: i64,
}
