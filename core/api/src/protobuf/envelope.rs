//! What is around a message: its version and kind, and the frames of watches.

use serde_json::{Map, Value};

use super::decode::Decoder;
use super::wire::{BYTES, Reader, field, key, varint, varint_len};
use super::{Decoded, EncodeError, MAGIC, MessageRef, Protobuf, encode};
use crate::codec::DecodeError;

/// The fields of an envelope.
#[derive(Default)]
pub(super) struct Envelope<'a> {
    pub(super) api_version: &'a str,
    pub(super) kind: &'a str,
    pub(super) raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    pub(super) fn read(body: &'a [u8]) -> Result<Self, DecodeError> {
        let rest = body.strip_prefix(MAGIC).ok_or_else(|| {
            DecodeError(format!(
                "provided data does not appear to be a protobuf message, expected prefix [{}]",
                MAGIC.map(|byte| byte.to_string()).join(" ")
            ))
        })?;
        let mut envelope = Self::default();
        let mut reader = Reader::new(rest);
        while let Some((tag, wire)) = reader.key()? {
            match (tag, wire) {
                (1, BYTES) => {
                    let mut names = Reader::new(reader.bytes()?);
                    while let Some((tag, wire)) = names.key()? {
                        match (tag, wire) {
                            (1, BYTES) => envelope.api_version = text(names.bytes()?)?,
                            (2, BYTES) => envelope.kind = text(names.bytes()?)?,
                            (_, wire) => names.skip(wire)?,
                        }
                    }
                }
                (2, BYTES) => envelope.raw = reader.bytes()?,
                (_, wire) => reader.skip(wire)?,
            }
        }
        Ok(envelope)
    }
}

fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    str::from_utf8(bytes).map_err(|_| DecodeError("proto: apiVersion and kind must be valid UTF-8".to_owned()))
}

pub(super) fn decode(protobuf: &Protobuf, body: &[u8], default: Option<(&str, &str)>) -> Result<Decoded, DecodeError> {
    let envelope = Envelope::read(body)?;
    let (mut api_version, mut kind) = (envelope.api_version, envelope.kind);
    if let Some((default_version, default_kind)) = default {
        if api_version.is_empty() {
            api_version = default_version;
        }
        if kind.is_empty() {
            kind = default_kind;
        }
    }
    let message = protobuf.find(api_version, kind).ok_or_else(|| {
        DecodeError(format!("no kind {kind:?} is registered for version {api_version:?} in protobuf"))
    })?;
    let mut map = Map::new();
    map.insert("kind".to_owned(), kind.into());
    map.insert("apiVersion".to_owned(), api_version.into());
    Decoder::new(protobuf).message(message, envelope.raw, &mut map)?;
    Ok(Decoded { api_version: api_version.to_owned(), kind: kind.to_owned(), value: Value::Object(map) })
}

pub(super) fn encode(
    protobuf: &Protobuf,
    message: MessageRef,
    api_version: &str,
    kind: &str,
    json: &[u8],
) -> Result<Vec<u8>, EncodeError> {
    let mut raw = Vec::with_capacity(json.len());
    encode::message(protobuf, message, json, &mut raw)?;
    let mut out = head(api_version, kind, raw.len(), raw.len());
    out.extend_from_slice(&raw);
    tail(&mut out);
    Ok(out)
}

/// All of a list: what is before the items' bytes, and the rest.
pub(super) fn list<'a>(
    protobuf: &Protobuf,
    message: MessageRef,
    api_version: &str,
    kind: &str,
    metadata: &[u8],
    items: impl Iterator<Item = &'a [u8]>,
) -> Result<[Vec<u8>; 2], EncodeError> {
    let layout = protobuf.message(message);
    let named = |name: &str| layout.by_name(name).map(|at| &layout.slots[at].field);
    let (Some(meta), Some(entries)) = (named("metadata"), named("items")) else {
        return Err(EncodeError::unknown(api_version, kind));
    };
    let mut encoder = encode::Encoder::new(protobuf);
    let in_order = meta.tag < entries.tag;
    if in_order {
        encoder.element(meta, metadata)?;
    }
    for item in items {
        encoder.element(entries, item)?;
    }
    if !in_order {
        encoder.element(meta, metadata)?;
    }
    let mut raw = encoder.finish();
    let head = head(api_version, kind, raw.len(), 0);
    tail(&mut raw);
    Ok([head, raw])
}

fn head(api_version: &str, kind: &str, length: usize, room: usize) -> Vec<u8> {
    let mut names = Vec::with_capacity(64);
    field(&mut names, 1, api_version.as_bytes());
    field(&mut names, 2, kind.as_bytes());
    let mut out = Vec::with_capacity(names.len() + room + 32);
    out.extend_from_slice(MAGIC);
    field(&mut out, 1, &names);
    key(&mut out, 2, BYTES);
    varint(&mut out, length as u64);
    out
}

/// Content encoding and type, which are empty.
fn tail(out: &mut Vec<u8>) {
    field(out, 3, b"");
    field(out, 4, b"");
}

pub(super) fn watch_frame(event: &str, object: &[u8]) -> Vec<u8> {
    let sized = |length: usize| 1 + varint_len(length as u64) + length;
    let (kind, raw) = (sized(event.len()), sized(object.len()));
    let length = kind + sized(raw);
    let mut out = Vec::with_capacity(length + 4);
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    field(&mut out, 1, event.as_bytes());
    key(&mut out, 2, BYTES);
    varint(&mut out, raw as u64);
    field(&mut out, 1, object);
    out
}
