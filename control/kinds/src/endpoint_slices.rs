//! EndpointSlices: the addresses behind a service, at most a hundred a piece.

use corten_api::api::discovery::v1::EndpointSlice;
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::ColumnHead;
use crate::kind::Kind;
use crate::table::{NAME, age, column, first, or_none};

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
        let count = slice.endpoints.as_ref().map_or(0, Vec::len);
        if count > 1000 {
            errs.push("endpoints", corten_api::field::Problem::TooMany(count, 1000));
        }
        for (index, endpoint) in slice.endpoints.iter().flatten().enumerate() {
            if endpoint.addresses.is_empty() {
                errs.required(format!("endpoints[{index}].addresses"), "must contain at least 1 address");
            }
        }
    }
}
