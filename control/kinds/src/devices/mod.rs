//! resource.k8s.io: devices, classes of them, and claims to them.
//!
//! Wording and limits: pkg/apis/resource/validation of Kubernetes v1.36. Expressions of selectors are held against
//! their length; they are compiled once there is an engine for CEL.

mod claim_templates;
mod claims;
mod classes;
mod names;
mod requests;
mod slices;
mod status;

use std::collections::BTreeSet;
use std::fmt::Debug;

use corten_api::field::{FieldErrors, Problem};

pub(crate) use claim_templates::ResourceClaimTemplates;
pub(crate) use claims::ResourceClaims;
pub(crate) use classes::DeviceClasses;
pub(crate) use slices::ResourceSlices;

/// Most requests, constraints, configurations, selectors or results.
const MOST: usize = 32;
/// Most bytes of an expression, or of parameters for a driver.
const LONGEST: usize = 10 << 10;

/// A list may not be longer than this.
fn at_most(length: usize, most: usize, path: &str, errs: &mut FieldErrors) {
    if length > most {
        errs.push(path, Problem::TooMany(length, most));
    }
}

/// Names the entries that repeat an earlier one.
fn no_duplicates<T: Ord + Debug>(
    values: impl Iterator<Item = T>,
    path: impl Fn(usize) -> String,
    errs: &mut FieldErrors,
) {
    let mut seen = BTreeSet::new();
    for (index, value) in values.enumerate() {
        if seen.contains(&value) {
            errs.duplicate(path(index), &value);
        } else {
            seen.insert(value);
        }
    }
}
