//! Unpacks a layer's tar into a folder that overlayfs can use as a lower directory.
//!
//! Parents are opened with `openat2(RESOLVE_IN_ROOT)`, leaves are made by `*at` calls that follow no link: no
//! entry, whatever its name or the links before it, reaches outside the folder. Whiteouts (OCI image spec, layer.md)
//! become overlayfs' character devices 0/0 and opaque marks.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    fchmod, fchown, fsetxattr, futimens, linkat, makedev, mkdirat, mknodat, open, openat, openat2, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use tar::{Entry, EntryType};

use crate::blobs::Hashing;
use crate::{Error, Result};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Names that begin so are old aufs bookkeeping, or the mark of an opaque folder.
const BOOKKEEPING: &[u8] = b".wh..wh.";
const XATTR_PREFIX: &str = "SCHILY.xattr.";
/// overlayfs' own marks, which no image may set: they redirect into other layers.
const OVERLAY_XATTRS: [&str; 2] = ["trusted.overlay.", "user.overlay."];

/// A reader of the plain content, whatever the compression.
pub(crate) fn decompress(mut file: File) -> io::Result<Box<dyn Read>> {
    let magic = magic(&mut file)?;
    let file = BufReader::with_capacity(1 << 17, file);
    if magic.starts_with(&GZIP) {
        Ok(Box::new(MultiGzDecoder::new(file)))
    } else if magic == ZSTD {
        Ok(Box::new(zstd::stream::read::Decoder::with_buffer(file)?))
    } else {
        Ok(Box::new(file))
    }
}

/// OCI media type of a layer blob, told by its first bytes.
pub(crate) fn media_type(mut file: File) -> io::Result<&'static str> {
    let magic = magic(&mut file)?;
    Ok(if magic.starts_with(&GZIP) {
        "application/vnd.oci.image.layer.v1.tar+gzip"
    } else if magic == ZSTD {
        "application/vnd.oci.image.layer.v1.tar+zstd"
    } else {
        "application/vnd.oci.image.layer.v1.tar"
    })
}

fn magic(file: &mut File) -> io::Result<[u8; 4]> {
    let mut magic = [0; 4];
    let mut have = 0;
    while have < magic.len() {
        match file.read(&mut magic[have..])? {
            0 => break,
            count => have += count,
        }
    }
    file.rewind()?;
    Ok(magic)
}

/// Unpacks a layer into `folder`; returns the digest of its uncompressed tar (the diffID).
pub(crate) fn layer(blob: File, folder: &Path) -> Result<String> {
    let content = decompress(blob).map_err(Error::io("read a layer for", folder))?;
    let mut archive = tar::Archive::new(Hashing { sink: content, hash: Sha256::new() });
    let mut unpacker = Unpacker::open(folder)?;
    for entry in archive.entries().map_err(|error| Error::invalid("layer", error))? {
        let mut entry = entry.map_err(|error| Error::invalid("layer", error))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        unpacker.entry(&mut entry).map_err(|error| match error.kind() {
            // Not the layer's fault.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::io("unpack a layer into", folder)(error)
            }
            _ => Error::invalid(format!("layer entry {name:?}"), error),
        })?;
    }
    unpacker.finish().map_err(Error::io("set times in", folder))?;
    let mut content = archive.into_inner();
    // Padding after the last entry belongs to the digest.
    io::copy(&mut content, &mut io::sink()).map_err(Error::io("read a layer for", folder))?;
    Ok(format!("sha256:{}", hex::encode(content.hash.finalize())))
}

struct Unpacker {
    root: OwnedFd,
    /// The folder that the last entry was in: tars list a folder's files together.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Times of folders, set last because every new entry changes them.
    times: Vec<(PathBuf, i64)>,
}

impl Unpacker {
    fn open(folder: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(folder, flags, Mode::empty()).map_err(io::Error::from).map_err(Error::io("open", folder))?;
        rustix::fs::chmod(folder, Mode::from_raw_mode(0o755))
            .map_err(io::Error::from)
            .map_err(Error::io("chmod", folder))?;
        Ok(Self { root, parent: None, times: Vec::new() })
    }

    fn entry(&mut self, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
        let path = relative(&entry.path()?);
        let Some(name) = path.file_name().map(OsStr::to_owned) else { return Ok(()) };
        let parent_path = path.parent().unwrap_or(Path::new("")).to_owned();
        self.enter(&parent_path)?;
        let Some((_, parent)) = &self.parent else { return Ok(()) };
        let parent = parent.as_fd();
        if name.as_bytes() == OPAQUE {
            return hide_below(parent, OsStr::new("."));
        }
        if name.as_bytes().starts_with(BOOKKEEPING) {
            return Ok(());
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            let hidden = OsStr::from_bytes(hidden);
            // It hides what other layers have under the name, not what this one has.
            return match mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
                Err(Errno::EXIST) if is_folder(parent, hidden) => hide_below(parent, hidden),
                Err(Errno::EXIST) => Ok(()),
                other => Ok(other?),
            };
        }
        let header = entry.header();
        let (kind, mode) = (header.entry_type(), Mode::from_raw_mode(header.mode().unwrap_or(0o644) & 0o7777));
        let owner = (Some(Uid::from_raw(id(header.uid()))), Some(Gid::from_raw(id(header.gid()))));
        let seconds = i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0);
        let number = |field: io::Result<Option<u32>>| field.ok().flatten().unwrap_or(0);
        let device = makedev(number(header.device_major()), number(header.device_minor()));
        match kind {
            EntryType::Directory => {
                match mkdirat(parent, &name, mode) {
                    Err(Errno::EXIST) if is_folder(parent, &name) => {}
                    Err(Errno::EXIST) => {
                        let was_hidden = is_whiteout(parent, &name);
                        clear(parent, &name)?;
                        mkdirat(parent, &name, mode)?;
                        if was_hidden {
                            hide_below(parent, &name)?;
                        }
                    }
                    other => other?,
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let folder = openat(parent, &name, flags, Mode::empty())?;
                own(&folder, owner)?;
                set_xattrs(entry, &folder)?;
                fchmod(&folder, mode)?;
                self.times.push((path, seconds));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                clear(parent, &name)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(openat(parent, &name, flags, Mode::from_raw_mode(0o600))?);
                io::copy(entry, &mut file)?;
                own(&file, owner)?;
                set_xattrs(entry, &file)?;
                fchmod(&file, mode)?;
                futimens(&file, &times(seconds))?;
            }
            EntryType::Symlink => {
                let target = link_target(entry)?;
                clear(parent, &name)?;
                symlinkat(target.as_path(), parent, &name)?;
                chownat(parent, &name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
                utimensat(parent, &name, &times(seconds), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            EntryType::Link => {
                let target = relative(&link_target(entry)?);
                let folder = self.resolve(target.parent().unwrap_or(Path::new("")))?;
                let Some(target) = target.file_name() else { return Err(io::Error::from(Errno::INVAL)) };
                clear(parent, &name)?;
                linkat(&folder, target, parent, &name, AtFlags::empty())?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let file_type = match kind {
                    EntryType::Char => FileType::CharacterDevice,
                    EntryType::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                clear(parent, &name)?;
                mknodat(parent, &name, file_type, mode, device)?;
                chownat(parent, &name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
                chmodat(parent, &name, mode, AtFlags::empty())?;
            }
            // Global headers and vendor entries carry no file.
            _ => {}
        }
        Ok(())
    }

    /// Makes `self.parent` the folder at `path`, creating what is missing.
    fn enter(&mut self, path: &Path) -> io::Result<()> {
        if self.parent.as_ref().is_some_and(|(current, _)| current == path) {
            return Ok(());
        }
        let folder = match self.resolve(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut made = PathBuf::new();
                for part in path.components() {
                    let above = self.resolve(&made)?;
                    made.push(part);
                    match mkdirat(&above, part.as_os_str(), Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                self.resolve(path)?
            }
            other => other?,
        };
        self.parent = Some((path.to_owned(), folder));
        Ok(())
    }

    /// Opens a folder below the root; links in the path stay within the root.
    fn resolve(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(openat2(&self.root, path, flags, Mode::empty(), resolve)?)
    }

    fn finish(self) -> io::Result<()> {
        for (path, seconds) in self.times.iter().rev() {
            let folder = self.resolve(path.parent().unwrap_or(Path::new("")))?;
            if let Some(name) = path.file_name() {
                match utimensat(&folder, name, &times(*seconds), AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

/// The path's normal parts only.
fn relative(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part),
            Component::ParentDir => {
                parts.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    parts
}

fn link_target(entry: &Entry<'_, impl Read>) -> io::Result<PathBuf> {
    let target = entry.link_name()?.ok_or_else(|| io::Error::other("the link has no target"))?;
    Ok(target.into_owned())
}

/// Ids that do not parse (some tars leave the field empty) are root's.
fn id(field: io::Result<u64>) -> u32 {
    field.ok().and_then(|id| u32::try_from(id).ok()).unwrap_or(0)
}

fn own(file: impl AsFd, (uid, gid): (Option<Uid>, Option<Gid>)) -> io::Result<()> {
    Ok(fchown(file, uid, gid)?)
}

fn set_xattrs(entry: &mut Entry<'_, impl Read>, file: impl AsFd) -> io::Result<()> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(()) };
    for extension in extensions {
        let extension = extension?;
        if let Ok(key) = extension.key()
            && let Some(name) = key.strip_prefix(XATTR_PREFIX)
            && !OVERLAY_XATTRS.iter().any(|own| name.starts_with(own))
        {
            match fsetxattr(&file, name, extension.value_bytes(), XattrFlags::empty()) {
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Hides what other layers have in a folder.
fn hide_below(parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(parent, name, flags, Mode::empty())?;
    Ok(fsetxattr(&folder, "trusted.overlay.opaque", b"y", XattrFlags::empty())?)
}

fn is_whiteout(parent: impl AsFd, name: &OsStr) -> bool {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0)
}

fn is_folder(parent: impl AsFd, name: &OsStr) -> bool {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Removes what an earlier entry of the same name left; a later entry replaces it.
fn clear(parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY) => {
                Err(io::Error::other("a folder with files in it cannot be replaced by another kind of entry"))
            }
            other => Ok(other?),
        },
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    use super::*;

    /// A tar of (path, content or link target, kind).
    fn tar_of(entries: &[(&str, &str, EntryType)]) -> File {
        let mut builder = tar::Builder::new(tempfile::tempfile().expect("a temporary file"));
        for (path, content, kind) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(*kind);
            header.set_mode(if *kind == EntryType::Directory { 0o755 } else { 0o644 });
            header.set_mtime(1_000_000);
            let bytes = if kind.is_file() { content.as_bytes() } else { &[] };
            header.set_size(bytes.len() as u64);
            // Written by hand: the builder's own methods refuse the hostile names this tests.
            let raw = header.as_mut_bytes();
            raw[..path.len()].copy_from_slice(path.as_bytes());
            if !kind.is_file() {
                raw[157..157 + content.len()].copy_from_slice(content.as_bytes());
            }
            header.set_uid(0);
            header.set_gid(0);
            header.set_cksum();
            builder.append(&header, bytes).expect("an entry");
        }
        let mut file = builder.into_inner().expect("a tar");
        file.rewind().expect("seekable");
        file
    }

    fn root() -> bool {
        let root = rustix::process::geteuid().is_root();
        if !root {
            eprintln!("skipped: needs root");
        }
        root
    }

    #[test]
    fn files_folders_and_links_come_out_as_they_went_in() {
        if !root() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let blob = tar_of(&[
            ("etc/", "", EntryType::Directory),
            ("etc/motd", "hello", EntryType::Regular),
            ("etc/link", "motd", EntryType::Symlink),
            ("etc/hard", "etc/motd", EntryType::Link),
            ("deep/er/file", "x", EntryType::Regular),
        ]);
        layer(blob, folder.path()).expect("unpacked");
        let at = |name: &str| folder.path().join(name);
        assert_eq!(fs::read_to_string(at("etc/link")).expect("readable"), "hello");
        assert_eq!(fs::metadata(at("etc/hard")).expect("there").nlink(), 2);
        assert_eq!(fs::metadata(at("etc")).expect("there").mtime(), 1_000_000);
        assert_eq!(fs::read_to_string(at("deep/er/file")).expect("readable"), "x");
    }

    #[test]
    fn whiteouts_take_overlayfs_form() {
        if !root() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let blob = tar_of(&[("a/.wh.gone", "", EntryType::Regular), ("b/.wh..wh..opq", "", EntryType::Regular)]);
        layer(blob, folder.path()).expect("unpacked");
        let gone = fs::symlink_metadata(folder.path().join("a/gone")).expect("there");
        assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
        let mut mark = [0; 1];
        rustix::fs::getxattr(folder.path().join("b"), "trusted.overlay.opaque", &mut mark[..]).expect("marked");
        assert_eq!(&mark, b"y");
    }

    #[test]
    fn whiteouts_hide_other_layers_alone() {
        if !root() {
            return;
        }
        let opaque = |path: PathBuf| {
            let mut mark = [0; 1];
            rustix::fs::getxattr(path, "trusted.overlay.opaque", &mut mark[..]).is_ok_and(|_| &mark == b"y")
        };
        let folder = tempfile::tempdir().expect("a folder");
        let blob = tar_of(&[
            (".wh.before", "", EntryType::Regular),
            ("before/", "", EntryType::Directory),
            ("before/file", "x", EntryType::Regular),
            ("after/", "", EntryType::Directory),
            ("after/file", "x", EntryType::Regular),
            (".wh.after", "", EntryType::Regular),
            ("file", "x", EntryType::Regular),
            (".wh.file", "", EntryType::Regular),
            (".wh..wh.plnk", "", EntryType::Regular),
        ]);
        layer(blob, folder.path()).expect("unpacked");
        let at = |name: &str| folder.path().join(name);
        assert!(opaque(at("before")) && opaque(at("after")), "what lower layers have there is hidden");
        assert!(!opaque(folder.path().to_owned()));
        for name in ["before/file", "after/file", "file"] {
            assert_eq!(fs::read_to_string(at(name)).expect(name), "x");
        }
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 3);
    }

    #[test]
    fn attributes_are_kept_but_not_those_of_overlayfs() {
        if !root() {
            return;
        }
        let mut builder = tar::Builder::new(tempfile::tempfile().expect("a temporary file"));
        let attributes: [(&str, &[u8]); 3] = [
            ("SCHILY.xattr.user.color", b"red"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/elsewhere"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ];
        builder.append_pax_extensions(attributes).expect("extensions");
        let mut header = tar::Header::new_ustar();
        header.set_size(1);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        builder.append_data(&mut header, "file", &b"x"[..]).expect("an entry");
        let mut blob = builder.into_inner().expect("a tar");
        blob.rewind().expect("seekable");
        let folder = tempfile::tempdir().expect("a folder");
        layer(blob, folder.path()).expect("unpacked");
        let has = |name: &str| {
            let mut value = [0; 16];
            rustix::fs::getxattr(folder.path().join("file"), name, &mut value[..]).is_ok()
        };
        assert!(!has("trusted.overlay.redirect") && !has("trusted.overlay.opaque"));
        // Not every file system has them.
        eprintln!("user attributes kept: {}", has("user.color"));
    }

    #[test]
    fn no_entry_reaches_outside() {
        if !root() {
            return;
        }
        let outer = tempfile::tempdir().expect("a folder");
        let folder = outer.path().join("layer");
        let attacks: &[&[(&str, &str, EntryType)]] = &[
            &[("../escaped", "x", EntryType::Regular)],
            &[("/../escaped", "x", EntryType::Regular)],
            &[("out", "..", EntryType::Symlink), ("out/escaped", "x", EntryType::Regular)],
            &[("out", "/", EntryType::Symlink), ("out/escaped", "x", EntryType::Regular)],
            &[("a", "../escaped", EntryType::Symlink), ("a", "x", EntryType::Regular)],
            &[("a", "../../etc/passwd", EntryType::Link)],
            &[("out", "/proc/self/cwd", EntryType::Symlink), ("out/escaped", "x", EntryType::Regular)],
        ];
        for attack in attacks {
            fs::create_dir(&folder).expect("a folder");
            let _ = layer(tar_of(attack), &folder);
            assert!(!outer.path().join("escaped").exists(), "{attack:?}");
            assert!(!Path::new("/escaped").exists(), "{attack:?}");
            fs::remove_dir_all(&folder).expect("removed");
        }
    }
}
