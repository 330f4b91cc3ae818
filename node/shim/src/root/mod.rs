//! A container's file system: an overlay of its layers, the kernel's file systems, its mounts.
//!
//! All of it is mounted in the container's own mount namespace, so that it ends with the container. The old root is left
//! before anything is looked up in the image, so that no link in it leads to the machine: not even `/..` does. What hides
//! parts of /proc and /sys is mounted while nothing but the kernel's own files can be below those paths.

mod devices;
mod kernel;
mod place;

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use corten_shim::{Container, Mount};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_change, move_mount, open_tree,
    unmount,
};

use crate::sys;

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
    // Over the container's own folder, here alone: a folder less to make, which costs more than a mount.
    let root = &container.dir;
    overlay(container, root)?;
    let sources = container.mounts.iter().map(source).collect::<Result<Vec<_>>>()?;
    let hierarchies = kernel::cgroup_hierarchies();
    let devices = if container.privileged { devices::of_machine() } else { devices::usual() };
    std::env::set_current_dir(root).map_err(said_io("cannot enter the root"))?;
    // The old root then lies over the new one: "." is the old one, and so is "/..", until it is unmounted.
    rustix::process::pivot_root(".", ".").map_err(said("cannot change the root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(said("cannot leave the old root"))?;
    std::env::set_current_dir("/").map_err(said_io("cannot enter the new root"))?;
    kernel::file_systems(container, &devices, &hierarchies)?;
    if !container.privileged {
        kernel::confine()?;
    }
    for (source, spec) in sources.iter().zip(&container.mounts) {
        attach(source, spec)?;
    }
    if container.read_only_root {
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(said("cannot open the root"))?;
        sys::read_only(root.as_fd()).map_err(said_io("cannot make the root read-only"))?;
    }
    Ok(())
}

fn overlay(container: &Container, root: &Path) -> Result<()> {
    let (upper, work) = (container.dir.join("upper"), container.dir.join("work"));
    for dir in [&upper, &work] {
        fs::create_dir_all(dir).map_err(said_io(format!("cannot make {}", dir.display())))?;
    }
    // Named by descriptors: a page of options holds any number of layers then, whatever their paths are made of.
    let open = |path: &Path| {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(said(format!("cannot open {}", path.display())))
    };
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let lower = container.layers.iter().map(|layer| open(layer)).collect::<Result<Vec<_>>>()?;
    let (upper, work) = (open(&upper)?, open(&work)?);
    let lowers = lower.iter().map(name).collect::<Vec<_>>().join(":");
    let options = format!("lowerdir={lowers},upperdir={},workdir={}", name(&upper), name(&work));
    // What a container wrote is never mounted again: nothing need be synced for it, least of all at its end.
    let volatile = sys::c_string(format!("{options},volatile"));
    let plain = sys::c_string(&options);
    let flags = if container.no_devices { MountFlags::NODEV } else { MountFlags::empty() };
    mount("overlay", root, "overlay", flags, &*volatile)
        .or_else(|_| mount("overlay", root, "overlay", flags, &*plain))
        .map_err(said(format!("cannot mount the image's {} layers", lower.len())))
}

/// A mount of its own, not attached anywhere yet: of what is at a path, or a new tmpfs if the path is empty.
fn source(spec: &Mount) -> Result<OwnedFd> {
    let made = if spec.source.as_os_str().is_empty() { tmpfs() } else { clone_of(&spec.source) };
    let made = made.map_err(said(format!("cannot mount {}", spec.source.display())))?;
    if spec.read_only {
        sys::read_only(made.as_fd()).map_err(said_io(format!("cannot make {} read-only", spec.target.display())))?;
    }
    Ok(made)
}

fn clone_of(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags)
}

fn tmpfs() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "mode", "1777")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Puts a mount in its place, which is made if it is not there: a file for a file, else a folder.
fn attach(source: &OwnedFd, spec: &Mount) -> Result<()> {
    let stat = rustix::fs::fstat(source).map_err(said("cannot look at a mount"))?;
    let is_folder = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
    let place = place::in_container(&spec.target, is_folder)
        .map_err(said(format!("cannot make the mount point {}", spec.target.display())))?;
    move_to(source, &place).map_err(said(format!("cannot mount on {}", spec.target.display())))
}

fn move_to(source: &OwnedFd, place: &OwnedFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(source, "", place, "", flags)
}
