//! What became of a claim: the devices that it was given, and who uses them.

use std::collections::BTreeSet;

use corten_api::api::resource::v1::{AllocatedDeviceStatus, AllocationResult, ResourceClaim};
use corten_api::field::{FieldErrors, Problem};

use super::requests::{Requests, configuration, raw};
use super::{MOST, at_most, names, no_duplicates};
use crate::{selectors, text};

/// Most users of one claim, and most binding conditions of one device.
const USERS: usize = 256;
const BINDING: usize = 4;
/// Most conditions and addresses that a driver reports for one device.
const CONDITIONS: usize = 8;
const ADDRESSES: usize = 16;

pub(super) fn validate(claim: &ResourceClaim, old: &ResourceClaim, errs: &mut FieldErrors) {
    let (status, before) = (claim.status.clone().unwrap_or_default(), old.status.clone().unwrap_or_default());
    let requests = Requests::of(claim.spec.devices.as_ref());
    let users = status.reserved_for.as_deref().unwrap_or_default();
    for (index, user) in users.iter().enumerate() {
        let path = format!("status.reservedFor[{index}]");
        for (field, value) in [("resource", &user.resource), ("name", &user.name), ("uid", &user.uid)] {
            text::required(value, &format!("{path}.{field}"), errs);
        }
    }
    at_most(users.len(), USERS, "status.reservedFor", errs);
    no_duplicates(users.iter().map(|user| &user.uid), |index| format!("status.reservedFor[{index}].uid"), errs);
    let results = status.allocation.iter().flat_map(|allocation| &allocation.devices);
    let results = results.flat_map(|devices| devices.results.iter().flatten());
    let given: BTreeSet<Device<'_>> =
        results.map(|result| (&*result.driver, &*result.pool, &*result.device, result.share_id.as_deref())).collect();
    let reported = status.devices.as_deref().unwrap_or_default();
    for (index, device) in reported.iter().enumerate() {
        self::reported(device, &given, &format!("status.devices[{index}]"), errs);
    }
    no_duplicates(reported.iter().map(identity), |index| format!("status.devices[{index}].deviceID"), errs);
    if !users.is_empty() && status.allocation.is_none() {
        errs.forbidden("status.reservedFor", "may not be specified when `allocated` is not set");
    } else if claim.metadata.deletion_timestamp.is_some() {
        let had = before.reserved_for.as_deref().unwrap_or_default();
        if users.iter().any(|user| !had.contains(user)) {
            let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errs.forbidden("status.reservedFor", why);
        }
    }
    match (&before.allocation, &status.allocation) {
        (Some(had), Some(has)) => text::unchanged(has, had, "status.allocation", errs),
        (None, Some(has)) => allocation(has, &requests, errs),
        _ => {}
    }
}

/// Driver, pool, device and share.
type Device<'a> = (&'a str, &'a str, &'a str, Option<&'a str>);

fn identity(device: &AllocatedDeviceStatus) -> Device<'_> {
    (&device.driver, &device.pool, &device.device, device.share_id.as_deref())
}

fn allocation(allocation: &AllocationResult, requests: &Requests<'_>, errs: &mut FieldErrors) {
    let path = "status.allocation.devices";
    let devices = allocation.devices.clone().unwrap_or_default();
    let results = devices.results.unwrap_or_default();
    for (index, result) in results.iter().enumerate() {
        let path = format!("{path}.results[{index}]");
        requests.reference(&result.request, &format!("{path}.request"), errs);
        text::driver(&result.driver, &format!("{path}.driver"), errs);
        names::pool(&result.pool, &format!("{path}.pool"), errs);
        text::dns_label(&result.device, &format!("{path}.device"), errs);
        let ready = result.binding_conditions.as_deref().unwrap_or_default();
        let failed = result.binding_failure_conditions.as_deref().unwrap_or_default();
        binding(ready, failed, &path, errs);
    }
    at_most(results.len(), MOST, &format!("{path}.results"), errs);
    let config = devices.config.unwrap_or_default();
    for (index, config) in config.iter().enumerate() {
        let path = format!("{path}.config[{index}]");
        match config.source.as_str() {
            "" => errs.required(format!("{path}.source"), ""),
            source => text::one_of(Some(source), &["FromClaim", "FromClass"], &format!("{path}.source"), errs),
        }
        requests.references(config.requests.as_ref(), &format!("{path}.requests"), errs);
        configuration(config.opaque.as_ref(), &path, errs);
    }
    at_most(config.len(), 2 * MOST, &format!("{path}.config"), errs);
    if let Some(selector) = &allocation.node_selector {
        selectors::nodes(selector, "status.allocation.nodeSelector", errs);
    }
}

/// Conditions that must hold before a pod is bound, and those that tell that it cannot be.
pub(super) fn binding(ready: &[String], failed: &[String], path: &str, errs: &mut FieldErrors) {
    for (field, conditions) in [("bindingConditions", ready), ("bindingFailureConditions", failed)] {
        let path = format!("{path}.{field}");
        for (index, condition) in conditions.iter().enumerate() {
            text::key(condition, &format!("{path}[{index}]"), errs);
        }
        at_most(conditions.len(), BINDING, &path, errs);
        no_duplicates(conditions.iter(), |index| format!("{path}[{index}]"), errs);
    }
    let at = format!("{path}.bindingConditions");
    match (ready.is_empty(), failed.is_empty()) {
        (true, false) => errs.invalid(at, ready, "bindingConditions are required to use bindingFailureConditions"),
        (false, true) => errs.invalid(at, ready, "bindingFailureConditions are required to use bindingConditions"),
        _ => {}
    }
    for (index, condition) in failed.iter().enumerate().filter(|(_, condition)| ready.contains(condition)) {
        let why = "bindingFailureConditions must not overlap with bindingConditions";
        errs.invalid(format!("{path}.bindingFailureConditions[{index}]"), condition, why);
    }
}

fn reported(device: &AllocatedDeviceStatus, given: &BTreeSet<Device<'_>>, path: &str, errs: &mut FieldErrors) {
    text::driver(&device.driver, &format!("{path}.driver"), errs);
    names::pool(&device.pool, &format!("{path}.pool"), errs);
    text::dns_label(&device.device, &format!("{path}.device"), errs);
    if !given.contains(&identity(device)) {
        let name = format!("{}/{}/{}", device.driver, device.pool, device.device);
        errs.invalid(path, name, "must be an allocated device in the claim");
    }
    let conditions = device.conditions.as_deref().unwrap_or_default();
    at_most(conditions.len(), CONDITIONS, &format!("{path}.conditions"), errs);
    no_duplicates(conditions.iter().map(|c| &c.type_), |index| format!("{path}.conditions[{index}].type"), errs);
    if let Some(data) = &device.data {
        raw(&data.0, &format!("{path}.data"), errs);
    }
    let Some(network) = &device.network_data else { return };
    let path = format!("{path}.networkData");
    for (field, value, most) in
        [("interfaceName", &network.interface_name, 256), ("hardwareAddress", &network.hardware_address, 128)]
    {
        if value.as_ref().is_some_and(|value| value.len() > most) {
            errs.push(format!("{path}.{field}"), Problem::TooLong(most));
        }
    }
    let addresses = network.ips.as_deref().unwrap_or_default();
    for (index, address) in addresses.iter().enumerate().filter(|(_, address)| !is_interface_address(address)) {
        let why = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
        errs.invalid(format!("{path}.ips[{index}]"), address, why);
    }
    at_most(addresses.len(), ADDRESSES, &format!("{path}.ips"), errs);
    no_duplicates(addresses.iter(), |index| format!("{path}.ips[{index}]"), errs);
}

/// An address with the length of its network's prefix.
fn is_interface_address(text: &str) -> bool {
    let Some((address, prefix)) = text.split_once('/') else { return false };
    let Ok(address) = address.parse::<std::net::IpAddr>() else { return false };
    prefix.parse::<u8>().is_ok_and(|bits| bits <= if address.is_ipv4() { 32 } else { 128 })
}
