//! The entries of `metadata.managedFields`.

use serde_json::{Map, Value, json};

use super::{FieldSet, fields_v1};

/// How a manager came by its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By applying a configuration.
    Apply,
    /// By any other write.
    Update,
}

impl Operation {
    fn text(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who writes, how, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// Name of the manager.
    pub manager: String,
    /// How.
    pub operation: Operation,
    /// Version of the object in the request, such as `apps/v1`.
    pub api_version: String,
    /// Subresource through which it writes; empty for the object itself.
    pub subresource: String,
    /// Now, to the second, as metadata holds it.
    pub time: String,
}

/// Most entries of updates. Older ones are put together.
const MOST_UPDATES: usize = 10;
/// Manager of the entries that were put together.
const ANCIENT: &str = "ancient-changes";
/// Most entries that a client may send.
const MOST_GIVEN: usize = 1000;
/// Longest name of a manager.
const LONGEST_MANAGER: usize = 128;
/// Longest name of a subresource.
const LONGEST_SUBRESOURCE: usize = 256;

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    pub(super) time: Option<String>,
    pub(super) fields: Fields,
}

/// A set, read or as it was stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fields {
    /// As [`fields_v1::encode`] wrote it.
    Raw(Map<String, Value>),
    /// Read.
    Set(FieldSet),
}

impl Entry {
    /// Whether the author writes this entry. Appliers keep theirs when they move to another version.
    pub(super) fn is_of(&self, author: &Author) -> bool {
        self.manager == author.manager
            && self.operation == author.operation
            && self.subresource == author.subresource
            && (self.operation == Operation::Apply || self.api_version == author.api_version)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    pub(super) fn new(author: &Author, set: FieldSet) -> Self {
        Self {
            manager: author.manager.clone(),
            operation: author.operation,
            api_version: author.api_version.clone(),
            subresource: author.subresource.clone(),
            time: Some(author.time.clone()),
            fields: Fields::Set(set),
        }
    }

    /// The set. What was stored is readable; if it is not, nobody owns it.
    pub(super) fn set(&self) -> FieldSet {
        match &self.fields {
            Fields::Set(set) => set.clone(),
            Fields::Raw(map) => fields_v1::decode(&Value::Object(map.clone())).unwrap_or_default(),
        }
    }

    /// Takes a set away; whether anything is left.
    pub(super) fn subtract(&mut self, set: &FieldSet) -> bool {
        match &mut self.fields {
            Fields::Set(own) => {
                *own = own.difference(set);
                !own.is_empty()
            }
            Fields::Raw(map) => fields_v1::subtract(map, set),
        }
    }

    /// As conflicts name it: `"kubectl" with subresource "scale" using apps/v1`.
    pub(super) fn describe(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text = format!("{text} with subresource {:?}", self.subresource);
        }
        if self.operation == Operation::Update {
            text = format!("{text} using {}", self.api_version);
        }
        text
    }

    fn seconds(&self) -> i64 {
        let time = self.time.as_deref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        time.map_or(0, jiff::Timestamp::as_second)
    }

    fn encode(self) -> Value {
        let mut map = Map::with_capacity(7);
        map.insert("manager".to_owned(), self.manager.into());
        map.insert("operation".to_owned(), self.operation.text().into());
        map.insert("apiVersion".to_owned(), self.api_version.into());
        if let Some(time) = self.time {
            map.insert("time".to_owned(), time.into());
        }
        map.insert("fieldsType".to_owned(), "FieldsV1".into());
        let fields = match self.fields {
            Fields::Raw(map) => Value::Object(map),
            Fields::Set(set) => fields_v1::encode(&set),
        };
        map.insert("fieldsV1".to_owned(), fields);
        if !self.subresource.is_empty() {
            map.insert("subresource".to_owned(), self.subresource.into());
        }
        Value::Object(map)
    }
}

/// All entries of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Managers {
    pub(super) entries: Vec<Entry>,
}

impl Managers {
    /// Entries that this server stored.
    #[must_use]
    pub fn stored(managed_fields: Option<Value>) -> Self {
        let Some(Value::Array(entries)) = managed_fields else { return Self::default() };
        let entries = entries.into_iter().filter_map(|mut entry| {
            let raw = match entry.get_mut("fieldsV1").map(Value::take) {
                Some(Value::Object(raw)) => raw,
                _ => Map::new(),
            };
            head(&entry, Fields::Raw(raw)).ok()
        });
        Self { entries: entries.collect() }
    }

    /// Entries that a client sent: everything is checked, and what would change nothing is left out.
    pub fn parse(managed_fields: &Value) -> Result<Self, String> {
        let Value::Array(list) = managed_fields else { return Err("managedFields must be a list".to_owned()) };
        if list.len() > MOST_GIVEN {
            return Err(format!("managedFields must not have more than {MOST_GIVEN} entries"));
        }
        let mut managers = Self::default();
        for (index, entry) in list.iter().enumerate() {
            let set = match entry.get("fieldsV1") {
                None | Some(Value::Null) => FieldSet::default(),
                Some(fields) => fields_v1::decode(fields)?,
            };
            let entry = head(entry, Fields::Set(set)).map_err(|why| format!("managed fields entry #{index}: {why}"))?;
            // Of two entries of one manager the later counts.
            managers.entries.retain(|other| !other.is_same(&entry));
            managers.entries.push(entry);
        }
        Ok(managers)
    }

    /// Whether nobody is recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of `metadata.managedFields`; `None` if there is nothing to tell.
    #[must_use]
    pub fn encode(mut self) -> Option<Value> {
        if self.entries.is_empty() {
            return None;
        }
        self.entries.sort_by(|left, right| {
            (left.operation, left.seconds(), &left.manager, &left.api_version, &left.subresource).cmp(&(
                right.operation,
                right.seconds(),
                &right.manager,
                &right.api_version,
                &right.subresource,
            ))
        });
        Some(Value::Array(self.entries.into_iter().map(Entry::encode).collect()))
    }

    /// The set of a manager, for those who look at what it owns.
    #[must_use]
    pub fn set_of(&self, manager: &str, operation: Operation, subresource: &str) -> Option<FieldSet> {
        let is = |entry: &&Entry| {
            entry.manager == manager && entry.operation == operation && entry.subresource == subresource
        };
        self.entries.iter().find(is).map(Entry::set)
    }

    /// Puts the oldest updates of a version together until there are few enough.
    pub(super) fn cap(&mut self) {
        let mut updates: Vec<Entry> =
            self.entries.extract_if(.., |entry| entry.operation == Operation::Update).collect();
        if updates.len() <= MOST_UPDATES {
            self.entries.append(&mut updates);
            return;
        }
        updates.sort_by(|left, right| {
            (left.seconds(), &left.manager, &left.api_version, &left.subresource).cmp(&(
                right.seconds(),
                &right.manager,
                &right.api_version,
                &right.subresource,
            ))
        });
        let mut at = 1;
        while updates.len() > MOST_UPDATES && at < updates.len() {
            let version = updates[at].api_version.clone();
            let ancient = |entry: &Entry| entry.manager == ANCIENT && entry.api_version == version;
            let bucket = updates.iter().position(ancient).filter(|&bucket| bucket != at);
            let bucket = bucket.or_else(|| updates[..at].iter().position(|entry| entry.api_version == version));
            let Some(bucket) = bucket else {
                at += 1;
                continue;
            };
            let merged = updates.remove(at);
            let bucket = &mut updates[if bucket > at { bucket - 1 } else { bucket }];
            bucket.fields = Fields::Set(bucket.set().union(&merged.set()));
            ANCIENT.clone_into(&mut bucket.manager);
            bucket.subresource.clear();
            bucket.time = merged.time;
        }
        self.entries.append(&mut updates);
    }
}

/// An entry without its set.
fn head(entry: &Value, fields: Fields) -> Result<Entry, String> {
    let text = |name: &str| match entry.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(format!("{name} must be a string")),
    };
    let operation = match text("operation")?.as_str() {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        other => return Err(format!("invalid operation: {other:?}")),
    };
    match text("fieldsType")?.as_str() {
        "FieldsV1" => {}
        "" => return Err("missing fieldsType".to_owned()),
        other => return Err(format!("invalid fieldsType: {other:?}")),
    }
    let (manager, subresource) = (text("manager")?, text("subresource")?);
    if manager.len() > LONGEST_MANAGER || manager.chars().any(char::is_control) {
        return Err("invalid manager".to_owned());
    }
    if subresource.len() > LONGEST_SUBRESOURCE {
        return Err("subresource is too long".to_owned());
    }
    let time = text("time")?;
    if !time.is_empty() && time.parse::<jiff::Timestamp>().is_err() {
        return Err(format!("invalid time: {time:?}"));
    }
    let time = Some(time).filter(|time| !time.is_empty());
    Ok(Entry { manager, operation, api_version: text("apiVersion")?, subresource, time, fields })
}

impl Managers {
    /// Whether two values of `metadata.managedFields` say the same, save for when.
    #[must_use]
    pub fn same(left: Option<&Value>, right: Option<&Value>) -> bool {
        let timeless = |value: Option<&Value>| -> Vec<String> {
            let entries = value.and_then(Value::as_array).into_iter().flatten();
            let mut lines: Vec<String> = entries
                .map(|entry| {
                    let mut entry = entry.clone();
                    if let Some(map) = entry.as_object_mut() {
                        map.shift_remove("time");
                    }
                    entry.to_string()
                })
                .collect();
            // Entries are in the order of their times.
            lines.sort_unstable();
            lines
        };
        left == right || timeless(left) == timeless(right)
    }

    /// Whether a client asks to forget all owners: an empty list, or one empty entry.
    #[must_use]
    pub fn is_reset(managed_fields: &Value) -> bool {
        match managed_fields.as_array().map(Vec::as_slice) {
            Some([]) => true,
            Some([only]) => *only == json!({}),
            _ => false,
        }
    }
}
