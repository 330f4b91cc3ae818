//! `Status`: how the API says no.
//!
//! Shapes and wording: k8s.io/apimachinery/pkg/api/errors.

use serde_json::{Value, json};

use crate::field::FieldErrors;
use crate::names::Names;

/// An answer that is not an object: HTTP code, reason, message and details.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason, such as `NotFound`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// `details` of the `Status` object, if any.
    pub details: Option<Value>,
}

impl Status {
    /// A failure without details.
    #[must_use]
    pub fn failure(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    /// 400 `BadRequest`.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    /// 401 `Unauthorized`.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::failure(401, "Unauthorized", "Unauthorized")
    }

    /// 403 `Forbidden` for a resource.
    #[must_use]
    pub fn forbidden(names: &Names, name: &str, why: &str) -> Self {
        let resource = names.qualified_resource();
        let message = if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} \"{name}\" is forbidden: {why}")
        };
        Self::failure(403, "Forbidden", message).about(names, name)
    }

    /// 404 `NotFound` for an object.
    #[must_use]
    pub fn not_found(names: &Names, name: &str) -> Self {
        Self::failure(404, "NotFound", format!("{} \"{name}\" not found", names.qualified_resource()))
            .about(names, name)
    }

    /// 404 `NotFound` for a path that nothing is served on.
    #[must_use]
    pub fn no_such_path() -> Self {
        let mut status = Self::failure(404, "NotFound", "the server could not find the requested resource");
        status.details = Some(json!({}));
        status
    }

    /// 405 `MethodNotAllowed`.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::failure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    }

    /// 409 `AlreadyExists`.
    #[must_use]
    pub fn already_exists(names: &Names, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", names.qualified_resource());
        Self::failure(409, "AlreadyExists", message).about(names, name)
    }

    /// 409 `AlreadyExists` for a name that the server drew, again and again.
    #[must_use]
    pub fn no_unique_name(names: &Names, name: &str) -> Self {
        let mut status = Self::already_exists(names, name);
        status.message.push_str(", the server was not able to generate a unique name for the object");
        if let Some(details) = status.details.as_mut() {
            details["retryAfterSeconds"] = 1.into();
        }
        status
    }

    /// 409 `Conflict`.
    #[must_use]
    pub fn conflict(names: &Names, name: &str, why: &str) -> Self {
        let resource = names.qualified_resource();
        let message = format!("Operation cannot be fulfilled on {resource} \"{name}\": {why}");
        Self::failure(409, "Conflict", message).about(names, name)
    }

    /// 409 `Conflict`: the object is not what the writer had read.
    #[must_use]
    pub fn modified(names: &Names, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(names, name, why)
    }

    /// 410 `Expired`: a revision that is compacted.
    #[must_use]
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message)
    }

    /// 415 `UnsupportedMediaType`.
    #[must_use]
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::failure(415, "UnsupportedMediaType", message)
    }

    /// 422 `Invalid`, with a cause per field.
    #[must_use]
    pub fn invalid(names: &Names, name: &str, errs: &FieldErrors) -> Self {
        let kind =
            if names.group.is_empty() { names.kind.to_owned() } else { format!("{}.{}", names.kind, names.group) };
        let lines: Vec<String> = errs.0.iter().map(ToString::to_string).collect();
        let text = if let [line] = lines.as_slice() { line.clone() } else { format!("[{}]", lines.join(", ")) };
        let causes: Vec<Value> = errs
            .0
            .iter()
            .map(|err| json!({"reason": err.problem.reason(), "message": err.problem.to_string(), "field": err.field}))
            .collect();
        let mut status = Self::failure(422, "Invalid", format!("{kind} \"{name}\" is invalid: {text}"));
        status.details = Some(json!({"name": name, "group": names.group, "kind": names.kind, "causes": causes}));
        if names.group.is_empty()
            && let Some(details) = status.details.as_mut().and_then(Value::as_object_mut)
        {
            details.shift_remove("group");
        }
        status
    }

    /// 500 `InternalError`.
    #[must_use]
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::failure(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    /// Says which object this is about. `kind` in details is the resource, as upstream has it.
    #[must_use]
    fn about(mut self, names: &Names, name: &str) -> Self {
        let mut details = serde_json::Map::new();
        if !name.is_empty() {
            details.insert("name".into(), name.into());
        }
        if !names.group.is_empty() {
            details.insert("group".into(), names.group.into());
        }
        details.insert("kind".into(), names.plural.into());
        self.details = Some(Value::Object(details));
        self
    }

    /// The `Status` object as clients read it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if let (Some(details), Some(map)) = (&self.details, object.as_object_mut()) {
            map.insert("details".into(), details.clone());
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPLOYMENTS: Names = Names {
        group: "apps",
        version: "v1",
        kind: "Deployment",
        plural: "deployments",
        singular: "deployment",
        short: &["deploy"],
        categories: &["all"],
    };

    #[test]
    fn an_invalid_object_names_each_field() {
        let mut errs = FieldErrors::default();
        errs.required("spec.selector", "");
        let status = Status::invalid(&DEPLOYMENTS, "web", &errs);
        assert_eq!(status.message, r#"Deployment.apps "web" is invalid: spec.selector: Required value"#);
        assert_eq!(status.to_json()["details"]["causes"][0]["field"], "spec.selector");
    }

    #[test]
    fn a_missing_object_is_named_with_its_group() {
        let status = Status::not_found(&DEPLOYMENTS, "web");
        assert_eq!(status.message, r#"deployments.apps "web" not found"#);
        assert_eq!(status.code, 404);
    }
}
