//! Lists in the form that the client wants.

use bytes::Bytes;
use corten_api::status::Status;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::body::{self, Answer};
use crate::negotiate::{Form, Shape, Syntax};
use crate::pieces::JsonList;
use crate::render::PROTOBUF;
use crate::request::Request;
use crate::route::Target;
use crate::server::Server;
use crate::{canonical, objects, table};

/// Answers with stored objects as a list.
pub(crate) fn answer(
    server: &Server,
    request: &Request,
    form: Form,
    target: &Target,
    items: &[Bytes],
    metadata: &Value,
) -> Result<Answer, Status> {
    let names = target.kind.names();
    let (version, kind) = match form.shape {
        Shape::Table => {
            let include = request.query.get("includeObject");
            let table = table::of(server, form, target.kind, items, metadata.clone(), include)?;
            return Ok(body::json(StatusCode::OK, table));
        }
        Shape::Metadata => (format!("meta.k8s.io/{}", form.version), "PartialObjectMetadataList".to_owned()),
        Shape::Object | Shape::Discovery(_) => (names.api_version(), format!("{}List", names.kind)),
    };
    if form.syntax == Syntax::Protobuf {
        return in_protobuf(server, form, target, items, metadata, (&version, &kind));
    }
    let mut head = json!({"kind": kind, "apiVersion": version, "metadata": metadata}).to_string();
    head.pop();
    head.push_str(",\"items\":");
    let item = |item: &Bytes| -> Result<Bytes, Status> {
        if form.shape == Shape::Metadata {
            let mut partial = Vec::with_capacity(item.len() / 2);
            objects::write_partial(form, item, &mut partial)?;
            return Ok(Bytes::from(partial).slice(1..));
        }
        let item = objects::served(target.kind, item)?;
        // In a list of one kind, items need not say what they are; without their opening brace they go on in the list.
        let start = canonical::body(&item).unwrap_or(1);
        Ok(item.slice(start.min(item.len())..))
    };
    let items = items.iter().map(item).collect::<Result<Vec<_>, _>>()?;
    Ok(body::object(StatusCode::OK, JsonList::new(head.into(), items).boxed_unsync()))
}

fn in_protobuf(
    server: &Server,
    form: Form,
    target: &Target,
    items: &[Bytes],
    metadata: &Value,
    (version, kind): (&str, &str),
) -> Result<Answer, Status> {
    let converted: Vec<Bytes>;
    // The metadata of an object is read from the object itself.
    let items = if target.kind.is_view() && form.shape == Shape::Object {
        converted = items.iter().map(|item| objects::served(target.kind, item)).collect::<Result<_, _>>()?;
        converted.as_slice()
    } else {
        items
    };
    let texts = items.iter().map(AsRef::as_ref);
    let pieces = server.protobuf().encode_list(version, kind, metadata.to_string().as_bytes(), texts);
    let bytes = pieces.map_err(|error| Status::internal(corten_base::chain(&error)))?.concat();
    Ok(body::answer(StatusCode::OK, PROTOBUF, body::full(bytes)))
}

/// Answers with one stored object.
pub(crate) fn one(
    server: &Server,
    request: &Request,
    form: Form,
    target: &'static dyn corten_kinds::AnyKind,
    bytes: &Bytes,
    code: StatusCode,
) -> Result<Answer, Status> {
    match form.shape {
        Shape::Table => {
            let include = request.query.get("includeObject");
            Ok(body::json(code, table::of(server, form, target, std::slice::from_ref(bytes), json!({}), include)?))
        }
        Shape::Metadata => {
            let mut partial = Vec::with_capacity(bytes.len() / 2);
            objects::write_partial(form, bytes, &mut partial)?;
            Ok(body::json(code, partial))
        }
        Shape::Object | Shape::Discovery(_) => Ok(body::json(code, objects::served(target, bytes)?)),
    }
}
