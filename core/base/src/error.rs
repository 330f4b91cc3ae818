//! Errors as one line of text.

use std::error::Error;
use std::fmt::Write;

/// `error` and its causes on one line: `cannot pull web:1: cannot connect: refused`.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}
