//! Services: one stable address for a set of pods.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use corten_api::api::core::v1::{LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus};
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::meta::NameRule;
use crate::table::{NAME, age, column, labels, or_none, wide};
use crate::{Claims, ColumnHead, Proxied, Subresource, WriteContext, net};

mod rules;

pub(crate) use rules::{endpoint_address, is_own};

/// Ports that NodePort services get.
const NODE_PORTS: std::ops::RangeInclusive<i32> = 30_000..=32_767;

pub(crate) struct Services;

impl Kind for Services {
    type Object = Service;

    const NAMES: Names = Names {
        group: "",
        version: "v1",
        kind: "Service",
        plural: "services",
        singular: "service",
        short: &["svc"],
        categories: &["all"],
    };
    const STORAGE: &'static str = "services/specs";
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status, Subresource::Proxy];
    const PROXIED: Option<Proxied> = Some(Proxied::Service);
    const CREATE_ON_UPDATE: bool = true;
    const SHOW_DELETED: bool = true;
    const COLUMNS: &'static [ColumnHead] = &[
        NAME,
        column("Type"),
        column("Cluster-IP"),
        column("External-IP"),
        column("Port(s)"),
        column("Age"),
        wide("Selector"),
    ];
    const NAME_RULE: NameRule = NameRule::Rfc1035;
    const FIELDS: &'static [&'static str] = &["spec.clusterIP", "spec.type"];

    fn cells(service: &Service, now: Timestamp) -> Vec<Value> {
        let spec = service.spec.clone().unwrap_or_default();
        let ports: Vec<String> = spec
            .ports
            .iter()
            .flatten()
            .map(|port| {
                let protocol = port.protocol.as_deref().unwrap_or("TCP");
                match port.node_port.filter(|&port| port > 0) {
                    Some(node_port) => format!("{}:{node_port}/{protocol}", port.port),
                    None => format!("{}/{protocol}", port.port),
                }
            })
            .collect();
        vec![
            json!(service.metadata.name),
            json!(spec.type_),
            or_none(spec.cluster_ip.clone().unwrap_or_default()).into(),
            external(service, &spec).into(),
            or_none(ports.join(",")).into(),
            age(service.metadata.creation_timestamp.as_ref(), now).into(),
            labels(spec.selector.as_ref()).into(),
        ]
    }

    fn default(service: &mut Service) {
        rules::default(service.spec.get_or_insert_default());
    }

    fn prepare(new: &mut Service, old: Option<&Service>, cx: &WriteContext<'_>) -> Result<(), Status> {
        if old.is_none() {
            new.status = Some(ServiceStatus { load_balancer: Some(LoadBalancerStatus::default()), conditions: None });
        }
        let before = old.and_then(|old| old.spec.as_ref());
        let name = new.metadata.name.clone().unwrap_or_default();
        let Some(spec) = new.spec.as_mut() else { return Ok(()) };
        if let Some(before) = before {
            rules::drop_outdated(spec, before);
        }
        rules::match_fields(spec, before);
        if spec.type_.as_deref() != Some("ExternalName") {
            // A mistake in the fields is told before an address is drawn.
            let mut errs = FieldErrors::default();
            rules::addresses(spec, before, &mut errs);
            if !errs.is_empty() {
                return Ok(());
            }
            if spec.cluster_ip.as_deref().is_none_or(str::is_empty) {
                let address = free_address(cx.claims).ok_or_else(|| exhausted(&name, "IP address"))?;
                spec.cluster_ip = Some(address.to_string());
                spec.cluster_ips = None;
            }
            spec.cluster_ips = spec.cluster_ip.clone().map(|ip| vec![ip]);
            // One that it has may come from another range: the range of today is for new ones.
            let new = before.and_then(|before| before.cluster_ip.as_ref()).is_none_or(String::is_empty);
            let given = spec.cluster_ip.as_deref().and_then(|ip| ip.parse().ok()).filter(|_| new);
            given.map_or(Ok(()), |ip| in_range(&name, ip, cx.claims.service_range()))?;
        }
        allocate_ports(spec, before, cx.claims).ok_or_else(|| exhausted(&name, "node port"))?;
        allocate_health_check(spec, before, cx.claims).ok_or_else(|| exhausted(&name, "health check node port"))
    }

    fn validate(service: &Service, old: Option<&Service>, errs: &mut FieldErrors) {
        let Some(spec) = &service.spec else { return };
        rules::validate(spec, old.and_then(|old| old.spec.as_ref()), errs);
    }

    fn validate_status(new: &Service, _old: &Service, errs: &mut FieldErrors) {
        let balancer = new.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let places = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
        let balanced = new.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"));
        if !balanced && !places.is_empty() {
            errs.forbidden("status.loadBalancer.ingress", "may only be used when `spec.type` is LoadBalancer");
        }
        for (index, place) in places.iter().enumerate() {
            let path = format!("status.loadBalancer.ingress[{index}]");
            let ip = place.ip.as_deref().filter(|ip| !ip.is_empty());
            if let Some(ip) = ip {
                net::address(ip, &format!("{path}.ip"), errs);
            }
            match place.ip_mode.as_deref() {
                Some(_) if ip.is_none() => {
                    errs.forbidden(format!("{path}.ipMode"), "may not be specified when `ip` is not set");
                }
                Some(mode) if !["Proxy", "VIP"].contains(&mode) => {
                    errs.not_supported(format!("{path}.ipMode"), mode, &["Proxy", "VIP"]);
                }
                _ => {}
            }
            if let Some(name) = place.hostname.as_deref().filter(|name| !name.is_empty()) {
                let problems = corten_api::label::subdomain_problems(name);
                problems.into_iter().for_each(|why| errs.invalid(format!("{path}.hostname"), name, why));
            }
        }
    }

    fn warnings(service: &Service, _old: Option<&Service>) -> Vec<String> {
        service.spec.as_ref().map_or_else(Vec::new, rules::warnings)
    }

    fn claims(object: &Value) -> Vec<String> {
        let spec = &object["spec"];
        let ip = spec["clusterIP"].as_str().filter(|ip| !ip.is_empty() && *ip != "None");
        let ports = spec["ports"].as_array().into_iter().flatten().filter_map(|port| {
            let number = port["nodePort"].as_i64().filter(|&number| number > 0)?;
            Some(format!("nodeport/{}/{number}", port["protocol"].as_str().unwrap_or("TCP")))
        });
        let health = spec["healthCheckNodePort"].as_i64().filter(|&number| number > 0);
        let ports: HashSet<String> = ports.chain(health.map(|number| format!("nodeport/TCP/{number}"))).collect();
        let mut claims: Vec<String> = ip.map(|ip| format!("clusterip/{ip}")).into_iter().chain(ports).collect();
        claims.sort_unstable();
        claims
    }
}

fn external(service: &Service, spec: &ServiceSpec) -> String {
    let ips = spec.external_ips.clone().unwrap_or_default().join(",");
    match spec.type_.as_deref() {
        Some("ExternalName") => spec.external_name.clone().unwrap_or_default(),
        Some("LoadBalancer") => {
            let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
            let ingress = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
            let given: Vec<String> = ingress.iter().filter_map(|ingress| ingress.ip.clone()).collect();
            if given.is_empty() && ips.is_empty() { "<pending>".to_owned() } else { given.join(",") + &ips }
        }
        _ => or_none(ips),
    }
}

fn exhausted(name: &str, what: &str) -> Status {
    Status::internal(format!("failed to allocate a {what} for service {name:?}: the range is full"))
}

/// Holds a wished address against the range. Its first address is the network's, its last reaches all.
fn in_range(name: &str, ip: Ipv4Addr, (network, prefix): (Ipv4Addr, u8)) -> Result<(), Status> {
    let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    let offset = u32::from(ip).checked_sub(u32::from(network));
    if offset.is_some_and(|offset| offset > 0 && offset < hosts) {
        return Ok(());
    }
    let mut errs = FieldErrors::default();
    let why = format!(
        "failed to allocate IP {ip}: the provided IP ({ip}) is not in the valid range. The range of valid IPs is {network}/{prefix}"
    );
    errs.invalid("spec.clusterIPs", [ip.to_string()], why);
    Err(Status::invalid(&Services::NAMES, name, &errs))
}

/// An address of the range that nobody claims, never the first eleven (the API server, the cluster's DNS) nor the last.
fn free_address(claims: &dyn Claims) -> Option<Ipv4Addr> {
    let (network, prefix) = claims.service_range();
    let size = 1_usize.checked_shl(32 - u32::from(prefix))?;
    let (first, count) = (11, size.checked_sub(12).filter(|&count| count > 0)?);
    let start = claims.random(count);
    (0..count).find_map(|step| {
        let offset = u32::try_from(first + (start + step) % count).ok()?;
        let address = Ipv4Addr::from(u32::from(network) + offset);
        claims.is_free(&format!("clusterip/{address}")).then_some(address)
    })
}

/// Gives each port of a service that nodes open its number.
fn allocate_ports(spec: &mut ServiceSpec, before: Option<&ServiceSpec>, claims: &dyn Claims) -> Option<()> {
    let kind = spec.type_.as_deref().unwrap_or_default();
    let wanted =
        kind == "NodePort" || (kind == "LoadBalancer" && spec.allocate_load_balancer_node_ports != Some(false));
    let mut taken: HashSet<i32> = spec.ports.iter().flatten().filter_map(|port| port.node_port).collect();
    for port in spec.ports.iter_mut().flatten() {
        if !wanted || port.node_port.is_some_and(|number| number != 0) {
            continue;
        }
        let same = |old: &&ServicePort| old.port == port.port && old.protocol == port.protocol;
        let kept = before.and_then(|before| before.ports.iter().flatten().find(same)).and_then(|old| old.node_port);
        let protocol = port.protocol.clone().unwrap_or_default();
        let number = kept.filter(|number| !taken.contains(number)).or_else(|| free_port(&protocol, &taken, claims))?;
        taken.insert(number);
        port.node_port = Some(number);
    }
    Some(())
}

/// A balancer that keeps traffic on the node asks each node at this port whether it has endpoints.
fn allocate_health_check(spec: &mut ServiceSpec, before: Option<&ServiceSpec>, claims: &dyn Claims) -> Option<()> {
    if !rules::needs_health_check(spec) {
        return Some(());
    }
    let set = |spec: &ServiceSpec| spec.health_check_node_port.filter(|number| *number != 0);
    if let Some(number) = set(spec).or_else(|| before.and_then(set)) {
        spec.health_check_node_port = Some(number);
        return Some(());
    }
    let taken = spec.ports.iter().flatten().filter_map(|port| port.node_port).collect();
    spec.health_check_node_port = Some(free_port("TCP", &taken, claims)?);
    Some(())
}

fn free_port(protocol: &str, taken: &HashSet<i32>, claims: &dyn Claims) -> Option<i32> {
    let count = NODE_PORTS.end() - NODE_PORTS.start() + 1;
    let start = i32::try_from(claims.random(usize::try_from(count).ok()?)).ok()?;
    (0..count)
        .map(|step| NODE_PORTS.start() + (start + step) % count)
        .find(|number| !taken.contains(number) && claims.is_free(&format!("nodeport/{protocol}/{number}")))
}
