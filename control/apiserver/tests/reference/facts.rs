//! A server's description as small facts, a line each, so that two of them can be held side by side.
//!
//! `GET /api/v1/pods` and what it takes (` ?limit`, ` body`) and answers; `io.k8s.api.core.v1.Pod` and its properties
//! (`.spec`) with what is known of each (` list-type`); `apps/v1 deployments/scale patch` as discovery tells it.

use std::collections::BTreeMap;

use serde_json::Value;

/// Facts and their values.
pub(crate) type Facts = BTreeMap<String, String>;

/// What an OpenAPI v2 document says.
pub(crate) fn described(document: &Value, facts: &mut Facts) {
    for (path, item) in entries(&document["paths"]) {
        for (method, operation) in operations(item) {
            let key = format!("{} {path}", method.to_uppercase());
            facts.insert(key.clone(), format!("{} {}", text(&operation["x-kubernetes-action"]), gvk_of(operation)));
            let parameters = [item, operation].map(|holder| holder["parameters"].as_array().into_iter().flatten());
            for parameter in parameters.into_iter().flatten() {
                let parameter = resolved(document, parameter);
                match text(&parameter["in"]) {
                    "query" => facts.insert(format!("{key} ?{}", text(&parameter["name"])), kind_of(parameter)),
                    "body" => facts.insert(format!("{key} body"), kind_of(&parameter["schema"])),
                    _ => None,
                };
            }
            for (code, answer) in entries(&operation["responses"]) {
                facts.insert(format!("{key} {code}"), kind_of(&answer["schema"]));
            }
            for what in ["consumes", "produces"] {
                let kinds = operation[what].as_array().into_iter().flatten();
                kinds.for_each(|kind| drop(facts.insert(format!("{key} {what} {}", text(kind)), String::new())));
            }
        }
    }
    for (name, definition) in entries(&document["definitions"]) {
        facts.insert(name.clone(), kind_of(definition));
        marks(name, definition, facts);
        for (property, schema) in entries(&definition["properties"]) {
            let key = format!("{name}.{property}");
            facts.insert(key.clone(), kind_of(schema));
            marks(&key, schema, facts);
        }
        for property in definition["required"].as_array().into_iter().flatten() {
            facts.insert(format!("{name}.{} required", text(property)), String::new());
        }
    }
}

/// The operation or definition that a fact is a detail of.
pub(crate) fn holder(fact: &str) -> Option<&str> {
    let mut spaces = fact.match_indices(' ').map(|(at, _)| at);
    if fact.starts_with("io.") {
        let name = &fact[..spaces.next().unwrap_or(fact.len())];
        // Definitions are named `…v1.Pod`, their properties `…v1.Pod.spec`: the last capital begins the name.
        let parts: Vec<&str> = name.split('.').collect();
        let own = parts.iter().rposition(|part| part.starts_with(char::is_uppercase))?;
        let holder = &name[..parts[..=own].join(".").len()];
        return (holder != fact).then_some(holder);
    }
    let detail = spaces.nth(1)?;
    fact[..detail].contains('/').then(|| &fact[..detail]).filter(|holder| holder.contains(" /"))
}

/// The extensions of a definition or property.
fn marks(key: &str, schema: &Value, facts: &mut Facts) {
    for (name, value) in entries(schema) {
        if let Some(name) = name.strip_prefix("x-kubernetes-") {
            let mut value = value.clone();
            if name == "group-version-kind"
                && let Some(kinds) = value.as_array_mut()
            {
                kinds.sort_by_key(Value::to_string);
            }
            facts.insert(format!("{key} {name}"), canonical(value).to_string());
        }
    }
}

/// The value with the fields of its objects in order, which means nothing in JSON.
fn canonical(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(canonical).collect(),
        Value::Object(map) => {
            let fields: BTreeMap<String, Value> =
                map.into_iter().map(|(name, value)| (name, canonical(value))).collect();
            fields.into_iter().collect()
        }
        other => other,
    }
}

/// What discovery should say, read from a document's paths.
pub(crate) fn discoverable(document: &Value, facts: &mut Facts) {
    for (path, item) in entries(&document["paths"]) {
        let Some((group_version, resource)) = resource(path) else { continue };
        for (method, operation) in operations(item) {
            let verb = match (text(&operation["x-kubernetes-action"]), method.as_str()) {
                ("post", _) => "create",
                ("put", _) => "update",
                ("watchlist", _) => "watch",
                ("connect", "post") => "create",
                ("connect", "put") => "update",
                ("connect", method @ ("get" | "patch" | "delete")) => method,
                ("connect" | "", _) => continue,
                (action, _) => action,
            };
            facts.insert(format!("{group_version} {resource} {verb}"), gvk_of(operation));
        }
    }
}

/// `apps/v1` and `deployments/scale` of a path; none for paths that name no resource.
fn resource(path: &str) -> Option<(String, String)> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (group_version, mut rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ((*version).to_owned(), rest),
        ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
        _ => return None,
    };
    if let ["watch", inner @ ..] = rest {
        rest = inner;
    }
    if let ["namespaces", "{namespace}", inner @ ..] = rest {
        rest = inner;
    }
    match rest {
        [resource] | [resource, "{name}"] => Some((group_version, (*resource).to_owned())),
        [resource, "{name}", sub, ..] => Some((group_version, format!("{resource}/{sub}"))),
        _ => None,
    }
}

/// What an `APIResourceList` says.
pub(crate) fn discovered(list: &Value, facts: &mut Facts) {
    let group_version = text(&list["groupVersion"]);
    for resource in list["resources"].as_array().into_iter().flatten() {
        let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
        let own = |field: &str, default: &str| resource[field].as_str().unwrap_or(default).to_owned();
        let kind = format!("{}/{}/{}", own("group", group), own("version", version), own("kind", ""));
        for verb in resource["verbs"].as_array().into_iter().flatten() {
            facts.insert(format!("{group_version} {} {}", text(&resource["name"]), text(verb)), kind.clone());
        }
    }
}

/// The defaults that an OpenAPI v3 document names, but those that every string and object has.
pub(crate) fn defaulted(document: &Value, facts: &mut Facts) {
    for (name, definition) in entries(&document["components"]["schemas"]) {
        for (property, schema) in entries(&definition["properties"]) {
            let value = &schema["default"];
            if !(value.is_null() || *value == "" || *value == 0 || *value == false || value.is_object()) {
                facts.insert(format!("{name}.{property} default"), value.to_string());
            }
        }
    }
}

/// The defaults that the field table declares for definitions of the document.
pub(crate) fn declared_defaults(table: &str, document: &Value, facts: &mut Facts) {
    for row in table.lines().skip(1) {
        let cells: Vec<&str> = row.split('\t').collect();
        let &[package, name, _, property, .., markers] = cells.as_slice() else { continue };
        let definition = format!("io.{}.{name}", package.replace('/', ".")).replace("io.k8s.io.", "io.k8s.");
        if document["definitions"].get(&definition).is_none() {
            continue;
        }
        let Some((_, default)) = markers.split_once("+default=") else { continue };
        let default = match default.split(" +").next().unwrap_or_default().trim() {
            "0" | "false" | "\"\"" => continue,
            "ref(AzureDataDiskCachingReadWrite)" => "\"ReadWrite\"",
            "ref(AzureSharedBlobDisk)" => "\"Shared\"",
            default => default,
        };
        facts.insert(format!("{definition}.{property} default"), default.to_owned());
    }
}

/// `array of string`, `Pod`, `integer int32`: the shape of a schema, definitions by their names.
fn kind_of(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        return reference.trim_start_matches("#/definitions/").to_owned();
    }
    let mut kind = text(&schema["type"]).to_owned();
    if let Some(format) = schema["format"].as_str() {
        kind = format!("{kind} {format}");
    }
    for (field, word) in [("items", "of"), ("additionalProperties", "to")] {
        if schema[field].is_object() {
            kind = format!("{kind} {word} {}", kind_of(&schema[field]));
        }
    }
    kind
}

fn gvk_of(operation: &Value) -> String {
    let own = &operation["x-kubernetes-group-version-kind"];
    if own.is_null() {
        return String::new();
    }
    format!("{}/{}/{}", text(&own["group"]), text(&own["version"]), text(&own["kind"]))
}

fn resolved<'a>(document: &'a Value, parameter: &'a Value) -> &'a Value {
    let name = parameter["$ref"].as_str().and_then(|path| path.strip_prefix("#/parameters/"));
    name.map_or(parameter, |name| &document["parameters"][name])
}

fn operations(item: &Value) -> impl Iterator<Item = (&String, &Value)> {
    entries(item).filter(|(method, _)| *method != "parameters")
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn details_know_what_they_belong_to() {
    for (fact, wanted) in [
        ("GET /api/v1/pods ?watch", Some("GET /api/v1/pods")),
        ("GET /api/v1/pods", None),
        ("GET /api/v1/pods consumes */*", Some("GET /api/v1/pods")),
        ("apps/v1 deployments/scale get", None),
        ("io.k8s.api.core.v1.Pod", None),
        ("io.k8s.api.core.v1.Pod.spec", Some("io.k8s.api.core.v1.Pod")),
        ("io.k8s.api.core.v1.Pod.spec list-type", Some("io.k8s.api.core.v1.Pod")),
        ("io.k8s.api.core.v1.Pod group-version-kind", Some("io.k8s.api.core.v1.Pod")),
    ] {
        assert_eq!(holder(fact), wanted, "{fact}");
    }
}
