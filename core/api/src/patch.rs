//! JSON patch (RFC 6902), merge patch (RFC 7386) and strategic merge patch.

use serde_json::Value;

use crate::schema::{Schema, TypeRef};

/// Why a patch cannot be applied. `code` is the HTTP code Kubernetes answers (400 or 422).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PatchError {
    /// HTTP code.
    pub code: u16,
    /// What is wrong.
    pub message: String,
}

/// Applies a JSON patch; all or nothing.
pub fn json_patch(_target: &mut Value, _patch: &Value) -> Result<(), PatchError> {
    Err(PatchError { code: 400, message: "not built yet".to_owned() })
}

/// Applies a merge patch.
pub fn merge_patch(_target: &mut Value, _patch: &Value) {}

/// Applies a strategic merge patch, with all directives, by the merge keys of the schema.
pub fn strategic_merge_patch(
    _schema: &Schema,
    _root: TypeRef,
    _target: &mut Value,
    _patch: &Value,
) -> Result<(), PatchError> {
    Err(PatchError { code: 400, message: "not built yet".to_owned() })
}
