//! What a claim asks for.

use std::collections::{BTreeMap, BTreeSet};

use corten_api::api::resource::v1::{
    DeviceClaim, DeviceRequest, DeviceSelector, DeviceToleration, OpaqueDeviceConfiguration,
};
use corten_api::field::{FieldErrors, Problem};

use super::{LONGEST, MOST, at_most, names, no_duplicates};
use crate::text;

/// Most alternatives of one request, and most tolerations.
const ALTERNATIVES: usize = 8;
const TOLERATIONS: usize = 16;
const REFERENCE: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
pub(super) const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// Fills in how many devices are meant.
pub(super) fn default(devices: &mut DeviceClaim) {
    fn count(mode: &mut Option<String>, count: &mut Option<i64>) {
        let mode = mode.get_or_insert_with(|| "ExactCount".to_owned());
        if mode == "ExactCount" && count.unwrap_or(0) == 0 {
            *count = Some(1);
        }
    }
    let tolerate = |tolerations: &mut Option<Vec<DeviceToleration>>| {
        for toleration in tolerations.iter_mut().flatten() {
            toleration.operator.get_or_insert_with(|| "Equal".to_owned());
        }
    };
    for request in devices.requests.iter_mut().flatten() {
        if let Some(exactly) = &mut request.exactly {
            count(&mut exactly.allocation_mode, &mut exactly.count);
            tolerate(&mut exactly.tolerations);
        }
        for alternative in request.first_available.iter_mut().flatten() {
            count(&mut alternative.allocation_mode, &mut alternative.count);
            tolerate(&mut alternative.tolerations);
        }
    }
}

/// The names by which requests are referred to, each with its alternatives.
pub(super) struct Requests<'a>(BTreeMap<&'a str, BTreeSet<&'a str>>);

impl<'a> Requests<'a> {
    pub(super) fn of(devices: Option<&'a DeviceClaim>) -> Self {
        let requests = devices.into_iter().flat_map(|devices| devices.requests.iter().flatten());
        let alternatives = |request: &'a DeviceRequest| {
            request.first_available.iter().flatten().map(|alternative| alternative.name.as_str()).collect()
        };
        Self(requests.map(|request| (request.name.as_str(), alternatives(request))).collect())
    }

    fn has(&self, name: &str) -> bool {
        match name.split_once('/') {
            None => self.0.contains_key(name),
            Some((request, alternative)) => self.0.get(request).is_some_and(|names| names.contains(alternative)),
        }
    }

    /// Holds a reference against the names.
    pub(super) fn reference(&self, name: &str, path: &str, errs: &mut FieldErrors) {
        if name.split('/').count() > 2 {
            return errs.invalid(path, name, REFERENCE);
        }
        name.split('/').for_each(|part| text::dns_label(part, path, errs));
        if !self.has(name) {
            errs.invalid(path, name, REFERENCE);
        }
    }

    /// Holds a list of references against the names.
    pub(super) fn references(&self, references: Option<&Vec<String>>, path: &str, errs: &mut FieldErrors) {
        let references = references.map(Vec::as_slice).unwrap_or_default();
        for (index, name) in references.iter().enumerate() {
            self.reference(name, &format!("{path}[{index}]"), errs);
        }
        at_most(references.len(), MOST, path, errs);
        no_duplicates(references.iter(), |index| format!("{path}[{index}]"), errs);
    }
}

pub(super) fn validate(devices: &DeviceClaim, path: &str, errs: &mut FieldErrors) {
    let names = Requests::of(Some(devices));
    let requests = devices.requests.as_deref().unwrap_or_default();
    for (index, request) in requests.iter().enumerate() {
        self::request(request, &format!("{path}.requests[{index}]"), errs);
    }
    at_most(requests.len(), MOST, &format!("{path}.requests"), errs);
    no_duplicates(requests.iter().map(|request| &request.name), |index| format!("{path}.requests[{index}].name"), errs);
    let constraints = devices.constraints.as_deref().unwrap_or_default();
    for (index, constraint) in constraints.iter().enumerate() {
        let path = format!("{path}.constraints[{index}]");
        names.references(constraint.requests.as_ref(), &format!("{path}.requests"), errs);
        match (&constraint.match_attribute, &constraint.distinct_attribute) {
            (Some(name), None) => names::fully_qualified(name, &format!("{path}.matchAttribute"), errs),
            (None, Some(name)) => names::fully_qualified(name, &format!("{path}.distinctAttribute"), errs),
            (None, None) => {
                errs.required(path, "exactly one of `matchAttribute` or `distinctAttribute` must be specified");
            }
            (Some(_), Some(_)) => {
                let why = "exactly one of `matchAttribute` or `distinctAttribute` must be specified";
                text::invalid_value(constraint, why, &path, errs);
            }
        }
    }
    at_most(constraints.len(), MOST, &format!("{path}.constraints"), errs);
    let config = devices.config.as_deref().unwrap_or_default();
    for (index, config) in config.iter().enumerate() {
        let path = format!("{path}.config[{index}]");
        names.references(config.requests.as_ref(), &format!("{path}.requests"), errs);
        configuration(config.opaque.as_ref(), &path, errs);
    }
    at_most(config.len(), MOST, &format!("{path}.config"), errs);
}

fn request(request: &DeviceRequest, path: &str, errs: &mut FieldErrors) {
    text::dns_label(&request.name, &format!("{path}.name"), errs);
    let alternatives = request.first_available.as_deref().unwrap_or_default();
    let why = "exactly one of `exactly` or `firstAvailable` is required";
    match (&request.exactly, alternatives.is_empty()) {
        (None, true) => errs.required(path, why),
        (Some(_), false) => {
            text::invalid_value(
                request,
                "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
                path,
                errs,
            );
        }
        (Some(exactly), true) => {
            let path = format!("{path}.exactly");
            let mode = (exactly.allocation_mode.as_deref(), exactly.count);
            wish(&exactly.device_class_name, exactly.selectors.as_ref(), mode, &path, errs);
            tolerations(exactly.tolerations.as_ref(), &path, errs);
        }
        (None, false) => {
            for (index, alternative) in alternatives.iter().enumerate() {
                let path = format!("{path}.firstAvailable[{index}]");
                text::dns_label(&alternative.name, &format!("{path}.name"), errs);
                let mode = (alternative.allocation_mode.as_deref(), alternative.count);
                wish(&alternative.device_class_name, alternative.selectors.as_ref(), mode, &path, errs);
                tolerations(alternative.tolerations.as_ref(), &path, errs);
            }
            at_most(alternatives.len(), ALTERNATIVES, &format!("{path}.firstAvailable"), errs);
            let name = |index| format!("{path}.firstAvailable[{index}].name");
            no_duplicates(alternatives.iter().map(|alternative| &alternative.name), name, errs);
        }
    }
}

fn wish(
    class: &str,
    selectors: Option<&Vec<DeviceSelector>>,
    (mode, count): (Option<&str>, Option<i64>),
    path: &str,
    errs: &mut FieldErrors,
) {
    text::required_subdomain(class, &format!("{path}.deviceClassName"), errs);
    self::selectors(selectors, &format!("{path}.selectors"), errs);
    let count = count.unwrap_or(0);
    match mode.unwrap_or_default() {
        "All" if count != 0 => {
            let why = "must not be specified when allocationMode is 'All'";
            errs.invalid(format!("{path}.count"), count, why);
        }
        "ExactCount" if count <= 0 => errs.invalid(format!("{path}.count"), count, "must be greater than zero"),
        "All" | "ExactCount" => {}
        other => errs.not_supported(format!("{path}.allocationMode"), other, &["All", "ExactCount"]),
    }
}

pub(super) fn selectors(selectors: Option<&Vec<DeviceSelector>>, path: &str, errs: &mut FieldErrors) {
    let selectors = selectors.map(Vec::as_slice).unwrap_or_default();
    for (index, selector) in selectors.iter().enumerate() {
        let path = format!("{path}[{index}].cel");
        match &selector.cel {
            None => errs.required(path, ""),
            Some(cel) if cel.expression.len() > LONGEST => {
                errs.push(format!("{path}.expression"), Problem::TooLong(LONGEST));
            }
            Some(cel) => text::required(cel.expression.trim(), &format!("{path}.expression"), errs),
        }
    }
    at_most(selectors.len(), MOST, path, errs);
}

fn tolerations(tolerations: Option<&Vec<DeviceToleration>>, path: &str, errs: &mut FieldErrors) {
    let tolerations = tolerations.map(Vec::as_slice).unwrap_or_default();
    for (index, toleration) in tolerations.iter().enumerate() {
        let path = format!("{path}.tolerations[{index}]");
        if let Some(key) = toleration.key.as_deref().filter(|key| !key.is_empty()) {
            text::key(key, &format!("{path}.key"), errs);
        }
        let value = toleration.value.as_deref().unwrap_or_default();
        match toleration.operator.as_deref().unwrap_or_default() {
            "Exists" if !value.is_empty() => {
                errs.invalid(format!("{path}.value"), value, "must be empty for operator `Exists`");
            }
            "Exists" => {}
            "Equal" => text::value(value, &format!("{path}.value"), errs),
            "" => errs.required(format!("{path}.operator"), ""),
            other => errs.not_supported(format!("{path}.operator"), other, &["Equal", "Exists"]),
        }
        let effect = toleration.effect.as_deref().filter(|effect| !effect.is_empty());
        text::one_of(effect, &EFFECTS[..2], &format!("{path}.effect"), errs);
    }
    at_most(tolerations.len(), TOLERATIONS, &format!("{path}.tolerations"), errs);
}

/// Parameters that only the driver understands.
pub(super) fn configuration(config: Option<&OpaqueDeviceConfiguration>, path: &str, errs: &mut FieldErrors) {
    let path = format!("{path}.opaque");
    let Some(config) = config else { return errs.required(path, "") };
    text::driver(&config.driver, &format!("{path}.driver"), errs);
    raw(&config.parameters.0, &format!("{path}.parameters"), errs);
}

/// Any JSON object, but not too large a one.
pub(super) fn raw(value: &serde_json::Value, path: &str, errs: &mut FieldErrors) {
    if value.is_null() {
        errs.required(path, "");
    } else if value.to_string().len() > LONGEST {
        errs.push(path, Problem::TooLong(LONGEST));
    } else if !value.is_object() {
        errs.invalid(path, "<value omitted>", "parameters must be a valid JSON object");
    }
}
