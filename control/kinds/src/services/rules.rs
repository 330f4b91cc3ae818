//! Defaults and rules of a service's spec.
//!
//! Wording: pkg/apis/core/validation and pkg/registry/core/service of Kubernetes v1.36.

use std::collections::HashSet;
use std::net::IpAddr;

use corten_api::IntOrString;
use corten_api::api::core::v1::{ServicePort, ServiceSpec};
use corten_api::field::FieldErrors;
use corten_api::label;

use super::NODE_PORTS;
use crate::meta::label_problems;
use crate::net;
use crate::selectors::invalid_json;

const CLIENT_SECONDS: i32 = 10_800;
const MOST_CLIENT_SECONDS: i32 = 86_400;

fn is_a(spec: &ServiceSpec, kind: &str) -> bool {
    spec.type_.as_deref() == Some(kind)
}

fn headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None")
}

/// Whether traffic from outside comes in: through a node port, a balancer or an external address.
fn is_external(spec: &ServiceSpec) -> bool {
    let through_node = is_a(spec, "NodePort") || is_a(spec, "LoadBalancer");
    through_node || (is_a(spec, "ClusterIP") && spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()))
}

pub(super) fn needs_health_check(spec: &ServiceSpec) -> bool {
    is_a(spec, "LoadBalancer") && spec.external_traffic_policy.as_deref() == Some("Local")
}

pub(super) fn default(spec: &mut ServiceSpec) {
    let text = |field: &mut Option<String>, value: &str| {
        if field.as_deref().is_none_or(str::is_empty) {
            *field = Some(value.to_owned());
        }
    };
    text(&mut spec.session_affinity, "None");
    if spec.session_affinity.as_deref() == Some("ClientIP") {
        let client = spec.session_affinity_config.get_or_insert_default().client_ip.get_or_insert_default();
        client.timeout_seconds.get_or_insert(CLIENT_SECONDS);
    } else if spec.session_affinity.as_deref() == Some("None") {
        spec.session_affinity_config = None;
    }
    text(&mut spec.type_, "ClusterIP");
    for port in spec.ports.iter_mut().flatten() {
        text(&mut port.protocol, "TCP");
        let unset = match &port.target_port {
            None | Some(IntOrString::Int(0)) => true,
            Some(IntOrString::String(name)) => name.is_empty(),
            Some(IntOrString::Int(_)) => false,
        };
        if unset {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
    if is_external(spec) {
        text(&mut spec.external_traffic_policy, "Cluster");
    }
    if !is_a(spec, "ExternalName") {
        spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    }
    if is_a(spec, "LoadBalancer") {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
}

/// Takes away what the old type had and the new one has not, unless the client set it anew.
pub(super) fn drop_outdated(spec: &mut ServiceSpec, before: &ServiceSpec) {
    let addressed = |spec: &ServiceSpec| !is_a(spec, "ExternalName");
    if addressed(before) && !addressed(spec) {
        if spec.cluster_ip == before.cluster_ip {
            spec.cluster_ip = None;
        }
        if spec.cluster_ips == before.cluster_ips {
            spec.cluster_ips = None;
        }
        if spec.ip_families == before.ip_families {
            spec.ip_families = None;
        }
        if spec.ip_family_policy == before.ip_family_policy {
            spec.ip_family_policy = None;
        }
        if spec.internal_traffic_policy == before.internal_traffic_policy {
            spec.internal_traffic_policy = None;
        }
    }
    let through_node = |spec: &ServiceSpec| is_a(spec, "NodePort") || is_a(spec, "LoadBalancer");
    if through_node(before) && !through_node(spec) {
        let number = |port: &ServicePort| (port.protocol.clone(), port.node_port.unwrap_or(0));
        let had: HashSet<_> = before.ports.iter().flatten().map(number).collect();
        for port in spec.ports.iter_mut().flatten() {
            if had.contains(&number(port)) {
                port.node_port = None;
            }
        }
    }
    if needs_health_check(before)
        && !needs_health_check(spec)
        && spec.health_check_node_port == before.health_check_node_port
    {
        spec.health_check_node_port = None;
    }
    if is_a(before, "LoadBalancer") && !is_a(spec, "LoadBalancer") {
        if spec.allocate_load_balancer_node_ports == before.allocate_load_balancer_node_ports {
            spec.allocate_load_balancer_node_ports = None;
        }
        if spec.load_balancer_class == before.load_balancer_class {
            spec.load_balancer_class = None;
        }
    }
    if is_external(before) && !is_external(spec) && spec.external_traffic_policy == before.external_traffic_policy {
        spec.external_traffic_policy = None;
    }
    // Who writes back what it once made may leave out what the server chose.
    if addressed(before) && addressed(spec) {
        let left_out =
            spec.cluster_ip.as_deref().is_none_or(str::is_empty) && spec.cluster_ips.as_ref().is_none_or(Vec::is_empty);
        if left_out {
            spec.cluster_ip = before.cluster_ip.clone();
            spec.cluster_ips = before.cluster_ips.clone();
        }
        if spec.ip_families.as_ref().is_none_or(Vec::is_empty) {
            spec.ip_families = before.ip_families.clone();
        }
        if spec.ip_family_policy.is_none() {
            spec.ip_family_policy = before.ip_family_policy.clone();
        }
    }
    if needs_health_check(spec) && spec.health_check_node_port.is_none_or(|number| number == 0) {
        spec.health_check_node_port = before.health_check_node_port;
    }
}

/// Makes the two fields of the address tell the same, and fills in the families. There is one family here: IPv4.
pub(super) fn match_fields(spec: &mut ServiceSpec, before: Option<&ServiceSpec>) {
    if is_a(spec, "ExternalName") {
        return;
    }
    let first = |spec: &ServiceSpec| spec.cluster_ips.as_ref().and_then(|ips| ips.first().cloned());
    let single = spec.cluster_ip.clone().filter(|ip| !ip.is_empty());
    match (single, first(spec), before) {
        // An older client that knows the first field alone cleared or changed it.
        (Some(ip), Some(listed), Some(before)) if ip != listed && first(before) == Some(listed.clone()) => {
            spec.cluster_ips = Some(vec![ip]);
        }
        (Some(ip), None, _) => spec.cluster_ips = Some(vec![ip]),
        (None, Some(ip), None) => spec.cluster_ip = Some(ip),
        (None, Some(_), Some(before)) if before.cluster_ip.as_deref().is_none_or(str::is_empty) => {
            spec.cluster_ip = first(spec);
        }
        _ => {}
    }
    let unselected = headless(spec) && spec.selector.as_ref().is_none_or(|selector| selector.is_empty());
    let policy = spec
        .ip_family_policy
        .get_or_insert_with(|| if unselected { "RequireDualStack" } else { "SingleStack" }.to_owned());
    let both = unselected && policy == "RequireDualStack";
    if spec.ip_families.as_ref().is_none_or(Vec::is_empty) {
        let families = if both { &["IPv4", "IPv6"][..] } else { &["IPv4"] };
        spec.ip_families = Some(families.iter().map(|&family| family.to_owned()).collect());
    }
}

pub(super) fn validate(spec: &ServiceSpec, before: Option<&ServiceSpec>, errs: &mut FieldErrors) {
    let kind = spec.type_.as_deref().unwrap_or_default();
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    match kind {
        "LoadBalancer" | "NodePort" if headless(spec) => {
            let field = "spec.clusterIPs[0]";
            errs.invalid(field, "None", format!("may not be set to 'None' for {kind} services"));
        }
        "ExternalName" => {
            if spec.cluster_ip.as_ref().is_some_and(|ip| !ip.is_empty()) {
                errs.forbidden("spec.clusterIPs[0]", "may not be set for ExternalName services");
            }
            let name = spec.external_name.as_deref().unwrap_or_default();
            let name = name.strip_suffix('.').unwrap_or(name);
            if name.is_empty() {
                errs.required("spec.externalName", "");
            } else {
                label::subdomain_problems(name)
                    .into_iter()
                    .for_each(|why| errs.invalid("spec.externalName", name, why));
            }
        }
        _ => {}
    }
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !headless(spec) && kind != "ExternalName" {
        errs.required("spec.ports", "");
    }
    self::ports(ports, headless(spec), kind, errs);
    crate::meta::labels(spec.selector.iter().flatten(), "spec.selector", errs);
    affinity(spec, errs);
    addresses(spec, before, errs);
    families(spec, errs);
    for (index, ip) in spec.external_ips.iter().flatten().enumerate() {
        let path = format!("spec.externalIPs[{index}]");
        if let Some(address) = net::address(ip, &path, errs) {
            endpoint_address(address, ip, &path, errs);
        }
    }
    if kind.is_empty() {
        errs.required("spec.type", "");
    } else if !kinds.contains(&kind) {
        errs.not_supported("spec.type", kind, &kinds);
    }
    balancer(spec, before, errs);
    policies(spec, errs);
    if let Some(before) = before {
        address_stays(spec, before, errs);
    }
}

/// Whether this is where the API server itself is found, which on a machine without network is the machine itself.
pub(crate) fn is_own(meta: &corten_api::meta::ObjectMeta) -> bool {
    meta.name.as_deref() == Some("kubernetes") && meta.namespace.as_deref() == Some("default")
}

/// Addresses that reach the machine itself or only its link are no endpoints.
pub(crate) fn endpoint_address(address: IpAddr, text: &str, path: &str, errs: &mut FieldErrors) {
    let local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
    };
    let link_multicast = match address {
        IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
    };
    if address.is_unspecified() {
        errs.invalid(path, text, format!("may not be unspecified ({text})"));
    }
    if address.is_loopback() {
        errs.invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if local {
        errs.invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_multicast {
        errs.invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

fn ports(ports: &[ServicePort], headless: bool, kind: &str, errs: &mut FieldErrors) {
    let (mut names, mut numbers, mut node_ports) = (HashSet::new(), HashSet::new(), HashSet::new());
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
        net::port(port.port, &path("port"), errs);
        let protocol = port.protocol.as_deref().unwrap_or_default();
        if protocol.is_empty() {
            errs.required(path("protocol"), "");
        } else {
            net::protocol(protocol, &path("protocol"), errs);
        }
        if let Some(target) = &port.target_port {
            net::port_or_name(target, &path("targetPort"), errs);
        }
        if let Some(protocol) = port.app_protocol.as_deref() {
            label::key_problems(protocol).into_iter().for_each(|why| errs.invalid(path("appProtocol"), protocol, why));
        }
        let node_port = port.node_port.filter(|number| *number != 0);
        if let Some(number) = node_port {
            if kind == "ClusterIP" {
                errs.forbidden(path("nodePort"), "may not be used when `type` is 'ClusterIP'");
            } else if !NODE_PORTS.contains(&number) {
                let why = "provided port is not in the valid range. The range of valid ports is 30000-32767";
                errs.invalid(path("nodePort"), number, why);
            } else if !node_ports.insert((protocol, number)) {
                errs.duplicate(path("nodePort"), number);
            }
        }
        // A service without address does not translate ports, so that the target is the port.
        let key = (protocol, port.port);
        if !numbers.insert(key) && !headless {
            errs.duplicate(format!("spec.ports[{index}]"), format!("{protocol}/{}", port.port));
        }
    }
}

fn affinity(spec: &ServiceSpec, errs: &mut FieldErrors) {
    let affinity = spec.session_affinity.as_deref().unwrap_or_default();
    let config = spec.session_affinity_config.as_ref();
    const PATH: &str = "spec.sessionAffinityConfig";
    match affinity {
        "" => errs.required("spec.sessionAffinity", ""),
        "ClientIP" => {
            let seconds = config.and_then(|config| config.client_ip.as_ref()).and_then(|client| client.timeout_seconds);
            match seconds {
                None => {
                    let why = format!("when session affinity type is {affinity}");
                    errs.required(format!("{PATH}.clientIP.timeoutSeconds"), why);
                }
                Some(seconds) if !(1..=MOST_CLIENT_SECONDS).contains(&seconds) => {
                    let why = format!("must be greater than 0 and less than {MOST_CLIENT_SECONDS}");
                    errs.invalid(format!("{PATH}.clientIP.timeoutSeconds"), seconds, why);
                }
                Some(_) => {}
            }
        }
        "None" => {
            if config.is_some() {
                let why = "must not be set when session affinity is None";
                errs.forbidden(PATH, why);
            }
        }
        other => errs.not_supported("spec.sessionAffinity", other, &["ClientIP", "None"]),
    }
}

/// The addresses that a client asks for.
pub(super) fn addresses(spec: &ServiceSpec, _before: Option<&ServiceSpec>, errs: &mut FieldErrors) {
    const PATH: &str = "spec.clusterIPs";
    let ips = spec.cluster_ips.as_deref().unwrap_or_default();
    if is_a(spec, "ExternalName") {
        return;
    }
    let single = spec.cluster_ip.as_deref().unwrap_or_default();
    match ips.first() {
        None if !single.is_empty() => errs.required(PATH, ""),
        Some(first) if *first != single => {
            errs.invalid(PATH, ips, "first value must match `clusterIP`");
        }
        _ => {}
    }
    if ips.len() > 1 && ips.iter().any(|ip| ip == "None") {
        return invalid_json(errs, PATH, &ips, "`None` may only be set in combination with no other values");
    }
    for (index, ip) in ips.iter().enumerate().filter(|(_, ip)| *ip != "None") {
        net::address(ip, &format!("{PATH}[{index}]"), errs);
    }
    if ips.len() > 2 {
        invalid_json(errs, PATH, &ips, "may only hold up to 2 values");
    } else if ips.len() == 2 {
        let why = "may only specify one IP address: this cluster is not configured for dual-stack services";
        invalid_json(errs, PATH, &ips, why);
    }
    if let Some(ip) = ips.first().filter(|ip| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6())) {
        errs.invalid(format!("{PATH}[0]"), ip, "IPv6 is not configured on this cluster");
    }
}

fn families(spec: &ServiceSpec, errs: &mut FieldErrors) {
    const PATH: &str = "spec.ipFamilies";
    let families = spec.ip_families.as_deref().unwrap_or_default();
    if is_a(spec, "ExternalName") {
        if !families.is_empty() {
            errs.forbidden(PATH, "may not be set for ExternalName services");
        }
        if spec.ip_family_policy.is_some() {
            errs.forbidden("spec.ipFamilyPolicy", "may not be set for ExternalName services");
        }
        return;
    }
    for (index, family) in families.iter().enumerate() {
        let path = format!("{PATH}[{index}]");
        if !["IPv4", "IPv6"].contains(&family.as_str()) {
            errs.not_supported(&path, family, &["IPv4", "IPv6"]);
        } else if families[..index].contains(family) {
            errs.duplicate(&path, family);
        }
    }
    let policy = spec.ip_family_policy.as_deref().unwrap_or_default();
    let known = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    if !known.contains(&policy) {
        errs.not_supported("spec.ipFamilyPolicy", policy, &known);
    }
    if headless(spec) && spec.selector.as_ref().is_none_or(|selector| selector.is_empty()) {
        return;
    }
    if let Some(index) = families.iter().position(|family| family == "IPv6") {
        errs.invalid(format!("{PATH}[{index}]"), "IPv6", "not configured on this cluster");
    }
    if policy == "RequireDualStack" {
        let why = "this cluster is not configured for dual-stack services";
        errs.invalid("spec.ipFamilyPolicy", policy, why);
    }
}

fn balancer(spec: &ServiceSpec, before: Option<&ServiceSpec>, errs: &mut FieldErrors) {
    let balanced = is_a(spec, "LoadBalancer");
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    if !ranges.is_empty() && !balanced {
        errs.forbidden("spec.loadBalancerSourceRanges", ONLY);
    }
    for (index, range) in ranges.iter().enumerate() {
        net::range(range.trim(), &format!("spec.loadBalancerSourceRanges[{index}]"), errs);
    }
    if spec.allocate_load_balancer_node_ports.is_some() && !balanced {
        errs.forbidden("spec.allocateLoadBalancerNodePorts", ONLY);
    } else if spec.allocate_load_balancer_node_ports.is_none() && balanced {
        errs.required("spec.allocateLoadBalancerNodePorts", "when `type` is 'LoadBalancer'");
    }
    if let Some(class) = &spec.load_balancer_class {
        if !balanced {
            errs.forbidden("spec.loadBalancerClass", ONLY);
        }
        label::key_problems(class).into_iter().for_each(|why| errs.invalid("spec.loadBalancerClass", class, why));
    }
    if let Some(before) = before.filter(|before| balanced && is_a(before, "LoadBalancer"))
        && before.load_balancer_class != spec.load_balancer_class
    {
        let class = spec.load_balancer_class.as_deref().unwrap_or("null");
        errs.invalid("spec.loadBalancerClass", class, "may not change once set");
    }
}

fn policies(spec: &ServiceSpec, errs: &mut FieldErrors) {
    let known = ["Cluster", "Local"];
    const OUTER: &str = "spec.externalTrafficPolicy";
    match spec.external_traffic_policy.as_deref().filter(|policy| !policy.is_empty()) {
        Some(policy) if !is_external(spec) => {
            errs.invalid(OUTER, policy, "may only be set for externally-accessible services");
        }
        None if is_external(spec) => {
            errs.required(OUTER, "must be specified for externally-accessible services");
        }
        Some(policy) if !known.contains(&policy) => errs.not_supported(OUTER, policy, &known),
        _ => {}
    }
    let health = spec.health_check_node_port.unwrap_or(0);
    const HEALTH: &str = "spec.healthCheckNodePort";
    if !needs_health_check(spec) {
        if health != 0 {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errs.invalid(HEALTH, health, why);
        }
    } else if health != 0 {
        net::port(health, HEALTH, errs);
    }
    const INNER: &str = "spec.internalTrafficPolicy";
    match spec.internal_traffic_policy.as_deref() {
        None if !is_a(spec, "ExternalName") => errs.required(INNER, ""),
        Some(policy) if !known.contains(&policy) => errs.not_supported(INNER, policy, &known),
        _ => {}
    }
    let known = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    if let Some(wish) = spec.traffic_distribution.as_deref().filter(|wish| !known.contains(wish)) {
        errs.not_supported("spec.trafficDistribution", wish, &known);
    }
}

/// An address stays as long as the service has one.
fn address_stays(spec: &ServiceSpec, before: &ServiceSpec, errs: &mut FieldErrors) {
    let had = before.cluster_ips.as_deref().unwrap_or_default();
    let first = |ips: &[String]| ips.first().cloned().unwrap_or_default();
    if is_a(before, "ExternalName") || is_a(spec, "ExternalName") || first(had).is_empty() {
        return;
    }
    let ips = spec.cluster_ips.as_deref().unwrap_or_default();
    if first(ips) != first(had) {
        errs.invalid("spec.clusterIPs[0]", ips, "may not change once set");
    }
    let had = before.ip_families.as_deref().unwrap_or_default();
    let families = spec.ip_families.as_deref().unwrap_or_default();
    if !had.is_empty() && first(families) != first(had) {
        errs.invalid("spec.ipFamilies[0]", families, "may not change once set");
    }
}

pub(super) fn warnings(spec: &ServiceSpec) -> Vec<String> {
    let mut texts = Vec::new();
    if is_a(spec, "ExternalName") && spec.session_affinity.as_deref() == Some("ClientIP") {
        texts.push("spec.SessionAffinity is ignored for ExternalName services".to_owned());
    }
    if headless(spec) {
        if spec.load_balancer_ip.as_ref().is_some_and(|ip| !ip.is_empty()) {
            texts.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()) {
            texts.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if spec.session_affinity.as_deref().is_some_and(|affinity| affinity != "None") {
            texts.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    if !is_a(spec, "ExternalName") && spec.external_name.as_ref().is_some_and(|name| !name.is_empty()) {
        texts.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec.traffic_distribution.as_deref() == Some("PreferClose") {
        texts
            .push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\" instead".to_owned());
    }
    texts
}
