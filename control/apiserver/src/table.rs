//! Objects as rows, for `kubectl get`.

use bytes::Bytes;
use corten_api::status::Status;
use corten_kinds::AnyKind;
use serde_json::{Value, json};

use crate::negotiate::Form;
use crate::objects;
use crate::request::Request;
use crate::server::Server;

/// A `Table` of objects.
pub(crate) fn of(
    server: &Server,
    request: &Request,
    form: Form,
    kind: &'static dyn AnyKind,
    objects: &[Bytes],
    metadata: Value,
) -> Result<Value, Status> {
    rows(server, form, kind, objects, metadata, request.query.get("includeObject"))
}

/// A `Table` of one object.
pub(crate) fn one(
    server: &Server,
    form: Form,
    kind: &'static dyn AnyKind,
    object: &Bytes,
    include: Option<&str>,
) -> Result<Value, Status> {
    rows(server, form, kind, std::slice::from_ref(object), json!({}), include)
}

fn rows(
    server: &Server,
    form: Form,
    kind: &'static dyn AnyKind,
    objects: &[Bytes],
    metadata: Value,
    include: Option<&str>,
) -> Result<Value, Status> {
    let now = server.clock().now();
    let mut rows = Vec::with_capacity(objects.len());
    let mut metadata = metadata;
    for bytes in objects {
        let object = match include {
            Some("None") => Value::Null,
            Some("Object") => serde_json::from_slice(&objects::served(kind, bytes)?).map_err(Status::internal)?,
            _ => objects::partial(form, bytes)?,
        };
        if let ([_], true) = (objects, metadata.get("resourceVersion").is_none()) {
            metadata["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
        }
        let mut row = json!({"cells": kind.cells(bytes, now)?});
        if !object.is_null() {
            row["object"] = object;
        }
        rows.push(row);
    }
    let columns: Vec<Value> = kind
        .columns()
        .iter()
        .map(|column| {
            json!({"name": column.title, "type": column.kind, "format": column.format, "description": "",
                "priority": i32::from(column.wide)})
        })
        .collect();
    Ok(json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{}", form.version),
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    }))
}
