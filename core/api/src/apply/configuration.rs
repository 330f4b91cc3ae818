//! Server-side apply of one configuration.

use serde_json::{Map, Value};

use super::compare::compare;
use super::conflict::{Conflict, with};
use super::extract::field_set;
use super::managers::{Author, Entry, Managers, Operation};
use super::merge::merge;
use super::remove::remove;
use super::shape::Node;
use super::update::{differs, elsewhere, update};
use super::validate::validate;
use super::{FieldSet, LAST_APPLIED, Reset, Typed};
use crate::codec::{self, Findings};

/// An applied configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The object as it is to be, without managedFields.
    pub object: Value,
    /// Its managers.
    pub managers: Managers,
}

/// Why a configuration is not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It does not fit its schema.
    Invalid(String),
    /// Others own what it would change.
    Conflicts(Vec<Conflict>),
}

/// The manager of fields that were there before anything was recorded.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// Most bytes of all annotations together.
const MOST_ANNOTATIONS: usize = 256 << 10;
/// The manager that takes over from client-side apply.
const KUBECTL: &str = "kubectl";

/// Applies a configuration to a live object (`None`: there is none yet). Neither has managedFields. With `force`, fields
/// are taken from their owners.
pub fn apply(
    typed: Typed<'_>,
    reset: Reset,
    managers: Managers,
    author: &Author,
    live: Option<&Value>,
    config: &Value,
    force: bool,
) -> Result<Applied, Problem> {
    let node = Node::root(typed.schema, typed.root);
    validate(node, config).map_err(Problem::Invalid)?;
    let config = canonical(typed, config)?;
    let blank = Value::Object(Map::new());
    let managers = match live {
        Some(live) if managers.is_empty() => {
            let before =
                Author { manager: BEFORE_FIRST_APPLY.to_owned(), operation: Operation::Update, ..author.clone() };
            update(typed, Reset::Nothing, managers, &before, None, live)
        }
        _ => managers,
    };
    let live_or_blank = live.unwrap_or(&blank);
    let run = |force| run(typed, reset, managers.clone(), author, live_or_blank, &config, force);
    let applied = match run(force) {
        Err(conflicts) if author.manager == KUBECTL => match taken_over(typed, live_or_blank) {
            // What client-side apply set itself may be taken from it.
            Some(own) => {
                let left: Vec<Conflict> =
                    conflicts.into_iter().filter(|conflict| !own.contains(&conflict.path)).collect();
                if left.is_empty() { run(true) } else { Err(left) }
            }
            None => Err(conflicts),
        },
        other => other,
    };
    let mut applied = applied.map_err(Problem::Conflicts)?;
    if author.manager == KUBECTL && author.subresource.is_empty() {
        renew_last_applied(live_or_blank, &config, &mut applied.object);
    }
    Ok(applied)
}

/// The configuration with quantities and times in canonical form, and with the nulls that it says.
fn canonical(typed: Typed<'_>, config: &Value) -> Result<Value, Problem> {
    let mut value = config.clone();
    codec::conform(typed.schema, typed.root, &mut value, &mut Findings::default())
        .map_err(|error| Problem::Invalid(error.0))?;
    restore_nulls(config, &mut value);
    Ok(value)
}

fn restore_nulls(said: &Value, value: &mut Value) {
    match (said, value) {
        (Value::Object(said), Value::Object(map)) => {
            for (key, said) in said {
                match map.get_mut(key) {
                    Some(value) => restore_nulls(said, value),
                    None if said.is_null() => drop(map.insert(key.clone(), Value::Null)),
                    None => {}
                }
            }
        }
        (Value::Array(said), Value::Array(list)) => {
            said.iter().zip(list).for_each(|(said, value)| restore_nulls(said, value));
        }
        _ => {}
    }
}

fn run(
    typed: Typed<'_>,
    reset: Reset,
    mut managers: Managers,
    author: &Author,
    live: &Value,
    config: &Value,
    force: bool,
) -> Result<Applied, Vec<Conflict>> {
    let node = Node::root(typed.schema, typed.root);
    let own = reset.keep(field_set(node, config));
    let at = managers.entries.iter().position(|entry| entry.is_of(author));
    let last = at.map(|at| managers.entries.remove(at));
    let merged = merge(node, Some(live), config);
    let object = match &last {
        Some(last) => prune(typed, &merged, &managers, author, &own, last),
        None => merged,
    };
    // An apply creates; a pruned object without anything left is still an object.
    let difference = differs(typed, reset, live, &object);
    let is_same = difference.is_empty();
    let (written, removed) = difference.split();
    let gone = written.union(&removed);
    let mut conflicts = Vec::new();
    let mut others = Vec::with_capacity(managers.entries.len() + 1);
    for mut entry in managers.entries {
        let elsewhere = if entry.api_version == author.api_version {
            None
        } else {
            let Some(difference) = elsewhere(typed, reset, &entry.api_version, live, &object) else { continue };
            let (written, removed) = difference.split();
            let gone = written.union(&removed);
            Some((written, gone))
        };
        let (written, gone) = elsewhere.as_ref().map_or((&written, &gone), |(written, gone)| (written, gone));
        let taken = if written.is_empty() { FieldSet::default() } else { entry.set().intersection(written) };
        conflicts.extend(with(&entry, &taken));
        if entry.subtract(gone) {
            others.push(entry);
        }
    }
    if !force && !conflicts.is_empty() {
        conflicts.sort_by(|left, right| (&left.manager, &left.path).cmp(&(&right.manager, &right.path)));
        return Err(conflicts);
    }
    let own = own.without_identity();
    if !own.is_empty() {
        let mut entry = Entry::new(author, own);
        // An apply that changes nothing leaves no trace.
        if let Some(last) = last
            && is_same
            && last.set() == entry.set()
            && last.api_version == entry.api_version
        {
            entry.time = last.time;
        }
        others.push(entry);
    }
    Ok(Applied { object, managers: Managers { entries: others } })
}

/// Removes what the author applied before and does not apply now, unless others own it or nobody said that it may go.
fn prune(typed: Typed<'_>, merged: &Value, others: &Managers, author: &Author, own: &FieldSet, last: &Entry) -> Value {
    // In the version in which the last configuration was applied.
    let (merged_then, root) = if last.api_version == author.api_version {
        (merged.clone(), typed.root)
    } else {
        let Some(converted) = typed.versions.convert(merged, &last.api_version) else { return merged.clone() };
        converted
    };
    let node = Node::root(typed.schema, root);
    let empty = || Value::Object(Map::new());
    let last_set = last.set().with_structs(node);
    let mut pruned = remove(node, &merged_then, &last_set).unwrap_or_else(empty);
    let mut versions: Vec<(&str, FieldSet)> = vec![(&author.api_version, own.clone())];
    for entry in &others.entries {
        match versions.iter_mut().find(|(version, _)| *version == entry.api_version) {
            Some((_, set)) => *set = set.union(&entry.set()),
            None => versions.push((&entry.api_version, entry.set())),
        }
    }
    // Give back what others own, or the author still does.
    for (version, managed) in versions {
        let see = |value: &Value| {
            if version == last.api_version {
                return Some((value.clone(), root));
            }
            if version == author.api_version && last.api_version == author.api_version {
                return Some((value.clone(), typed.root));
            }
            typed.versions.convert(value, version)
        };
        let (Some((whole, root)), Some((part, _))) = (see(&merged_then), see(&pruned)) else { continue };
        let node = Node::root(typed.schema, root);
        let all = field_set(node, &whole).with_structs(node);
        let kept = field_set(node, &part).with_structs(node).union(&managed.with_structs(node));
        let back = remove(node, &whole, &all.difference(&kept)).unwrap_or_else(empty);
        pruned = if version == last.api_version {
            back
        } else {
            typed.versions.convert(&back, &last.api_version).map_or(back, |(back, _)| back)
        };
    }
    // Give back what the author never owned.
    let node = Node::root(typed.schema, root);
    let all = field_set(node, &merged_then).with_structs(node);
    let kept = field_set(node, &pruned).with_structs(node);
    let pruned = remove(node, &merged_then, &all.difference(&kept).intersection(&last_set)).unwrap_or_else(empty);
    if last.api_version == author.api_version {
        return pruned;
    }
    typed.versions.convert(&pruned, &author.api_version).map_or(pruned, |(pruned, _)| pruned)
}

/// What client-side apply set and nobody changed since.
fn taken_over(typed: Typed<'_>, live: &Value) -> Option<FieldSet> {
    let text = live.get("metadata")?.get("annotations")?.get(LAST_APPLIED)?.as_str().filter(|text| !text.is_empty())?;
    let (config, _) = codec::json(text.as_bytes()).ok()?;
    if config.get("apiVersion") != live.get("apiVersion") {
        return None;
    }
    let config = canonical(typed, &config).ok()?;
    let node = Node::root(typed.schema, typed.root);
    let difference = compare(node, Some(live), Some(&config));
    Some(field_set(node, &config).difference(&difference.modified).difference(&difference.added))
}

/// Keeps the annotation of client-side apply up to date, so that users can go back.
fn renew_last_applied(live: &Value, config: &Value, object: &mut Value) {
    let annotations = |object: &Value| object["metadata"]["annotations"][LAST_APPLIED].as_str().map(str::to_owned);
    if annotations(live).is_none_or(|text| text.is_empty()) {
        return;
    }
    let mut config = config.clone();
    if let Some(Value::Object(map)) = config.pointer_mut("/metadata/annotations") {
        map.shift_remove(LAST_APPLIED);
    }
    let text = format!("{}\n", sorted(&config));
    let Some(Value::Object(annotations)) = object.pointer_mut("/metadata/annotations") else { return };
    let others: usize = annotations
        .iter()
        .filter(|(key, _)| *key != LAST_APPLIED)
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if others + LAST_APPLIED.len() + text.len() > MOST_ANNOTATIONS {
        annotations.shift_remove(LAST_APPLIED);
    } else {
        annotations.insert(LAST_APPLIED.to_owned(), text.into());
    }
}

/// As Go writes maps: keys in order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        scalar => scalar.clone(),
    }
}
