//! Protobuf to the JSON that Go would write of the same object.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde_json::{Map, Number, Value};

use super::wire::{BYTES, FIXED64, Reader, VARINT};
use super::{Field, Kind, MAGIC, Message, MessageRef, Or, Protobuf, Shape};
use crate::codec::DecodeError;
use crate::quantity;

/// Messages in messages that are followed, as deep as JSON may be.
const MOST_DEPTH: usize = 100;
/// Values in an object. Two bytes of protobuf can stand for a large empty message; this bounds what they become.
const MOST_VALUES: usize = 500_000;

pub(super) struct Decoder<'a> {
    protobuf: &'a Protobuf,
    depth: usize,
    values: usize,
    /// Whether an error has been said where it is.
    located: bool,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(protobuf: &'a Protobuf) -> Self {
        Self { protobuf, depth: 0, values: 0, located: false }
    }

    /// Reads a message into what is there of it already, and adds what Go's JSON shows even if it is empty.
    pub(super) fn message(
        &mut self,
        message: MessageRef,
        bytes: &[u8],
        into: &mut Map<String, Value>,
    ) -> Result<(), DecodeError> {
        let message = self.protobuf.message(message);
        self.fields(message, bytes, into)?;
        self.fill(message, into)
    }

    fn fields(&mut self, message: &Message, bytes: &[u8], into: &mut Map<String, Value>) -> Result<(), DecodeError> {
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            return Err(DecodeError("proto: exceeded the maximum depth".to_owned()));
        }
        let mut reader = Reader::new(bytes);
        while let Some((tag, wire)) = reader.key()? {
            let Some(field) = message.by_tag(tag) else {
                reader.skip(wire)?;
                continue;
            };
            if let Err(error) = self.field(field, wire, &mut reader, into) {
                return Err(self.within(message, field, error));
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn field(
        &mut self,
        field: &Field,
        wire: u8,
        reader: &mut Reader<'_>,
        into: &mut Map<String, Value>,
    ) -> Result<(), DecodeError> {
        match field.shape {
            Shape::One => {
                if let Kind::Inline(inner) = field.kind {
                    expect(wire, BYTES)?;
                    let inner = self.protobuf.message(inner);
                    return self.fields(inner, reader.bytes()?, into);
                }
                let known = into.get_mut(&*field.name).map(Value::take);
                let value = self.element(field.kind, wire, reader, known)?;
                if !field.pointer && !field.shown && is_zero(&value) {
                    into.shift_remove(&*field.name);
                } else {
                    into.insert(field.name.to_string(), value);
                }
            }
            Shape::List => {
                let entry = into.entry(field.name.to_string()).or_insert(Value::Null);
                if !entry.is_array() {
                    *entry = Value::Array(Vec::new());
                }
                let Value::Array(items) = entry else { return Ok(()) };
                let packable = matches!(field.kind, Kind::Int32 | Kind::Int64 | Kind::Bool);
                if packable && wire == BYTES {
                    let mut packed = Reader::new(reader.bytes()?);
                    while !packed.is_empty() {
                        items.push(self.element(field.kind, VARINT, &mut packed, None)?);
                    }
                } else {
                    items.push(self.element(field.kind, wire, reader, None)?);
                }
            }
            Shape::Map => {
                expect(wire, BYTES)?;
                let (key, value) = self.entry(field.kind, reader.bytes()?)?;
                let entry = into.entry(field.name.to_string()).or_insert(Value::Null);
                if !entry.is_object() {
                    *entry = Value::Object(Map::new());
                }
                if let Value::Object(map) = entry {
                    map.insert(key, value);
                }
            }
        }
        Ok(())
    }

    /// An entry of a map: a key and a value, either of which may be missing.
    fn entry(&mut self, kind: Kind, bytes: &[u8]) -> Result<(String, Value), DecodeError> {
        let mut reader = Reader::new(bytes);
        let (mut key, mut value) = (String::new(), None);
        while let Some((tag, wire)) = reader.key()? {
            match tag {
                1 => {
                    expect(wire, BYTES)?;
                    key = text(reader.bytes()?)?.to_owned();
                }
                2 => value = Some(self.element(kind, wire, &mut reader, None)?),
                _ => reader.skip(wire)?,
            }
        }
        let value = match value {
            Some(value) => value,
            // An entry that is there holds bytes, if only none.
            None if matches!(kind, Kind::Bytes) => Value::String(String::new()),
            None => self.zero(kind)?,
        };
        Ok((key, value))
    }

    /// A value. `known` is what an earlier occurrence of the field left.
    fn element(
        &mut self,
        kind: Kind,
        wire: u8,
        reader: &mut Reader<'_>,
        known: Option<Value>,
    ) -> Result<Value, DecodeError> {
        self.count()?;
        expect(
            wire,
            match kind {
                Kind::Bool | Kind::Int32 | Kind::Int64 => VARINT,
                Kind::Double => FIXED64,
                _ => BYTES,
            },
        )?;
        Ok(match kind {
            Kind::String => Value::String(text(reader.bytes()?)?.to_owned()),
            Kind::Bool => Value::Bool(reader.varint()? != 0),
            Kind::Int32 => Value::Number(int32(reader.varint()?).into()),
            Kind::Int64 => Value::Number(reader.varint()?.cast_signed().into()),
            Kind::Double => {
                let number = Number::from_f64(f64::from_bits(reader.fixed64()?));
                Value::Number(number.ok_or_else(|| DecodeError("json: unsupported value".to_owned()))?)
            }
            Kind::Bytes => Value::String(STANDARD.encode(reader.bytes()?)),
            Kind::Time => time(reader.bytes()?, false)?,
            Kind::MicroTime => time(reader.bytes()?, true)?,
            Kind::Quantity => {
                let given = last_string(reader.bytes()?, 1)?;
                let canonical = given.map_or(Ok("0".to_owned()), quantity::canonical);
                Value::String(canonical.map_err(|error| DecodeError(error.to_string()))?)
            }
            Kind::IntOrString => int_or_string(reader.bytes()?)?,
            Kind::Raw => self.raw(reader.bytes()?)?,
            Kind::Items => {
                let mut inner = Reader::new(reader.bytes()?);
                let mut items = Vec::new();
                while let Some((tag, wire)) = inner.key()? {
                    if tag == 1 {
                        items.push(self.element(Kind::String, wire, &mut inner, None)?);
                    } else {
                        inner.skip(wire)?;
                    }
                }
                Value::Array(items)
            }
            Kind::Message(message) | Kind::Inline(message) => {
                let mut map = match known {
                    Some(Value::Object(map)) => map,
                    _ => Map::new(),
                };
                self.message(message, reader.bytes()?, &mut map)?;
                Value::Object(map)
            }
            Kind::SchemaOr(or, schema) => self.schema_or(or, schema, reader.bytes()?)?,
        })
    }

    /// JSON in a message of its own, or a whole body in its place.
    fn raw(&mut self, bytes: &[u8]) -> Result<Value, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut raw: &[u8] = &[];
        while let Some((tag, wire)) = reader.key()? {
            match (tag, wire) {
                (1, BYTES) => raw = reader.bytes()?,
                (_, wire) => reader.skip(wire)?,
            }
        }
        if raw.is_empty() {
            return Ok(Value::Null);
        }
        if raw.starts_with(MAGIC) {
            self.depth += 1;
            if self.depth > MOST_DEPTH {
                return Err(DecodeError("proto: exceeded the maximum depth".to_owned()));
            }
            let envelope = super::envelope::Envelope::read(raw)?;
            let message = self.protobuf.find(envelope.api_version, envelope.kind);
            let message = message.ok_or_else(|| DecodeError(format!("no kind {:?} is registered", envelope.kind)))?;
            let mut map = Map::new();
            map.insert("kind".to_owned(), envelope.kind.into());
            map.insert("apiVersion".to_owned(), envelope.api_version.into());
            self.message(message, envelope.raw, &mut map)?;
            self.depth -= 1;
            return Ok(Value::Object(map));
        }
        serde_json::from_slice(raw).map_err(|error| DecodeError(format!("json parse error: {error}")))
    }

    fn schema_or(&mut self, or: Or, schema: MessageRef, bytes: &[u8]) -> Result<Value, DecodeError> {
        let (schema_tag, other_tag) = match or {
            Or::Bool => (2, 1),
            Or::Array | Or::Strings => (1, 2),
        };
        let (mut found, mut others, mut allows) = (None, Vec::new(), false);
        let mut reader = Reader::new(bytes);
        while let Some((tag, wire)) = reader.key()? {
            if tag == schema_tag {
                found = Some(self.element(Kind::Message(schema), wire, &mut reader, found)?);
            } else if tag != other_tag {
                reader.skip(wire)?;
            } else {
                match or {
                    Or::Bool => {
                        expect(wire, VARINT)?;
                        allows = reader.varint()? != 0;
                    }
                    Or::Array => others.push(self.element(Kind::Message(schema), wire, &mut reader, None)?),
                    Or::Strings => others.push(self.element(Kind::String, wire, &mut reader, None)?),
                }
            }
        }
        Ok(match (or, found) {
            (Or::Array | Or::Strings, _) if !others.is_empty() => Value::Array(others),
            (_, Some(schema)) => schema,
            (Or::Bool, None) => Value::Bool(allows),
            (_, None) => Value::Null,
        })
    }

    /// Adds what Go's JSON shows even if it is empty.
    fn fill(&mut self, message: &Message, into: &mut Map<String, Value>) -> Result<(), DecodeError> {
        for &index in &message.shown {
            let field = &message.slots[index].field;
            if into.contains_key(&*field.name) {
                continue;
            }
            self.count()?;
            let zero = if field.pointer || field.shape != Shape::One { Value::Null } else { self.zero(field.kind)? };
            into.insert(field.name.to_string(), zero);
        }
        Ok(())
    }

    fn zero(&mut self, kind: Kind) -> Result<Value, DecodeError> {
        Ok(match kind {
            Kind::String => Value::String(String::new()),
            Kind::Bool => Value::Bool(false),
            Kind::Int32 | Kind::Int64 | Kind::Double | Kind::IntOrString => Value::Number(0.into()),
            Kind::Quantity => Value::String("0".to_owned()),
            Kind::Message(message) | Kind::Inline(message) => {
                let mut map = Map::new();
                self.fill(self.protobuf.message(message), &mut map)?;
                Value::Object(map)
            }
            Kind::SchemaOr(Or::Bool, _) => Value::Bool(false),
            Kind::Bytes | Kind::Time | Kind::MicroTime | Kind::Raw | Kind::Items | Kind::SchemaOr(..) => Value::Null,
        })
    }

    /// Says where an error is: the innermost field.
    fn within(&mut self, message: &Message, field: &Field, error: DecodeError) -> DecodeError {
        if std::mem::replace(&mut self.located, true) {
            return error;
        }
        let name = if field.name.is_empty() { "inlined fields" } else { &field.name };
        DecodeError(format!("{} (in {}.{name})", error.0, message.short_name()))
    }

    fn count(&mut self) -> Result<(), DecodeError> {
        self.values += 1;
        if self.values > MOST_VALUES {
            return Err(DecodeError(format!("proto: the object has more than {MOST_VALUES} values")));
        }
        Ok(())
    }
}

fn expect(wire: u8, wanted: u8) -> Result<(), DecodeError> {
    if wire == wanted { Ok(()) } else { Err(DecodeError(format!("proto: wrong wireType = {wire}"))) }
}

fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    str::from_utf8(bytes).map_err(|_| DecodeError("proto: a string must be valid UTF-8".to_owned()))
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

/// As Go does, the lower half counts.
fn int32(wide: u64) -> i32 {
    let [a, b, c, d, ..] = wide.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

/// The last string under a tag.
fn last_string(bytes: &[u8], wanted: u32) -> Result<Option<&str>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut found = None;
    while let Some((tag, wire)) = reader.key()? {
        match (tag, wire) {
            (tag, BYTES) if tag == wanted => found = Some(text(reader.bytes()?)?),
            (_, wire) => reader.skip(wire)?,
        }
    }
    Ok(found)
}

fn int_or_string(bytes: &[u8]) -> Result<Value, DecodeError> {
    let mut reader = Reader::new(bytes);
    let (mut kind, mut number, mut string) = (0, 0, "");
    while let Some((tag, wire)) = reader.key()? {
        match (tag, wire) {
            (1, VARINT) => kind = reader.varint()?,
            (2, VARINT) => number = int32(reader.varint()?),
            (3, BYTES) => string = text(reader.bytes()?)?,
            (_, wire) => reader.skip(wire)?,
        }
    }
    match kind {
        0 => Ok(Value::Number(number.into())),
        1 => Ok(Value::String(string.to_owned())),
        _ => Err(DecodeError("impossible IntOrString.Type".to_owned())),
    }
}

/// A moment; `null` for Go's zero time.
fn time(bytes: &[u8], micro: bool) -> Result<Value, DecodeError> {
    let mut reader = Reader::new(bytes);
    if reader.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0, 0);
    while let Some((tag, wire)) = reader.key()? {
        match (tag, wire) {
            (1, VARINT) => seconds = reader.varint()?.cast_signed(),
            (2, VARINT) => nanos = int32(reader.varint()?),
            (_, wire) => reader.skip(wire)?,
        }
    }
    // Times in JSON are to the second, and so are those in protobuf.
    let time = Timestamp::new(seconds, if micro { nanos } else { 0 });
    let time = time.map_err(|_| DecodeError(format!("proto: no time has {seconds} seconds, {nanos} nanoseconds")))?;
    let printer = DateTimePrinter::new().precision(Some(if micro { 6 } else { 0 }));
    Ok(Value::String(printer.timestamp_to_string(&time)))
}
