//! Paths and operations of a kind.

use serde_json::{Map, Value, json};

use super::Served;
use super::definitions::Form;
use crate::names::Scope;

/// Adds the paths of a kind and its subresources.
pub(super) fn add(paths: &mut Map<String, Value>, kind: &Served, form: Form) {
    let names = kind.names;
    let base = match names.group {
        "" => format!("/api/{}", names.version),
        group => format!("/apis/{group}/{}", names.version),
    };
    let all = format!("{base}/{}", names.plural);
    let collection = match kind.scope {
        Scope::Cluster => all.clone(),
        Scope::Namespaced => format!("{base}/namespaces/{{namespace}}/{}", names.plural),
    };
    let own = (names.group, names.version, names.kind);
    if collection != all {
        paths.insert(all, item(&[("get", "list", "list")], kind, own, form, false));
    }
    let operations =
        [("get", "list", "list"), ("post", "post", "create"), ("delete", "deletecollection", "deletecollection")];
    paths.insert(collection.clone(), item(&operations, kind, own, form, false));
    let operations =
        [("get", "get", "get"), ("put", "put", "update"), ("patch", "patch", "patch"), ("delete", "delete", "delete")];
    let object = format!("{collection}/{{name}}");
    paths.insert(object.clone(), item(&operations, kind, own, form, true));
    for (name, gvk) in kind.subresources {
        let operations = [("get", "get", "get"), ("put", "put", "update"), ("patch", "patch", "patch")];
        paths.insert(format!("{object}/{name}"), item(&operations, kind, *gvk, form, true));
    }
}

/// A path: its operations as (method, action, verb), and the parameters they share.
fn item(
    operations: &[(&str, &str, &str)],
    kind: &Served,
    (group, version, name): (&str, &str, &str),
    form: Form,
    named: bool,
) -> Value {
    let mut path = Map::new();
    for (method, action, verb) in operations.iter().filter(|(_, _, verb)| kind.verbs.contains(verb)) {
        let mut parameters = query(method, form);
        if form == Form::V2 && ["post", "put", "patch"].contains(method) {
            parameters.push(json!({"name": "body", "in": "body", "required": true, "schema": {"type": "object"}}));
        }
        let consumes: &[&str] = match *method {
            "patch" => &[
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/strategic-merge-patch+json",
            ],
            _ => &["*/*"],
        };
        let mut operation = json!({
            "description": format!("{verb} {}", kind.names.plural),
            "operationId": format!("{verb}{}{}{name}", capital(group), capital(version)),
            "parameters": parameters,
            "responses": {"200": {"description": "OK"}, "401": {"description": "Unauthorized"}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": group, "kind": name, "version": version},
        });
        if let Some(operation) = operation.as_object_mut() {
            match form {
                Form::V2 => {
                    operation.insert("consumes".to_owned(), consumes.into());
                    operation.insert("produces".to_owned(), json!(["application/json", "application/yaml"]));
                }
                Form::V3 if ["post", "put", "patch"].contains(method) => {
                    let content: Map<String, Value> = consumes
                        .iter()
                        .map(|kind| ((*kind).to_owned(), json!({"schema": {"type": "object"}})))
                        .collect();
                    operation.insert("requestBody".to_owned(), json!({"content": content, "required": true}));
                }
                Form::V3 => {}
            }
        }
        path.insert((*method).to_owned(), operation);
    }
    let mut shared = Vec::new();
    if kind.scope == Scope::Namespaced {
        shared.push(parameter("namespace", "path", "string", form));
    }
    if named {
        shared.push(parameter("name", "path", "string", form));
    }
    if !shared.is_empty() {
        path.insert("parameters".to_owned(), shared.into());
    }
    path.into()
}

fn query(method: &str, form: Form) -> Vec<Value> {
    let names: &[(&str, &str)] = match method {
        "get" => &[
            ("labelSelector", "string"),
            ("fieldSelector", "string"),
            ("limit", "integer"),
            ("continue", "string"),
            ("resourceVersion", "string"),
            ("watch", "boolean"),
        ],
        "delete" => &[("dryRun", "string"), ("gracePeriodSeconds", "integer"), ("propagationPolicy", "string")],
        _ => &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")],
    };
    names.iter().map(|(name, kind)| parameter(name, "query", kind, form)).collect()
}

fn parameter(name: &str, place: &str, kind: &str, form: Form) -> Value {
    let mut parameter = json!({"name": name, "in": place});
    if let Some(map) = parameter.as_object_mut() {
        if place == "path" {
            map.insert("required".to_owned(), true.into());
        }
        match form {
            Form::V2 => map.insert("type".to_owned(), kind.into()),
            Form::V3 => map.insert("schema".to_owned(), json!({"type": kind})),
        };
    }
    parameter
}

fn capital(word: &str) -> String {
    let word = word.split('.').next().unwrap_or_default();
    let mut letters = word.chars();
    letters.next().map_or_else(|| "Core".to_owned(), |first| first.to_uppercase().chain(letters).collect())
}
