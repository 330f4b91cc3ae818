//! The shim's loop: one thread, one `poll`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use corten_shim::{Container, Exit, Pod, PodConfig, Reply, Request, SOCKET, State};
use rustix::event::{PollFd, PollFlags, poll};

use crate::container::{self, Streams};
use crate::log::Log;
use crate::tap::Tap;
use crate::{cgroup, exec, socket, sys};

/// Bytes that are read at one go.
const CHUNK: usize = 32 << 10;

/// A container that runs, or has ended.
struct Own {
    spec: Container,
    state: State,
    log: Log,
    stdin: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    /// stdout and stderr, until they end.
    outputs: [Option<OwnedFd>; 2],
    /// Connections that are told of the end.
    attached: Vec<u64>,
}

/// A command that runs.
struct Command {
    connection: u64,
}

/// A connection that was kept.
struct Connection {
    stream: UnixStream,
    watches: bool,
    /// The terminal whose size it sets.
    terminal: Option<OwnedFd>,
}

/// What `poll` found something to read on.
#[derive(Clone, Copy)]
enum Source {
    Listener,
    Children,
    Connection(u64),
    Output(usize, usize),
    Tap(usize),
}

/// How long a peer may keep this process waiting for the rest of a message, or for room to answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

pub(crate) struct Server {
    config: PodConfig,
    listener: UnixListener,
    children: OwnedFd,
    containers: Vec<Own>,
    commands: BTreeMap<i32, Command>,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    /// Where else containers' output goes.
    taps: Vec<Tap>,
    stopping: bool,
}

impl Server {
    /// Leaves the daemon's session and makes the pod's namespaces and the socket.
    pub(crate) fn start(config: PodConfig) -> Result<Self, String> {
        let said = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
        rustix::process::setsid().map_err(|error| said("cannot start a session")(error.into()))?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        // The last of the pod to be killed for memory. Best effort: it takes a capability.
        let _ = std::fs::write("/proc/self/oom_score_adj", "-998");
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|error| said("cannot become a subreaper")(error.into()))?;
        let mut namespaces = libc::CLONE_NEWUTS;
        if !config.host_network {
            namespaces |= libc::CLONE_NEWNET;
        }
        if !config.host_ipc {
            namespaces |= libc::CLONE_NEWIPC;
        }
        sys::unshare(namespaces).map_err(said("cannot make the pod's namespaces"))?;
        sys::set_hostname(&config.hostname).map_err(said("cannot set the host name"))?;
        if !config.host_network {
            sys::loopback_up().map_err(said("cannot set the loopback interface up"))?;
            // As containerd does: any user may listen on any port of the pod, and ping.
            let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
            let _ = std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
        }
        let path = config.dir.join(SOCKET);
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).map_err(said("cannot listen"))?;
        let null = File::options().read(true).write(true).open("/dev/null").map_err(said("no /dev/null"))?;
        for number in [0, 1] {
            sys::become_fd(null.as_fd(), number).map_err(said("cannot let go of the terminal"))?;
        }
        Ok(Self {
            config,
            listener,
            children: child_signals().map_err(said("cannot wait for children"))?,
            containers: Vec::new(),
            commands: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_connection: 0,
            taps: Vec::new(),
            stopping: false,
        })
    }

    /// Serves until it is stopped.
    pub(crate) fn run(&mut self) {
        let mut buffer = vec![0; CHUNK];
        while !self.stopping {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => {
                    eprintln!("poll: {error}");
                    return;
                }
            };
            for source in ready {
                match source {
                    Source::Listener => self.accept(),
                    Source::Children => self.reap(),
                    Source::Connection(id) => self.serve(id),
                    Source::Output(index, stream) => self.copy(index, stream, &mut buffer),
                    Source::Tap(index) => {
                        if let Some(tap) = self.taps.get_mut(index) {
                            tap.flush(sys::now());
                        }
                    }
                }
            }
            self.taps.retain(|tap| !tap.is_done(sys::now()));
        }
    }

    fn wait(&self) -> rustix::io::Result<Vec<Source>> {
        let mut sources = vec![Source::Listener, Source::Children];
        let mut fds: Vec<(BorrowedFd<'_>, PollFlags)> =
            vec![(self.listener.as_fd(), PollFlags::IN), (self.children.as_fd(), PollFlags::IN)];
        for (id, connection) in &self.connections {
            sources.push(Source::Connection(*id));
            fds.push((connection.stream.as_fd(), PollFlags::IN));
        }
        for (index, own) in self.containers.iter().enumerate() {
            for (stream, output) in own.outputs.iter().enumerate() {
                let held_up = self.taps.iter().any(|tap| tap.holds_up(&own.state.id, stream));
                if let Some(output) = output.as_ref().filter(|_| !held_up) {
                    sources.push(Source::Output(index, stream));
                    fds.push((output.as_fd(), PollFlags::IN));
                }
            }
        }
        for (index, tap) in self.taps.iter().enumerate().filter(|(_, tap)| tap.waits()) {
            sources.push(Source::Tap(index));
            fds.push((tap.as_fd(), PollFlags::OUT));
        }
        let mut polled: Vec<PollFd<'_>> = fds.iter().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let second = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
        poll(&mut polled, self.taps.iter().any(Tap::waits).then_some(&second))?;
        let ready = polled.iter().zip(sources).filter(|(fd, _)| !fd.revents().is_empty());
        Ok(ready.map(|(_, source)| source).collect())
    }

    fn accept(&mut self) {
        if let Ok((stream, _)) = self.listener.accept() {
            // One that stops in the middle of a message must not hold up the pod.
            let _ = stream.set_read_timeout(Some(PATIENCE));
            let _ = stream.set_write_timeout(Some(PATIENCE));
            let id = self.next_connection;
            self.next_connection += 1;
            self.connections.insert(id, Connection { stream, watches: false, terminal: None });
        }
    }

    fn serve(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Ok(Some(request)) = socket::read(&mut connection.stream) else {
            self.hang_up(id);
            return;
        };
        let reply = match request {
            Request::Start(spec) => Some(self.start_container(*spec)),
            Request::Exec { id: container, args, tty, stdin } => self.exec(id, &container, &args, tty, stdin),
            Request::Attach { id: container } => self.attach(id, &container),
            Request::Resize { columns, rows } => {
                if let Some(terminal) = self.connections.get(&id).and_then(|own| own.terminal.as_ref()) {
                    sys::set_window(terminal.as_fd(), columns, rows);
                }
                None
            }
            Request::Kill => {
                let command = self.commands.iter().find(|(_, command)| command.connection == id);
                if let Some((pid, _)) = command {
                    let _ = sys::kill(*pid, libc::SIGKILL);
                }
                None
            }
            Request::Signal { id: container, signal } => Some(self.signal(&container, signal)),
            Request::ReopenLog { id: container } => Some(self.reopen(&container)),
            Request::Remove { id: container } => {
                self.reap();
                self.containers.retain(|own| own.state.id != container || own.state.exit.is_none());
                let _ = std::fs::remove_file(exit_file(&self.config.dir, &container));
                Some(Reply::Done)
            }
            Request::List => Some(Reply::Pod(Pod {
                pid: i32::try_from(std::process::id()).unwrap_or(0),
                containers: self.containers.iter().map(|own| own.state.clone()).collect(),
            })),
            Request::Watch => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.watches = true;
                }
                Some(Reply::Done)
            }
            Request::Stop => {
                self.stop();
                Some(Reply::Done)
            }
        };
        if let Some(reply) = reply {
            self.tell(id, &reply, &[]);
        }
    }

    fn tell(&mut self, id: u64, reply: &Reply, fds: &[OwnedFd]) {
        let Some(connection) = self.connections.get(&id) else { return };
        if socket::write(&connection.stream, reply, fds).is_err() {
            self.hang_up(id);
        }
    }

    /// Forgets a connection, and what it was attached to.
    fn hang_up(&mut self, id: u64) {
        self.connections.remove(&id);
        // What a container said before it ended is still delivered.
        self.taps.retain(|tap| tap.connection != id || tap.has_ended());
        for own in &mut self.containers {
            own.attached.retain(|attached| *attached != id);
        }
    }

    fn find(&mut self, id: &str) -> Option<&mut Own> {
        self.containers.iter_mut().find(|own| own.state.id == id)
    }

    fn start_container(&mut self, spec: Container) -> Reply {
        if let Some(own) = self.find(&spec.id) {
            // Asked twice, by a daemon that did not hear the answer.
            return Reply::Started(own.state.clone());
        }
        let mut log = match Log::open(&spec.log_path) {
            Ok(log) => log,
            Err(error) => {
                let message = format!("cannot open the log {}: {error}", spec.log_path.display());
                return Reply::Failed { reason: "CreateContainerError".to_owned(), message };
            }
        };
        match container::start(&spec) {
            Err((reason, message)) => {
                log.finish(0, sys::now());
                Reply::Failed { reason, message }
            }
            Ok((pid, Streams { stdin, stdout, stderr, terminal })) => {
                let state = State {
                    id: spec.id.clone(),
                    name: spec.name.clone(),
                    attempt: spec.attempt,
                    image: spec.image.clone(),
                    pid: Some(pid),
                    started_at: sys::now(),
                    exit: None,
                };
                let stdout = stdout.or_else(|| terminal.as_ref().and_then(|terminal| terminal.try_clone().ok()));
                for output in [&stdout, &stderr].into_iter().flatten() {
                    let _ = sys::set_nonblocking(output.as_fd());
                }
                let outputs = [stdout, stderr];
                self.containers.push(Own {
                    spec,
                    state: state.clone(),
                    log,
                    stdin,
                    terminal,
                    outputs,
                    attached: Vec::new(),
                });
                Reply::Started(state)
            }
        }
    }

    fn exec(&mut self, connection: u64, id: &str, args: &[String], tty: bool, stdin: bool) -> Option<Reply> {
        let Some(own) = self.find(id) else { return Some(unknown(id)) };
        let Some(pid) = own.state.pid else { return Some(ended(id)) };
        match exec::start(&own.spec, pid, args, tty, stdin) {
            Err((reason, message)) => Some(Reply::Failed { reason, message }),
            Ok((pid, streams)) => {
                self.commands.insert(pid, Command { connection });
                let Streams { stdin, stdout, stderr, terminal } = streams;
                let (present, fds) = match &terminal {
                    Some(terminal) => {
                        let (input, output) = (terminal.try_clone().ok(), terminal.try_clone().ok());
                        ([input.is_some(), output.is_some(), false], vec![input, output])
                    }
                    None => ([stdin.is_some(), stdout.is_some(), stderr.is_some()], vec![stdin, stdout, stderr]),
                };
                if let Some(own) = self.connections.get_mut(&connection) {
                    own.terminal = terminal;
                }
                let fds: Vec<OwnedFd> = fds.into_iter().flatten().collect();
                self.tell(connection, &Reply::Streams { streams: present }, &fds);
                None
            }
        }
    }

    fn attach(&mut self, connection: u64, id: &str) -> Option<Reply> {
        let Some(own) = self.find(id) else { return Some(unknown(id)) };
        if own.state.pid.is_none() {
            return Some(ended(id));
        }
        let terminal = own.terminal.as_ref().and_then(|fd| fd.try_clone().ok());
        let input = match &own.terminal {
            Some(terminal) => terminal.try_clone().ok(),
            // Given away: the container sees the end of it when the one attached has closed it or is gone.
            None if own.spec.stdin_once => own.stdin.take(),
            None => own.stdin.as_ref().and_then(|fd| fd.try_clone().ok()),
        };
        let (mut sent, mut present, mut taps) = (Vec::new(), [input.is_some(), false, false], Vec::new());
        sent.extend(input);
        for stream in 0..2 {
            if own.outputs[stream].is_none() {
                continue;
            }
            if let Ok((reader, writer)) = sys::pipe() {
                let _ = sys::set_nonblocking(writer.as_fd());
                sent.push(reader);
                present[stream + 1] = true;
                taps.push(Tap::new(id, stream, connection, writer));
            }
        }
        own.attached.push(connection);
        self.taps.extend(taps);
        if let Some(own) = self.connections.get_mut(&connection) {
            own.terminal = terminal;
        }
        self.tell(connection, &Reply::Streams { streams: present }, &sent);
        None
    }

    fn signal(&mut self, id: &str, signal: i32) -> Reply {
        let Some(own) = self.find(id) else { return unknown(id) };
        let Some(pid) = own.state.pid else { return Reply::Done };
        match sys::kill(pid, signal) {
            Ok(()) => Reply::Done,
            Err(error) => Reply::Failed {
                reason: "KillContainerError".to_owned(),
                message: format!("cannot signal {pid}: {error}"),
            },
        }
    }

    fn reopen(&mut self, id: &str) -> Reply {
        let Some(own) = self.find(id) else { return unknown(id) };
        match own.log.reopen() {
            Ok(()) => Reply::Done,
            Err(error) => Reply::Failed { reason: "LogError".to_owned(), message: error.to_string() },
        }
    }

    /// Moves what a container said to its log and to those attached.
    fn copy(&mut self, index: usize, stream: usize, buffer: &mut [u8]) {
        let Some(own) = self.containers.get_mut(index) else { return };
        let Some(output) = own.outputs[stream].as_ref() else { return };
        match rustix::io::read(output, &mut *buffer) {
            Ok(count @ 1..) => {
                let bytes = &buffer[..count];
                own.log.write(stream, bytes, sys::now());
                for tap in self.taps.iter_mut().filter(|tap| tap.is_of(&own.state.id, stream)) {
                    tap.write(bytes, sys::now());
                }
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // The end; a terminal says EIO.
            Ok(_) | Err(_) => {
                own.log.finish(stream, sys::now());
                own.outputs[stream] = None;
                self.taps.iter_mut().filter(|tap| tap.is_of(&own.state.id, stream)).for_each(Tap::end);
            }
        }
    }

    fn reap(&mut self) {
        // Empties the descriptor; what ended is asked of the kernel, since signals merge.
        let _ = File::from(match self.children.try_clone() {
            Ok(fd) => fd,
            Err(_) => return,
        })
        .read(&mut [0; 1024]);
        let mut buffer = vec![0; CHUNK];
        while let Some((pid, status)) = sys::reap() {
            let signal = if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { 0 };
            let code = if signal != 0 { 128 + signal } else { libc::WEXITSTATUS(status) };
            let mut exit = Exit { code, signal, oom_killed: false, at: sys::now() };
            if let Some(command) = self.commands.remove(&pid) {
                self.tell(command.connection, &Reply::Ended(exit), &[]);
                continue;
            }
            let Some(index) = self.containers.iter().position(|own| own.state.pid == Some(pid)) else { continue };
            // What it said last is in the pipes still.
            for stream in 0..2 {
                for _ in 0..64 {
                    let before = self.containers[index].outputs[stream].is_some();
                    let more = self.containers[index].outputs[stream].as_ref().is_some_and(readable);
                    if !before || !more {
                        break;
                    }
                    self.copy(index, stream, &mut buffer);
                }
            }
            let own = &mut self.containers[index];
            exit.oom_killed = code != 0 && own.spec.oom_file.as_deref().is_some_and(killed_for_memory);
            if own.spec.host_pid {
                // Without a PID namespace nothing else ends what it started.
                cgroup::kill_all(&own.spec.cgroups);
            }
            own.state.pid = None;
            own.state.exit = Some(exit.clone());
            own.stdin = None;
            let (id, attached) = (own.state.id.clone(), std::mem::take(&mut own.attached));
            record(&self.config.dir, &own.state);
            for attached in attached {
                self.tell(attached, &Reply::Ended(exit.clone()), &[]);
            }
            let watchers: Vec<u64> =
                self.connections.iter().filter(|(_, own)| own.watches).map(|(id, _)| *id).collect();
            for watcher in watchers {
                self.tell(watcher, &Reply::Exited { id: id.clone(), exit: exit.clone() }, &[]);
            }
        }
    }

    /// Kills every container; the daemon then removes what is left.
    fn stop(&mut self) {
        for own in &self.containers {
            if let Some(pid) = own.state.pid {
                let _ = sys::kill(pid, libc::SIGKILL);
            }
        }
        // Killed processes end at once unless the kernel holds them; they must not outlive the shim as orphans.
        for _ in 0..500 {
            self.reap();
            if self.containers.iter().all(|own| own.state.pid.is_none()) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let _ = std::fs::remove_file(self.config.dir.join(SOCKET));
        self.stopping = true;
    }
}

fn readable(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|count| count > 0)
}

fn unknown(id: &str) -> Reply {
    Reply::Failed { reason: "ContainerNotFound".to_owned(), message: format!("there is no container {id}") }
}

fn ended(id: &str) -> Reply {
    Reply::Failed { reason: "ContainerNotRunning".to_owned(), message: format!("container {id} does not run") }
}

fn exit_file(dir: &Path, id: &str) -> std::path::PathBuf {
    dir.join(format!("exit-{id}.json"))
}

/// Writes how a container ended, for a daemon that comes after this shim.
fn record(dir: &Path, state: &State) {
    let (path, temporary) = (exit_file(dir, &state.id), dir.join("exit.tmp"));
    let written =
        serde_json::to_vec(state).map_err(std::io::Error::from).and_then(|bytes| std::fs::write(&temporary, bytes));
    if let Err(error) = written.and_then(|()| std::fs::rename(&temporary, &path)) {
        eprintln!("cannot write {}: {error}", path.display());
    }
}

/// Whether the kernel counts an OOM kill in this file: `oom_kill N` in both cgroup versions.
fn killed_for_memory(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count.trim() != "0")
}

/// A descriptor that is readable when a child has ended.
fn child_signals() -> std::io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: the set lives through the calls; the descriptor is new and nobody else's.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        sys::check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
        let fd = sys::check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}
