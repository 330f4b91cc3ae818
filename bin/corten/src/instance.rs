//! The running process of a cluster: found by a lock that it holds for its life, stopped by a pidfd.
//!
//! Both folders are locked: the pid file in the run folder says who it is; the one in the data folder keeps a second
//! process with another run folder away. Neither file is ever removed by a running process, so a lock always means the
//! same file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::network_namespace;
use crate::settings::Settings;

const PID_FILE: &str = "corten.pid";
const LOCK_FILE: &str = "corten.lock";
/// How long the kernel may take to clear away a process that was killed.
const DYING: Duration = Duration::from_secs(2);

/// Keeps other processes out of a cluster's folders as long as it lives.
pub(crate) struct Lock {
    _run: File,
    _data: File,
}

impl Lock {
    /// Takes both folders, or says who has them.
    pub(crate) fn take(settings: &Settings) -> anyhow::Result<Self> {
        let run = settings.run_dir.join(PID_FILE);
        let data = settings.data_dir.join(LOCK_FILE);
        let data = lock(&data).with_context(|| in_use("--data-dir", &settings.data_dir, &data))?;
        let run = lock(&run).with_context(|| in_use("--run-dir", &settings.run_dir, &run))?;
        for mut file in [&data, &run] {
            file.set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| writeln!(file, "{}", std::process::id()))
                .context("cannot write the pid file")?;
        }
        Ok(Self { _run: run, _data: data })
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    // Whoever can open it can lock it, and a lock stands for a running process.
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn lock(path: &Path) -> anyhow::Result<File> {
    let file = open(path).with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("stop it first (`corten down`), or choose another folder"),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

fn in_use(option: &str, dir: &Path, file: &Path) -> String {
    let holder = std::fs::read_to_string(file).unwrap_or_default();
    let holder = holder.trim().parse::<u32>().map_or("another process".to_owned(), |pid| format!("process {pid}"));
    format!("{option} {} is in use by {holder}", dir.display())
}

/// A running cluster process.
pub(crate) struct Running {
    /// Its process id.
    pub(crate) pid: i32,
    pidfd: OwnedFd,
}

/// The process that runs the cluster in this run folder, if one does.
pub(crate) fn find(run_dir: &Path) -> anyhow::Result<Option<Running>> {
    let path: PathBuf = run_dir.join(PID_FILE);
    let mut file = match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
    };
    if is_free(&file) {
        return Ok(None);
    }
    let mut text = String::new();
    file.read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
    let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else {
        bail!("{} is locked but names no process: try again", path.display());
    };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(None) };
    let running = Running { pid: pid.as_raw_nonzero().get(), pidfd };
    // A process that was killed holds its locks and ports until its last thread is gone: nobody to talk to any more.
    if running.is_ending() && running.ended(DYING)? {
        return Ok(None);
    }
    // Only now is it certain that the id has not passed to another process.
    if is_free(&file) {
        return Ok(None);
    }
    Ok(Some(running))
}

fn is_free(file: &File) -> bool {
    file.try_lock().is_ok_and(|()| file.unlock().is_ok())
}

/// By `/proc/PID/stat` and `/proc/PID/status`: its first thread has ended or is about to, or SIGKILL is under way.
fn is_ending(stat: &str, status: &str) -> bool {
    const EXITING: u64 = 0x4;
    const KILL: u64 = 1 << 8;
    let Some((_, fields)) = stat.rsplit_once(')') else { return true };
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let flags = fields.get(6).and_then(|flags| flags.parse::<u64>().ok()).unwrap_or(0);
    let pending = status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    let killed = pending.filter_map(|set| u64::from_str_radix(set.trim(), 16).ok()).any(|set| set & KILL != 0);
    matches!(fields.first(), None | Some(&("Z" | "X"))) || flags & EXITING != 0 || killed
}

impl Running {
    /// Asks the process to end, insists after `patience`, and returns when it has.
    pub(crate) fn stop(&self, patience: Duration) -> anyhow::Result<()> {
        for (signal, patience) in [(Signal::TERM, patience), (Signal::KILL, Duration::from_secs(10))] {
            match pidfd_send_signal(&self.pidfd, signal) {
                Ok(()) => {}
                Err(rustix::io::Errno::SRCH) => return Ok(()),
                Err(error) => return Err(error).with_context(|| format!("cannot signal process {}", self.pid)),
            }
            if self.ended(patience)? {
                return Ok(());
            }
        }
        bail!("process {} does not end", self.pid)
    }

    /// Whether it is on its way out whatever anybody does.
    fn is_ending(&self) -> bool {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", self.pid)).unwrap_or_default();
        is_ending(&read("stat"), &read("status"))
    }

    /// The network namespace in which it runs; `None` if it has ended by now.
    pub(crate) fn network_namespace(&self) -> anyhow::Result<Option<File>> {
        match network_namespace::of(self.pid) {
            Ok(namespace) => Ok(Some(namespace)),
            Err(error) if self.ended(DYING)? => {
                tracing::debug!("process {} has just ended: {error:#}", self.pid);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn ended(&self, patience: Duration) -> anyhow::Result<bool> {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let timeout = Timespec::try_from(patience).context("too long a time")?;
        Ok(poll(&mut fds, Some(&timeout)).context("cannot wait for the process")? > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_was_killed_is_on_its_way_out() {
        let stat = |state: &str, flags: u32| format!("7 (a) b) {state} 1 7 7 0 -1 {flags} 100 0 0 0");
        let status = |own: &str, all: &str| format!("Name:\ta\nSigPnd:\t{own}\nShdPnd:\t{all}\nSigBlk:\t0\n");
        let quiet = status("0000000000000000", "0000000000004000");
        assert!(!is_ending(&stat("S", 0x40_0100), &quiet));
        assert!(is_ending(&stat("R", 0x40_0104), &quiet), "it exits");
        assert!(is_ending(&stat("Z", 0x40_0100), &quiet), "a zombie");
        assert!(is_ending(&stat("S", 0), &status("0000000000000100", "0000000000000000")), "killed, and not yet aware");
        assert!(is_ending("", ""), "gone");
        let own = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).expect("readable");
        assert!(!is_ending(&own("stat"), &own("status")), "this one");
    }

    #[test]
    fn a_cluster_is_found_by_its_lock_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = Settings::assumed(folder.path(), folder.path());
        assert!(find(folder.path()).expect("looked").is_none());
        let held = Lock::take(&settings).expect("taken");
        let own = i32::try_from(std::process::id()).expect("a pid");
        assert_eq!(find(folder.path()).expect("looked").map(|running| running.pid), Some(own));
        let error = Lock::take(&settings).err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(error.contains(&format!("is in use by process {own}: stop it first")), "{error}");
        drop(held);
        assert!(find(folder.path()).expect("looked").is_none());
    }
}
