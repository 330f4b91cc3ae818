//! Starting a container's first process.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use corten_shim::Container;

use crate::cgroup::Groups;
use crate::{root, seccomp, security, sys};

/// The streams of a new process, this side.
pub(crate) struct Streams {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    /// The terminal, which is stdin and stdout at once.
    pub(crate) terminal: Option<OwnedFd>,
}

/// The streams of a new process, its side.
pub(crate) struct Ends {
    /// `None` for /dev/null: the container's own, since whoever has a descriptor may change the file's mode.
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
    tty: bool,
}

/// Makes both sides of a process's streams.
pub(crate) fn streams(tty: bool, stdin: bool) -> std::io::Result<(Streams, Ends)> {
    if tty {
        let (master, slave) = sys::open_pty()?;
        let ends = Ends { stdin: Some(slave.try_clone()?), stdout: slave.try_clone()?, stderr: slave, tty: true };
        return Ok((Streams { stdin: None, stdout: None, stderr: None, terminal: Some(master) }, ends));
    }
    let (stdin_end, stdin_own) = if stdin {
        let (reader, writer) = sys::pipe()?;
        (Some(reader), Some(writer))
    } else {
        (None, None)
    };
    let (stdout_own, stdout_end) = sys::pipe()?;
    let (stderr_own, stderr_end) = sys::pipe()?;
    let own = Streams { stdin: stdin_own, stdout: Some(stdout_own), stderr: Some(stderr_own), terminal: None };
    Ok((own, Ends { stdin: stdin_end, stdout: stdout_end, stderr: stderr_end, tty: false }))
}

impl Ends {
    /// Makes them the process's own. Runs inside the container.
    pub(crate) fn take(&self) -> std::io::Result<()> {
        match &self.stdin {
            Some(stdin) => sys::become_fd(stdin.as_fd(), 0)?,
            None => sys::become_fd(File::open("/dev/null")?.as_fd(), 0)?,
        }
        sys::become_fd(self.stdout.as_fd(), 1)?;
        sys::become_fd(self.stderr.as_fd(), 2)?;
        if self.tty {
            sys::take_terminal();
        }
        Ok(())
    }
}

/// Why a container did not start: reason and message.
pub(crate) type Refusal = (String, String);

/// Starts the container; its pid and this side of its streams.
pub(crate) fn start(container: &Container) -> Result<(i32, Streams), Refusal> {
    let create = |what: &str, error: std::io::Error| ("CreateContainerError".to_owned(), format!("{what}: {error}"));
    let (own, ends) = streams(container.tty, container.stdin).map_err(|error| create("cannot make streams", error))?;
    let (report, report_end) = sys::pipe().map_err(|error| create("cannot make a pipe", error))?;
    let namespaces = libc::CLONE_NEWNS | if container.host_pid { 0 } else { libc::CLONE_NEWPID };
    let mut groups = Groups::of(&container.cgroups);
    match groups.fork(namespaces).map_err(|error| create("cannot make the container's namespaces", error))? {
        None => {
            drop((report, own));
            let mut report = File::from(report_end);
            let (reason, message) = child(container, &ends, &groups);
            let _ = write!(report, "{reason}\n{message}");
            sys::exit_now(127)
        }
        Some(pid) => {
            drop((ends, report_end));
            report_of(report, pid).map_or(Ok((pid, own)), Err)
        }
    }
}

/// How long a process may take to become its program, milliseconds.
const START_TIMEOUT: i64 = 60_000;

/// Waits until a process became its program; what it says otherwise. One that takes for ever (a file system that does not
/// answer) is given up, since the whole pod waits.
pub(crate) fn report_of(report: OwnedFd, pid: i32) -> Option<Refusal> {
    let until = sys::now() / 1_000_000 + START_TIMEOUT;
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = (until - sys::now() / 1_000_000).max(0);
        let timeout = rustix::event::Timespec { tv_sec: left / 1000, tv_nsec: left % 1000 * 1_000_000 };
        let mut fds = [rustix::event::PollFd::new(&report, rustix::event::PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => continue,
            Ok(1..) => {}
            Ok(0) | Err(_) => {
                let _ = sys::kill(pid, libc::SIGKILL);
                let message = format!("context deadline exceeded: not started within {} s", START_TIMEOUT / 1000);
                return Some(("StartError".to_owned(), message));
            }
        }
        match rustix::io::read(&report, &mut buffer) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) | Err(_) => break,
            Ok(count) => text.extend_from_slice(&buffer[..count]),
        }
    }
    let text = String::from_utf8_lossy(&text);
    text.split_once('\n').map(|(reason, message)| (reason.to_owned(), message.to_owned()))
}

/// What the new process does until it becomes the program. Returns only to say why that failed.
fn child(container: &Container, ends: &Ends, groups: &Groups) -> Refusal {
    let _ = sys::hide();
    let create = |message: String| ("CreateContainerError".to_owned(), message);
    let result = (|| -> Result<(), String> {
        let said = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
        // Before anything else: what it takes from here on counts, and its limits hold.
        groups.enter()?;
        rustix::process::setsid().map_err(|error| said("cannot start a session")(error.into()))?;
        sys::unshare(libc::CLONE_NEWCGROUP).map_err(said("cannot make a cgroup namespace"))?;
        let _ = std::fs::write("/proc/self/oom_score_adj", container.oom_score_adj.to_string());
        root::enter(container)?;
        ends.take().map_err(said("cannot take the streams"))
    })();
    if let Err(message) = result {
        return create(message);
    }
    become_program(container, &container.args, container.tty)
}

/// Gives up what the container may not have, and executes. This process is inside the container by now.
pub(crate) fn become_program(container: &Container, args: &[String], tty: bool) -> Refusal {
    let failed = |message: String| ("StartError".to_owned(), message);
    let prepared = (|| -> Result<Vec<String>, String> {
        let said = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
        let ids = security::resolve(&container.user)?;
        let cwd = if container.cwd.as_os_str().is_empty() { Path::new("/") } else { &container.cwd };
        std::fs::create_dir_all(cwd)
            .and_then(|()| std::env::set_current_dir(cwd))
            .map_err(|error| format!("cannot enter the working directory {}: {error}", cwd.display()))?;
        if container.no_new_privileges {
            security::no_new_privileges().map_err(said("cannot set no_new_privs"))?;
        }
        let filtered = container.seccomp && !container.privileged;
        // Without no_new_privs only root may set a filter, so it comes before the user; with it, as late as possible.
        let filter = || seccomp::apply(&container.capabilities).map_err(said("cannot set the seccomp profile"));
        if filtered && !container.no_new_privileges {
            filter()?;
        }
        sys::give_streams(ids.uid);
        sys::close_on_exec().map_err(said("cannot close descriptors"))?;
        security::bound(&container.capabilities).map_err(said("cannot drop capabilities"))?;
        security::switch(&ids).map_err(said("cannot become the user"))?;
        let kept: &[u32] = if ids.uid == 0 { &container.capabilities } else { &[] };
        security::limit(kept).map_err(said("cannot limit capabilities"))?;
        if filtered && container.no_new_privileges {
            filter()?;
        }
        Ok(environment(container, &ids.home, tty))
    })();
    let env = match prepared {
        Ok(env) => env,
        Err(message) => return failed(message),
    };
    let Some(name) = args.first() else { return failed("no command specified".to_owned()) };
    let program = match find(name, &env) {
        Ok(program) => program,
        Err(message) => return failed(message),
    };
    sys::reset_signals();
    let error = sys::exec(&program, args, &env);
    failed(format!("exec {program:?}: {}", plain(&error)))
}

const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The container's environment, with what every program may expect.
fn environment(container: &Container, home: &str, tty: bool) -> Vec<String> {
    let mut env = container.env.clone();
    let mut usual = |name: &str, value: &str| {
        if !env.iter().any(|entry| entry.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))) {
            env.push(format!("{name}={value}"));
        }
    };
    usual("PATH", USUAL_PATH);
    usual("HOME", home);
    usual("HOSTNAME", &rustix::system::uname().nodename().to_string_lossy());
    if tty {
        usual("TERM", "xterm");
    }
    env
}

/// The file that a command's name means, in words that users of other runtimes know.
fn find(name: &str, env: &[String]) -> Result<String, String> {
    let is_program = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        return match std::fs::metadata(name) {
            Err(error) => Err(format!("exec: {name:?}: stat {name}: {}", plain(&error))),
            Ok(_) if !is_program(Path::new(name)) => Err(format!("exec: {name:?}: permission denied")),
            Ok(_) => Ok(name.to_owned()),
        };
    }
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(USUAL_PATH);
    let found = path.split(':').map(|folder| Path::new(folder).join(name)).find(|path| is_program(path));
    let missing = || format!("exec: {name:?}: executable file not found in $PATH");
    found.map(|path| path.display().to_string()).ok_or_else(missing)
}

fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ if error.raw_os_error() == Some(libc::ENOEXEC) => "exec format error".to_owned(),
        _ => error.to_string(),
    }
}
