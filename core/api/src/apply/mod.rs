//! Server-side apply: who owns which field, and how applied configurations are merged into live objects.
//!
//! Behaviour: KEP-555 and sigs.k8s.io/structured-merge-diff. Read in this order:
//! [`Element`] and [`FieldSet`] name fields; `fields_v1` is their JSON; `shape` says how the schema splits values;
//! `extract`, `compare`, `merge`, `remove` and `validate` walk values by shape; [`Managers`] holds the entries of
//! `metadata.managedFields`; `update` and `configuration` put all of it together.
//!
//! Architecture invariant: everything here is a function of its arguments; the caller says what time it is.

mod compare;
mod configuration;
mod conflict;
mod element;
mod extract;
mod fields_v1;
mod managers;
mod merge;
mod remove;
mod set;
mod shape;
#[cfg(test)]
mod tests;
mod update;
mod validate;

use serde_json::Value;

use crate::schema::{Schema, TypeRef};

pub use configuration::{Applied, Problem, apply};
pub use conflict::{Conflict, conflicts};
pub use element::Element;
pub use managers::{Author, Managers, Operation};
pub use set::FieldSet;
pub use update::update;

/// The annotation in which client-side apply keeps what it applied last.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object's type, in the version of the request, and how to see objects in other versions.
#[derive(Clone, Copy)]
pub struct Typed<'a> {
    /// Where types are.
    pub schema: &'a Schema,
    /// Type of the object.
    pub root: TypeRef,
    /// Knows other versions of the kind.
    pub versions: &'a dyn Versions,
}

/// Other versions of a kind. Ownership is recorded in the version in which a manager spoke.
pub trait Versions: Sync {
    /// The object as that version has it, and its type; `None` if the version is not served.
    fn convert(&self, object: &Value, api_version: &str) -> Option<(Value, TypeRef)>;
}

/// A kind with one version only.
#[derive(Clone, Copy, Debug)]
pub struct OneVersion;

impl Versions for OneVersion {
    fn convert(&self, _object: &Value, _api_version: &str) -> Option<(Value, TypeRef)> {
        None
    }
}

/// Which fields of an object a request cannot own, because it cannot change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// All can be owned.
    Nothing,
    /// The status is written through its subresource.
    Status,
    /// Only the status and metadata can be owned.
    AllButStatus,
}

impl Reset {
    /// What is left of a set.
    fn keep(self, set: FieldSet) -> FieldSet {
        match self {
            Self::Nothing => set,
            Self::Status => set.without_field("status"),
            Self::AllButStatus => set.only_fields(&["metadata", "status"]),
        }
    }
}
