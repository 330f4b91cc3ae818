//! A path inside a volume, found without ever leaving the volume.
//!
//! A container may put links into its volume at any time. So the path is opened by the kernel under the promise to stay
//! beneath the volume, and what was opened is bound to a place of the agent's own: nobody can change it any more.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind_recursive, unmount};

use super::tree;

/// Opens `path` in `volume`; folders that are missing are made, with the mode of the volume's own.
pub(crate) fn open(volume: &Path, path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = openat(CWD, volume, flags | OFlags::DIRECTORY, Mode::empty())?;
    match beneath(&root, path) {
        Err(Errno::NOENT) => {}
        result => return Ok(result?),
    }
    let mode = Mode::from_raw_mode(fstat(&root)?.st_mode & 0o7777);
    let mut folder = beneath(&root, ".")?;
    let mut done = String::from(".");
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match mkdirat(&folder, part, mode) {
            Ok(()) => rustix::fs::chmodat(&folder, part, mode, rustix::fs::AtFlags::empty())?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        done = format!("{done}/{part}");
        folder = beneath(&root, &done)?;
    }
    Ok(folder)
}

fn beneath(root: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // The kernel asks for another try if the tree is being renamed just now.
    for _ in 0..8 {
        match openat2(root.as_fd(), path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Where an open file is now.
pub(crate) fn place_of(file: &OwnedFd) -> io::Result<PathBuf> {
    fs::read_link(descriptor(file))
}

fn descriptor(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Binds an open file or folder to `place`; what an earlier container had there is taken away.
pub(crate) fn bind(file: &OwnedFd, place: &Path) -> io::Result<()> {
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    for mount in tree::mounts_below(place)? {
        unmount(&mount, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    }
    let wanted_folder = FileType::from_raw_mode(fstat(file)?.st_mode).is_dir();
    match fs::symlink_metadata(place) {
        Ok(metadata) if metadata.is_dir() == wanted_folder => {}
        Ok(metadata) if metadata.is_dir() => fs::remove_dir(place)?,
        Ok(_) => fs::remove_file(place)?,
        Err(_) => {}
    }
    if wanted_folder {
        fs::create_dir_all(place)?;
    } else {
        fs::OpenOptions::new().create(true).append(true).open(place)?;
    }
    Ok(mount_bind_recursive(descriptor(file), place)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_link_leads_out_of_the_volume() {
        let dir = tempfile::tempdir().expect("a folder");
        let (volume, outside) = (dir.path().join("volume"), dir.path().join("outside"));
        fs::create_dir_all(volume.join("in")).expect("made");
        fs::create_dir_all(&outside).expect("made");
        fs::write(volume.join("in/file"), "x").expect("written");
        symlink("in", volume.join("good")).expect("made");
        symlink("../outside", volume.join("up")).expect("made");
        symlink(&outside, volume.join("absolute")).expect("made");
        symlink("in/../../outside", volume.join("roundabout")).expect("made");
        for path in ["in", "in/file", "good/file", "new/deep", "good/new", ""] {
            let place = open(&volume, if path.is_empty() { "." } else { path }).and_then(|file| place_of(&file));
            assert!(place.expect(path).starts_with(&volume), "{path}");
        }
        assert!(volume.join("in/new").is_dir());
        for path in ["..", "in/../..", "up", "up/new", "absolute", "absolute/new", "roundabout/new"] {
            assert!(open(&volume, path).is_err(), "{path}");
        }
        assert_eq!(fs::read_dir(&outside).expect("a folder").count(), 0);
    }

    #[test]
    fn what_was_opened_stays_bound() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let (volume, places) = (dir.path().join("volume"), dir.path().join("places"));
        fs::create_dir_all(volume.join("a")).expect("made");
        fs::write(volume.join("a/file"), "x").expect("written");
        let bound = |path: &str| open(&volume, path).and_then(|file| bind(&file, &places.join("0")));
        bound("a/file").expect("bound");
        assert_eq!(fs::read_to_string(places.join("0")).expect("a file"), "x");
        // A later container of the same name, with a folder this time.
        bound("a").expect("bound");
        assert!(places.join("0/file").exists());
        assert_eq!(tree::mounts_below(&places).expect("mounts").len(), 1);
        tree::remove(&places).expect("removed");
        assert!(volume.join("a/file").exists());
    }
}
