//! The whole state in one file, so that the log before it may go.
//!
//! ```text
//! checkpoint-<index, 16 hex digits>
//!   magic "CORTCKP1", applied index, revision, compacted, leases, entries, then crc32c of all before it
//! ```

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes};
use imbl::OrdSet;

use crate::command::{get_bytes, put_bytes, put_count};
use crate::machine::{Lease, Machine};
use crate::model::{Entry, OpenError};

const MAGIC: &[u8; 8] = b"CORTCKP1";
const PREFIX: &str = "checkpoint-";

/// Writes a checkpoint durably: it is there whole or not at all.
pub(crate) fn write(dir: &Path, machine: &Machine) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(1 << 16);
    bytes.extend_from_slice(MAGIC);
    bytes.put_u64_le(machine.applied);
    bytes.put_u64_le(machine.revision);
    bytes.put_u64_le(machine.compacted);
    put_count(&mut bytes, machine.leases.len());
    for (id, lease) in &machine.leases {
        bytes.put_i64_le(*id);
        bytes.put_u64_le(lease.ttl_millis);
    }
    put_count(&mut bytes, machine.keys.len());
    for (key, entry) in &machine.keys {
        put_bytes(&mut bytes, key);
        put_bytes(&mut bytes, &entry.value);
        bytes.put_u64_le(entry.create_revision);
        bytes.put_u64_le(entry.mod_revision);
        bytes.put_u64_le(entry.version);
        bytes.put_i64_le(entry.lease);
        bytes.put_u32_le(entry.stamp.unwrap_or(u32::MAX));
    }
    let checksum = crc32c::crc32c(&bytes);
    bytes.put_u32_le(checksum);
    let temporary = dir.join("checkpoint.tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path(dir, machine.applied))?;
    File::open(dir)?.sync_all()
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

pub(crate) fn remove(dir: &Path, index: u64) -> std::io::Result<()> {
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
