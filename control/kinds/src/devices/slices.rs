//! ResourceSlices: the devices of a driver in one pool.

use corten_api::api::resource::v1::{Device, DeviceAttribute, DeviceTaint, ResourceSlice, ResourceSliceSpec};
use corten_api::field::{FieldErrors, Problem};
use corten_api::meta::Time;
use corten_api::names::{Names, Scope};
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use super::requests::EFFECTS;
use super::status::binding;
use super::{MOST, at_most, names, no_duplicates};
use crate::kind::Kind;
use crate::table::{NAME, age, column};
use crate::{ColumnHead, WriteContext, selectors, text};

/// Most devices of a slice; of a slice with taints or counters.
const DEVICES: (usize, usize) = (128, 64);
/// Most sets of counters, taints of a device, and bytes of an attribute's value.
const COUNTER_SETS: usize = 8;
const TAINTS: usize = 16;
const VALUE: usize = 64;

pub(crate) struct ResourceSlices;

impl Kind for ResourceSlices {
    type Object = ResourceSlice;

    const NAMES: Names = Names {
        group: "resource.k8s.io",
        version: "v1",
        kind: "ResourceSlice",
        plural: "resourceslices",
        singular: "resourceslice",
        short: &[],
        categories: &[],
    };
    const SCOPE: Scope = Scope::Cluster;
    const GENERATION: bool = true;
    const SHOW_DELETED: bool = true;
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("Node"), column("Driver"), column("Pool"), column("Age")];
    const FIELDS: &'static [&'static str] = &["spec.nodeName", "spec.driver"];

    fn cells(slice: &ResourceSlice, now: Timestamp) -> Vec<Value> {
        vec![
            json!(slice.metadata.name),
            slice.spec.node_name.clone().unwrap_or_default().into(),
            slice.spec.driver.clone().into(),
            slice.spec.pool.name.clone().into(),
            age(slice.metadata.creation_timestamp.as_ref(), now).into(),
        ]
    }

    fn unknown_field(name: &str) -> String {
        format!("field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: {name}")
    }

    fn prepare(new: &mut ResourceSlice, _old: Option<&ResourceSlice>, cx: &WriteContext<'_>) -> Result<(), Status> {
        for taint in new.spec.devices.iter_mut().flatten().flat_map(|device| device.taints.iter_mut().flatten()) {
            taint.time_added.get_or_insert(Time(cx.now));
        }
        Ok(())
    }

    fn validate(slice: &ResourceSlice, old: Option<&ResourceSlice>, errs: &mut FieldErrors) {
        let spec = &slice.spec;
        text::driver(&spec.driver, "spec.driver", errs);
        names::pool(&spec.pool.name, "spec.pool.name", errs);
        if spec.pool.resource_slice_count <= 0 {
            errs.invalid("spec.pool.resourceSliceCount", spec.pool.resource_slice_count, "must be greater than zero");
        }
        if spec.pool.generation < 0 {
            errs.invalid("spec.pool.generation", spec.pool.generation, "must be greater than or equal to zero");
        }
        if let Some(old) = old.map(|old| &old.spec) {
            text::unchanged(&spec.pool.name, &old.pool.name, "spec.pool.name", errs);
            text::unchanged(&spec.driver, &old.driver, "spec.driver", errs);
            text::unchanged(&spec.node_name, &old.node_name, "spec.nodeName", errs);
        }
        whose(spec, errs);
        counters(spec, errs);
        let devices = spec.devices.as_deref().unwrap_or_default();
        for (index, device) in devices.iter().enumerate() {
            self::device(device, spec, &format!("spec.devices[{index}]"), errs);
        }
        let special = |device: &Device| device.taints.is_some() || device.consumes_counters.is_some();
        let most = if devices.iter().any(special) { DEVICES.1 } else { DEVICES.0 };
        at_most(devices.len(), most, "spec.devices", errs);
        no_duplicates(devices.iter().map(|device| &device.name), |index| format!("spec.devices[{index}].name"), errs);
    }
}

/// The devices are on one node, on those that a selector selects, on all, or each says for itself.
fn whose(spec: &ResourceSliceSpec, errs: &mut FieldErrors) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let mut set = Vec::new();
    if let Some(name) = spec.node_name.as_deref() {
        set.push("`nodeName`");
        text::required_subdomain(name, "spec.nodeName", errs);
    }
    if let Some(selector) = &spec.node_selector {
        set.push("`nodeSelector`");
        one_term(selector, "spec.nodeSelector", errs);
    }
    for (is, name, field) in [
        (spec.all_nodes, "`allNodes`", "allNodes"),
        (spec.per_device_node_selection, "`perDeviceNodeSelection`", "perDeviceNodeSelection"),
    ] {
        match is {
            Some(true) => set.push(name),
            Some(false) => errs.invalid(format!("spec.{field}"), false, "must be either unset or set to true"),
            None => {}
        }
    }
    match set.len() {
        0 => errs.required("spec", ONE),
        1 => {}
        _ => {
            let value = format!("{{{}}}", set.join(", "));
            errs.invalid("spec", value, format!("{ONE}, but multiple fields are set"));
        }
    }
}

fn one_term(selector: &corten_api::api::core::v1::NodeSelector, path: &str, errs: &mut FieldErrors) {
    selectors::nodes(selector, path, errs);
    if selector.node_selector_terms.len() != 1 {
        let path = format!("{path}.nodeSelectorTerms");
        text::invalid_value(&selector.node_selector_terms, "must have exactly one node selector term", &path, errs);
    }
}

/// What devices of the slice share.
fn counters(spec: &ResourceSliceSpec, errs: &mut FieldErrors) {
    let sets = spec.shared_counters.as_deref().unwrap_or_default();
    for (index, set) in sets.iter().enumerate() {
        let path = format!("spec.sharedCounters[{index}]");
        text::dns_label(&set.name, &format!("{path}.name"), errs);
        if set.counters.is_empty() {
            errs.required(format!("{path}.counters"), "");
        }
        for name in set.counters.keys() {
            text::dns_label(name, &format!("{path}.counters"), errs);
        }
        at_most(set.counters.len(), MOST, &format!("{path}.counters"), errs);
    }
    at_most(sets.len(), COUNTER_SETS, "spec.sharedCounters", errs);
    no_duplicates(sets.iter().map(|set| &set.name), |index| format!("spec.sharedCounters[{index}].name"), errs);
}

fn device(device: &Device, spec: &ResourceSliceSpec, path: &str, errs: &mut FieldErrors) {
    text::dns_label(&device.name, &format!("{path}.name"), errs);
    let (none, no_capacity) = Default::default();
    let (attributes, capacity) =
        (device.attributes.as_ref().unwrap_or(&none), device.capacity.as_ref().unwrap_or(&no_capacity));
    for (name, value) in attributes {
        let path = format!("{path}.attributes[{name}]");
        names::qualified(name, &path, errs);
        attribute(value, &path, errs);
    }
    for name in capacity.keys() {
        names::qualified(name, &format!("{path}.capacity[{name}]"), errs);
    }
    let count = attributes.len() + capacity.len();
    if count > MOST {
        errs.invalid(path, count, format!("the total number of attributes and capacities must not exceed {MOST}"));
    }
    let taints = device.taints.as_deref().unwrap_or_default();
    for (index, taint) in taints.iter().enumerate() {
        self::taint(taint, &format!("{path}.taints[{index}]"), errs);
    }
    at_most(taints.len(), TAINTS, &format!("{path}.taints"), errs);
    let consumed = device.consumes_counters.as_deref().unwrap_or_default();
    for (index, consumption) in consumed.iter().enumerate() {
        let path = format!("{path}.consumesCounters[{index}]");
        text::required(&consumption.counter_set, &format!("{path}.counterSet"), errs);
        if consumption.counters.is_empty() {
            errs.required(format!("{path}.counters"), "");
        }
    }
    let set = |index| format!("{path}.consumesCounters[{index}].counterSet");
    no_duplicates(consumed.iter().map(|consumption| &consumption.counter_set), set, errs);
    own_nodes(device, spec.per_device_node_selection == Some(true), path, errs);
    let ready = device.binding_conditions.as_deref().unwrap_or_default();
    binding(ready, device.binding_failure_conditions.as_deref().unwrap_or_default(), path, errs);
}

/// A device says where it is if, and only if, the slice leaves that to its devices.
fn own_nodes(device: &Device, wanted: bool, path: &str, errs: &mut FieldErrors) {
    let set = [
        ("nodeName", device.node_name.is_some()),
        ("nodeSelector", device.node_selector.is_some()),
        ("allNodes", device.all_nodes.is_some()),
    ];
    if !wanted {
        for (field, _) in set.iter().filter(|(_, is)| *is) {
            let why = "`{}` field in the device may only be set if `spec.perDeviceNodeSelection` is true in the slice";
            errs.forbidden(format!("{path}.{field}"), why.replace("{}", field));
        }
        return;
    }
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    match set.iter().filter(|(_, is)| *is).count() {
        0 => errs.required(path, ONE),
        1 => {}
        _ => errs.invalid(path, "", ONE),
    }
    if let Some(name) = device.node_name.as_deref() {
        text::required_subdomain(name, &format!("{path}.nodeName"), errs);
    }
    if let Some(selector) = &device.node_selector {
        one_term(selector, &format!("{path}.nodeSelector"), errs);
    }
}

fn attribute(attribute: &DeviceAttribute, path: &str, errs: &mut FieldErrors) {
    let set = [
        attribute.bool.is_some() || attribute.bools.is_some(),
        attribute.int.is_some() || attribute.ints.is_some(),
        attribute.string.is_some() || attribute.strings.is_some(),
        attribute.version.is_some() || attribute.versions.is_some(),
    ];
    match set.into_iter().filter(|is| *is).count() {
        0 => errs.required(path, "exactly one value must be specified"),
        1 => {}
        _ => text::invalid_value(attribute, "exactly one value must be specified", path, errs),
    }
    for (field, value) in [("string", &attribute.string), ("version", &attribute.version)] {
        let Some(value) = value else { continue };
        let path = format!("{path}.{field}");
        if field == "version" && !is_semantic_version(value) {
            errs.invalid(&path, value, "must be a string compatible with semver.org spec 2.0.0");
        }
        if value.len() > VALUE {
            errs.push(path, Problem::TooLong(VALUE));
        }
    }
}

fn taint(taint: &DeviceTaint, path: &str, errs: &mut FieldErrors) {
    text::key(&taint.key, &format!("{path}.key"), errs);
    if let Some(value) = taint.value.as_deref().filter(|value| !value.is_empty()) {
        text::value(value, &format!("{path}.value"), errs);
    }
    match taint.effect.as_str() {
        "" => errs.required(format!("{path}.effect"), ""),
        effect => text::one_of(Some(effect), &EFFECTS, &format!("{path}.effect"), errs),
    }
}

/// Whether text is a version as semver.org defines it.
fn is_semantic_version(text: &str) -> bool {
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let number = |part: &str| digits(part) && (part == "0" || !part.starts_with('0'));
    let word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let numbers: Vec<&str> = core.split('.').collect();
    numbers.len() == 3
        && numbers.into_iter().all(number)
        && pre.is_none_or(|pre| pre.split('.').all(|part| word(part) && (!digits(part) || number(part))))
        && build.is_none_or(|build| build.split('.').all(word))
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_are_told_apart() {
        for (text, is) in [
            ("1.2.3", true),
            ("0.0.0-alpha.1+build.007", true),
            ("1.2", false),
            ("01.2.3", false),
            ("1.2.3-01", false),
            ("1.2.3-", false),
            ("v1.2.3", false),
        ] {
            assert_eq!(super::is_semantic_version(text), is, "{text}");
        }
    }
}
