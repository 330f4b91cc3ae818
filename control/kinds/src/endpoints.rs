//! Endpoints: the addresses behind a service, as older clients read them.

use corten_api::api::core::v1::{EndpointSubset, Endpoints};
use corten_api::field::FieldErrors;
use corten_api::label;
use corten_api::names::Names;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::ColumnHead;
use crate::kind::Kind;
use crate::meta::label_problems;
use crate::net;
use crate::services::{endpoint_address, is_own};
use crate::table::{NAME, age, column, first};

pub(crate) struct EndpointsKind;

impl Kind for EndpointsKind {
    type Object = Endpoints;

    const NAMES: Names = Names {
        group: "",
        version: "v1",
        kind: "Endpoints",
        plural: "endpoints",
        singular: "endpoints",
        short: &["ep"],
        categories: &[],
    };
    const STORAGE: &'static str = "services/endpoints";
    const CREATE_ON_UPDATE: bool = true;
    const DEPRECATION: Option<&'static str> =
        Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice");
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("Endpoints"), column("Age")];

    fn cells(endpoints: &Endpoints, now: Timestamp) -> Vec<Value> {
        let mut places = Vec::new();
        for subset in endpoints.subsets.iter().flatten() {
            for address in subset.addresses.iter().flatten() {
                match subset.ports.as_deref().unwrap_or_default() {
                    [] => places.push(address.ip.clone()),
                    ports => places.extend(ports.iter().map(|port| format!("{}:{}", address.ip, port.port))),
                }
            }
        }
        let age = age(endpoints.metadata.creation_timestamp.as_ref(), now);
        vec![json!(endpoints.metadata.name), first(&places, 3).into(), age.into()]
    }

    fn default(endpoints: &mut Endpoints) {
        for port in endpoints.subsets.iter_mut().flatten().flat_map(|subset| subset.ports.iter_mut().flatten()) {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }

    fn validate(endpoints: &Endpoints, _old: Option<&Endpoints>, errs: &mut FieldErrors) {
        for (index, subset) in endpoints.subsets.iter().flatten().enumerate() {
            self::subset(subset, is_own(&endpoints.metadata), &format!("subsets[{index}]"), errs);
        }
    }
}

fn subset(subset: &EndpointSubset, own: bool, path: &str, errs: &mut FieldErrors) {
    let ready = subset.addresses.as_deref().unwrap_or_default();
    let others = subset.not_ready_addresses.as_deref().unwrap_or_default();
    if ready.is_empty() && others.is_empty() {
        errs.required(path, "must specify `addresses` or `notReadyAddresses`");
    }
    for (field, addresses) in [("addresses", ready), ("notReadyAddresses", others)] {
        for (at, address) in addresses.iter().enumerate() {
            let path = format!("{path}.{field}[{at}]");
            if let Some(parsed) = net::address(&address.ip, &format!("{path}.ip"), errs)
                && !own
            {
                endpoint_address(parsed, &address.ip, &format!("{path}.ip"), errs);
            }
            if let Some(name) = address.hostname.as_deref().filter(|name| !name.is_empty()) {
                let problems = label_problems(name);
                problems.into_iter().for_each(|why| errs.invalid(format!("{path}.hostname"), name, why));
            }
            if let Some(name) = &address.node_name {
                let problems = label::subdomain_problems(name);
                problems.into_iter().for_each(|why| errs.invalid(format!("{path}.nodeName"), name, why));
            }
        }
    }
    let ports = subset.ports.as_deref().unwrap_or_default();
    for (at, port) in ports.iter().enumerate() {
        let path = format!("{path}.ports[{at}]");
        match port.name.as_deref().unwrap_or_default() {
            "" if ports.len() > 1 => errs.required(format!("{path}.name"), ""),
            "" => {}
            name => {
                let problems = label_problems(name);
                problems.into_iter().for_each(|why| errs.invalid(format!("{path}.name"), name, why));
            }
        }
        net::port(port.port, &format!("{path}.port"), errs);
        net::protocol(port.protocol.as_deref().unwrap_or_default(), &format!("{path}.protocol"), errs);
        if let Some(protocol) = &port.app_protocol {
            let problems = label::key_problems(protocol);
            problems.into_iter().for_each(|why| errs.invalid(format!("{path}.appProtocol"), protocol, why));
        }
    }
}
