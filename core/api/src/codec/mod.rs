//! Text to values: JSON and YAML that lose nothing silently.

mod conform;
mod parse;

pub use conform::conform;
pub use parse::{json, yaml};

/// What a decode found besides the value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Paths of fields that the schema does not know, such as `spec.replicaz`.
    pub unknown: Vec<String>,
    /// Paths of keys that appear twice in one object.
    pub duplicate: Vec<String>,
}

impl Findings {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.unknown.is_empty() && self.duplicate.is_empty()
    }

    /// One text per finding, as upstream words them: `unknown field "spec.replicaz"`.
    #[must_use]
    pub fn messages(&self) -> Vec<String> {
        let duplicate = self.duplicate.iter().map(|path| format!("duplicate field {path:?}"));
        let unknown = self.unknown.iter().map(|path| format!("unknown field {path:?}"));
        duplicate.chain(unknown).collect()
    }

    /// What a strict decode fails with: `strict decoding error: unknown field "spec.replicaz"`.
    #[must_use]
    pub fn strict_message(&self) -> String {
        format!("strict decoding error: {}", self.messages().join(", "))
    }
}

/// Why bytes are no value, or a value does not fit its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(pub String);
