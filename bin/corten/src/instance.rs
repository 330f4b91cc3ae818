//! The running process of a cluster: found by a lock that it holds for its life, stopped by a pidfd.
//!
//! Both folders are locked: the pid file in the run folder says who it is; the one in the data folder keeps a second
//! process with another run folder away. Neither file is ever removed by a running process, so a lock always means the
//! same file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::settings::Settings;

const PID_FILE: &str = "corten.pid";
const LOCK_FILE: &str = "corten.lock";

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
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
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
    // Only now is it certain that the id has not passed to another process.
    if is_free(&file) {
        return Ok(None);
    }
    Ok(Some(Running { pid: pid.as_raw_nonzero().get(), pidfd }))
}

fn is_free(file: &File) -> bool {
    file.try_lock().is_ok_and(|()| file.unlock().is_ok())
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
