//! Protobuf: what client-go speaks by preference, transcoded from and to our JSON.
//!
//! `table.txt` says how each message is laid out; types come from the schema graph. Decoding gives the JSON that Go would
//! write of the same object; encoding goes from JSON bytes to what Go's marshaller writes, byte for byte, without a
//! `Value` in between.
//!
//! Wire format: <https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>

mod decode;
mod encode;
mod envelope;
mod table;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use crate::codec::DecodeError;
use crate::schema::Schema;

pub use encode::EncodeError;

/// What every body begins with.
pub const MAGIC: &[u8; 4] = b"k8s\0";
/// The media type of bodies.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// All messages. Built once at start (about a millisecond), immutable.
#[derive(Debug)]
pub struct Protobuf {
    messages: Vec<Message>,
    /// By definition name.
    names: HashMap<Arc<str>, MessageRef>,
}

/// A message, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageRef(u32);

#[derive(Debug, Default)]
struct Message {
    name: Arc<str>,
    /// Sorted by tag; inlined messages are fields here.
    fields: Vec<Field>,
    /// What JSON has in place of this message: its own fields and those of inlined messages, sorted by name.
    slots: Vec<Slot>,
    /// Indexes of slots that are written even if JSON has nothing for them, and of those that Go's JSON always has.
    always: Vec<usize>,
    shown: Vec<usize>,
    /// Places of the messages that are inlined: they are always written.
    inlines: Vec<Place>,
}

#[derive(Clone, Debug)]
struct Field {
    /// JSON name; empty for an inlined message.
    name: Arc<str>,
    tag: u32,
    kind: Kind,
    shape: Shape,
    /// A pointer in Go: may be absent.
    pointer: bool,
    /// Whether Go's JSON shows the field if it is empty.
    shown: bool,
}

/// A field as JSON has it.
#[derive(Clone, Debug)]
struct Slot {
    field: Field,
    place: Place,
}

/// Where a field is written: tags from the outermost message inwards, 16 bits each from the top.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    path: u64,
    /// How many inlined messages are around it.
    depth: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    One,
    List,
    /// By strings.
    Map,
}

/// What a value is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    String,
    Bool,
    Int32,
    Int64,
    Double,
    Bytes,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// JSON text in a message of its own.
    Raw,
    /// Strings in a message of their own.
    Items,
    Message(MessageRef),
    /// A message whose fields JSON has in the outer one.
    Inline(MessageRef),
    /// A JSON schema, or something else.
    SchemaOr(Or, MessageRef),
}

/// What can be in place of a JSON schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Or {
    Bool,
    Array,
    Strings,
}

/// An object out of an envelope.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// As the envelope says; may be empty.
    pub api_version: String,
    /// As the envelope says; may be empty.
    pub kind: String,
    /// The object, with `apiVersion` and `kind`.
    pub value: Value,
}

impl Protobuf {
    /// Joins the table with the schema graph.
    #[must_use]
    pub fn build(schema: &Schema) -> Self {
        table::build(schema)
    }

    /// The message of a kind. Kinds of meta/v1 are known in every group.
    #[must_use]
    pub fn find(&self, api_version: &str, kind: &str) -> Option<MessageRef> {
        const META: &str = "io.k8s.apimachinery.pkg.apis.meta";
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let package = match group.split('.').next().unwrap_or_default() {
            "" => "io.k8s.api.core".to_owned(),
            "meta" => META.to_owned(),
            "apiextensions" => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions".to_owned(),
            "apiregistration" => "io.k8s.kube-aggregator.pkg.apis.apiregistration".to_owned(),
            first => format!("io.k8s.api.{first}"),
        };
        let own = self.names.get(format!("{package}.{version}.{kind}").as_str());
        own.or_else(|| {
            let shared = kind.ends_with("Options") || matches!(kind, "Status" | "WatchEvent" | "List");
            let shared = shared || kind.starts_with("API");
            self.names.get(format!("{META}.v1.{kind}").as_str()).filter(|_| shared)
        })
        .copied()
    }

    /// An object from a body. `default` is the apiVersion and kind that an envelope without them stands for.
    pub fn decode(&self, body: &[u8], default: Option<(&str, &str)>) -> Result<Decoded, DecodeError> {
        envelope::decode(self, body, default)
    }

    /// A body from the JSON text of an object.
    pub fn encode(&self, api_version: &str, kind: &str, json: &[u8]) -> Result<Vec<u8>, EncodeError> {
        let message = self.find(api_version, kind).ok_or_else(|| EncodeError::unknown(api_version, kind))?;
        envelope::encode(self, message, api_version, kind, json)
    }

    /// A message alone, without envelope, appended to `out`.
    pub fn encode_message(&self, message: MessageRef, json: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        encode::message(self, message, json, out)
    }

    /// A list from the JSON texts of its metadata and its items, in pieces that follow each other.
    pub fn encode_list<'a>(
        &self,
        api_version: &str,
        kind: &str,
        metadata: &[u8],
        items: impl Iterator<Item = &'a [u8]>,
    ) -> Result<[Vec<u8>; 2], EncodeError> {
        let message = self.find(api_version, kind).ok_or_else(|| EncodeError::unknown(api_version, kind))?;
        envelope::list(self, message, api_version, kind, metadata, items)
    }

    /// An event of a watch, with its length before it. `object` is a body with its envelope.
    #[must_use]
    pub fn watch_frame(event: &str, object: &[u8]) -> Vec<u8> {
        envelope::watch_frame(event, object)
    }

    fn message(&self, message: MessageRef) -> &Message {
        // References are made with the table.
        &self.messages[message.0 as usize]
    }
}

impl Message {
    fn by_tag(&self, tag: u32) -> Option<&Field> {
        let at = self.fields.binary_search_by_key(&tag, |field| field.tag).ok()?;
        self.fields.get(at)
    }

    fn by_name(&self, name: &str) -> Option<usize> {
        self.slots.binary_search_by(|slot| (*slot.field.name).cmp(name)).ok()
    }

    /// For messages to people.
    fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or_default()
    }
}

impl Field {
    /// Whether Go writes the field even if it is empty.
    fn always_written(&self) -> bool {
        self.shape == Shape::One && !self.pointer && self.kind != Kind::Bytes && self.kind != Kind::Items
    }
}

impl Place {
    fn new(outer: Self, tag: u32) -> Self {
        Self { path: outer.path | (u64::from(tag) << (48 - 16 * u32::from(outer.depth))), depth: outer.depth }
    }

    fn inside(self) -> Self {
        Self { path: self.path, depth: self.depth + 1 }
    }

    fn tag(self, level: u8) -> u32 {
        u32::try_from((self.path >> (48 - 16 * u32::from(level))) & 0xffff).unwrap_or_default()
    }
}
