//! The replicated state machine: every member applies the same entries in the same order and gets the same state.
//!
//! Architecture invariant: `apply` reads no clock and no randomness; the proposer put both into the entry.

use bytes::{Bytes, BytesMut};
use imbl::{OrdMap, OrdSet};

use crate::command::{Command, LogEntry};
use crate::model::{Entry, Event, LeaseId, Op, Outcome, Revision, Txn};

/// Keys and their entries at one revision.
pub(crate) type Keys = OrdMap<Bytes, Entry>;

/// The whole state. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) revision: Revision,
    pub(crate) keys: Keys,
    pub(crate) leases: OrdMap<LeaseId, Lease>,
    /// Index of the last entry applied.
    pub(crate) applied: u64,
    /// History before this revision may be forgotten.
    pub(crate) compacted: Revision,
}

/// A lease: how long it lives after a renewal, and what hangs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) ttl_millis: u64,
    pub(crate) keys: OrdSet<Bytes>,
}

/// What applying an entry did.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) outcome: Outcome,
    /// Empty if the revision did not change.
    pub(crate) events: Vec<Event>,
}

impl Default for Machine {
    fn default() -> Self {
        Self { revision: 1, keys: Keys::new(), leases: OrdMap::new(), applied: 0, compacted: 0 }
    }
}

impl Machine {
    /// Applies one entry. Total: an entry that makes no sense (an unknown lease) does nothing.
    pub(crate) fn apply(&mut self, entry: &LogEntry) -> Applied {
        self.applied = entry.index;
        match &entry.command {
            Command::Txn(txn) => self.transact(txn),
            Command::Grant { id, ttl_millis } => {
                self.leases.insert(*id, Lease { ttl_millis: *ttl_millis, keys: OrdSet::new() });
                self.unchanged()
            }
            Command::Revoke { id } => self.revoke(*id),
            Command::Compact { revision } => {
                self.compacted = self.compacted.max((*revision).min(self.revision));
                self.unchanged()
            }
        }
    }

    fn transact(&mut self, txn: &Txn) -> Applied {
        if !txn.compare.iter().all(|compare| compare.holds(self.keys.get(compare.key()))) {
            let current = txn.compare.iter().map(|compare| self.keys.get(compare.key()).cloned()).collect();
            return Applied { outcome: Outcome::Conflict { revision: self.revision, current }, events: Vec::new() };
        }
        let revision = self.revision + 1;
        let (mut puts, mut events) = (Vec::new(), Vec::new());
        for op in &txn.then {
            match op {
                Op::Put { key, value, stamp, lease } => {
                    // A lease that ended meanwhile: the key would never be deleted, so it hangs on none.
                    let lease = if self.leases.contains_key(lease) { *lease } else { 0 };
                    let previous = self.keys.get(key).cloned();
                    let entry = Entry {
                        value: stamp.map_or_else(|| value.clone(), |at| stamped(value, at, revision)),
                        create_revision: previous.as_ref().map_or(revision, |entry| entry.create_revision),
                        mod_revision: revision,
                        version: previous.as_ref().map_or(0, |entry| entry.version) + 1,
                        lease,
                        stamp: *stamp,
                    };
                    self.rehang(key, previous.as_ref().map_or(0, |entry| entry.lease), lease);
                    self.keys.insert(key.clone(), entry.clone());
                    puts.push(entry.clone());
                    push(&mut events, Event { key: key.clone(), entry: Some(entry), previous, revision });
                }
                Op::Delete { key } => {
                    if let Some(previous) = self.keys.remove(key) {
                        self.rehang(key, previous.lease, 0);
                        let event = Event { key: key.clone(), entry: None, previous: Some(previous), revision };
                        push(&mut events, event);
                    }
                }
            }
        }
        if !events.is_empty() {
            self.revision = revision;
        }
        Applied { outcome: Outcome::Committed { revision: self.revision, puts }, events }
    }

    fn revoke(&mut self, id: LeaseId) -> Applied {
        let Some(lease) = self.leases.remove(&id) else { return self.unchanged() };
        let then = lease.keys.iter().map(|key| Op::Delete { key: key.clone() }).collect();
        self.transact(&Txn { compare: Vec::new(), then })
    }

    fn unchanged(&self) -> Applied {
        Applied { outcome: Outcome::Committed { revision: self.revision, puts: Vec::new() }, events: Vec::new() }
    }

    /// Moves a key from one lease to another; 0 is none.
    fn rehang(&mut self, key: &Bytes, from: LeaseId, to: LeaseId) {
        if from == to {
            return;
        }
        if let Some(lease) = self.leases.get_mut(&from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.leases.get_mut(&to) {
            lease.keys.insert(key.clone());
        }
    }
}

/// Adds an event; two changes of one key in one transaction are one event.
fn push(events: &mut Vec<Event>, event: Event) {
    match events.iter_mut().find(|earlier| earlier.key == event.key) {
        Some(earlier) => earlier.entry = event.entry,
        None => events.push(event),
    }
}

/// `value` with the revision's digits inserted at `at` (at the end if `at` lies beyond it).
fn stamped(value: &Bytes, at: u32, revision: Revision) -> Bytes {
    let at = usize::try_from(at).unwrap_or(usize::MAX).min(value.len());
    let digits = revision.to_string();
    let mut bytes = BytesMut::with_capacity(value.len() + digits.len());
    bytes.extend_from_slice(&value[..at]);
    bytes.extend_from_slice(digits.as_bytes());
    bytes.extend_from_slice(&value[at..]);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str, lease: LeaseId) -> Op {
        Op::Put {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            stamp: None,
            lease,
        }
    }

    fn apply(machine: &mut Machine, command: Command) -> Applied {
        machine.apply(&LogEntry { index: machine.applied + 1, term: 1, at_millis: 0, command })
    }

    fn txn(compare: Vec<Compare>, then: Vec<Op>) -> Command {
        Command::Txn(Txn { compare, then })
    }

    use crate::model::Compare;

    #[test]
    fn each_writing_transaction_is_one_revision() {
        let mut machine = Machine::default();
        let applied = apply(&mut machine, txn(vec![], vec![put("a", "1", 0), put("b", "2", 0)]));
        assert_eq!(machine.revision, 2);
        assert_eq!(applied.events.len(), 2);
        apply(&mut machine, txn(vec![], vec![Op::Delete { key: Bytes::from_static(b"none") }]));
        assert_eq!(machine.revision, 2, "deleting nothing is no change");
        apply(&mut machine, txn(vec![], vec![put("a", "3", 0)]));
        let a = machine.keys.get(&b"a"[..]).expect("a");
        assert_eq!((a.create_revision, a.mod_revision, a.version), (2, 3, 2));
    }

    #[test]
    fn a_failed_condition_writes_nothing() {
        let mut machine = Machine::default();
        apply(&mut machine, txn(vec![], vec![put("a", "1", 0)]));
        let before = machine.clone();
        let key = Bytes::from_static(b"a");
        let applied = apply(&mut machine, txn(vec![Compare::ModRevision(key.clone(), 0)], vec![put("a", "2", 0)]));
        assert!(matches!(applied.outcome, Outcome::Conflict { revision: 2, ref current } if current[0].is_some()));
        assert_eq!((machine.revision, &machine.keys), (before.revision, &before.keys));
        let applied = apply(&mut machine, txn(vec![Compare::ModRevision(key, 2)], vec![put("a", "2", 0)]));
        assert!(matches!(applied.outcome, Outcome::Committed { revision: 3, .. }));
    }

    #[test]
    fn the_revision_is_stamped_where_asked() {
        let mut machine = Machine::default();
        let value = Bytes::from_static(br#"{"resourceVersion":""}"#);
        let key = Bytes::from_static(b"a");
        apply(&mut machine, txn(vec![], vec![Op::Put { key, value, stamp: Some(20), lease: 0 }]));
        assert_eq!(machine.keys.get(&b"a"[..]).expect("a").value, &br#"{"resourceVersion":"2"}"#[..]);
    }

    #[test]
    fn a_lease_takes_its_keys_with_it() {
        let mut machine = Machine::default();
        apply(&mut machine, Command::Grant { id: 7, ttl_millis: 1000 });
        apply(&mut machine, txn(vec![], vec![put("a", "1", 7), put("b", "1", 7), put("c", "1", 0)]));
        apply(&mut machine, txn(vec![], vec![put("b", "2", 0)]));
        let applied = apply(&mut machine, Command::Revoke { id: 7 });
        assert_eq!(applied.events.len(), 1);
        assert_eq!(machine.keys.keys().collect::<Vec<_>>(), [&b"b"[..], &b"c"[..]]);
        apply(&mut machine, txn(vec![], vec![put("d", "1", 7)]));
        assert_eq!(machine.keys.get(&b"d"[..]).expect("d").lease, 0, "the lease has ended");
    }
}
