//! Running a further command in a container.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use corten_shim::Container;

use crate::cgroup::Groups;
use crate::container::{Refusal, Streams, become_program, report_of, streams};
use crate::sys;

/// Starts a command beside the container's first process.
pub(crate) fn start(
    container: &Container,
    pid: i32,
    args: &[String],
    tty: bool,
    stdin: bool,
) -> Result<(i32, Streams), Refusal> {
    let failed = |what: &str, error: std::io::Error| ("StartError".to_owned(), format!("{what}: {error}"));
    let (own, ends) = streams(tty, stdin).map_err(|error| failed("cannot make streams", error))?;
    let (report, report_end) = sys::pipe().map_err(|error| failed("cannot make a pipe", error))?;
    let open = |kind: &str| File::open(format!("/proc/{pid}/ns/{kind}"));
    let namespaces = (|| Ok((open("pid")?, open("mnt")?, open("cgroup")?)))();
    let (pid_space, mounts, cgroup) = namespaces.map_err(|error| failed("the container has ended", error))?;
    let home =
        File::open("/proc/self/ns/pid").map_err(|error| failed("cannot find this process's namespace", error))?;
    // Only children go into a PID namespace that is joined; so this process joins it for the time of the fork.
    sys::setns(pid_space.as_fd(), libc::CLONE_NEWPID).map_err(|error| failed("cannot join the container", error))?;
    let mut groups = Groups::of(&container.cgroups);
    let forked = groups.fork(0);
    let back = sys::setns(home.as_fd(), libc::CLONE_NEWPID);
    match forked.map_err(|error| failed("cannot fork", error))? {
        None => {
            drop((report, own));
            let mut report = File::from(report_end);
            let _ = sys::hide();
            let _ = std::fs::write("/proc/self/oom_score_adj", container.oom_score_adj.to_string());
            let inside = groups
                .enter()
                .map_err(std::io::Error::other)
                .and_then(|()| rustix::process::setsid().map(drop).map_err(std::io::Error::from))
                .and_then(|()| sys::setns(cgroup.as_fd(), libc::CLONE_NEWCGROUP))
                .and_then(|()| sys::setns(mounts.as_fd(), libc::CLONE_NEWNS))
                .and_then(|()| ends.take());
            let (reason, message) = match inside {
                Err(error) => ("StartError".to_owned(), format!("cannot enter the container: {error}")),
                Ok(()) => become_program(container, args, tty),
            };
            let _ = write!(report, "{reason}\n{message}");
            sys::exit_now(126)
        }
        Some(child) => {
            drop((ends, report_end));
            if let Err(error) = back {
                let _ = sys::kill(child, libc::SIGKILL);
                return Err(failed("cannot leave the container's namespace", error));
            }
            report_of(report, child).map_or(Ok((child, own)), Err)
        }
    }
}
