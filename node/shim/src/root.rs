//! A container's file system: an overlay of its layers, the kernel's file systems, its mounts.
//!
//! All of it is mounted in the container's own mount namespace, so that it ends with the container. Mounts' sources are
//! opened before the root changes, and their targets are made after that: so a link in an image that points outside
//! leads back inside.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use corten_shim::Container;
use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, mount_remount,
    move_mount, open_tree, unmount,
};

/// Devices that every container has.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// What must not be seen, as containerd has it.
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

/// What must not be written, as containerd has it.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

type Result<T, E = String> = std::result::Result<T, E>;

fn said(what: impl std::fmt::Display) -> impl FnOnce(rustix::io::Errno) -> String {
    move |error| format!("{what}: {}", io::Error::from(error))
}

fn said_io(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> String {
    move |error| format!("{what}: {error}")
}

/// Makes the file system and moves into it. Runs in the container's new mount namespace.
pub(crate) fn enter(container: &Container) -> Result<()> {
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .map_err(said("cannot make mounts private"))?;
    let root = container.dir.join("root");
    overlay(container, &root)?;
    let sources = open_sources(container)?;
    let hierarchies = cgroup_hierarchies();
    let devices = DEVICES.map(|name| (name, clone_of(&Path::new("/dev").join(name))));
    std::env::set_current_dir(&root).map_err(said_io("cannot enter the root"))?;
    rustix::process::pivot_root(".", ".").map_err(said("cannot change the root"))?;
    // The old root lies over the new one now.
    kernel_file_systems(container, devices, &hierarchies)?;
    unmount(".", UnmountFlags::DETACH).map_err(said("cannot leave the old root"))?;
    std::env::set_current_dir("/").map_err(said_io("cannot enter the new root"))?;
    for (source, spec) in sources.into_iter().zip(&container.mounts) {
        attach(source, &spec.target, spec.read_only)?;
    }
    if !container.privileged {
        MASKED.iter().try_for_each(|path| mask(Path::new(path)))?;
        READ_ONLY.iter().try_for_each(|path| write_protect(Path::new(path)))?;
    }
    if container.read_only_root {
        mount_remount("/", MountFlags::BIND | MountFlags::RDONLY, "")
            .map_err(said("cannot make the root read-only"))?;
    }
    Ok(())
}

fn overlay(container: &Container, root: &Path) -> Result<()> {
    let (upper, work) = (container.dir.join("upper"), container.dir.join("work"));
    for dir in [root, &upper, &work] {
        fs::create_dir_all(dir).map_err(said_io(format!("cannot make {}", dir.display())))?;
    }
    let lower: Vec<String> = container.layers.iter().map(|layer| layer.display().to_string()).collect();
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), upper.display(), work.display());
    let options = crate::sys::c_string(&options);
    mount("overlay", root, "overlay", MountFlags::empty(), &*options)
        .map_err(said(format!("cannot mount the image's {} layers", lower.len())))
}

/// A mount of its own of what is at a path, not attached anywhere yet.
fn clone_of(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags)
}

fn open_sources(container: &Container) -> Result<Vec<Option<OwnedFd>>> {
    let open = |spec: &corten_shim::Mount| {
        if spec.source.as_os_str().is_empty() {
            return Ok(None);
        }
        clone_of(&spec.source).map(Some).map_err(said(format!("cannot mount {}", spec.source.display())))
    };
    container.mounts.iter().map(open).collect()
}

/// Puts a mount in its place, which is made if it is not there: a file for a file, else a folder.
fn attach(source: Option<OwnedFd>, target: &Path, read_only: bool) -> Result<()> {
    let place = |is_file: bool| -> Result<()> {
        let made = match is_file {
            _ if target.exists() => Ok(()),
            true => target
                .parent()
                .map_or(Ok(()), fs::create_dir_all)
                .and_then(|()| fs::OpenOptions::new().create(true).append(true).open(target).map(drop)),
            false => fs::create_dir_all(target),
        };
        made.map_err(said_io(format!("cannot make the mount point {}", target.display())))
    };
    match source {
        None => {
            place(false)?;
            mount("tmpfs", target, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=1777")
                .map_err(said(format!("cannot mount a tmpfs on {}", target.display())))?;
        }
        Some(source) => {
            let stat = rustix::fs::fstat(&source).map_err(said("cannot look at a mount"))?;
            place(!rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())?;
            move_mount(&source, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                .map_err(said(format!("cannot mount on {}", target.display())))?;
        }
    }
    if read_only { write_protect(target) } else { Ok(()) }
}

/// Makes what is at a path read-only; nothing happens if nothing is there.
fn write_protect(path: &Path) -> Result<()> {
    let what = || format!("cannot make {} read-only", path.display());
    if !is_mount(path) {
        match rustix::mount::mount_bind_recursive(path, path) {
            Ok(()) => {}
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(said(what())(error)),
        }
    }
    // The flags that a mount has in another user namespace's eyes must stay; ours are all of the first.
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount(path, flags, "").map_err(said(what()))
}

/// Whether a path is where something is mounted.
fn is_mount(path: &Path) -> bool {
    let stat = |path: &Path| rustix::fs::stat(path).ok();
    let parent = path.parent().and_then(stat);
    stat(path).zip(parent).is_some_and(|(own, parent)| own.st_dev != parent.st_dev)
}

/// Hides what is at a path; nothing happens if nothing is there.
fn mask(path: &Path) -> Result<()> {
    let result = match fs::metadata(path) {
        Err(_) => return Ok(()),
        Ok(metadata) if metadata.is_dir() => mount("tmpfs", path, "tmpfs", MountFlags::RDONLY, c"size=0"),
        Ok(_) => rustix::mount::mount_bind("/dev/null", path),
    };
    result.map_err(said(format!("cannot hide {}", path.display())))
}

/// A cgroup hierarchy of the machine: where it is mounted, and what it controls (empty for version 2).
type Hierarchy = (PathBuf, String);

fn cgroup_hierarchies() -> Vec<Hierarchy> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let place = PathBuf::from(left.split(' ').nth(4)?);
            let mut right = right.split(' ');
            let (kind, options) = (right.next()?, right.nth(1)?);
            let known = [
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
            match kind {
                "cgroup2" => Some((place, String::new())),
                "cgroup" => {
                    let controllers: Vec<&str> = options.split(',').filter(|option| known.contains(option)).collect();
                    Some((place, controllers.join(",")))
                }
                _ => None,
            }
        })
        .collect()
}

fn kernel_file_systems(
    container: &Container,
    devices: [(&str, rustix::io::Result<OwnedFd>); 6],
    hierarchies: &[Hierarchy],
) -> Result<()> {
    let safe = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    // "." is the old root, which lies over the new one; absolute paths lead through the old one as long as it does.
    // So everything is named from "/" of the new root, which pivot_root made the root directory of this process.
    let put = |source: &str, target: &str, kind: &str, flags: MountFlags, options: &std::ffi::CStr| {
        fs::create_dir_all(target).map_err(said_io(format!("cannot make {target}")))?;
        mount(source, target, kind, flags, options).map_err(said(format!("cannot mount {kind} on {target}")))
    };
    put("proc", "/proc", "proc", safe, c"")?;
    put("tmpfs", "/dev", "tmpfs", MountFlags::NOSUID | MountFlags::STRICTATIME, c"mode=755,size=65536k")?;
    for (name, source) in devices {
        let source = source.map_err(said(format!("the machine has no /dev/{name}")))?;
        let target = Path::new("/dev").join(name);
        fs::File::create(&target).map_err(said_io(format!("cannot make {}", target.display())))?;
        move_mount(&source, "", CWD, &target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(said(format!("cannot mount {}", target.display())))?;
    }
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
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let link = Path::new("/dev").join(link);
        std::os::unix::fs::symlink(target, &link).map_err(said_io(format!("cannot make {}", link.display())))?;
    }
    let read_only = if container.privileged { MountFlags::empty() } else { MountFlags::RDONLY };
    put("sysfs", "/sys", "sysfs", safe | read_only, c"")?;
    cgroups(hierarchies, safe | read_only);
    Ok(())
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
        let _ = mount("cgroup", &target, kind, flags, &*crate::sys::c_string(&options));
    }
    let _ = mount_remount(PLACE, MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV, "mode=755");
}
