//! Content-addressed blobs.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// A folder of blobs named by their SHA-256.
#[derive(Clone, Debug)]
pub(crate) struct Blobs {
    root: PathBuf,
}

/// A blob that was just written.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// `sha256:<hex>`.
    pub(crate) digest: String,
    /// Bytes.
    pub(crate) size: u64,
    /// Whether the blob was not there before.
    pub(crate) new: bool,
}

/// A name under `tmp/` that no other writer uses.
pub(crate) fn temporary(root: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    root.join("tmp").join(format!("{}-{}", process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)))
}

/// Removes what processes were writing that are gone.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.split('-').next().and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let path = entry.path();
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "cannot remove what a process left half written");
            }
        }
    }
}

impl Blobs {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        for folder in ["blobs/sha256", "tmp"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(Error::io("create", path))?;
        }
        sweep(&root.join("tmp"));
        Ok(Self { root: root.to_owned() })
    }

    /// Where a blob is or would be.
    pub(crate) fn path(&self, digest: &str) -> Result<PathBuf> {
        let hex = digest
            .strip_prefix("sha256:")
            .filter(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .ok_or_else(|| {
                Error::invalid(format!("digest {digest:?}"), "only sha256 with 64 hex digits is supported")
            })?;
        Ok(self.root.join("blobs/sha256").join(hex.to_ascii_lowercase()))
    }

    pub(crate) fn contains(&self, digest: &str) -> bool {
        self.path(digest).is_ok_and(|path| path.exists())
    }

    pub(crate) fn read(&self, digest: &str) -> Result<Vec<u8>> {
        let path = self.path(digest)?;
        fs::read(&path).map_err(Error::io("read", path))
    }

    pub(crate) fn open_blob(&self, digest: &str) -> Result<File> {
        let path = self.path(digest)?;
        File::open(&path).map_err(Error::io("open", path))
    }

    pub(crate) fn remove(&self, digest: &str) {
        if let Ok(path) = self.path(digest) {
            let _ = fs::remove_file(path);
        }
    }

    /// Stores all of `content` under its digest.
    pub(crate) fn write(&self, content: &mut dyn Read) -> Result<Written> {
        let path = temporary(&self.root);
        let result = self.write_through(content, &path);
        if result.is_err() {
            let _ = fs::remove_file(&path);
        }
        result
    }

    fn write_through(&self, content: &mut dyn Read, path: &Path) -> Result<Written> {
        let file = File::create(path).map_err(Error::io("create", path))?;
        let mut sink = Hashing { sink: file, hash: Sha256::new() };
        let size = io::copy(content, &mut sink).map_err(Error::io("write", path))?;
        let digest = format!("sha256:{}", hex::encode(sink.hash.finalize()));
        let new = self.adopt(path, &digest)?;
        Ok(Written { digest, size, new })
    }

    /// Moves a complete temporary file to its place; false if the blob was there.
    pub(crate) fn adopt(&self, path: &Path, digest: &str) -> Result<bool> {
        let target = self.path(digest)?;
        let new = !target.exists();
        fs::rename(path, &target).map_err(Error::io("rename to", target))?;
        Ok(new)
    }
}

/// Hashes what passes through.
pub(crate) struct Hashing<T> {
    pub(crate) sink: T,
    pub(crate) hash: Sha256,
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.sink.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.sink.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dead_processes_left_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let tmp = folder.path().join("tmp");
        let alive = format!("{}-0", process::id());
        // No process has such a number.
        fs::create_dir_all(tmp.join("4294967295-0/layer")).expect("made");
        fs::write(tmp.join("4294967295-1"), "x").expect("written");
        fs::write(tmp.join(&alive), "x").expect("written");
        Blobs::open(folder.path()).expect("opened");
        let left: Vec<_> = fs::read_dir(&tmp).expect("read").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, [alive.as_str()]);
    }
}
