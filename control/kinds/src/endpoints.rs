//! Endpoints: the addresses behind a service, as older clients read them.

use corten_api::api::core::v1::Endpoints;
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::ColumnHead;
use crate::kind::Kind;
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
            for (at, address) in subset.addresses.iter().flatten().enumerate() {
                if address.ip.parse::<std::net::IpAddr>().is_err() {
                    let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                    errs.invalid(format!("subsets[{index}].addresses[{at}].ip"), &address.ip, why);
                }
            }
        }
    }
}
