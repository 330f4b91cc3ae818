//! Mounts below our folders.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::mount::{UnmountFlags, unmount};

/// Unmounts everything strictly below these folders, the newest first.
pub(crate) fn unmount_below(folders: &[PathBuf]) -> anyhow::Result<()> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    let folders: Vec<PathBuf> = folders.iter().filter_map(|folder| folder.canonicalize().ok()).collect();
    for place in below(&table, &folders) {
        unmount(&place, UnmountFlags::DETACH).with_context(|| format!("cannot unmount {}", place.display()))?;
    }
    Ok(())
}

fn below(table: &str, folders: &[PathBuf]) -> Vec<PathBuf> {
    let places = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let ours = |place: &Path| folders.iter().any(|folder| place != folder && place.starts_with(folder));
    let mut found: Vec<PathBuf> = places.filter(|place| ours(place)).collect();
    found.reverse();
    found
}

/// The kernel writes spaces and the like as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_count() {
        let table = "\
21 1 0:20 / / rw - ext4 /dev/x rw
22 21 0:21 / /data rw - ext4 /dev/y rw
23 22 0:22 / /data/pods/a\\040b rw - tmpfs tmpfs rw
24 23 0:23 / /data/pods/a\\040b/c rw - tmpfs tmpfs rw
25 21 0:24 / /data2 rw - tmpfs tmpfs rw
";
        let found = below(table, &[PathBuf::from("/data")]);
        assert_eq!(found, [PathBuf::from("/data/pods/a b/c"), PathBuf::from("/data/pods/a b")]);
    }
}
