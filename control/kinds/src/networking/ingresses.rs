//! Ingresses: which requests from outside reach which services.
//!
//! Rules and wording: pkg/apis/networking/validation of Kubernetes v1.36.

use std::net::IpAddr;

use corten_api::api::networking::v1::{
    HTTPIngressPath, Ingress, IngressBackend, IngressLoadBalancerIngress, IngressSpec,
};
use corten_api::field::FieldErrors;
use corten_api::label;
use corten_api::names::Names;
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::meta::rfc_1035_problems;
use crate::selectors::invalid_json;
use crate::table::{NAME, age, column, first};
use crate::{ColumnHead, Subresource, WriteContext, net};

/// How the class was named before it had a field.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub(crate) struct Ingresses;

impl Kind for Ingresses {
    type Object = Ingress;

    const NAMES: Names = Names {
        group: "networking.k8s.io",
        version: "v1",
        kind: "Ingress",
        plural: "ingresses",
        singular: "ingress",
        short: &["ing"],
        categories: &[],
    };
    const STORAGE: &'static str = "ingress";
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [ColumnHead] =
        &[NAME, column("Class"), column("Hosts"), column("Address"), column("Ports"), column("Age")];
    const GENERATION: bool = true;

    fn cells(ingress: &Ingress, now: Timestamp) -> Vec<Value> {
        let spec = ingress.spec.clone().unwrap_or_default();
        let hosts: Vec<String> =
            spec.rules.iter().flatten().filter_map(|rule| rule.host.clone()).filter(|host| !host.is_empty()).collect();
        let hosts = if hosts.is_empty() { "*".to_owned() } else { first(&hosts, 3) };
        let balancer = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let places = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
        let mut addresses: Vec<String> = places
            .iter()
            .filter_map(|place| {
                let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
                filled(&place.ip).or_else(|| filled(&place.hostname))
            })
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        let secure = spec.tls.as_ref().is_some_and(|tls| !tls.is_empty());
        vec![
            json!(ingress.metadata.name),
            spec.ingress_class_name.unwrap_or_else(|| "<none>".to_owned()).into(),
            hosts.into(),
            addresses.join(",").into(),
            if secure { "80, 443" } else { "80" }.into(),
            age(ingress.metadata.creation_timestamp.as_ref(), now).into(),
        ]
    }

    fn prepare(new: &mut Ingress, old: Option<&Ingress>, _cx: &WriteContext<'_>) -> Result<(), Status> {
        if old.is_none() {
            new.status = None;
        }
        Ok(())
    }

    fn validate(ingress: &Ingress, old: Option<&Ingress>, errs: &mut FieldErrors) {
        let empty = IngressSpec::default();
        let spec = ingress.spec.as_ref().unwrap_or(&empty);
        let annotation = ingress.metadata.annotations.as_ref().and_then(|all| all.get(CLASS_ANNOTATION));
        self::spec(spec, errs);
        if old.is_none()
            && spec.ingress_class_name.is_some()
            && let Some(value) = annotation
        {
            let path = format!("annotations.{CLASS_ANNOTATION}");
            errs.invalid(path, value, "can not be set when the class field is also set");
        }
    }

    fn validate_status(new: &Ingress, _old: &Ingress, errs: &mut FieldErrors) {
        let balancer = new.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        for (index, place) in balancer.iter().flat_map(|balancer| balancer.ingress.iter().flatten()).enumerate() {
            self::place(place, &format!("status.loadBalancer.ingress[{index}]"), errs);
        }
    }

    fn warnings(ingress: &Ingress, old: Option<&Ingress>) -> Vec<String> {
        let annotated = ingress.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(CLASS_ANNOTATION));
        if old.is_none() && annotated {
            let why =
                "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead";
            return vec![why.to_owned()];
        }
        Vec::new()
    }
}

fn spec(spec: &IngressSpec, errs: &mut FieldErrors) {
    let rules = spec.rules.as_deref().unwrap_or_default();
    match &spec.default_backend {
        Some(backend) => self::backend(backend, "spec.defaultBackend", errs),
        None if rules.is_empty() => {
            invalid_json(errs, "spec", &rules, "either `defaultBackend` or `rules` must be specified");
        }
        None => {}
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("spec.rules[{index}]");
        if let Some(host) = rule.host.as_deref().filter(|host| !host.is_empty()) {
            self::host(host, &format!("{path}.host"), errs);
        }
        let Some(http) = &rule.http else { continue };
        if http.paths.is_empty() {
            errs.required(format!("{path}.http.paths"), "");
        }
        for (at, part) in http.paths.iter().enumerate() {
            self::path(part, &format!("{path}.http.paths[{at}]"), errs);
        }
    }
    for (index, tls) in spec.tls.iter().flatten().enumerate() {
        for (at, host) in tls.hosts.iter().flatten().enumerate() {
            let path = format!("spec.tls[{index}].hosts[{at}]");
            let problems =
                if host.contains('*') { net::wildcard_problems(host) } else { label::subdomain_problems(host) };
            problems.into_iter().for_each(|why| errs.invalid(&path, host, why));
        }
        if let Some(secret) = tls.secret_name.as_deref().filter(|name| !name.is_empty()) {
            let path = format!("spec.tls[{index}].secretName");
            label::subdomain_problems(secret).into_iter().for_each(|why| errs.invalid(&path, secret, why));
        }
    }
    if let Some(class) = &spec.ingress_class_name {
        label::subdomain_problems(class).into_iter().for_each(|why| errs.invalid("spec.ingressClassName", class, why));
    }
}

fn host(host: &str, path: &str, errs: &mut FieldErrors) {
    if host.parse::<IpAddr>().is_ok() {
        errs.invalid(path, host, "must be a DNS name, not an IP address");
    }
    let problems = if host.contains('*') { net::wildcard_problems(host) } else { label::subdomain_problems(host) };
    problems.into_iter().for_each(|why| errs.invalid(path, host, why));
}

fn path(part: &HTTPIngressPath, path: &str, errs: &mut FieldErrors) {
    let value = part.path.as_deref().unwrap_or_default();
    let field = format!("{path}.path");
    match part.path_type.as_str() {
        "" => errs.required(format!("{path}.pathType"), "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !value.starts_with('/') {
                errs.invalid(&field, value, "must be an absolute path");
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"].iter().filter(|bad| value.contains(**bad)) {
                errs.invalid(&field, value, format!("must not contain '{bad}'"));
            }
            for bad in ["/..", "/."].iter().filter(|bad| value.ends_with(**bad)) {
                errs.invalid(&field, value, format!("cannot end with '{bad}'"));
            }
        }
        "ImplementationSpecific" => {
            if !value.is_empty() && !value.starts_with('/') {
                errs.invalid(&field, value, "must be an absolute path");
            }
        }
        other => {
            let known = ["Exact", "ImplementationSpecific", "Prefix"];
            errs.not_supported(format!("{path}.pathType"), other, &known);
        }
    }
    backend(&part.backend, &format!("{path}.backend"), errs);
}

fn backend(backend: &IngressBackend, path: &str, errs: &mut FieldErrors) {
    match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => errs.invalid(path, "", "cannot set both resource and service backends"),
        (None, None) => errs.invalid(path, "", "resource or service backend is required"),
        (Some(resource), None) => {
            let path = format!("{path}.resource");
            if resource.api_group.is_none() {
                errs.required(format!("{path}.apiGroup"), "");
            }
            for (field, value) in [("kind", &resource.kind), ("name", &resource.name)] {
                if value.is_empty() {
                    errs.required(format!("{path}.{field}"), "");
                }
                let problems = crate::meta::segment_problems(value);
                problems.into_iter().for_each(|why| errs.invalid(format!("{path}.{field}"), value, why));
            }
        }
        (None, Some(service)) => {
            if service.name.is_empty() {
                errs.required(format!("{path}.service.name"), "");
            } else {
                let problems = rfc_1035_problems(&service.name);
                problems.into_iter().for_each(|why| errs.invalid(format!("{path}.service.name"), &service.name, why));
            }
            let port = service.port.clone().unwrap_or_default();
            let (name, number) = (port.name.unwrap_or_default(), port.number.unwrap_or(0));
            match (name.is_empty(), number) {
                (true, 0) => errs.required(path, "port name or number is required"),
                (true, number) => net::port(number, &format!("{path}.service.port.number"), errs),
                (false, 0) => {
                    let path = format!("{path}.service.port.name");
                    net::port_name_problems(&name).into_iter().for_each(|why| errs.invalid(&path, &name, why));
                }
                (false, _) => errs.invalid(path, "", "cannot set both port name & port number"),
            }
        }
    }
}

fn place(place: &IngressLoadBalancerIngress, path: &str, errs: &mut FieldErrors) {
    if let Some(ip) = place.ip.as_deref().filter(|ip| !ip.is_empty()) {
        net::address(ip, &format!("{path}.ip"), errs);
    }
    if let Some(name) = place.hostname.as_deref().filter(|name| !name.is_empty()) {
        let path = format!("{path}.hostname");
        label::subdomain_problems(name).into_iter().for_each(|why| errs.invalid(&path, name, why));
        if name.parse::<IpAddr>().is_ok() {
            errs.invalid(&path, name, "must be a DNS name, not an IP address");
        }
    }
    for (index, port) in place.ports.iter().flatten().enumerate() {
        net::port(port.port, &format!("{path}.ports[{index}].port"), errs);
        net::protocol(&port.protocol, &format!("{path}.ports[{index}].protocol"), errs);
    }
}
