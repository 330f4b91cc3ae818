//! What can go wrong.

use std::fmt::Display;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What failed and why.
    pub message: String,
}

impl Error {
    /// "cannot `what`: `why`".
    pub(crate) fn cannot(what: impl Display, why: impl Display) -> Self {
        Self { message: format!("cannot {what}: {why}") }
    }
}
