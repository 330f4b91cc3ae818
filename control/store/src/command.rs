//! What is proposed, and how it is written: the log's entries as bytes.
//!
//! Integers are little-endian; byte strings carry a 32-bit length.

use bytes::{Buf, BufMut, Bytes};

use crate::model::{Compare, LeaseId, Op, Revision, Txn};

/// A change of the state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Txn(Txn),
    Grant { id: LeaseId, ttl_millis: u64 },
    Revoke { id: LeaseId },
    Compact { revision: Revision },
}

/// A command in its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogEntry {
    /// From 1, without gaps.
    pub(crate) index: u64,
    /// Of the leader that proposed it.
    pub(crate) term: u64,
    /// When it was proposed, milliseconds of Unix time: how old history is. `apply` does not look at it.
    pub(crate) at_millis: i64,
    pub(crate) command: Command,
}

impl LogEntry {
    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        to.put_u64_le(self.index);
        to.put_u64_le(self.term);
        to.put_i64_le(self.at_millis);
        match &self.command {
            Command::Txn(txn) => {
                to.put_u8(0);
                put_count(to, txn.compare.len());
                for compare in &txn.compare {
                    let (tag, key, revision) = match compare {
                        Compare::ModRevision(key, revision) => (0, key, revision),
                        Compare::CreateRevision(key, revision) => (1, key, revision),
                    };
                    to.put_u8(tag);
                    put_bytes(to, key);
                    to.put_u64_le(*revision);
                }
                put_count(to, txn.then.len());
                for op in &txn.then {
                    match op {
                        Op::Put { key, value, stamp, lease } => {
                            to.put_u8(0);
                            put_bytes(to, key);
                            put_bytes(to, value);
                            to.put_u32_le(stamp.unwrap_or(u32::MAX));
                            to.put_i64_le(*lease);
                        }
                        Op::Delete { key } => {
                            to.put_u8(1);
                            put_bytes(to, key);
                        }
                    }
                }
            }
            Command::Grant { id, ttl_millis } => {
                to.put_u8(1);
                to.put_i64_le(*id);
                to.put_u64_le(*ttl_millis);
            }
            Command::Revoke { id } => {
                to.put_u8(2);
                to.put_i64_le(*id);
            }
            Command::Compact { revision } => {
                to.put_u8(3);
                to.put_u64_le(*revision);
            }
        }
    }

    /// Takes one entry off the front; `None` if the bytes are no entry.
    pub(crate) fn decode(from: &mut Bytes) -> Option<Self> {
        let index = from.try_get_u64_le().ok()?;
        let term = from.try_get_u64_le().ok()?;
        let at_millis = from.try_get_i64_le().ok()?;
        let command = match from.try_get_u8().ok()? {
            0 => Command::Txn(Txn { compare: get_all(from, get_compare)?, then: get_all(from, get_op)? }),
            1 => Command::Grant { id: from.try_get_i64_le().ok()?, ttl_millis: from.try_get_u64_le().ok()? },
            2 => Command::Revoke { id: from.try_get_i64_le().ok()? },
            3 => Command::Compact { revision: from.try_get_u64_le().ok()? },
            _ => return None,
        };
        Some(Self { index, term, at_millis, command })
    }
}

fn get_compare(from: &mut Bytes) -> Option<Compare> {
    let make = match from.try_get_u8().ok()? {
        0 => Compare::ModRevision,
        1 => Compare::CreateRevision,
        _ => return None,
    };
    Some(make(get_bytes(from)?, from.try_get_u64_le().ok()?))
}

fn get_op(from: &mut Bytes) -> Option<Op> {
    match from.try_get_u8().ok()? {
        0 => {
            let (key, value) = (get_bytes(from)?, get_bytes(from)?);
            let stamp = Some(from.try_get_u32_le().ok()?).filter(|&stamp| stamp != u32::MAX);
            Some(Op::Put { key, value, stamp, lease: from.try_get_i64_le().ok()? })
        }
        1 => Some(Op::Delete { key: get_bytes(from)? }),
        _ => None,
    }
}

fn get_all<T>(from: &mut Bytes, get: impl Fn(&mut Bytes) -> Option<T>) -> Option<Vec<T>> {
    let count = from.try_get_u32_le().ok()?;
    (0..count).map(|_| get(from)).collect()
}

pub(crate) fn put_count(to: &mut Vec<u8>, count: usize) {
    to.put_u32_le(u32::try_from(count).unwrap_or(u32::MAX));
}

pub(crate) fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    put_count(to, bytes.len());
    to.extend_from_slice(bytes);
}

pub(crate) fn get_bytes(from: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(from.try_get_u32_le().ok()?).ok()?;
    // Copied, so that a small value does not keep a whole log segment in memory.
    (from.len() >= length).then(|| Bytes::copy_from_slice(&from.split_to(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_the_round_trip_and_short_input_is_no_entry() {
        let key = Bytes::from_static(b"key");
        let put = Op::Put { key: key.clone(), value: Bytes::from_static(b"v"), stamp: Some(1), lease: 3 };
        let txn = Txn {
            compare: vec![Compare::ModRevision(key.clone(), 4), Compare::CreateRevision(key.clone(), 0)],
            then: vec![put, Op::Delete { key }],
        };
        let commands = [
            Command::Txn(txn),
            Command::Grant { id: -1, ttl_millis: 10 },
            Command::Revoke { id: 5 },
            Command::Compact { revision: 9 },
        ];
        for command in commands {
            let entry = LogEntry { index: 1, term: 2, at_millis: 3, command };
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            for length in 0..bytes.len() {
                assert_eq!(LogEntry::decode(&mut Bytes::copy_from_slice(&bytes[..length])), None);
            }
            let mut bytes = Bytes::from(bytes);
            assert_eq!(LogEntry::decode(&mut bytes), Some(entry));
            assert!(bytes.is_empty());
        }
    }
}
