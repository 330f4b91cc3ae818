//! The kernel's file systems in a container, and what is hidden of them.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use corten_shim::Container;
use rustix::mount::{MountFlags, mount, mount_bind, mount_remount};

use super::devices::{self, Device};
use super::{Result, clone_of, move_to, said, said_io};
use crate::sys;

/// What must not be seen, as containerd has it.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// What must not be written, as containerd has it.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Names of version 1's controllers in mount options, which hold other words as well.
const CONTROLLERS: [&str; 15] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "rdma",
    "misc",
    "name=systemd",
];

/// Mounts all of them. Runs in the new root, before anything else is mounted there.
pub(super) fn file_systems(container: &Container, devices: &[Device], hierarchies: &[Hierarchy]) -> Result<()> {
    let safe = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    let put = |source: &str, target: &str, kind: &str, flags: MountFlags, options: &std::ffi::CStr| {
        folder(target)?;
        mount(source, target, kind, flags, options).map_err(said(format!("cannot mount {kind} on {target}")))
    };
    put("proc", "/proc", "proc", safe, c"")?;
    put("tmpfs", "/dev", "tmpfs", MountFlags::NOSUID | MountFlags::STRICTATIME, c"mode=755,size=65536k")?;
    devices::make(devices)?;
    put(
        "devpts",
        "/dev/pts",
        "devpts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        c"newinstance,ptmxmode=0666,mode=0620,gid=5",
    )?;
    put("shm", "/dev/shm", "tmpfs", safe, c"mode=1777,size=65536k")?;
    put("mqueue", "/dev/mqueue", "mqueue", safe, c"")?;
    for (link, target) in [
        ("/dev/ptmx", "pts/ptmx"),
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        std::os::unix::fs::symlink(target, link).map_err(said_io(format!("cannot make {link}")))?;
    }
    let read_only = if container.privileged { MountFlags::empty() } else { MountFlags::RDONLY };
    put("sysfs", "/sys", "sysfs", safe | read_only, c"")?;
    cgroups(hierarchies, safe | read_only);
    Ok(())
}

/// Sees to it that a folder is there. A link would lead what is mounted elsewhere, and leave the kernel's files
/// unhidden (CVE-2019-19921), so it is refused.
fn folder(path: &str) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(format!("{path} of the image must be an ordinary folder")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir(path).map_err(said_io(format!("cannot make {path}")))
        }
        Err(error) => Err(format!("cannot look at {path}: {error}")),
    }
}

/// Hides and protects what an unprivileged container must not see or write.
pub(super) fn confine() -> Result<()> {
    for path in MASKED {
        let hidden = match fs::metadata(path) {
            Err(_) => continue,
            Ok(meta) if meta.is_dir() => mount("tmpfs", path, "tmpfs", MountFlags::RDONLY, c"size=0,nr_inodes=2"),
            Ok(_) => mount_bind("/dev/null", path),
        };
        hidden.map_err(said(format!("cannot hide {path}")))?;
    }
    for path in READ_ONLY {
        let copy = match clone_of(Path::new(path)) {
            Err(rustix::io::Errno::NOENT) => continue,
            other => other.map_err(said(format!("cannot protect {path}")))?,
        };
        sys::read_only(copy.as_fd()).map_err(said_io(format!("cannot protect {path}")))?;
        let place = super::place::in_container(Path::new(path), true);
        place.and_then(|place| move_to(&copy, &place)).map_err(said(format!("cannot protect {path}")))?;
    }
    Ok(())
}

/// A cgroup hierarchy of the machine: where it is mounted, and what it controls (empty for version 2).
pub(super) type Hierarchy = (PathBuf, String);

/// All of them, as this process sees them.
pub(super) fn cgroup_hierarchies() -> Vec<Hierarchy> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let place = PathBuf::from(left.split(' ').nth(4)?);
            let mut right = right.split(' ');
            let (kind, options) = (right.next()?, right.nth(1)?);
            match kind {
                "cgroup2" => Some((place, String::new())),
                "cgroup" => {
                    let own: Vec<&str> = options.split(',').filter(|option| CONTROLLERS.contains(option)).collect();
                    Some((place, own.join(",")))
                }
                _ => None,
            }
        })
        .collect()
}

/// Shows the container its own cgroups. Best effort: programs read their limits there if they can.
fn cgroups(hierarchies: &[Hierarchy], flags: MountFlags) {
    const PLACE: &str = "/sys/fs/cgroup";
    if let [(place, controllers)] = hierarchies
        && controllers.is_empty()
        && place == Path::new(PLACE)
    {
        let _ = mount("cgroup", PLACE, "cgroup2", flags, c"");
        return;
    }
    if mount("tmpfs", PLACE, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=755").is_err() {
        return;
    }
    for (place, controllers) in hierarchies {
        let Some(name) = place.strip_prefix(PLACE).ok().filter(|name| !name.as_os_str().is_empty()) else { continue };
        let target = Path::new(PLACE).join(name);
        if fs::create_dir_all(&target).is_err() {
            continue;
        }
        let (kind, options) =
            if controllers.is_empty() { ("cgroup2", String::new()) } else { ("cgroup", controllers.clone()) };
        let _ = mount("cgroup", &target, kind, flags, &*sys::c_string(&options));
    }
    let _ = mount_remount(PLACE, MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV, "mode=755");
}
