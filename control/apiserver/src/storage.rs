//! Objects in the store: their keys, their bytes, and the one path by which they are written.

use std::collections::BTreeSet;

use bytes::Bytes;
use corten_api::status::Status;
use corten_kinds::AnyKind;
use corten_store::{Compare, Entry, LeaseId, Op, Outcome, Revision, Snapshot, Store, Txn, WriteError};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::admission::quota::Charge;
use crate::route::Target;
use crate::server::Server;

/// Key of an object.
pub(crate) fn key(storage: &str, namespace: Option<&str>, name: &str) -> Bytes {
    match namespace {
        Some(namespace) => Bytes::from(format!("/registry/{storage}/{namespace}/{name}")),
        None => Bytes::from(format!("/registry/{storage}/{name}")),
    }
}

/// What the keys of a kind begin with, in one namespace or in all.
pub(crate) fn prefix(storage: &str, namespace: Option<&str>) -> Bytes {
    match namespace {
        Some(namespace) => Bytes::from(format!("/registry/{storage}/{namespace}/")),
        None => Bytes::from(format!("/registry/{storage}/")),
    }
}

/// Key of a claim.
pub(crate) fn claim_key(claim: &str) -> Bytes {
    Bytes::from(format!("/registry/claims/{claim}"))
}

/// Canonical JSON of an object, and where the store is to stamp the digits of its resourceVersion.
pub(crate) fn encode(object: &Value) -> Result<(Bytes, u32), Status> {
    const STAMP: &[u8] = b"\"metadata\":{\"resourceVersion\":\"";
    let mut text = Vec::with_capacity(4096);
    text.push(b'{');
    for field in ["apiVersion", "kind"] {
        push(&mut text, field, &object[field])?;
        text.push(b',');
    }
    text.extend_from_slice(STAMP);
    let offset = text.len();
    text.push(b'"');
    let empty = Map::new();
    for (name, value) in object["metadata"].as_object().unwrap_or(&empty) {
        if name != "resourceVersion" {
            text.push(b',');
            push(&mut text, name, value)?;
        }
    }
    text.push(b'}');
    for (name, value) in object.as_object().unwrap_or(&empty) {
        if !["apiVersion", "kind", "metadata"].contains(&name.as_str()) {
            text.push(b',');
            push(&mut text, name, value)?;
        }
    }
    text.push(b'}');
    // It stays for as long as the object does: no more than it needs.
    text.shrink_to_fit();
    let offset = u32::try_from(offset).map_err(Status::internal)?;
    Ok((Bytes::from(text), offset))
}

/// Appends `"name":value`.
fn push(text: &mut Vec<u8>, name: &str, value: &Value) -> Result<(), Status> {
    serde_json::to_writer(&mut *text, name).map_err(Status::internal)?;
    text.push(b':');
    serde_json::to_writer(&mut *text, value).map_err(Status::internal)
}

/// The bytes of an object as if it were stored with this resourceVersion: what a dry run shows.
pub(crate) fn shown(object: &Value, revision: Revision) -> Result<Bytes, Status> {
    let (bytes, at) = encode(object)?;
    check_size(object, bytes.len())?;
    let at = usize::try_from(at).map_err(Status::internal)?;
    Ok([&bytes[..at], revision.to_string().as_bytes(), &bytes[at..]].concat().into())
}

/// An object from its bytes.
pub(crate) fn decode(entry: &Entry) -> Result<Value, Status> {
    parse(&entry.value)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Status> {
    serde_json::from_slice(bytes).map_err(|error| Status::internal(format!("a stored object is damaged: {error}")))
}

/// An object in the store, if it is there.
pub(crate) fn find<T: DeserializeOwned>(
    snapshot: &Snapshot,
    storage: &str,
    namespace: Option<&str>,
    name: &str,
) -> Result<Option<T>, Status> {
    snapshot.get(&key(storage, namespace, name)).map(|entry| parse(&entry.value)).transpose()
}

/// The bytes of the object at a path; 404 if there is none.
pub(crate) fn bytes_of(server: &Server, target: &Target) -> Result<Bytes, Status> {
    let name = target.name.as_deref().unwrap_or_default();
    let snapshot = server.store().snapshot();
    let entry = snapshot.get(&key(target.kind.storage(), target.namespace.as_deref(), name));
    entry.map(|entry| entry.value.clone()).ok_or_else(|| Status::not_found(target.kind.names(), name))
}

/// The object at a path; 404 if there is none.
pub(crate) fn of<T: DeserializeOwned>(server: &Server, target: &Target) -> Result<T, Status> {
    parse(&bytes_of(server, target)?)
}

/// The bytes of an object as it was, with another resourceVersion: what a deletion shows.
pub(crate) fn restamped(entry: &Entry, revision: Revision) -> Bytes {
    let Some(at) = entry.stamp.and_then(|at| usize::try_from(at).ok()).filter(|&at| at <= entry.value.len()) else {
        return entry.value.clone();
    };
    let digits = entry.value[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    [&entry.value[..at], revision.to_string().as_bytes(), &entry.value[at + digits..]].concat().into()
}

/// A write of one object.
pub(crate) struct Commit<'a> {
    pub(crate) kind: &'a dyn AnyKind,
    pub(crate) key: Bytes,
    /// What was there when the write was decided.
    pub(crate) old: Option<(&'a Value, Revision)>,
    /// What is to be there; `None` deletes.
    pub(crate) new: Option<&'a Value>,
    pub(crate) lease: LeaseId,
    /// Quotas that are charged with it.
    pub(crate) charges: &'a [Charge],
}

/// What became of a write.
pub(crate) enum Committed {
    /// It is done: the new entry, or for a deletion its revision.
    Done(Option<Entry>, Revision),
    /// The object is not what it was when the write was decided.
    Changed,
    /// Another object holds one of its claims.
    Claimed(String),
    /// A quota is not what it was when the write was decided.
    Charged,
}

/// Most bytes of a stored object: upstream's limit of a request to etcd.
const MOST_OBJECT: usize = 3 << 19;
/// What is on its way out may grow a little more: marks and conditions must not fail to find room.
const MOST_LEAVING: usize = 2 * MOST_OBJECT;

/// Refuses an object that is too large. Each request is bounded; what many of them add up to is bounded here.
pub(crate) fn check_size(object: &Value, length: usize) -> Result<(), Status> {
    let most = if object["metadata"]["deletionTimestamp"].is_null() { MOST_OBJECT } else { MOST_LEAVING };
    if length <= most {
        return Ok(());
    }
    let message = format!("Request entity too large: the object would have {length} bytes, and limit is {most}");
    Err(Status::failure(413, "RequestEntityTooLarge", message))
}

/// Carries out a write, with the claims of the object.
pub(crate) async fn commit(store: &Store, commit: Commit<'_>) -> Result<Committed, Status> {
    let Commit { kind, key, old, new, lease, charges } = commit;
    let claims = |object: Option<&Value>| object.map_or_else(BTreeSet::new, |o| kind.claims(o).into_iter().collect());
    let (before, after): (BTreeSet<String>, BTreeSet<String>) = (claims(old.map(|(value, _)| value)), claims(new));
    let mut txn = Txn {
        compare: vec![Compare::ModRevision(key.clone(), old.map_or(0, |(_, revision)| revision))],
        then: Vec::new(),
    };
    match new {
        Some(object) => {
            let (value, stamp) = encode(object)?;
            check_size(object, value.len())?;
            txn.then.push(Op::Put { key: key.clone(), value, stamp: Some(stamp), lease });
        }
        None => txn.then.push(Op::Delete { key: key.clone() }),
    }
    let gained: Vec<&String> = after.difference(&before).collect();
    for claim in &gained {
        txn.compare.push(Compare::ModRevision(claim_key(claim), 0));
        txn.then.push(Op::Put { key: claim_key(claim), value: key.clone(), stamp: None, lease: 0 });
    }
    for claim in before.difference(&after) {
        txn.then.push(Op::Delete { key: claim_key(claim) });
    }
    for charge in charges {
        let (value, stamp) = encode(&charge.quota)?;
        txn.compare.push(Compare::ModRevision(charge.key.clone(), charge.revision));
        txn.then.push(Op::Put { key: charge.key.clone(), value, stamp: Some(stamp), lease: 0 });
    }
    let expected = old.map_or(0, |(_, revision)| revision);
    match store.transact(txn).await.map_err(refused)? {
        Outcome::Committed { revision, puts } => {
            Ok(Committed::Done(puts.into_iter().next().filter(|_| new.is_some()), revision))
        }
        Outcome::Conflict { current, .. } => {
            let is = current.first().and_then(Option::as_ref).map_or(0, |entry| entry.mod_revision);
            let taken = current.iter().skip(1).take(gained.len()).position(Option::is_some);
            Ok(match taken.and_then(|index| gained.get(index)) {
                Some(claim) => Committed::Claimed((*claim).clone()),
                None if is == expected => Committed::Charged,
                None => Committed::Changed,
            })
        }
    }
}

/// Removes what cannot be read, with the claims that it holds: those that name its key. `None` if it changed.
pub(crate) async fn remove(
    store: &Store,
    snapshot: &Snapshot,
    key: &Bytes,
    revision: Revision,
) -> Result<Option<Revision>, Status> {
    let all = claim_key("");
    let claims = snapshot.prefix(&all).filter(|(_, entry)| entry.value == *key);
    let gone = claims.map(|(claim, _)| claim.clone()).chain([key.clone()]);
    let then = gone.map(|key| Op::Delete { key }).collect();
    let txn = Txn { compare: vec![Compare::ModRevision(key.clone(), revision)], then };
    match store.transact(txn).await.map_err(refused)? {
        Outcome::Committed { revision, .. } => Ok(Some(revision)),
        Outcome::Conflict { .. } => Ok(None),
    }
}

/// A store that cannot write is not the client's fault, and may be able to in a while.
pub(crate) fn refused(error: WriteError) -> Status {
    Status::failure(503, "ServiceUnavailable", format!("the store cannot write now: {}", corten_base::chain(&error)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_stamp_lands_in_the_resource_version() {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "resourceVersion": "9"}, "spec": {"x": [1]}});
        let (bytes, at) = encode(&object).expect("encodes");
        let at = usize::try_from(at).expect("small");
        let stamped = [&bytes[..at], b"42", &bytes[at..]].concat();
        let read: Value = serde_json::from_slice(&stamped).expect("JSON");
        let expected = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "resourceVersion": "42"}, "spec": {"x": [1]}});
        assert_eq!(read, expected);
        let entry = Entry {
            value: stamped.into(),
            create_revision: 1,
            mod_revision: 42,
            version: 1,
            lease: 0,
            stamp: u32::try_from(at).ok(),
        };
        let read: Value = serde_json::from_slice(&restamped(&entry, 1000)).expect("JSON");
        assert_eq!(read["metadata"]["resourceVersion"], "1000");
    }
}
