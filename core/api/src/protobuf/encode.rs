//! JSON text to what Go's marshaller writes, in one pass.
//!
//! JSON has fields in any order, protobuf by tag: each message is written as it comes and put in order at its end.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::wire::{FIXED64, VARINT, close, field, key, open, varint};
use super::{Field, Kind, Message, MessageRef, Or, Place, Protobuf, Shape};

/// Why an object cannot be written in protobuf.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The kind has no message.
    #[error("{kind} of {api_version} has no protobuf form")]
    Unknown {
        /// As the object has it.
        api_version: String,
        /// As the object has it.
        kind: String,
    },
    /// The text is no JSON, or a value does not fit its field.
    #[error("cannot write an object in protobuf")]
    Json(#[from] serde_json::Error),
    /// The text is not UTF-8.
    #[error("cannot write an object in protobuf: its JSON is not UTF-8")]
    Utf8(#[from] std::str::Utf8Error),
}

impl EncodeError {
    pub(super) fn unknown(api_version: &str, kind: &str) -> Self {
        Self::Unknown { api_version: api_version.to_owned(), kind: kind.to_owned() }
    }
}

/// Appends the message for a JSON object.
pub(super) fn message(
    protobuf: &Protobuf,
    message: MessageRef,
    json: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let mut encoder = Encoder::new(protobuf);
    encoder.out = std::mem::take(out);
    let result = encoder.read(json, |encoder| MessageSeed { encoder, message: protobuf.message(message) });
    *out = encoder.out;
    result.map(drop)
}

/// A part of a message that has been written.
#[derive(Clone, Copy, Debug)]
struct Segment {
    place: Place,
    start: usize,
    end: usize,
}

pub(super) struct Encoder<'p> {
    protobuf: &'p Protobuf,
    out: Vec<u8>,
    /// Segments of the messages that are being written, the innermost last.
    segments: Vec<Segment>,
    scratch: Vec<u8>,
}

impl<'p> Encoder<'p> {
    pub(super) fn new(protobuf: &'p Protobuf) -> Self {
        Self { protobuf, out: Vec::new(), segments: Vec::new(), scratch: Vec::new() }
    }

    /// Appends one occurrence of a field.
    pub(super) fn element(&mut self, field: &Field, json: &[u8]) -> Result<(), EncodeError> {
        self.read(json, |encoder| Element { encoder, kind: field.kind, tag: field.tag }).map(drop)
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }

    fn read<'e, 'de, S: DeserializeSeed<'de>>(
        &'e mut self,
        json: &'de [u8],
        seed: impl FnOnce(&'e mut Self) -> S,
    ) -> Result<S::Value, EncodeError> {
        let mut json = serde_json::Deserializer::from_str(str::from_utf8(json)?);
        Ok(seed(self).deserialize(&mut json)?)
    }

    /// Writes a field of which there is nothing.
    fn zero(&mut self, kind: Kind, tag: u32) {
        let out = &mut self.out;
        match kind {
            Kind::Bool | Kind::Int32 | Kind::Int64 => {
                key(out, tag, VARINT);
                out.push(0);
            }
            Kind::Double => {
                key(out, tag, FIXED64);
                out.extend_from_slice(&[0; 8]);
            }
            Kind::String | Kind::Bytes | Kind::Time | Kind::MicroTime | Kind::Raw | Kind::Items => field(out, tag, b""),
            Kind::Quantity => field(out, tag, b"\x0a\x010"),
            Kind::IntOrString => field(out, tag, b"\x08\0\x10\0\x1a\0"),
            Kind::SchemaOr(Or::Bool, _) => field(out, tag, b"\x08\0"),
            Kind::SchemaOr(..) => field(out, tag, b""),
            Kind::Message(message) | Kind::Inline(message) => {
                let start = open(out, tag);
                let protobuf = self.protobuf;
                for field in &protobuf.message(message).fields {
                    if field.always_written() {
                        self.zero(field.kind, field.tag);
                    }
                }
                close(&mut self.out, start);
            }
        }
    }

    /// Puts the segments of a message in order, those of inlined messages into these.
    fn arrange(&mut self, first: usize, start: usize) {
        let in_order = self.segments[first..].windows(2).all(|pair| pair[0].place <= pair[1].place);
        let flat = self.segments[first..].iter().all(|segment| segment.place.depth == 0);
        if !(in_order && flat) {
            self.segments[first..].sort_by_key(|segment| segment.place);
            self.scratch.clear();
            self.scratch.extend_from_slice(&self.out[start..]);
            self.out.truncate(start);
            let (scratch, segments) = (std::mem::take(&mut self.scratch), std::mem::take(&mut self.segments));
            emit(&mut self.out, &segments[first..], 0, &scratch, start);
            (self.scratch, self.segments) = (scratch, segments);
        }
        self.segments.truncate(first);
    }
}

/// Copies segments; `base` is where the source began.
fn emit(out: &mut Vec<u8>, segments: &[Segment], level: u8, source: &[u8], base: usize) {
    let mut rest = segments;
    while let Some((segment, others)) = rest.split_first() {
        if segment.place.depth <= level {
            out.extend_from_slice(&source[segment.start - base..segment.end - base]);
            rest = others;
            continue;
        }
        let tag = segment.place.tag(level);
        let inside = rest.iter().take_while(|other| other.place.tag(level) == tag).count();
        let (group, others) = rest.split_at(inside);
        let start = open(out, tag);
        emit(out, group, level + 1, source, base);
        close(out, start);
        rest = others;
    }
}

/// A whole message, without key and length. Its value is whether it was there.
struct MessageSeed<'e, 'p> {
    encoder: &'e mut Encoder<'p>,
    message: &'p Message,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_, '_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object ({})", self.message.short_name())
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let Self { encoder, message } = self;
        let (first, start) = (encoder.segments.len(), encoder.out.len());
        let mut seen = 0_u128;
        while let Some(slot) = map.next_key_seed(SlotSeed(message))? {
            let Some(index) = slot else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let slot = &message.slots[index];
            let at = encoder.out.len();
            if map.next_value_seed(FieldSeed { encoder, field: &slot.field })? {
                seen |= 1 << index;
                encoder.segments.push(Segment { place: slot.place, start: at, end: encoder.out.len() });
            } else {
                encoder.out.truncate(at);
            }
        }
        for &index in &message.always {
            if seen & (1 << index) == 0 {
                let slot = &message.slots[index];
                let at = encoder.out.len();
                encoder.zero(slot.field.kind, slot.field.tag);
                encoder.segments.push(Segment { place: slot.place, start: at, end: encoder.out.len() });
            }
        }
        let end = encoder.out.len();
        for &place in &message.inlines {
            encoder.segments.push(Segment { place, start: end, end });
        }
        encoder.arrange(first, start);
        Ok(true)
    }
}

/// The slot of a key, if the message has one.
struct SlotSeed<'p>(&'p Message);

impl<'de> DeserializeSeed<'de> for SlotSeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for SlotSeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.0.by_name(name))
    }
}

/// All of a field. Its value is whether anything was there.
struct FieldSeed<'e, 'p> {
    encoder: &'e mut Encoder<'p>,
    field: &'p Field,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_, '_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        match self.field.shape {
            Shape::One => {
                Element { encoder: self.encoder, kind: self.field.kind, tag: self.field.tag }.deserialize(deserializer)
            }
            Shape::List | Shape::Map => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = if self.field.shape == Shape::List { "a list" } else { "a map" };
        write!(f, "{shape} for {}", self.field.name)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<bool, A::Error> {
        let Self { encoder, field } = self;
        if field.shape != Shape::List {
            return Err(A::Error::custom(format!("{} must be a map", field.name)));
        }
        while let Some(there) = items.next_element_seed(Element { encoder, kind: field.kind, tag: field.tag })? {
            if !there {
                encoder.zero(field.kind, field.tag);
            }
        }
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let Self { encoder, field } = self;
        if field.shape != Shape::Map {
            return Err(A::Error::custom(format!("{} must be a list", field.name)));
        }
        let start = encoder.out.len();
        // Where the key and the whole of each entry are.
        let mut entries: Vec<(usize, usize, usize, usize)> = Vec::new();
        loop {
            let at = encoder.out.len();
            let inside = open(&mut encoder.out, field.tag);
            let Some(length) = map.next_key_seed(KeySeed(&mut encoder.out))? else {
                encoder.out.truncate(at);
                break;
            };
            let key = encoder.out.len() - length - inside;
            if !map.next_value_seed(Element { encoder, kind: field.kind, tag: 2 })? {
                encoder.zero(field.kind, 2);
            }
            let inside_length = encoder.out.len() - inside;
            close(&mut encoder.out, inside);
            let end = encoder.out.len();
            let key = end - inside_length + key;
            entries.push((key, key + length, at, end));
        }
        let in_order =
            entries.windows(2).all(|pair| encoder.out[pair[0].0..pair[0].1] <= encoder.out[pair[1].0..pair[1].1]);
        if !in_order {
            encoder.scratch.clear();
            encoder.scratch.extend_from_slice(&encoder.out[start..]);
            encoder.out.truncate(start);
            let scratch = &encoder.scratch;
            entries.sort_by(|left, right| {
                scratch[left.0 - start..left.1 - start].cmp(&scratch[right.0 - start..right.1 - start])
            });
            for (_, _, at, end) in entries {
                encoder.out.extend_from_slice(&scratch[at - start..end - start]);
            }
        }
        Ok(true)
    }
}

/// Writes a map's key as field 1. Its value is the length of the key.
struct KeySeed<'e>(&'e mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, text: &str) -> Result<usize, E> {
        field(self.0, 1, text.as_bytes());
        Ok(text.len())
    }
}

/// One value with its key. Its value is whether it was there.
struct Element<'e, 'p> {
    encoder: &'e mut Encoder<'p>,
    kind: Kind,
    tag: u32,
}

impl<'de> DeserializeSeed<'de> for Element<'_, '_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        match self.kind {
            Kind::Raw => {
                let text = <&RawValue as serde::Deserialize>::deserialize(deserializer)?.get();
                if text == "null" {
                    return Ok(false);
                }
                let start = open(&mut self.encoder.out, self.tag);
                field(&mut self.encoder.out, 1, text.as_bytes());
                close(&mut self.encoder.out, start);
                Ok(true)
            }
            Kind::Message(message) => {
                let start = open(&mut self.encoder.out, self.tag);
                let message = self.encoder.protobuf.message(message);
                let there = MessageSeed { encoder: &mut *self.encoder, message }.deserialize(deserializer)?;
                if there {
                    close(&mut self.encoder.out, start);
                } else {
                    // The key and the length of nothing.
                    let mut opening = Vec::new();
                    let size = open(&mut opening, self.tag);
                    self.encoder.out.truncate(start - size);
                }
                Ok(there)
            }
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl Element<'_, '_> {
    fn number<E: Error>(self, number: i64) -> Result<bool, E> {
        let out = &mut self.encoder.out;
        match self.kind {
            Kind::Int32 | Kind::Int64 => {
                key(out, self.tag, VARINT);
                varint(out, number.cast_unsigned());
            }
            Kind::IntOrString => {
                let start = open(out, self.tag);
                out.extend_from_slice(b"\x08\0\x10");
                varint(out, number.cast_unsigned());
                out.extend_from_slice(b"\x1a\0");
                close(out, start);
            }
            Kind::Quantity => return self.text(&number.to_string()),
            Kind::Double => {
                #[expect(clippy::cast_precision_loss, reason = "as Go reads whole numbers into a float64")]
                let number = number as f64;
                return self.double(number);
            }
            kind => return Err(E::custom(format!("{kind:?} cannot be a number"))),
        }
        Ok(true)
    }

    fn double<E: Error>(self, number: f64) -> Result<bool, E> {
        let out = &mut self.encoder.out;
        match self.kind {
            Kind::Double => {
                key(out, self.tag, FIXED64);
                out.extend_from_slice(&number.to_bits().to_le_bytes());
                Ok(true)
            }
            kind => Err(E::custom(format!("{kind:?} cannot be a number with a fraction"))),
        }
    }

    fn text<E: Error>(self, text: &str) -> Result<bool, E> {
        let out = &mut self.encoder.out;
        match self.kind {
            Kind::String => field(out, self.tag, text.as_bytes()),
            Kind::Bytes => {
                let start = open(out, self.tag);
                STANDARD.decode_vec(text, out).map_err(|error| E::custom(format!("illegal base64 data: {error}")))?;
                close(out, start);
            }
            Kind::Time | Kind::MicroTime => {
                // Go's zero time.
                if text.starts_with("0001-01-01T00:00:00") {
                    field(out, self.tag, b"");
                    return Ok(true);
                }
                let time: Timestamp = text.parse().map_err(|_| E::custom(format!("{text:?} is no time")))?;
                let start = open(out, self.tag);
                key(out, 1, VARINT);
                // Fractions of times before 1970 count downwards in jiff, upwards in protobuf.
                let (seconds, nanos) = match (time.as_second(), time.subsec_nanosecond()) {
                    (seconds, nanos) if nanos < 0 => (seconds - 1, nanos + 1_000_000_000),
                    whole => whole,
                };
                varint(out, seconds.cast_unsigned());
                key(out, 2, VARINT);
                let nanos = if self.kind == Kind::MicroTime { nanos / 1000 * 1000 } else { 0 };
                varint(out, u64::from(nanos.unsigned_abs()));
                close(out, start);
            }
            Kind::Quantity => {
                let start = open(out, self.tag);
                field(out, 1, text.as_bytes());
                close(out, start);
            }
            Kind::IntOrString => {
                let start = open(out, self.tag);
                out.extend_from_slice(b"\x08\x01\x10\0");
                field(out, 3, text.as_bytes());
                close(out, start);
            }
            kind => return Err(E::custom(format!("{kind:?} cannot be a string"))),
        }
        Ok(true)
    }
}

impl<'de> Visitor<'de> for Element<'_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of type {:?}", self.kind)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        let out = &mut self.encoder.out;
        match self.kind {
            Kind::Bool => {
                key(out, self.tag, VARINT);
                out.push(u8::from(value));
            }
            Kind::SchemaOr(Or::Bool, _) => field(out, self.tag, &[8, u8::from(value)]),
            kind => return Err(E::custom(format!("{kind:?} cannot be true or false"))),
        }
        Ok(true)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<bool, E> {
        self.number(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<bool, E> {
        match (i64::try_from(value), self.kind) {
            (Ok(number), _) => self.number(number),
            (Err(_), Kind::Quantity) => self.text(&value.to_string()),
            #[expect(clippy::cast_precision_loss, reason = "as Go reads whole numbers into a float64")]
            (Err(_), _) => self.double(value as f64),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<bool, E> {
        self.double(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<bool, E> {
        self.text(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<bool, A::Error> {
        let Self { encoder, kind, tag } = self;
        let (inner, inner_tag) = match kind {
            Kind::Items => (Kind::String, 1),
            Kind::SchemaOr(Or::Array, schema) => (Kind::Message(schema), 2),
            Kind::SchemaOr(Or::Strings, _) => (Kind::String, 2),
            kind => return Err(A::Error::custom(format!("{kind:?} cannot be a list"))),
        };
        let start = open(&mut encoder.out, tag);
        while let Some(there) = items.next_element_seed(Element { encoder, kind: inner, tag: inner_tag })? {
            if !there {
                encoder.zero(inner, inner_tag);
            }
        }
        close(&mut encoder.out, start);
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<bool, A::Error> {
        let Self { encoder, kind, tag } = self;
        let Kind::SchemaOr(or, schema) = kind else {
            return Err(A::Error::custom(format!("{kind:?} cannot be an object")));
        };
        let start = open(&mut encoder.out, tag);
        let inner = match or {
            Or::Bool => {
                encoder.out.extend_from_slice(b"\x08\x01");
                open(&mut encoder.out, 2)
            }
            Or::Array | Or::Strings => open(&mut encoder.out, 1),
        };
        let message = encoder.protobuf.message(schema);
        MessageSeed { encoder: &mut *encoder, message }.visit_map(map)?;
        close(&mut encoder.out, inner);
        close(&mut encoder.out, start);
        Ok(true)
    }
}
