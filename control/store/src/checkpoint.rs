//! The whole state in one file, so that the log before it may go.
//!
//! ```text
//! checkpoint-<index, 16 hex digits>
//!   magic "CORTCKP1", applied index, revision, compacted, leases, entries, then crc32c of all before it
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes};
use imbl::OrdSet;

use crate::command::{get_bytes, put_bytes, put_count};
use crate::machine::{Lease, Machine};
use crate::model::{Entry, OpenError};

const MAGIC: &[u8; 8] = b"CORTCKP1";
const PREFIX: &str = "checkpoint-";

/// Bytes that are gathered before they are written.
const CHUNK: usize = 256 << 10;

/// Writes a checkpoint durably: it is there whole or not at all. Returns its size in bytes.
pub(crate) fn write(dir: &Path, machine: &Machine) -> io::Result<u64> {
    let temporary = dir.join("checkpoint.tmp");
    let mut out = Out { file: File::create(&temporary)?, bytes: Vec::with_capacity(2 * CHUNK), checksum: 0, size: 0 };
    out.bytes.extend_from_slice(MAGIC);
    out.bytes.put_u64_le(machine.applied);
    out.bytes.put_u64_le(machine.revision);
    out.bytes.put_u64_le(machine.compacted);
    put_count(&mut out.bytes, machine.leases.len());
    for (id, lease) in &machine.leases {
        out.bytes.put_i64_le(*id);
        out.bytes.put_u64_le(lease.ttl_millis);
    }
    put_count(&mut out.bytes, machine.keys.len());
    for (key, entry) in &machine.keys {
        put_bytes(&mut out.bytes, key);
        put_bytes(&mut out.bytes, &entry.value);
        out.bytes.put_u64_le(entry.create_revision);
        out.bytes.put_u64_le(entry.mod_revision);
        out.bytes.put_u64_le(entry.version);
        out.bytes.put_i64_le(entry.lease);
        out.bytes.put_u32_le(entry.stamp.unwrap_or(u32::MAX));
        if out.bytes.len() >= CHUNK {
            out.flush()?;
        }
    }
    out.flush()?;
    let checksum = out.checksum;
    out.bytes.put_u32_le(checksum);
    out.flush()?;
    out.file.sync_all()?;
    fs::rename(&temporary, path(dir, machine.applied))?;
    File::open(dir)?.sync_all()?;
    Ok(out.size)
}

/// A checkpoint that is being written: never in memory as a whole.
struct Out {
    file: File,
    bytes: Vec<u8>,
    checksum: u32,
    size: u64,
}

impl Out {
    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.bytes)?;
        self.checksum = crc32c::crc32c_append(self.checksum, &self.bytes);
        self.size += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

/// Indexes of the checkpoints in a folder, oldest first.
pub(crate) fn list(dir: &Path) -> Result<Vec<u64>, OpenError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(OpenError::io("list", dir))? {
        let name = entry.map_err(OpenError::io("list", dir))?.file_name();
        let index = name.to_str().and_then(|name| u64::from_str_radix(name.strip_prefix(PREFIX)?, 16).ok());
        found.extend(index);
    }
    found.sort_unstable();
    Ok(found)
}

pub(crate) fn remove(dir: &Path, index: u64) -> io::Result<()> {
    fs::remove_file(path(dir, index))
}

/// Reads a checkpoint and checks it.
pub(crate) fn read(dir: &Path, index: u64) -> Result<Machine, OpenError> {
    let path = path(dir, index);
    let bytes = Bytes::from(fs::read(&path).map_err(OpenError::io("read", &path))?);
    let corrupt = |what: &str| OpenError::Corrupt { path: path.clone(), offset: 0, what: what.to_owned() };
    let body_length = bytes.len().checked_sub(4).ok_or_else(|| corrupt("it is too short"))?;
    let (body, mut checksum) = (bytes.slice(..body_length), bytes.slice(body_length..));
    if crc32c::crc32c(&body) != checksum.get_u32_le() {
        return Err(corrupt("the checksum does not match"));
    }
    decode(body).ok_or_else(|| corrupt("it is no checkpoint of this format"))
}

fn decode(mut from: Bytes) -> Option<Machine> {
    if from.len() < MAGIC.len() || from.split_to(MAGIC.len()) != MAGIC[..] {
        return None;
    }
    let mut machine = Machine {
        applied: from.try_get_u64_le().ok()?,
        revision: from.try_get_u64_le().ok()?,
        compacted: from.try_get_u64_le().ok()?,
        ..Machine::default()
    };
    for _ in 0..from.try_get_u32_le().ok()? {
        let id = from.try_get_i64_le().ok()?;
        machine.leases.insert(id, Lease { ttl_millis: from.try_get_u64_le().ok()?, keys: OrdSet::new() });
    }
    for _ in 0..from.try_get_u32_le().ok()? {
        let key = get_bytes(&mut from)?;
        let entry = Entry {
            value: get_bytes(&mut from)?,
            create_revision: from.try_get_u64_le().ok()?,
            mod_revision: from.try_get_u64_le().ok()?,
            version: from.try_get_u64_le().ok()?,
            lease: from.try_get_i64_le().ok()?,
            stamp: Some(from.try_get_u32_le().ok()?).filter(|&stamp| stamp != u32::MAX),
        };
        if let Some(lease) = machine.leases.get_mut(&entry.lease) {
            lease.keys.insert(key.clone());
        }
        machine.keys.insert(key, entry);
    }
    from.is_empty().then_some(machine)
}

fn path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{index:016x}"))
}
