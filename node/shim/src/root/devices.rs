//! Devices of a container: nodes of its own, so that nothing it does to them reaches the machine's.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Gid, Mode, Uid, chmodat, chownat, makedev, mknodat};

use super::{Result, said, said_io};

/// A device node, by its path below /dev.
pub(super) struct Device {
    path: PathBuf,
    kind: FileType,
    mode: u32,
    number: u64,
    owner: (u32, u32),
}

/// What every container has.
pub(super) fn usual() -> Vec<Device> {
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
        .map(|(name, major, minor)| Device {
            path: PathBuf::from(name),
            kind: FileType::CharacterDevice,
            mode: 0o666,
            number: makedev(major, minor),
            owner: (0, 0),
        })
        .into()
}

/// All that the machine has: what a privileged container sees.
pub(super) fn of_machine() -> Vec<Device> {
    let mut found = Vec::new();
    collect(Path::new("/dev"), &mut found);
    let missing = usual().into_iter().filter(|own| !found.iter().any(|other| other.path == own.path));
    let missing: Vec<Device> = missing.collect();
    found.extend(missing);
    found
}

fn collect(dir: &Path, found: &mut Vec<Device>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        // A container has terminals, semaphores and queues of its own.
        if ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/console", "/dev/ptmx"].map(Path::new).contains(&path.as_path())
        {
            continue;
        }
        let Ok(meta) = entry.metadata() else { continue };
        let kind = match meta.file_type() {
            kind if kind.is_dir() => {
                collect(&path, found);
                continue;
            }
            kind if kind.is_char_device() => FileType::CharacterDevice,
            kind if kind.is_block_device() => FileType::BlockDevice,
            _ => continue,
        };
        if let Ok(path) = path.strip_prefix("/dev") {
            let owner = (meta.uid(), meta.gid());
            found.push(Device { path: path.to_owned(), kind, mode: meta.mode() & 0o7777, number: meta.rdev(), owner });
        }
    }
}

/// Makes the nodes in the container's /dev, which is new and empty.
pub(super) fn make(devices: &[Device]) -> Result<()> {
    for device in devices {
        let path = Path::new("/dev").join(&device.path);
        let what = || format!("cannot make {}", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(said_io(what()))?;
        }
        let mode = Mode::from_raw_mode(device.mode);
        mknodat(CWD, &path, device.kind, mode, device.number).map_err(said(what()))?;
        // The mask may have taken bits away.
        chmodat(CWD, &path, mode, rustix::fs::AtFlags::empty()).map_err(said(what()))?;
        if device.owner != (0, 0) {
            let (uid, gid) = (Uid::from_raw(device.owner.0), Gid::from_raw(device.owner.1));
            let _ = chownat(CWD, &path, Some(uid), Some(gid), rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
        }
    }
    Ok(())
}
