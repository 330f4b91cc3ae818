//! Fields that an apply would change and others own.

use serde_json::{Value, json};

use super::managers::Entry;
use super::set::show;
use super::{Element, FieldSet};
use crate::status::Status;

/// One field that another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The owner, as messages name it: `"kubectl" using apps/v1`.
    pub manager: String,
    /// The field.
    pub path: Vec<Element>,
}

/// The conflicts with one manager.
pub(super) fn with(entry: &Entry, set: &FieldSet) -> impl Iterator<Item = Conflict> {
    let manager = entry.describe();
    set.paths().into_iter().map(move |path| Conflict { manager: manager.clone(), path })
}

/// The refusal of an apply: 409, with a cause per field.
#[must_use]
pub fn conflicts(conflicts: &[Conflict]) -> Status {
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|Conflict { manager, path }| {
            json!({
                "reason": "FieldManagerConflict",
                "message": format!("conflict with {manager}"),
                "field": show(path),
            })
        })
        .collect();
    let message = if let [Conflict { manager, path }] = conflicts {
        format!("Apply failed with 1 conflict: conflict with {manager}: {}", show(path))
    } else {
        let mut managers: Vec<&str> = conflicts.iter().map(|conflict| conflict.manager.as_str()).collect();
        managers.sort_unstable();
        managers.dedup();
        let mut lines = Vec::new();
        for manager in managers {
            lines.push(format!("conflicts with {manager}:"));
            let own = conflicts.iter().filter(|conflict| conflict.manager == manager);
            lines.extend(own.map(|conflict| format!("- {}", show(&conflict.path))));
        }
        format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
    };
    let mut status = Status::failure(409, "Conflict", message);
    status.details = Some(json!({"causes": causes}));
    status
}
