//! OpenAPI v2 in gnostic's protobuf form, which kubectl up to 1.26 asks for.
//!
//! Field numbers: github.com/google/gnostic-models/openapiv2/OpenAPIv2.proto.

use serde_json::Value;

/// A message that is being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
            number >>= 7;
        }
        self.0.push(u8::try_from(number).unwrap_or(0));
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A text, if there is one.
    fn text(&mut self, field: u64, value: Option<&Value>) {
        if let Some(text) = value.and_then(Value::as_str) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn texts(&mut self, field: u64, value: Option<&Value>) {
        for text in value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn flag(&mut self, field: u64, value: Option<&Value>) {
        if value == Some(&Value::Bool(true)) {
            self.varint(field << 3);
            self.varint(1);
        }
    }

    fn message(&mut self, field: u64, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    /// A (name, value) pair.
    fn named(&mut self, field: u64, name: &str, write: impl FnOnce(&mut Self)) {
        self.message(field, |pair| {
            pair.bytes(1, name.as_bytes());
            pair.message(2, write);
        });
    }

    /// All `x-` keys; their values are YAML, of which JSON is a part.
    fn extensions(&mut self, field: u64, object: &Value) {
        for (name, value) in entries(object).filter(|(name, _)| name.starts_with("x-")) {
            self.named(field, name, |any| any.bytes(2, value.to_string().as_bytes()));
        }
    }
}

fn entries(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

/// Encodes a document.
pub(super) fn document(document: &Value) -> Vec<u8> {
    let mut message = Message::default();
    message.text(1, document.get("swagger"));
    message.message(2, |info| {
        info.text(1, document["info"].get("title"));
        info.text(2, document["info"].get("version"));
    });
    message.message(8, |paths| {
        for (path, item) in entries(&document["paths"]) {
            paths.named(2, path, |message| path_item(message, item));
        }
    });
    message.message(9, |definitions| {
        for (name, definition) in entries(&document["definitions"]) {
            definitions.named(1, name, |message| schema(message, definition));
        }
    });
    message.message(10, |parameters| {
        for (name, value) in entries(&document["parameters"]) {
            parameters.named(1, name, |message| parameter(message, value));
        }
    });
    message.0
}

fn path_item(message: &mut Message, item: &Value) {
    for (method, field) in
        [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("options", 6), ("head", 7), ("patch", 8)]
    {
        if let Some(value) = item.get(method) {
            message.message(field, |message| operation(message, value));
        }
    }
    parameters(message, 9, item);
}

fn operation(message: &mut Message, operation: &Value) {
    message.texts(1, operation.get("tags"));
    message.text(3, operation.get("description"));
    message.text(5, operation.get("operationId"));
    message.texts(6, operation.get("produces"));
    message.texts(7, operation.get("consumes"));
    parameters(message, 8, operation);
    message.message(9, |responses| {
        for (code, response) in entries(&operation["responses"]) {
            responses.named(1, code, |value| {
                value.message(1, |message| {
                    message.text(1, response.get("description"));
                    if let Some(of) = response.get("schema") {
                        message.message(2, |item| item.message(1, |message| schema(message, of)));
                    }
                });
            });
        }
    });
    message.texts(10, operation.get("schemes"));
    message.extensions(13, operation);
}

fn parameters(message: &mut Message, field: u64, holder: &Value) {
    for item in holder.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        message.message(field, |either| match item.get("$ref") {
            Some(reference) => either.message(2, |message| message.text(1, Some(reference))),
            None => either.message(1, |message| parameter(message, item)),
        });
    }
}

fn parameter(message: &mut Message, value: &Value) {
    match value["in"].as_str() {
        Some("body") => message.message(1, |body| {
            body.text(2, value.get("name"));
            body.text(3, value.get("in"));
            body.flag(4, value.get("required"));
            body.message(5, |message| schema(message, &value["schema"]));
        }),
        place => message.message(2, |non_body| {
            let is_path = place == Some("path");
            // Those in paths have one field less before their type.
            let (field, kind, unique) = if is_path { (4, 5, 19) } else { (3, 6, 20) };
            non_body.message(field, |message| {
                message.flag(1, value.get("required"));
                message.text(2, value.get("in"));
                message.text(3, value.get("description"));
                message.text(4, value.get("name"));
                message.text(kind, value.get("type"));
                message.flag(unique, value.get("uniqueItems"));
            });
        }),
    }
}

fn schema(message: &mut Message, value: &Value) {
    message.text(1, value.get("$ref"));
    message.text(2, value.get("format"));
    message.text(4, value.get("description"));
    message.texts(19, value.get("required"));
    if let Some(inner) = value.get("additionalProperties") {
        message.message(21, |item| item.message(1, |message| schema(message, inner)));
    }
    if value.get("type").is_some() {
        message.message(22, |item| item.text(1, value.get("type")));
    }
    if let Some(items) = value.get("items") {
        message.message(23, |item| item.message(1, |message| schema(message, items)));
    }
    if let Some(properties) = value.get("properties") {
        message.message(25, |list| {
            for (name, property) in entries(properties) {
                list.named(1, name, |message| schema(message, property));
            }
        });
    }
    message.extensions(31, value);
}
