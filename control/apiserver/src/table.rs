//! Objects as rows, for `kubectl get`.

use bytes::Bytes;
use corten_api::status::Status;
use corten_kinds::AnyKind;
use serde_json::{Value, json};

use crate::negotiate::Form;
use crate::server::Server;
use crate::{canonical, objects};

/// A `Table` of stored objects, as JSON.
pub(crate) fn of(
    server: &Server,
    form: Form,
    kind: &'static dyn AnyKind,
    objects: &[Bytes],
    metadata: Value,
    include: Option<&str>,
) -> Result<Vec<u8>, Status> {
    let columns: Vec<Value> = kind
        .columns()
        .iter()
        .map(|column| {
            json!({"name": column.title, "type": column.kind, "format": column.format, "description": "",
                "priority": i32::from(column.wide)})
        })
        .collect();
    write(server, form, kind, objects, metadata, include, &columns.into())
}

/// A `Table` of one stored object whose columns the client knows already.
pub(crate) fn row(
    server: &Server,
    form: Form,
    kind: &'static dyn AnyKind,
    object: &Bytes,
    include: Option<&str>,
) -> Result<Vec<u8>, Status> {
    write(server, form, kind, std::slice::from_ref(object), json!({}), include, &Value::Null)
}

fn write(
    server: &Server,
    form: Form,
    kind: &'static dyn AnyKind,
    objects: &[Bytes],
    mut metadata: Value,
    include: Option<&str>,
    columns: &Value,
) -> Result<Vec<u8>, Status> {
    let now = server.clock().now();
    if let ([object], true) = (objects, metadata.get("resourceVersion").is_none())
        && let Some(version) = canonical::resource_version(object)
    {
        metadata["resourceVersion"] = version.into();
    }
    let head = json!({"kind": "Table", "apiVersion": format!("meta.k8s.io/{}", form.version), "metadata": metadata,
        "columnDefinitions": columns});
    let mut out = head.to_string().into_bytes();
    out.pop();
    out.reserve(objects.iter().map(|object| object.len() / 2 + 256).sum());
    out.extend_from_slice(b",\"rows\":[");
    for (index, bytes) in objects.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{\"cells\":" } else { b",{\"cells\":" });
        serde_json::to_writer(&mut out, &kind.cells(bytes, now)?).map_err(Status::internal)?;
        out.extend_from_slice(b",\"object\":");
        match include {
            Some("None") => out.extend_from_slice(b"null"),
            Some("Object") => out.extend_from_slice(&objects::served(kind, bytes)?),
            _ => objects::write_partial(form, bytes, &mut out)?,
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}
