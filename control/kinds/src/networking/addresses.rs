//! IPAddresses: who holds an address of the service ranges.

use std::net::IpAddr;

use corten_api::api::networking::v1::IPAddress;
use corten_api::field::FieldErrors;
use corten_api::label;
use corten_api::names::{Names, Scope};
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::ColumnHead;
use crate::kind::Kind;
use crate::meta::{NameRule, segment_problems};
use crate::selectors::invalid_json;
use crate::table::{NAME, column};

pub(crate) struct IpAddresses;

impl Kind for IpAddresses {
    type Object = IPAddress;

    const NAMES: Names = Names {
        group: "networking.k8s.io",
        version: "v1",
        kind: "IPAddress",
        plural: "ipaddresses",
        singular: "ipaddress",
        short: &["ip"],
        categories: &[],
    };
    const SCOPE: Scope = Scope::Cluster;
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("ParentRef")];
    const NAME_RULE: NameRule = NameRule::By(name_problems);
    const GENERATION: bool = true;

    fn cells(address: &IPAddress, _now: Timestamp) -> Vec<Value> {
        let parent = &address.spec.parent_ref;
        let group = parent.group.as_deref().unwrap_or_default();
        let mut text = parent.resource.to_lowercase();
        if !group.is_empty() {
            text = format!("{text}.{group}");
        }
        if let Some(namespace) = parent.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
            text = format!("{text}/{namespace}");
        }
        vec![json!(address.metadata.name), format!("{text}/{}", parent.name).into()]
    }

    fn validate(address: &IPAddress, old: Option<&IPAddress>, errs: &mut FieldErrors) {
        let parent = &address.spec.parent_ref;
        const PATH: &str = "spec.parentRef";
        if let Some(group) = parent.group.as_deref().filter(|group| !group.is_empty()) {
            let problems = label::subdomain_problems(group);
            problems.into_iter().for_each(|why| errs.invalid(format!("{PATH}.group"), group, why));
        }
        for (field, value) in [("resource", &parent.resource), ("name", &parent.name)] {
            if value.is_empty() {
                errs.required(format!("{PATH}.{field}"), "");
            } else {
                segment_problems(value).into_iter().for_each(|why| errs.invalid(format!("{PATH}.{field}"), value, why));
            }
        }
        if let Some(namespace) = parent.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
            let problems = segment_problems(namespace);
            problems.into_iter().for_each(|why| errs.invalid(format!("{PATH}.namespace"), namespace, why));
        }
        if old.is_some_and(|old| old.spec.parent_ref != *parent) {
            invalid_json(errs, PATH, parent, "field is immutable");
        }
    }
}

fn name_problems(name: &str) -> Vec<String> {
    match name.parse::<IpAddr>() {
        Err(_) => vec!["not a valid ip address".to_owned()],
        Ok(address) if address.to_string() != name => vec!["must be a canonical format IP address".to_owned()],
        Ok(_) => Vec::new(),
    }
}
