//! The durable log: preallocated segments of checksummed frames.
//!
//! ```text
//! log-<first index, 16 hex digits>
//!   frame: magic, length of the payload, crc32c of the payload; payload = one or more entries; padded to 8 bytes
//! ```
//! A frame is one group commit: it is written by one `write` and made durable by one `fdatasync`, and the next frame is
//! written only after that. So after a crash only the last frame may be torn, and nothing in it was acknowledged; a
//! damaged frame that is followed by a whole one is corruption.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes};
use rustix::fs::FallocateFlags;

use crate::command::LogEntry;
use crate::model::OpenError;

const PREFIX: &str = "log-";
const MAGIC: u32 = 0x3143_4f4c;
const HEADER: usize = 12;

/// Size to which a segment is allocated before use, so that a commit changes no metadata.
pub(crate) const SEGMENT_BYTES: u64 = 16 << 20;

/// The log of one store, open for appending.
#[derive(Debug)]
pub(crate) struct Log {
    dir: PathBuf,
    file: File,
    /// Where the next frame goes.
    offset: u64,
    allocated: u64,
    segment_bytes: u64,
    /// A sync failed: what the kernel kept is unknown, so nothing more is written by this process.
    failed: bool,
    frame: Vec<u8>,
}

/// What was found in a folder.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) log: Log,
    /// All entries from `first` on, in order.
    pub(crate) entries: Vec<LogEntry>,
    /// Bytes of log that were read.
    pub(crate) bytes: u64,
}

impl Log {
    /// Reads every segment that holds entries with an index of at least `first`, and opens the last for appending.
    pub(crate) fn open(dir: &Path, first: u64, segment_bytes: u64) -> Result<Recovered, OpenError> {
        let segments = segments(dir)?;
        let from = segments.iter().rposition(|&start| start <= first).unwrap_or(0);
        let (mut entries, mut bytes, mut end) = (Vec::new(), 0, 0);
        let mut expected = first;
        for (position, &start) in segments.iter().enumerate().skip(from) {
            let path = path(dir, start);
            let is_last = position + 1 == segments.len();
            end = read_segment(&path, is_last, |entry| {
                if entry.index < expected {
                    return Ok(());
                }
                if entry.index > expected {
                    return Err(format!("entry {} follows entry {}", entry.index, expected - 1));
                }
                expected += 1;
                entries.push(entry);
                Ok(())
            })?;
            bytes += end;
        }
        let log = match segments.last() {
            Some(&start) => {
                let path = path(dir, start);
                let file =
                    OpenOptions::new().read(true).write(true).open(&path).map_err(OpenError::io("open", &path))?;
                let allocated = file.metadata().map_err(OpenError::io("read", &path))?.len();
                let frame = Vec::new();
                Self { dir: dir.to_owned(), file, offset: end, allocated, segment_bytes, failed: false, frame }
            }
            None => {
                let path = path(dir, first);
                let file = create(&path, segment_bytes).map_err(OpenError::io("create", &path))?;
                let frame = Vec::new();
                Self {
                    dir: dir.to_owned(),
                    file,
                    offset: 0,
                    allocated: segment_bytes,
                    segment_bytes,
                    failed: false,
                    frame,
                }
            }
        };
        Ok(Recovered { log, entries, bytes })
    }

    /// Appends entries as one frame and makes them durable; returns the bytes written. On an error nothing of them is in the log.
    pub(crate) fn append(&mut self, entries: &[LogEntry]) -> io::Result<u64> {
        if self.failed {
            return Err(io::Error::other("an earlier sync of the log failed: restart corten once the disk is sound"));
        }
        let Some(first) = entries.first() else { return Ok(0) };
        self.frame.clear();
        self.frame.resize(HEADER, 0);
        entries.iter().for_each(|entry| entry.encode(&mut self.frame));
        let payload = &self.frame[HEADER..];
        let length = u32::try_from(payload.len()).map_err(|_| io::Error::other("a commit of more than 4 GiB"))?;
        let mut header = Vec::with_capacity(HEADER);
        header.put_u32_le(MAGIC);
        header.put_u32_le(length);
        header.put_u32_le(crc32c::crc32c(payload));
        self.frame[..HEADER].copy_from_slice(&header);
        self.frame.resize(self.frame.len().next_multiple_of(8), 0);
        let size = self.frame.len() as u64;
        if self.offset > 0 && self.offset + size > self.allocated {
            self.rotate(first.index)?;
        }
        if let Err(error) = self.file.write_all_at(&self.frame, self.offset) {
            // What was written of it must not look like a frame to the next start.
            let zeros = [0; HEADER];
            if self.file.write_all_at(&zeros, self.offset).is_err() {
                self.failed = true;
            }
            return Err(error);
        }
        if let Err(error) = self.file.sync_data() {
            self.failed = true;
            return Err(error);
        }
        self.offset += size;
        Ok(size)
    }

    /// Goes on in a new segment, whose first entry will have this index.
    fn rotate(&mut self, first: u64) -> io::Result<()> {
        let path = path(&self.dir, first);
        let file = create(&path, self.segment_bytes).inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })?;
        (self.file, self.offset, self.allocated) = (file, 0, self.segment_bytes);
        Ok(())
    }
}

/// Removes segments of a folder that hold only entries before `first`.
pub(crate) fn remove_before(dir: &Path, first: u64) -> io::Result<()> {
    let starts = segments(dir).map_err(io::Error::other)?;
    for pair in starts.windows(2) {
        if pair[1] <= first {
            fs::remove_file(path(dir, pair[0]))?;
        }
    }
    Ok(())
}

fn create(path: &Path, bytes: u64) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        // Some file systems cannot; commits are slower there.
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(bytes)?,
        result => result?,
    }
    file.sync_all()?;
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    Ok(file)
}

/// First indexes of the segments in a folder, in order.
fn segments(dir: &Path) -> Result<Vec<u64>, OpenError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(OpenError::io("list", dir))? {
        let name = entry.map_err(OpenError::io("list", dir))?.file_name();
        found.extend(name.to_str().and_then(|name| u64::from_str_radix(name.strip_prefix(PREFIX)?, 16).ok()));
    }
    found.sort_unstable();
    Ok(found)
}

fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{first:016x}"))
}

/// Reads one segment; returns where it ends. A torn end of the last segment is cleared.
fn read_segment(
    path: &Path,
    is_last: bool,
    mut each: impl FnMut(LogEntry) -> Result<(), String>,
) -> Result<u64, OpenError> {
    let bytes = Bytes::from(fs::read(path).map_err(OpenError::io("read", path))?);
    let corrupt =
        |offset: usize, what: String| OpenError::Corrupt { path: path.to_owned(), offset: offset as u64, what };
    let mut offset = 0;
    while let Some((mut payload, size)) = frame_at(&bytes, offset) {
        while !payload.is_empty() {
            let entry = LogEntry::decode(&mut payload)
                .ok_or_else(|| corrupt(offset, "a frame holds something that is no entry".to_owned()))?;
            each(entry).map_err(|what| corrupt(offset, what))?;
        }
        offset += size;
    }
    let rest = &bytes[offset.min(bytes.len())..];
    let Some(dirty) = rest.iter().rposition(|&byte| byte != 0) else { return Ok(offset as u64) };
    let whole_frame_follows = (offset + 8..offset + dirty).step_by(8).any(|later| frame_at(&bytes, later).is_some());
    if !is_last || whole_frame_follows {
        return Err(corrupt(offset, "the checksum does not match, and acknowledged writes follow".to_owned()));
    }
    tracing::warn!(path = %path.display(), offset, bytes = dirty + 1, "the log ends in a torn write, which is dropped");
    clear(path, offset, dirty + 1).map_err(OpenError::io("repair", path))?;
    Ok(offset as u64)
}

fn clear(path: &Path, offset: usize, count: usize) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(&vec![0; count], offset as u64)?;
    file.sync_all()
}

/// The payload of the whole and sound frame at `offset`, and the frame's size.
fn frame_at(bytes: &Bytes, offset: usize) -> Option<(Bytes, usize)> {
    let mut header = bytes.get(offset..offset + HEADER)?;
    if header.get_u32_le() != MAGIC {
        return None;
    }
    let length = usize::try_from(header.get_u32_le()).ok()?;
    let checksum = header.get_u32_le();
    let payload = bytes.get(offset + HEADER..(offset + HEADER).checked_add(length)?)?;
    if length == 0 || crc32c::crc32c(payload) != checksum {
        return None;
    }
    let start = offset + HEADER;
    Some((bytes.slice(start..start + length), (HEADER + length).next_multiple_of(8)))
}
