//! NetworkPolicies: who may talk to whom.
//!
//! Rules and wording: pkg/apis/networking/validation of Kubernetes v1.36. Nothing enforces them on nodes yet.

use corten_api::IntOrString;
use corten_api::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use corten_api::field::FieldErrors;
use corten_api::meta::LabelSelector;
use corten_api::names::Names;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::ColumnHead;
use crate::kind::Kind;
use crate::net;
use crate::selectors::{self, invalid_json};
use crate::table::{NAME, age, column, selector};

pub(crate) struct NetworkPolicies;

impl Kind for NetworkPolicies {
    type Object = NetworkPolicy;

    const NAMES: Names = Names {
        group: "networking.k8s.io",
        version: "v1",
        kind: "NetworkPolicy",
        plural: "networkpolicies",
        singular: "networkpolicy",
        short: &["netpol"],
        categories: &[],
    };
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("Pod-Selector"), column("Age")];
    const GENERATION: bool = true;

    fn cells(policy: &NetworkPolicy, now: Timestamp) -> Vec<Value> {
        let pods = policy.spec.as_ref().and_then(|spec| spec.pod_selector.clone()).unwrap_or_default();
        let age = age(policy.metadata.creation_timestamp.as_ref(), now);
        vec![json!(policy.metadata.name), selector(&pods).into(), age.into()]
    }

    fn default(policy: &mut NetworkPolicy) {
        let spec = policy.spec.get_or_insert_default();
        spec.pod_selector.get_or_insert_with(LabelSelector::default);
        let inward = spec.ingress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut().flatten());
        let outward = spec.egress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut().flatten());
        for port in inward.chain(outward) {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
        if spec.policy_types.as_ref().is_none_or(Vec::is_empty) {
            let mut types = vec!["Ingress".to_owned()];
            if spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()) {
                types.push("Egress".to_owned());
            }
            spec.policy_types = Some(types);
        }
    }

    fn validate(policy: &NetworkPolicy, _old: Option<&NetworkPolicy>, errs: &mut FieldErrors) {
        let Some(spec) = &policy.spec else { return };
        selectors::optional(spec.pod_selector.as_ref(), "spec.podSelector", errs);
        for (index, rule) in spec.ingress.iter().flatten().enumerate() {
            ports(rule.ports.as_deref(), &format!("spec.ingress[{index}].ports"), errs);
            peers(rule.from.as_deref(), &format!("spec.ingress[{index}].from"), errs);
        }
        for (index, rule) in spec.egress.iter().flatten().enumerate() {
            ports(rule.ports.as_deref(), &format!("spec.egress[{index}].ports"), errs);
            peers(rule.to.as_deref(), &format!("spec.egress[{index}].to"), errs);
        }
        let types = spec.policy_types.as_deref().unwrap_or_default();
        if types.len() > 2 {
            return invalid_json(errs, "spec.policyTypes", &types, "may not specify more than two policyTypes");
        }
        for (index, kind) in types.iter().enumerate() {
            if !["Egress", "Ingress"].contains(&kind.as_str()) {
                errs.not_supported(format!("spec.policyTypes[{index}]"), kind, &["Egress", "Ingress"]);
            }
        }
    }
}

fn ports(ports: Option<&[NetworkPolicyPort]>, path: &str, errs: &mut FieldErrors) {
    for (index, port) in ports.unwrap_or_default().iter().enumerate() {
        let path = format!("{path}[{index}]");
        if let Some(protocol) = &port.protocol {
            net::protocol(protocol, &format!("{path}.protocol"), errs);
        }
        if let Some(port) = &port.port {
            net::port_or_name(port, &format!("{path}.port"), errs);
        }
        let Some(end) = port.end_port else { continue };
        let path = format!("{path}.endPort");
        match &port.port {
            None => errs.invalid(path, end, "may not be specified when `port` is not specified"),
            Some(IntOrString::String(_)) => errs.invalid(path, end, "may not be specified when `port` is non-numeric"),
            Some(IntOrString::Int(first)) => {
                if end < *first {
                    errs.invalid(&path, end, "must be greater than or equal to `port`");
                }
                net::port(end, &path, errs);
            }
        }
    }
}

fn peers(peers: Option<&[NetworkPolicyPeer]>, path: &str, errs: &mut FieldErrors) {
    for (index, peer) in peers.unwrap_or_default().iter().enumerate() {
        let path = format!("{path}[{index}]");
        selectors::optional(peer.pod_selector.as_ref(), &format!("{path}.podSelector"), errs);
        selectors::optional(peer.namespace_selector.as_ref(), &format!("{path}.namespaceSelector"), errs);
        if let Some(block) = &peer.ip_block {
            self::block(block, &format!("{path}.ipBlock"), errs);
        }
        match (&peer.ip_block, peer.pod_selector.is_some() || peer.namespace_selector.is_some()) {
            (None, false) => errs.required(path, "must specify a peer"),
            (Some(_), true) => errs.forbidden(path, "may not specify both ipBlock and another peer"),
            _ => {}
        }
    }
}

fn block(block: &IPBlock, path: &str, errs: &mut FieldErrors) {
    if block.cidr.is_empty() {
        return errs.required(format!("{path}.cidr"), "");
    }
    let Some(outer) = net::range(&block.cidr, &format!("{path}.cidr"), errs) else { return };
    for (index, text) in block.except.iter().flatten().enumerate() {
        let path = format!("{path}.except[{index}]");
        if let Some(inner) = net::range(text, &path, errs)
            && !net::is_strictly_within(outer, inner)
        {
            errs.invalid(path, text, "must be a strict subset of `cidr`");
        }
    }
}
