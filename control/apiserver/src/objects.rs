//! Objects on their way in and out.

use std::net::Ipv4Addr;

use bytes::Bytes;
use corten_api::codec::{self, Findings};
use corten_api::names::Names;
use corten_api::protobuf;
use corten_api::status::Status;
use corten_base::Timestamp;
use corten_kinds::AnyKind;
use http::header::{CONTENT_TYPE, WARNING};
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use crate::body::Answer;
use crate::negotiate::{Form, MEDIA_TYPES};
use crate::request::{Query, Request};
use crate::server::Server;
use crate::{canonical, lists};

pub(crate) use crate::filter::Filter;

/// What a client is told besides the answer.
pub(crate) type Warnings = Vec<String>;

/// How unknown and duplicate fields are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldValidation {
    Strict,
    Warn,
    Ignore,
}

fn field_validation(query: &Query) -> Result<FieldValidation, Status> {
    match query.get("fieldValidation") {
        Some("Strict") => Ok(FieldValidation::Strict),
        None | Some("Warn") => Ok(FieldValidation::Warn),
        Some("Ignore") => Ok(FieldValidation::Ignore),
        Some(other) => Err(Status::bad_request(format!(
            "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
        ))),
    }
}

/// Parses a body by its content type. `names` are what a body in protobuf is that does not say what it is.
pub(crate) fn parse(server: &Server, request: &Request, names: (&str, &str)) -> Result<(Value, Findings), Status> {
    let kind = request.header(CONTENT_TYPE).unwrap_or("application/json");
    let result = match kind.split(';').next().unwrap_or_default().trim() {
        // Some clients send JSON without saying so.
        "application/json" | "" | "*/*" => codec::json(&request.body),
        "application/yaml" | "application/x-yaml" | "text/yaml" => codec::yaml(&request.body),
        protobuf::MEDIA_TYPE => {
            let decoded = server.protobuf().decode(&request.body, Some(names));
            decoded.map(|decoded| (decoded.value, Findings::default()))
        }
        _ => {
            return Err(Status::unsupported_media_type(format!(
                "the body of the request was in an unknown format - accepted media types include: {MEDIA_TYPES}"
            )));
        }
    };
    result.map_err(|error| Status::bad_request(format!("{error} ({})", summary(&request.body))))
}

/// The beginning of a body, for messages.
fn summary(body: &[u8]) -> String {
    const MOST: usize = 30;
    let (start, more) = (&body[..body.len().min(MOST)], if body.len() > MOST { " ..." } else { "" });
    match start.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(start)),
        Some(_) => format!("{}{more}", crate::discovery::hex(start).to_lowercase()),
    }
}

/// The object in a body, held against the schema of its kind.
pub(crate) fn decode(server: &Server, request: &Request, names: &Names) -> Result<(Value, Warnings), Status> {
    let (mut value, findings) = parse(server, request, (&names.api_version(), names.kind)).map_err(|mut status| {
        if status.code == 400 {
            let kind = names.kind;
            status.message =
                format!("the object provided is unrecognized (must be of type {kind}): {}", status.message);
        }
        status
    })?;
    // What the body leaves out, the path says.
    if let Some(map) = value.as_object_mut() {
        for (field, default) in [("apiVersion", names.api_version()), ("kind", names.kind.to_owned())] {
            if map.get(field).is_none_or(|given| given.is_null() || given.as_str() == Some("")) {
                map.insert(field.to_owned(), default.into());
            }
        }
    }
    conform(server, &request.query, names, value, findings)
}

/// The object in a body, held against the schema of its kind, as it is stored.
pub(crate) fn decode_stored(
    server: &Server,
    request: &Request,
    kind: &dyn AnyKind,
) -> Result<(Value, Warnings), Status> {
    let (value, warnings) = decode(server, request, kind.names())?;
    Ok((kind.to_stored(value)?, warnings))
}

/// A stored object's bytes as the kind is served.
pub(crate) fn served(kind: &dyn AnyKind, bytes: &Bytes) -> Result<Bytes, Status> {
    if !kind.is_view() {
        return Ok(bytes.clone());
    }
    let object = serde_json::from_slice(bytes).map_err(Status::internal)?;
    // The order that stored objects have: what they are first.
    let object = kind.to_served(object)?;
    Ok(object.to_string().into())
}

/// Holds an object against the schema of its kind.
pub(crate) fn conform(
    server: &Server,
    query: &Query,
    names: &Names,
    mut value: Value,
    mut findings: Findings,
) -> Result<(Value, Warnings), Status> {
    field_validation(query)?;
    let (version, kind) = (names.api_version(), names.kind);
    let unrecognized =
        |why: &str| Status::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {why}"));
    if !value.is_object() {
        return Err(unrecognized("couldn't get version/kind; the object is no JSON object"));
    }
    match (value["apiVersion"].as_str(), value["kind"].as_str()) {
        (_, None | Some("")) => return Err(unrecognized("Object 'Kind' is missing")),
        (None | Some(""), _) => return Err(unrecognized("Object 'apiVersion' is missing")),
        (Some(found_version), Some(found)) if found_version != version || found != kind => {
            let short = found_version.rsplit('/').next().unwrap_or_default();
            return Err(Status::bad_request(format!(
                "{found} in version {short:?} cannot be handled as a {kind}: no kind {found:?} of version {found_version:?} is served here, only {kind:?} of {version:?}"
            )));
        }
        _ => {}
    }
    let cannot = |why: &str| {
        Status::bad_request(format!("{kind} in version {:?} cannot be handled as a {kind}: {why}", names.version))
    };
    let root = server.schema().find(names.group, names.version, kind).ok_or_else(Status::no_such_path)?;
    codec::conform(server.schema(), root, &mut value, &mut findings).map_err(|error| cannot(&error.0))?;
    let warnings = judge(query, &findings, |why| cannot(&format!("strict decoding error: {why}")))?;
    Ok((value, warnings))
}

/// What is said of findings: nothing, warnings, or the refusal that `cannot` makes of them.
pub(crate) fn judge(
    query: &Query,
    findings: &Findings,
    cannot: impl FnOnce(&str) -> Status,
) -> Result<Warnings, Status> {
    match field_validation(query)? {
        FieldValidation::Strict if !findings.is_empty() => Err(cannot(&findings.messages().join(", "))),
        FieldValidation::Warn => Ok(findings.messages()),
        _ => Ok(Vec::new()),
    }
}

/// The metadata of an object, made if it is missing.
pub(crate) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    match &mut object["metadata"] {
        Value::Object(map) => map,
        // Set to an object just above.
        _ => unreachable!("metadata is an object"),
    }
}

/// A moment as metadata holds it: to the second.
pub(crate) fn time(at: Timestamp) -> Value {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string().into()
}

/// Answers with one stored object in the form the client wants.
pub(crate) fn show(
    server: &Server,
    request: &Request,
    form: Form,
    kind: &'static dyn AnyKind,
    bytes: &Bytes,
    code: StatusCode,
    warnings: &Warnings,
) -> Result<Answer, Status> {
    let answer = lists::one(server, request, form, kind, bytes, code)?;
    Ok(warned(answer, warnings))
}

/// Writes a stored object's metadata alone, as JSON.
pub(crate) fn write_partial(form: Form, object: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    out.extend_from_slice(b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/");
    out.extend_from_slice(form.version.as_bytes());
    out.extend_from_slice(b"\",\"metadata\":");
    if let Some(range) = canonical::metadata(object) {
        out.extend_from_slice(&object[range]);
    } else {
        let object: Value = serde_json::from_slice(object).map_err(Status::internal)?;
        serde_json::to_writer(&mut *out, &object["metadata"]).map_err(Status::internal)?;
    }
    out.push(b'}');
    Ok(())
}

/// More bytes of warnings than this are too much for the head of an answer: each is cut, and what is over is left out.
const MOST_WARNED: usize = 4 << 10;
/// What each warning is cut to then.
const LONGEST_WARNING: usize = 256;

/// The warnings of which an answer tells.
fn told(warnings: &[String]) -> impl Iterator<Item = &str> {
    let all: usize = warnings.iter().map(String::len).sum();
    let longest = if all > MOST_WARNED { LONGEST_WARNING } else { usize::MAX };
    let cut = move |text: &'_ str| text.floor_char_boundary(longest.min(text.len()));
    let mut left = MOST_WARNED;
    warnings.iter().map_while(move |warning| {
        let text = &warning[..cut(warning)];
        left = left.checked_sub(text.len())?;
        Some(text)
    })
}

/// Adds warnings, as RFC 7234 has them.
pub(crate) fn warned(mut answer: Answer, warnings: &Warnings) -> Answer {
    for warning in told(warnings) {
        let text = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(header) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            answer.headers_mut().append(WARNING, header);
        }
    }
    answer
}

/// The first address of the service range: that of the `kubernetes` service.
pub(crate) fn first_address((network, _): (Ipv4Addr, u8)) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(network) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_fit_into_a_head() {
        let lengths = |warnings: &[String]| told(warnings).map(str::len).collect::<Vec<_>>();
        assert_eq!(lengths(&["a".repeat(4000), "b".to_owned()]), [4000, 1], "short enough in all");
        assert_eq!(lengths(&["a".repeat(5000), "b".to_owned()]), [256, 1]);
        assert_eq!(lengths(&vec!["a".repeat(300); 200]), vec![256; 16]);
        assert_eq!(lengths(&["\u{e4}".repeat(3000), "a".repeat(255) + "\u{e4}"]), [256, 255], "whole characters");
    }
}
