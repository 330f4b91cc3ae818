//! ServiceCIDRs: the ranges that services get their addresses from.

use std::net::IpAddr;

use corten_api::api::networking::v1::ServiceCIDR;
use corten_api::field::FieldErrors;
use corten_api::names::{Names, Scope};
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::selectors::invalid_json;
use crate::table::{NAME, age, column};
use crate::{ColumnHead, Subresource, WriteContext, net};

pub(crate) struct ServiceCidrs;

impl Kind for ServiceCidrs {
    type Object = ServiceCIDR;

    const NAMES: Names = Names {
        group: "networking.k8s.io",
        version: "v1",
        kind: "ServiceCIDR",
        plural: "servicecidrs",
        singular: "servicecidr",
        short: &[],
        categories: &[],
    };
    const SCOPE: Scope = Scope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("CIDRs"), column("Age")];
    const GENERATION: bool = true;

    fn cells(cidr: &ServiceCIDR, now: Timestamp) -> Vec<Value> {
        let age = age(cidr.metadata.creation_timestamp.as_ref(), now);
        vec![json!(cidr.metadata.name), ranges(cidr).join(",").into(), age.into()]
    }

    fn prepare(new: &mut ServiceCIDR, old: Option<&ServiceCIDR>, _cx: &WriteContext<'_>) -> Result<(), Status> {
        if old.is_none() {
            new.status = None;
        }
        Ok(())
    }

    fn validate(cidr: &ServiceCIDR, old: Option<&ServiceCIDR>, errs: &mut FieldErrors) {
        let ranges = ranges(cidr);
        if let Some(old) = old {
            let before = self::ranges(old);
            // A second family may come later.
            let grown = before.len() == 1 && ranges.len() == 2 && ranges.first() == before.first();
            if !grown && ranges != before {
                invalid_json(errs, "spec.cidrs", &ranges, "field is immutable");
            }
            if !grown {
                return;
            }
        }
        match ranges.len() {
            0 => errs.required("spec.cidrs", "at least one CIDR required"),
            1 | 2 => {}
            _ => invalid_json(errs, "spec.cidrs", &ranges, "may only hold up to 2 values"),
        }
        let parsed: Vec<(IpAddr, u8)> = ranges
            .iter()
            .enumerate()
            .filter_map(|(index, text)| {
                let path = format!("spec.cidrs[{index}]");
                let (address, length) = net::range(text, &path, errs)?;
                if format!("{}/{length}", net::network(address, length)) != *text {
                    let why = "must be in canonical form";
                    errs.invalid(path, text, why);
                }
                Some((address, length))
            })
            .collect();
        if let [first, second] = parsed[..]
            && first.0.is_ipv4() == second.0.is_ipv4()
        {
            let why = "may specify no more than one IP for each IP family, i.e [\"192.168.0.0/24\", \"2001:db8::/64\"]";
            invalid_json(errs, "spec.cidrs", &ranges, why);
        }
    }
}

fn ranges(cidr: &ServiceCIDR) -> Vec<String> {
    cidr.spec.as_ref().and_then(|spec| spec.cidrs.clone()).unwrap_or_default()
}
