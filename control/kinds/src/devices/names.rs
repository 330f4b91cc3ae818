//! Names of pools, attributes and capacities.

use corten_api::field::{FieldErrors, Problem};

use crate::text;

/// Most bytes of a pool's name, and of an identifier.
const POOL: usize = 253;
const IDENTIFIER: usize = 32;
const C_IDENTIFIER: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";

pub(super) fn pool(name: &str, path: &str, errs: &mut FieldErrors) {
    if name.is_empty() {
        return errs.required(path, "");
    }
    if name.len() > POOL {
        errs.push(path, Problem::TooLong(POOL));
    }
    for part in name.split('/') {
        text::subdomain(part, path, errs);
    }
}

/// `identifier` or `domain/identifier`.
pub(super) fn qualified(name: &str, path: &str, errs: &mut FieldErrors) {
    match name.split_once('/') {
        None if name.is_empty() => errs.required(path, "name required"),
        None => identifier(name, path, errs),
        Some((domain, own)) => {
            if domain.is_empty() {
                errs.required(path, "the domain must not be empty");
            } else {
                text::driver(domain, path, errs);
            }
            if own.is_empty() {
                errs.required(path, "the name must not be empty");
            } else {
                identifier(own, path, errs);
            }
        }
    }
}

/// `domain/identifier`.
pub(super) fn fully_qualified(name: &str, path: &str, errs: &mut FieldErrors) {
    qualified(name, path, errs);
    if !name.is_empty() && !name.contains('/') {
        errs.invalid(path, name, "must include a domain");
    }
}

fn identifier(name: &str, path: &str, errs: &mut FieldErrors) {
    if name.len() > IDENTIFIER {
        errs.push(path, Problem::TooLong(IDENTIFIER));
    }
    let first = name.chars().next().is_some_and(|letter| letter.is_ascii_alphabetic() || letter == '_');
    if !first || !name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
        errs.invalid(path, name, C_IDENTIFIER);
    }
}
