//! Who owns what after a create, update or patch.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::compare::{Difference, compare};
use super::managers::{Author, Entry, Fields, Managers};
use super::shape::Node;
use super::{FieldSet, Reset, Typed};

/// The managers after `author` wrote `new` over `live` (`None`: a new object). What the author changed is its own now
/// and nobody else's; what is gone is nobody's. Neither object has managedFields.
#[must_use]
pub fn update(
    typed: Typed<'_>,
    reset: Reset,
    mut managers: Managers,
    author: &Author,
    live: Option<&Value>,
    new: &Value,
) -> Managers {
    // What Go has before a create: an object of which only the kind is known.
    let blank = Value::Object(Map::new());
    let live = live.unwrap_or(&blank);
    let difference = differs(typed, reset, live, new);
    if difference.is_empty() {
        return managers;
    }
    let (written, removed) = difference.split();
    if !managers.entries.is_empty() {
        disown(typed, reset, &mut managers, author, (&written, &removed), (live, new));
    }
    let before = managers.entries.iter().position(|entry| entry.is_of(author));
    let own = written.without_identity();
    if own.is_empty() {
        return managers;
    }
    match before.and_then(|at| managers.entries.get_mut(at)) {
        Some(entry) => {
            entry.fields = Fields::Set(entry.set().union(&own));
            entry.time = Some(author.time.clone());
        }
        None => managers.entries.push(Entry::new(author, own)),
    }
    managers.cap();
    managers
}

/// What differs, of what can be owned.
pub(super) fn differs(typed: Typed<'_>, reset: Reset, live: &Value, new: &Value) -> Difference {
    let node = Node::root(typed.schema, typed.root);
    compare(node, Some(live), Some(new)).map(|set| reset.keep(set))
}

/// Takes from all entries what was written or removed. Entries in other versions are met in their version.
fn disown(
    typed: Typed<'_>,
    reset: Reset,
    managers: &mut Managers,
    author: &Author,
    (written, removed): (&FieldSet, &FieldSet),
    (live, new): (&Value, &Value),
) {
    let gone = if removed.is_empty() { Cow::Borrowed(written) } else { Cow::Owned(written.union(removed)) };
    managers.entries.retain_mut(|entry| {
        if entry.api_version == author.api_version {
            return entry.subtract(&gone);
        }
        match elsewhere(typed, reset, &entry.api_version, live, new) {
            Some(difference) => {
                let (written, removed) = difference.split();
                entry.subtract(&written.join(removed))
            }
            // The version is served no more, and so nobody can speak for the entry.
            None => false,
        }
    });
}

/// What differs in another version.
pub(super) fn elsewhere(
    typed: Typed<'_>,
    reset: Reset,
    api_version: &str,
    live: &Value,
    new: &Value,
) -> Option<Difference> {
    let (live, root) = typed.versions.convert(live, api_version)?;
    let (new, _) = typed.versions.convert(new, api_version)?;
    Some(differs(Typed { root, ..typed }, reset, &live, &new))
}
