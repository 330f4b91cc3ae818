//! Objects on their way in and out.

use std::net::Ipv4Addr;

use bytes::Bytes;
use corten_api::codec::{self, Findings};
use corten_api::names::Names;
use corten_api::selector::{Fields, Labels};
use corten_api::status::Status;
use corten_base::Timestamp;
use corten_kinds::AnyKind;
use http::header::{CONTENT_TYPE, WARNING};
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use crate::body::{self, Answer};
use crate::negotiate::{Form, Shape};
use crate::request::{Query, Request};
use crate::server::Server;
use crate::table;

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

/// Parses a body by its content type.
pub(crate) fn parse(request: &Request) -> Result<(Value, Findings), Status> {
    let kind = request.header(CONTENT_TYPE).unwrap_or("application/json");
    let result = match kind.split(';').next().unwrap_or_default().trim() {
        // Some clients send JSON without saying so.
        "application/json" | "" | "*/*" => codec::json(&request.body),
        "application/yaml" | "application/x-yaml" | "text/yaml" => codec::yaml(&request.body),
        _ => {
            return Err(Status::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml",
            ));
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
    let (mut value, findings) = parse(request).map_err(|mut status| {
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

/// Which objects of a kind are asked for.
pub(crate) struct Filter {
    kind: &'static dyn AnyKind,
    labels: Labels,
    fields: Fields,
}

impl Filter {
    pub(crate) fn parse(kind: &'static dyn AnyKind, query: &Query) -> Result<Self, Status> {
        let labels = query.get("labelSelector").map_or(Ok(Labels::default()), Labels::parse);
        let labels = labels.map_err(|error| Status::bad_request(error.0))?;
        let text = query.get("fieldSelector").unwrap_or_default();
        let fields = Fields::parse(text).map_err(|error| Status::bad_request(error.0))?;
        let known =
            |name: &str| ["metadata.name", "metadata.namespace"].contains(&name) || kind.field_names().contains(&name);
        if let Some((name, ..)) = fields.terms.iter().find(|(name, ..)| !known(name)) {
            let names = kind.names();
            let gvr = format!("{}/{}, Resource={}", names.group, names.version, names.plural);
            return Err(Status::bad_request(format!(
                "Unable to find {gvr:?} that match label selector \"\", field selector {text:?}: field label not supported: {name}"
            )));
        }
        Ok(Self { kind, labels, fields })
    }

    /// Limits the filter to one name, as a watch on one object does.
    pub(crate) fn only(&mut self, name: &str) {
        self.fields.terms.push(("metadata.name".to_owned(), name.to_owned(), true));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The one name that can match, if the filter names one.
    pub(crate) fn name(&self) -> Option<&str> {
        self.fields.exact("metadata.name")
    }

    pub(crate) fn matches(&self, bytes: &[u8]) -> bool {
        if self.is_empty() {
            return true;
        }
        serde_json::from_slice::<Value>(bytes).is_ok_and(|object| self.matches_value(&object))
    }

    fn matches_value(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let label = |key: &str| metadata["labels"][key].as_str();
        if !self.labels.matches_by(label) {
            return false;
        }
        if self.fields.is_empty() {
            return true;
        }
        let own = self.kind.fields(object);
        self.fields.matches(|name| match name {
            "metadata.name" | "metadata.namespace" => {
                Some(metadata[name.trim_start_matches("metadata.")].as_str().unwrap_or_default().to_owned())
            }
            _ => own.iter().find(|(own, _)| *own == name).map(|(_, value)| value.clone()),
        })
    }
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
    let answer = match form.shape {
        Shape::Table => {
            let table = table::of(server, request, form, kind, std::slice::from_ref(bytes), json!({}))?;
            value(code, form, &table)
        }
        Shape::Metadata => value(code, form, &partial(form, bytes)?),
        Shape::Object | Shape::Discovery(_) if form.yaml => {
            value(code, form, &serde_json::from_slice(&served(kind, bytes)?).map_err(Status::internal)?)
        }
        Shape::Object | Shape::Discovery(_) => body::json(code, served(kind, bytes)?),
    };
    Ok(warned(answer, warnings))
}

/// The metadata alone.
pub(crate) fn partial(form: Form, bytes: &[u8]) -> Result<Value, Status> {
    let object: Value = serde_json::from_slice(bytes).map_err(Status::internal)?;
    let version = format!("meta.k8s.io/{}", form.version);
    Ok(json!({"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": object["metadata"]}))
}

/// Answers with a value, in JSON or YAML.
pub(crate) fn value(code: StatusCode, form: Form, value: &Value) -> Answer {
    if form.yaml
        && let Ok(text) = serde_saphyr::to_string(value)
    {
        return body::answer(code, HeaderValue::from_static("application/yaml"), body::full(text));
    }
    body::value(code, value)
}

/// Adds warnings, as RFC 7234 has them.
pub(crate) fn warned(mut answer: Answer, warnings: &Warnings) -> Answer {
    for warning in warnings {
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
