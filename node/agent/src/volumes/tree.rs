//! Mounts below a folder, and the folder's removal without harm to what is mounted there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

/// Everything that is mounted below a folder, or on it; the newest first.
pub(crate) fn mounts_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    // As the kernel names it, whatever links lead there.
    let folder = match fs::canonicalize(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        folder => folder?,
    };
    let text = fs::read("/proc/self/mountinfo")?;
    let mut mounts = parse(&String::from_utf8_lossy(&text), &folder);
    mounts.reverse();
    Ok(mounts)
}

fn parse(mountinfo: &str, folder: &Path) -> Vec<PathBuf> {
    let place = |line: &str| line.split(' ').nth(4).map(|place| PathBuf::from(unescape(place)));
    mountinfo.lines().filter_map(place).filter(|place| place.starts_with(folder)).collect()
}

/// mountinfo writes blanks and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code =
            (*first == b'\\').then(|| tail.get(..3)).flatten().and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether something is mounted on a path.
pub(crate) fn is_mount(path: &Path) -> bool {
    mounts_below(path).is_ok_and(|mounts| fs::canonicalize(path).is_ok_and(|path| mounts.contains(&path)))
}

/// Takes away everything that is mounted below a folder, then the folder. If a mount stays, so does the folder: nothing
/// is ever deleted through a mount.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    for place in mounts_below(folder)? {
        // Who still has it open keeps it until the end; nobody else finds it.
        unmount(&place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    }
    if let Some(place) = mounts_below(folder)?.first() {
        return Err(io::Error::other(format!("{} is still mounted", place.display())));
    }
    // A write that was under way when its task was stopped may add a file meanwhile.
    let mut tries = 3;
    loop {
        // This never follows a link.
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && tries > 0 => tries -= 1,
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::mount::{MountFlags, mount, mount_bind};

    #[test]
    fn mounts_are_found_by_their_escaped_names() {
        let text = "1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / /data/pods/u\\0401/v rw - tmpfs t rw\n\
            3 1 0:2 / /data/pods/u\\0401 rw - tmpfs t rw\n4 1 0:2 / /data/pods/u rw - tmpfs t rw\n";
        let found = parse(text, Path::new("/data/pods/u 1"));
        assert_eq!(found, [PathBuf::from("/data/pods/u 1/v"), PathBuf::from("/data/pods/u 1")]);
    }

    #[test]
    fn nothing_is_deleted_through_a_mount_or_a_link() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let (outside, inside) = (dir.path().join("outside"), dir.path().join("inside"));
        for path in [&outside, &inside.join("bind"), &inside.join("memory")] {
            fs::create_dir_all(path).expect("made");
        }
        fs::write(outside.join("precious"), "x").expect("written");
        mount_bind(&outside, inside.join("bind")).expect("mounted");
        mount("tmpfs", inside.join("memory"), "tmpfs", MountFlags::empty(), c"size=1m").expect("mounted");
        std::os::unix::fs::symlink(&outside, inside.join("link")).expect("made");
        assert!(is_mount(&inside.join("memory")) && !is_mount(&inside));
        remove(&inside).expect("removed");
        assert!(!inside.exists());
        assert!(outside.join("precious").exists());
        remove(&inside).expect("nothing to do");
    }
}
