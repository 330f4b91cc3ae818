//! Getting new processes into their cgroups, at little cost.
//!
//! Moving another process, or a whole process, makes the kernel wait until every CPU has taken notice: milliseconds. So
//! a child is born in its version-2 cgroup, and moves itself, its only thread, into those of version 1.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::sys;

/// The cgroups of a process to come.
pub(crate) struct Groups {
    /// `tasks` files of version 1.
    threads: Vec<PathBuf>,
    /// The folder of version 2's cgroup.
    unified: Option<PathBuf>,
    /// Whether the child is in it from birth.
    born_inside: bool,
}

impl Groups {
    /// By their `cgroup.procs` files.
    pub(crate) fn of(procs: &[PathBuf]) -> Self {
        let mut own = Self { threads: Vec::new(), unified: None, born_inside: false };
        for dir in procs.iter().filter_map(|path| path.parent()) {
            let threads = dir.join("tasks");
            // Only version 1 has such a file.
            if threads.exists() {
                own.threads.push(threads);
            } else {
                own.unified = Some(dir.to_owned());
            }
        }
        own
    }

    /// Forks, with new namespaces. The child calls `enter` next.
    pub(crate) fn fork(&mut self, namespaces: libc::c_int) -> io::Result<Option<i32>> {
        if let Some(dir) = self.unified.as_ref().and_then(|dir| File::open(dir).ok()) {
            self.born_inside = true;
            if let Ok(forked) = sys::clone_into(namespaces, dir.as_fd()) {
                return Ok(forked);
            }
            self.born_inside = false;
        }
        sys::clone(namespaces)
    }

    /// Moves this process, which has one thread, into all of them.
    pub(crate) fn enter(&self) -> Result<(), String> {
        let enter =
            |path: &Path| std::fs::write(path, "0").map_err(|error| format!("cannot join {}: {error}", path.display()));
        self.threads.iter().try_for_each(|path| enter(path))?;
        match &self.unified {
            Some(dir) if !self.born_inside => enter(&dir.join("cgroup.procs")),
            _ => Ok(()),
        }
    }
}

/// Kills every process of a cgroup, which these `cgroup.procs` files are of.
pub(crate) fn kill_all(procs: &[PathBuf]) {
    for path in procs {
        if path.parent().is_some_and(|dir| std::fs::write(dir.join("cgroup.kill"), "1").is_ok()) {
            return;
        }
    }
    for path in procs {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        for pid in text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0) {
            let _ = sys::kill(pid, libc::SIGKILL);
        }
    }
}
