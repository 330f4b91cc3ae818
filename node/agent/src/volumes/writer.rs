//! Files that change all at once.
//!
//! The files are in a folder of their own, `..<time>`; the link `..data` leads to it, and links of the files' names lead
//! to `..data/<name>`. A change makes a new folder and moves `..data` by one rename, so that a reader sees either all of
//! the old files or all of the new ones. The layout is upstream's: programs watch for `..data` to move.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::ownership;
use super::payload::{File, Payload};

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Makes the files of a volume what `payload` says. `stamp` names the new folder, if one is needed; no other has its
/// name. Answers whether anything changed.
pub(crate) fn write(volume: &Path, payload: &Payload, stamp: &str, group: Option<u32>) -> io::Result<bool> {
    let data = volume.join(DATA);
    let old = fs::read_link(&data).ok();
    let same = old.as_ref().is_some_and(|old| is_same(&volume.join(old), payload, group));
    if !same {
        let folder = format!("..{stamp}");
        write_folder(&volume.join(&folder), payload, group)?;
        let new_data = volume.join(NEW_DATA);
        ignore_missing(fs::remove_file(&new_data))?;
        symlink(&folder, &new_data)?;
        fs::rename(&new_data, &data)?;
    }
    // What an earlier call left unfinished is finished here too.
    let names: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &names {
        let (link, target) = (volume.join(name), Path::new(DATA).join(name));
        if fs::read_link(&link).ok().as_ref() != Some(&target) {
            ignore_missing(fs::remove_file(&link))?;
            symlink(&target, &link)?;
        }
    }
    let current = fs::read_link(&data)?;
    for entry in fs::read_dir(volume)? {
        let entry = entry?;
        let name = entry.file_name();
        let known =
            name == DATA || name == *current.as_os_str() || name.to_str().is_some_and(|name| names.contains(name));
        if known {
            continue;
        }
        let remove = if entry.file_type()?.is_dir() { fs::remove_dir_all } else { fs::remove_file };
        remove(entry.path())?;
    }
    Ok(!same)
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Mode and group of a file after the pod's group got its share.
fn mode_of(file: &File, group: Option<u32>) -> u32 {
    if group.is_some() { file.mode | ownership::READ } else { file.mode }
}

/// Whether a folder holds exactly these files.
fn is_same(folder: &Path, payload: &Payload, group: Option<u32>) -> bool {
    let mut found = 0;
    let mut folders = vec![PathBuf::new()];
    while let Some(inner) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder.join(&inner)) else { return false };
        for entry in entries {
            let Ok(entry) = entry else { return false };
            let path = inner.join(entry.file_name());
            let Ok(metadata) = entry.metadata() else { return false };
            if metadata.is_dir() {
                folders.push(path);
                continue;
            }
            let Some(file) = path.to_str().and_then(|path| payload.get(path)) else { return false };
            let kept = metadata.permissions().mode() & 0o777 == mode_of(file, group)
                && metadata.uid() == file.owner.unwrap_or_else(current_user)
                && group.is_none_or(|group| metadata.gid() == group)
                && fs::read(folder.join(&path)).is_ok_and(|data| data == file.data);
            if !kept {
                return false;
            }
            found += 1;
        }
    }
    found == payload.len()
}

fn current_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn write_folder(folder: &Path, payload: &Payload, group: Option<u32>) -> io::Result<()> {
    make_folder(folder, group)?;
    for (path, file) in payload {
        let parents = Path::new(path).ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
        let mut missing: Vec<&Path> = parents.take_while(|parent| !folder.join(parent).exists()).collect();
        missing.reverse();
        for parent in missing {
            make_folder(&folder.join(parent), group)?;
        }
        let mode = mode_of(file, group);
        let mut open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join(path))?;
        open.write_all(&file.data)?;
        if file.owner.is_some() || group.is_some() {
            std::os::unix::fs::fchown(&open, file.owner, group)?;
        }
        // Apart from the opening, which heeds the umask.
        open.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn make_folder(path: &Path, group: Option<u32>) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o755).create(path)?;
    let mode = if group.is_some() { 0o755 | ownership::READ_FOLDER } else { 0o755 };
    if group.is_some() {
        std::os::unix::fs::chown(path, None, group)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), File { data: text.as_bytes().to_vec(), mode: 0o640, owner: None }))
            .collect()
    }

    fn names(volume: &Path) -> Vec<String> {
        let entries = fs::read_dir(volume).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_change_at_once_and_leave_nothing_behind() {
        let dir = tempfile::tempdir().expect("a folder");
        let volume = dir.path();
        assert!(write(volume, &payload(&[("a", "1"), ("sub/deep/b", "2")]), "t1", None).expect("written"));
        assert_eq!(names(volume), ["..data", "..t1", "a", "sub"]);
        assert_eq!(fs::read_to_string(volume.join("sub/deep/b")).expect("a file"), "2");
        assert_eq!(fs::metadata(volume.join("a")).expect("a file").mode() & 0o7777, 0o640);
        assert!(!write(volume, &payload(&[("a", "1"), ("sub/deep/b", "2")]), "t2", None).expect("nothing to do"));
        assert_eq!(names(volume), ["..data", "..t1", "a", "sub"]);
        assert!(write(volume, &payload(&[("a", "3"), ("c", "4")]), "t3", None).expect("written"));
        assert_eq!(names(volume), ["..data", "..t3", "a", "c"]);
        assert_eq!(fs::read_to_string(volume.join("a")).expect("a file"), "3");
        assert!(write(volume, &Payload::new(), "t4", None).expect("written"));
        assert_eq!(names(volume), ["..data", "..t4"]);
    }

    #[test]
    fn an_unfinished_change_is_finished() {
        let dir = tempfile::tempdir().expect("a folder");
        let volume = dir.path();
        write(volume, &payload(&[("a", "1")]), "t1", None).expect("written");
        fs::remove_file(volume.join("a")).expect("removed");
        fs::create_dir(volume.join("..t0")).expect("made");
        symlink("..t0", volume.join(NEW_DATA)).expect("made");
        assert!(!write(volume, &payload(&[("a", "1")]), "t2", None).expect("written"));
        assert_eq!(names(volume), ["..data", "..t1", "a"]);
    }

    #[test]
    fn the_group_of_the_pod_reads() {
        let dir = tempfile::tempdir().expect("a folder");
        let volume = dir.path();
        let payload: Payload = [("a".to_owned(), File { data: Vec::new(), mode: 0o400, owner: None })].into();
        let group = rustix::process::getegid().as_raw();
        write(volume, &payload, "t1", Some(group)).expect("written");
        assert_eq!(fs::metadata(volume.join("a")).expect("a file").mode() & 0o7777, 0o440);
        assert_eq!(fs::metadata(volume.join("..data/")).expect("a folder").mode() & 0o7777, 0o2755);
        assert!(!write(volume, &payload, "t2", Some(group)).expect("nothing to do"));
    }
}
