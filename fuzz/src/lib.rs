//! What targets share: types to hold values against, and inputs of several values.

use std::sync::LazyLock;

use corten_api::codec::{self, Findings};
use corten_api::protobuf::Protobuf;
use corten_api::schema::{Schema, TypeRef};
use serde_json::Value;

/// All types.
pub static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::build);
/// The transcoder.
pub static PROTOBUF: LazyLock<Protobuf> = LazyLock::new(|| Protobuf::build(&SCHEMA));

/// Kinds whose types have something of everything: keyed lists, sets, atomic and free parts.
const KINDS: [(&str, &str); 5] = [
    ("v1", "Pod"),
    ("v1", "Service"),
    ("apps/v1", "Deployment"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("v1", "ConfigMap"),
];

/// One of the kinds, by an input's first byte: version, kind, type.
pub fn kind(byte: u8) -> (&'static str, &'static str, TypeRef) {
    let (api_version, kind) = KINDS[usize::from(byte) % KINDS.len()];
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let root = SCHEMA.find(group, version, kind).expect("a served kind");
    (api_version, kind, root)
}

/// The values of an input, with zero bytes between them. An input with too few, or one that is no JSON, is no input.
pub fn values<const N: usize>(input: &[u8]) -> Option<[Value; N]> {
    let mut values = Vec::with_capacity(N);
    for part in input.splitn(N, |byte| *byte == 0) {
        values.push(codec::json(part).ok()?.0);
    }
    values.try_into().ok()
}

/// A value as its type has it; `None` if it does not fit.
pub fn conform(root: TypeRef, mut value: Value) -> Option<Value> {
    codec::conform(&SCHEMA, root, &mut value, &mut Findings::default()).ok()?;
    Some(value)
}
