//! Which bits a pod's `fsGroup` adds, as upstream has them.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, chmod, chownat, fstat, openat};

/// Files that are only read.
pub(super) const READ: u32 = 0o440;
/// Folders of files that are only read; new files in a folder get its group.
pub(super) const READ_FOLDER: u32 = 0o2550;
/// Files that are written to.
const WRITE: u32 = 0o660;
/// Folders that are written to.
const WRITE_FOLDER: u32 = 0o2770;

/// Each level costs open files and stack, and whoever writes to the volume decides how many there are.
const MOST_DEPTH: u32 = 256;

/// Gives a folder that was just made to the group.
pub(super) fn give(folder: &Path, mode: u32, read_only: bool, group: Option<u32>) -> io::Result<()> {
    let Some(group) = group else {
        return std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode));
    };
    std::os::unix::fs::chown(folder, None, Some(group))?;
    let bits = if read_only { READ_FOLDER } else { WRITE_FOLDER };
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode | bits))
}

/// Gives a folder that may hold anything to the group, with all that is in it; nothing if the folder has it already and
/// `on_mismatch` says that this is enough. Others may write to the folder meanwhile: no link is followed, and what is
/// changed is what was looked at.
pub(super) fn give_all(folder: &Path, group: u32, on_mismatch: bool) -> io::Result<()> {
    let root = openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let own = fstat(&root)?;
    if on_mismatch && own.st_gid == group && own.st_mode & WRITE_FOLDER == WRITE_FOLDER {
        return Ok(());
    }
    give_below(&root, group, 0)?;
    // Last, so that a walk that was broken off is taken up again.
    give_one(&root, group)
}

fn give_below(folder: &OwnedFd, group: u32, depth: u32) -> io::Result<()> {
    if depth > MOST_DEPTH {
        return Err(io::Error::other(format!("its folders are nested more than {MOST_DEPTH} deep")));
    }
    let readable = openat(folder, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for entry in Dir::read_from(&readable)? {
        let entry = entry?;
        if matches!(entry.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(folder, entry.file_name(), flags, Mode::empty()) {
            // It was removed meanwhile.
            Err(rustix::io::Errno::NOENT) => continue,
            file => file?,
        };
        match FileType::from_raw_mode(fstat(&file)?.st_mode) {
            FileType::Symlink => {}
            FileType::Directory => {
                give_below(&file, group, depth + 1)?;
                give_one(&file, group)?;
            }
            _ => give_one(&file, group)?,
        }
    }
    Ok(())
}

fn give_one(file: &OwnedFd, group: u32) -> io::Result<()> {
    let own = fstat(file)?;
    let bits = if FileType::from_raw_mode(own.st_mode).is_dir() { WRITE_FOLDER } else { WRITE };
    let mode = own.st_mode & 0o7777;
    if own.st_gid != group {
        chownat(file, c"", None, Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH)?;
    }
    if mode & bits != bits || own.st_gid != group {
        // A descriptor that is only a path is changed through its name in /proc.
        chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), Mode::from_raw_mode(mode | bits))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn all_in_a_volume_is_given_and_nothing_behind_a_link() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let (volume, outside) = (dir.path().join("volume"), dir.path().join("outside"));
        fs::create_dir_all(volume.join("deep/er")).expect("made");
        fs::write(volume.join("deep/file"), "x").expect("written");
        fs::write(&outside, "x").expect("written");
        fs::set_permissions(volume.join("deep/file"), fs::Permissions::from_mode(0o600)).expect("set");
        symlink(&outside, volume.join("deep/link")).expect("linked");
        let shown = |path: &Path| {
            let metadata = fs::metadata(path).expect("metadata");
            (metadata.gid(), metadata.mode() & 0o7777)
        };
        let before = shown(&outside);
        give_all(&volume, 4242, true).expect("given");
        assert_eq!(shown(&volume).0, 4242);
        assert_eq!(shown(&volume.join("deep/er")), (4242, 0o2775));
        assert_eq!(shown(&volume.join("deep/file")), (4242, 0o660));
        assert_eq!(shown(&outside), before);
        // What is new is given only by the policy that always looks.
        fs::write(volume.join("new"), "x").expect("written");
        std::os::unix::fs::chown(volume.join("new"), None, Some(0)).expect("changed");
        give_all(&volume, 4242, true).expect("given");
        assert_eq!(shown(&volume.join("new")).0, 0);
        give_all(&volume, 4242, false).expect("given");
        assert_eq!(shown(&volume.join("new")).0, 4242);
    }
}
