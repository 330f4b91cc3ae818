//! Where in the container something is mounted.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, open, openat, openat2, readlinkat};
use rustix::io::{Errno, Result};

/// As many links as the kernel follows in one path.
const MOST_LINKS: u32 = 40;

/// Opens the place at a path of the container, following its links, and makes what is missing. Nothing is followed that
/// leads out of the root, the links of /proc included.
pub(super) fn open_place(root: &Path, target: &Path, is_folder: bool) -> Result<OwnedFd> {
    let root = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    make(&root, target, is_folder, MOST_LINKS)
}

/// `open_place` in this process's own root.
pub(super) fn in_container(target: &Path, is_folder: bool) -> Result<OwnedFd> {
    open_place(Path::new("/"), target, is_folder)
}

fn make(root: &OwnedFd, target: &Path, is_folder: bool, links: u32) -> Result<OwnedFd> {
    match resolve(root, target) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else { return Err(Errno::NOENT) };
    let above = make(root, parent, true, links)?;
    let made = if is_folder {
        mkdirat(&above, name, Mode::from_raw_mode(0o755))
    } else {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&above, name, flags, Mode::from_raw_mode(0o644)).map(drop)
    };
    match made {
        Ok(()) => resolve(root, target),
        // Something is there that leads nowhere: a link whose end is to be made.
        Err(Errno::EXIST) if links > 0 => {
            let link = readlinkat(&above, name, Vec::new())?;
            let next = parent.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(link.as_bytes()));
            make(root, &next, is_folder, links - 1)
        }
        Err(Errno::EXIST) => Err(Errno::LOOP),
        Err(error) => Err(error),
    }
}

fn resolve(root: &OwnedFd, path: &Path) -> Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Something was renamed meanwhile, somewhere on the machine: the kernel could not be sure.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn places_are_made_inside_whatever_links_say() {
        let outer = std::env::temp_dir().join(format!("corten-shim-place-{}", std::process::id()));
        let root = outer.join("root");
        fs::create_dir_all(root.join("etc")).expect("made");
        fs::create_dir_all(root.join("srv/data")).expect("made");
        symlink("../run/resolv.conf", root.join("etc/resolv.conf")).expect("linked");
        symlink("../../../../escaped", root.join("etc/up")).expect("linked");
        symlink("/escaped", root.join("away")).expect("linked");
        symlink("/srv/data", root.join("data")).expect("linked");
        symlink("round", root.join("round")).expect("linked");
        symlink("/proc/self/root", root.join("magic")).expect("linked");
        let there = |path: &str, is_folder| {
            let _ = open_place(&root, Path::new(path), is_folder).map_err(|error| panic!("{path}: {error}"));
        };
        there("/etc/resolv.conf", false);
        there("/etc/up/deep", true);
        there("/away", true);
        there("/away/more", false);
        there("/data/more", true);
        there("/../../../above", true);
        assert!(root.join("run/resolv.conf").is_file());
        assert!(root.join("escaped/deep").is_dir());
        assert!(root.join("escaped/more").is_file());
        assert!(root.join("srv/data/more").is_dir());
        assert!(root.join("above").is_dir());
        assert!(open_place(&root, Path::new("/round"), true).is_err());
        // /proc is no procfs here, so the link dangles and its end is made inside.
        there("/magic/tmp", true);
        assert!(root.join("proc/self/root/tmp").is_dir());
        let mut left: Vec<_> = fs::read_dir(&outer).expect("read").flatten().map(|entry| entry.file_name()).collect();
        left.retain(|name| name != "root");
        fs::remove_dir_all(&outer).expect("removed");
        assert!(left.is_empty(), "made outside: {left:?}");
    }
}
