//! Services: one stable address for a set of pods.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use corten_api::IntOrString;
use corten_api::api::core::v1::{Service, ServicePort, ServiceSpec};
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::meta::{NameRule, label_problems};
use crate::table::{NAME, age, column, labels, or_none, wide};
use crate::{Claims, ColumnHead, Subresource, WriteContext};

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
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
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
        let spec = service.spec.get_or_insert_default();
        let kind = spec.type_.get_or_insert_with(|| "ClusterIP".to_owned()).clone();
        if spec.session_affinity.get_or_insert_with(|| "None".to_owned()) == "ClientIP" {
            let client = spec.session_affinity_config.get_or_insert_default().client_ip.get_or_insert_default();
            client.timeout_seconds.get_or_insert(10_800);
        } else {
            spec.session_affinity_config = None;
        }
        for port in spec.ports.iter_mut().flatten() {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
            let number = port.port;
            let unset = match &port.target_port {
                None | Some(IntOrString::Int(0)) => true,
                Some(IntOrString::String(name)) => name.is_empty(),
                Some(IntOrString::Int(_)) => false,
            };
            if unset {
                port.target_port = Some(IntOrString::Int(number));
            }
        }
        if kind == "NodePort" || kind == "LoadBalancer" {
            spec.external_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
        }
        if kind == "LoadBalancer" {
            spec.allocate_load_balancer_node_ports.get_or_insert(true);
        }
        if kind != "ExternalName" {
            spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
            spec.ip_families.get_or_insert_with(|| vec!["IPv4".to_owned()]);
            spec.ip_family_policy.get_or_insert_with(|| "SingleStack".to_owned());
        }
    }

    fn prepare(new: &mut Service, old: Option<&Service>, cx: &WriteContext<'_>) -> Result<(), Status> {
        let before = old.and_then(|old| old.spec.as_ref());
        let name = new.metadata.name.clone().unwrap_or_default();
        let Some(spec) = new.spec.as_mut() else { return Ok(()) };
        if spec.type_.as_deref() == Some("ExternalName") {
            (spec.cluster_ip, spec.cluster_ips) = (None, None);
            (spec.ip_families, spec.ip_family_policy) = (None, None);
        } else {
            if spec.cluster_ip.as_deref().is_none_or(str::is_empty) {
                spec.cluster_ip = spec.cluster_ips.as_ref().and_then(|ips| ips.first().cloned());
            }
            if spec.cluster_ip.as_deref().is_none_or(str::is_empty) {
                // A client that writes back what it once made may leave out what the server chose.
                spec.cluster_ip = before.and_then(|before| before.cluster_ip.clone()).filter(|ip| !ip.is_empty());
            }
            if spec.cluster_ip.is_none() {
                spec.cluster_ip =
                    Some(free_address(cx.claims).ok_or_else(|| exhausted(&name, "IP address"))?.to_string());
            }
            spec.cluster_ips = spec.cluster_ip.clone().map(|ip| vec![ip]);
            // One that it has may come from another range: the range of today is for new ones.
            let new = before.and_then(|before| before.cluster_ip.as_ref()).is_none_or(String::is_empty);
            let given = spec.cluster_ip.as_deref().and_then(|ip| ip.parse().ok()).filter(|_| new);
            given.map_or(Ok(()), |ip| in_range(&name, ip, cx.claims.service_range()))?;
        }
        allocate_ports(spec, before, cx.claims).ok_or_else(|| exhausted(&name, "node port"))
    }

    fn validate(service: &Service, old: Option<&Service>, errs: &mut FieldErrors) {
        let Some(spec) = &service.spec else { return };
        let kind = spec.type_.as_deref().unwrap_or_default();
        let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
        if !kinds.contains(&kind) {
            errs.not_supported("spec.type", kind, &kinds);
        }
        let affinity = spec.session_affinity.as_deref().unwrap_or_default();
        if !["ClientIP", "None"].contains(&affinity) {
            errs.not_supported("spec.sessionAffinity", affinity, &["ClientIP", "None"]);
        }
        if kind == "ExternalName" {
            if spec.external_name.as_deref().is_none_or(str::is_empty) {
                errs.required("spec.externalName", "");
            }
            return;
        }
        let ports = spec.ports.as_deref().unwrap_or_default();
        if ports.is_empty() && spec.cluster_ip.as_deref() != Some("None") {
            errs.required("spec.ports", "");
        }
        validate_ports(ports, errs);
        crate::meta::labels(spec.selector.iter().flatten(), "spec.selector", errs);
        if let Some(ip) = spec.cluster_ip.as_deref()
            && ip != "None"
            && ip.parse::<Ipv4Addr>().is_err()
        {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errs.invalid("spec.clusterIPs[0]", ip, why);
        }
        let before = old.and_then(|old| old.spec.as_ref()).filter(|old| old.type_.as_deref() != Some("ExternalName"));
        if let Some(before) = before
            && before.cluster_ip != spec.cluster_ip
        {
            let ips = spec.cluster_ips.clone().unwrap_or_default();
            errs.invalid("spec.clusterIPs", ips, "may not change once set");
        }
    }

    fn claims(object: &Value) -> Vec<String> {
        let spec = &object["spec"];
        let ip = spec["clusterIP"].as_str().filter(|ip| !ip.is_empty() && *ip != "None");
        let ports = spec["ports"].as_array().into_iter().flatten().filter_map(|port| {
            let number = port["nodePort"].as_i64().filter(|&number| number > 0)?;
            Some(format!("nodeport/{}/{number}", port["protocol"].as_str().unwrap_or("TCP")))
        });
        let ports: HashSet<String> = ports.collect();
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

/// Gives each port of a NodePort service its number; takes them from other services.
fn allocate_ports(spec: &mut ServiceSpec, before: Option<&ServiceSpec>, claims: &dyn Claims) -> Option<()> {
    let kind = spec.type_.as_deref().unwrap_or_default();
    let wanted =
        kind == "NodePort" || (kind == "LoadBalancer" && spec.allocate_load_balancer_node_ports != Some(false));
    let mut taken: HashSet<i32> = spec.ports.iter().flatten().filter_map(|port| port.node_port).collect();
    for port in spec.ports.iter_mut().flatten() {
        if !wanted {
            port.node_port = None;
            continue;
        }
        if port.node_port.is_some_and(|number| number != 0) {
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

fn free_port(protocol: &str, taken: &HashSet<i32>, claims: &dyn Claims) -> Option<i32> {
    let count = NODE_PORTS.end() - NODE_PORTS.start() + 1;
    let start = i32::try_from(claims.random(usize::try_from(count).ok()?)).ok()?;
    (0..count)
        .map(|step| NODE_PORTS.start() + (start + step) % count)
        .find(|number| !taken.contains(number) && claims.is_free(&format!("nodeport/{protocol}/{number}")))
}

fn validate_ports(ports: &[ServicePort], errs: &mut FieldErrors) {
    let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
    for (index, port) in ports.iter().enumerate() {
        let path = |field: &str| format!("spec.ports[{index}].{field}");
        match port.name.as_deref().unwrap_or_default() {
            "" if ports.len() > 1 => errs.required(path("name"), ""),
            "" => {}
            name => {
                label_problems(name).into_iter().for_each(|why| errs.invalid(path("name"), name, why));
                if !names.insert(name) {
                    errs.duplicate(path("name"), name);
                }
            }
        }
        if !(1..=65_535).contains(&port.port) {
            errs.invalid(path("port"), port.port, "must be between 1 and 65535, inclusive");
        }
        let protocol = port.protocol.as_deref().unwrap_or_default();
        if !["SCTP", "TCP", "UDP"].contains(&protocol) {
            errs.not_supported(path("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
        }
        if let Some(IntOrString::Int(number)) = port.target_port
            && !(1..=65_535).contains(&number)
        {
            errs.invalid(path("targetPort"), number, "must be between 1 and 65535, inclusive");
        }
        if let Some(number) = port.node_port
            && !NODE_PORTS.contains(&number)
        {
            let why = "provided port is not in the valid range. The range of valid ports is 30000-32767";
            errs.invalid(path("nodePort"), number, why);
        }
        if !numbers.insert((protocol, port.port)) {
            errs.duplicate(format!("spec.ports[{index}]"), format!("{protocol}/{}", port.port));
        }
    }
}
