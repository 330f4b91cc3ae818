//! EndpointSlices: the addresses behind a service, at most a hundred a piece.

use std::collections::HashSet;
use std::net::IpAddr;

use corten_api::api::discovery::v1::{Endpoint, EndpointSlice};
use corten_api::field::{FieldErrors, Problem};
use corten_api::label;
use corten_api::names::Names;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::ColumnHead;
use crate::kind::Kind;
use crate::meta::label_problems;
use crate::net;
use crate::services::{endpoint_address, is_own};
use crate::table::{NAME, age, column, first, or_none};

const ENDPOINTS: usize = 1000;
const ADDRESSES: usize = 100;
const PORTS: usize = 20_000;
const TOPOLOGY: usize = 16;
const ZONES: usize = 8;

pub(crate) struct EndpointSlices;

impl Kind for EndpointSlices {
    type Object = EndpointSlice;

    const NAMES: Names = Names {
        group: "discovery.k8s.io",
        version: "v1",
        kind: "EndpointSlice",
        plural: "endpointslices",
        singular: "endpointslice",
        short: &[],
        categories: &[],
    };
    const COLUMNS: &'static [ColumnHead] =
        &[NAME, column("AddressType"), column("Ports"), column("Endpoints"), column("Age")];
    const GENERATION: bool = true;

    fn cells(slice: &EndpointSlice, now: Timestamp) -> Vec<Value> {
        let ports: Vec<String> = slice
            .ports
            .iter()
            .flatten()
            .map(|port| port.port.map_or_else(|| "*".to_owned(), |p| p.to_string()))
            .collect();
        let addresses: Vec<String> =
            slice.endpoints.iter().flatten().flat_map(|endpoint| endpoint.addresses.clone()).collect();
        let ports = if ports.is_empty() { "<unset>".to_owned() } else { first(&ports, 3) };
        let addresses = if addresses.is_empty() { "<unset>".to_owned() } else { first(&addresses, 3) };
        vec![
            json!(slice.metadata.name),
            json!(slice.address_type),
            ports.into(),
            or_none(addresses).into(),
            age(slice.metadata.creation_timestamp.as_ref(), now).into(),
        ]
    }

    fn default(slice: &mut EndpointSlice) {
        for port in slice.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }

    fn validate(slice: &EndpointSlice, old: Option<&EndpointSlice>, errs: &mut FieldErrors) {
        let kinds = ["FQDN", "IPv4", "IPv6"];
        if slice.address_type.is_empty() {
            errs.required("addressType", "");
        } else if !kinds.contains(&slice.address_type.as_str()) {
            errs.not_supported("addressType", &slice.address_type, &kinds);
        }
        if old.is_some_and(|old| old.address_type != slice.address_type) {
            errs.invalid("addressType", &slice.address_type, "field is immutable");
        }
        let (endpoints, ports) =
            (slice.endpoints.as_deref().unwrap_or_default(), slice.ports.as_deref().unwrap_or_default());
        if endpoints.len() > ENDPOINTS {
            errs.push("endpoints", Problem::TooMany(endpoints.len(), ENDPOINTS));
        }
        for (index, endpoint) in endpoints.iter().enumerate() {
            self::endpoint(
                endpoint,
                (&slice.address_type, is_own(&slice.metadata)),
                &format!("endpoints[{index}]"),
                errs,
            );
        }
        if ports.len() > PORTS {
            errs.push("ports", Problem::TooMany(ports.len(), PORTS));
        }
        let mut names = HashSet::new();
        for (index, port) in ports.iter().enumerate() {
            let path = |field: &str| format!("ports[{index}].{field}");
            let name = port.name.as_deref().unwrap_or_default();
            if !name.is_empty() {
                label_problems(name).into_iter().for_each(|why| errs.invalid(path("name"), name, why));
            }
            if !names.insert(name) {
                errs.duplicate(path("name"), name);
            }
            net::protocol(port.protocol.as_deref().unwrap_or_default(), &path("protocol"), errs);
            if let Some(number) = port.port {
                net::port(number, &path("port"), errs);
            }
            if let Some(protocol) = &port.app_protocol {
                label::key_problems(protocol)
                    .into_iter()
                    .for_each(|why| errs.invalid(path("appProtocol"), protocol, why));
            }
        }
    }
}

fn endpoint(endpoint: &Endpoint, (family, own): (&str, bool), path: &str, errs: &mut FieldErrors) {
    match endpoint.addresses.len() {
        0 => errs.required(format!("{path}.addresses"), "must contain at least 1 address"),
        count if count > ADDRESSES => errs.push(format!("{path}.addresses"), Problem::TooMany(count, ADDRESSES)),
        _ => {}
    }
    for (index, address) in endpoint.addresses.iter().enumerate() {
        let path = format!("{path}.addresses[{index}]");
        match (family, address.parse::<IpAddr>()) {
            ("IPv4", Ok(parsed @ IpAddr::V4(_))) | ("IPv6", Ok(parsed @ IpAddr::V6(_))) => {
                let local = Some(parsed).filter(|_| !own);
                local.into_iter().for_each(|parsed| endpoint_address(parsed, address, &path, errs));
            }
            ("IPv4", _) => errs.invalid(path, address, "must be a valid IPv4 address"),
            ("IPv6", _) => errs.invalid(path, address, "must be a valid IPv6 address"),
            ("FQDN", _) => {
                let name = address.strip_suffix('.').unwrap_or(address);
                label::subdomain_problems(name).into_iter().for_each(|why| errs.invalid(&path, address, why));
            }
            _ => {}
        }
    }
    if let Some(name) = &endpoint.node_name {
        let problems = label::subdomain_problems(name);
        problems.into_iter().for_each(|why| errs.invalid(format!("{path}.nodeName"), name, why));
    }
    if let Some(name) = &endpoint.hostname {
        label_problems(name).into_iter().for_each(|why| errs.invalid(format!("{path}.hostname"), name, why));
    }
    let topology = endpoint.deprecated_topology.iter().flatten();
    if topology.clone().count() > TOPOLOGY {
        errs.push(format!("{path}.deprecatedTopology"), Problem::TooMany(topology.clone().count(), TOPOLOGY));
    }
    crate::meta::labels(topology, &format!("{path}.deprecatedTopology"), errs);
    if endpoint.deprecated_topology.as_ref().is_some_and(|map| map.contains_key("kubernetes.io/hostname")) {
        errs.invalid(
            format!("{path}.deprecatedTopology"),
            "kubernetes.io/hostname",
            "label not allowed, use nodeName instead",
        );
    }
    let zones = endpoint.hints.as_ref().and_then(|hints| hints.for_zones.as_ref()).map_or(0, Vec::len);
    if zones > ZONES {
        errs.push(format!("{path}.hints.forZones"), Problem::TooMany(zones, ZONES));
    }
}
