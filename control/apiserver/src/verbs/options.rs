//! Which parameters of list and watch go together.
//!
//! Wording: k8s.io/apimachinery/pkg/apis/meta/internalversion/validation.

use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::status::Status;

use crate::request::Query;

static LIST_OPTIONS: Names = Names {
    group: "meta.k8s.io",
    version: "v1",
    kind: "ListOptions",
    plural: "",
    singular: "",
    short: &[],
    categories: &[],
};
const MATCH: &str = "resourceVersionMatch";
const INITIAL: &str = "sendInitialEvents";

/// Checks the parameters of a list.
pub(super) fn list(query: &Query) -> Result<(), Status> {
    let mut errs = FieldErrors::default();
    if query.has(INITIAL) {
        errs.forbidden(INITIAL, "sendInitialEvents is forbidden for list");
    }
    if let Some(wanted) = query.get(MATCH) {
        let version = query.get("resourceVersion");
        if version.is_none() {
            errs.forbidden(MATCH, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if query.get("continue").is_some() {
            errs.forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided");
        }
        if !["Exact", "NotOlderThan"].contains(&wanted) {
            errs.not_supported(MATCH, wanted, &["Exact", "NotOlderThan", ""]);
        }
        if wanted == "Exact" && version == Some("0") {
            errs.forbidden(MATCH, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
    }
    refuse(&errs)?;
    if query.get("continue").is_some() && query.get("resourceVersion").is_some_and(|version| version != "0") {
        return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
    }
    Ok(())
}

/// Checks the parameters of a watch.
pub(super) fn watch(query: &Query) -> Result<(), Status> {
    let mut errs = FieldErrors::default();
    let (initial, wanted) = (query.has(INITIAL), query.get(MATCH));
    if wanted.is_some() && !initial {
        errs.forbidden(MATCH, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
    }
    if initial && wanted != Some("NotOlderThan") {
        errs.forbidden(MATCH, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if query.get("continue").is_some() {
        errs.forbidden("continue", "continue is forbidden for watch");
    }
    refuse(&errs)
}

fn refuse(errs: &FieldErrors) -> Result<(), Status> {
    if errs.is_empty() { Ok(()) } else { Err(Status::invalid(&LIST_OPTIONS, "", errs)) }
}
