//! Services and their endpoints, reduced to what rules and names need.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use corten_api::api::core::v1::{Service as ApiService, ServicePort as ApiPort};
use corten_api::api::discovery::v1::{Endpoint as ApiEndpoint, EndpointSlice};
use corten_client::Key;

/// Joins a slice to its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Says that another service proxy serves this service.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// How long a client sticks to its endpoint, unless the service says otherwise.
const AFFINITY_SECONDS: i32 = 10_800;

/// What services there are.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    services: BTreeMap<Key, Service>,
    /// Slices by service and name.
    slices: BTreeMap<Key, BTreeMap<String, Slice>>,
    by_address: HashMap<Ipv4Addr, Key>,
}

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) cluster_ip: Option<Ipv4Addr>,
    /// Where an ExternalName service points.
    pub(crate) external_name: Option<String>,
    /// External IPs and load balancer addresses.
    pub(crate) external_ips: Vec<Ipv4Addr>,
    pub(crate) ports: Vec<Port>,
    /// Seconds for which a client sticks to an endpoint.
    pub(crate) affinity: Option<u32>,
    /// Traffic from inside goes to endpoints of this node only.
    pub(crate) internal_local: bool,
    /// Traffic from outside goes to endpoints of this node only.
    pub(crate) external_local: bool,
    /// Names lead to endpoints that are not ready, too.
    pub(crate) publish_not_ready: bool,
    /// Someone else redirects its traffic.
    pub(crate) foreign: bool,
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Protocol {
    Tcp = 6,
    Udp = 17,
    Sctp = 132,
}

impl Protocol {
    fn parse(text: Option<&str>) -> Option<Self> {
        match text.unwrap_or("TCP") {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }

    /// As in DNS names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) node_port: Option<u16>,
}

/// An endpoint slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) ports: Vec<Port>,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: Ipv4Addr,
    pub(crate) hostname: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) ready: bool,
    /// Still answers although it is about to go: taken if there is no other.
    pub(crate) last_resort: bool,
}

impl Directory {
    /// Takes over a change of a service.
    pub(crate) fn set_service(&mut self, before: Option<&ApiService>, after: Option<&ApiService>) {
        let old = before.and_then(|before| self.services.remove(&Key::of(before)));
        if let Some(address) = old.and_then(|service| service.cluster_ip) {
            self.by_address.remove(&address);
        }
        if let Some(after) = after {
            let (key, service) = (Key::of(after), Service::read(after));
            if let Some(address) = service.cluster_ip {
                self.by_address.insert(address, key.clone());
            }
            self.services.insert(key, service);
        }
    }

    /// Takes over a change of a slice.
    pub(crate) fn set_slice(&mut self, before: Option<&EndpointSlice>, after: Option<&EndpointSlice>) {
        if let Some((key, name)) = before.and_then(owner)
            && let Some(slices) = self.slices.get_mut(&key)
        {
            slices.remove(&name);
            if slices.is_empty() {
                self.slices.remove(&key);
            }
        }
        if let Some(after) = after
            && let Some((key, name)) = owner(after)
            && after.address_type == "IPv4"
        {
            self.slices.entry(key).or_default().insert(name, Slice::read(after));
        }
    }

    /// All services.
    pub(crate) fn services(&self) -> impl Iterator<Item = (&Key, &Service)> {
        self.services.iter()
    }

    /// A service.
    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<(&Key, &Service)> {
        self.services.get_key_value(&Key::new(namespace, name))
    }

    /// Whether a namespace has a service.
    pub(crate) fn has_namespace(&self, namespace: &str) -> bool {
        self.services.range(Key::new(namespace, "")..).next().is_some_and(|(key, _)| key.namespace == namespace)
    }

    /// The service that has a cluster IP.
    pub(crate) fn by_address(&self, address: Ipv4Addr) -> Option<&Key> {
        self.by_address.get(&address)
    }

    /// The slices of a service.
    pub(crate) fn slices(&self, service: &Key) -> impl Iterator<Item = &Slice> {
        self.slices.get(service).into_iter().flat_map(BTreeMap::values)
    }

    /// All slices, and the services that they belong to.
    pub(crate) fn all_slices(&self) -> impl Iterator<Item = (&Key, &Slice)> {
        self.slices.iter().flat_map(|(key, slices)| slices.values().map(move |slice| (key, slice)))
    }
}

/// The service that a slice belongs to, and the slice's name.
fn owner(slice: &EndpointSlice) -> Option<(Key, String)> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    Some((Key::new(namespace, service), slice.metadata.name.clone().unwrap_or_default()))
}

/// Whether an address can lead to a service from outside. Others would catch what the node sends to itself, or all of it.
fn is_reachable_outside(address: &Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_link_local() || address.is_multicast())
}

impl Service {
    fn read(service: &ApiService) -> Self {
        let Some(spec) = &service.spec else { return Self::default() };
        let is_external_name = spec.type_.as_deref() == Some("ExternalName");
        let ingress = service.status.iter().filter_map(|s| s.load_balancer.as_ref()?.ingress.as_ref()).flatten();
        let external = spec.external_ips.iter().flatten().chain(ingress.filter_map(|ingress| ingress.ip.as_ref()));
        let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
            let client_ip = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
            client_ip.and_then(|client_ip| client_ip.timeout_seconds).unwrap_or(AFFINITY_SECONDS)
        });
        let external_name = spec.external_name.clone().filter(|_| is_external_name);
        Self {
            cluster_ip: spec.cluster_ip.as_deref().filter(|_| !is_external_name).and_then(|ip| ip.parse().ok()),
            external_name: external_name.map(|name| name.trim_end_matches('.').to_ascii_lowercase()),
            external_ips: external.filter_map(|ip| ip.parse().ok()).filter(is_reachable_outside).collect(),
            ports: spec.ports.iter().flatten().filter_map(Port::read).collect(),
            affinity: affinity.and_then(|seconds| u32::try_from(seconds).ok()),
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
            publish_not_ready: spec.publish_not_ready_addresses == Some(true),
            foreign: service.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(PROXY_NAME)),
        }
    }

    /// A service without an address of its own: its name leads to its endpoints.
    pub(crate) fn is_headless(&self) -> bool {
        self.cluster_ip.is_none() && self.external_name.is_none()
    }
}

impl Port {
    fn read(port: &ApiPort) -> Option<Self> {
        Some(Self {
            name: port.name.clone().unwrap_or_default(),
            protocol: Protocol::parse(port.protocol.as_deref())?,
            port: u16::try_from(port.port).ok()?,
            node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0),
        })
    }
}

impl Slice {
    fn read(slice: &EndpointSlice) -> Self {
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            Some(Port {
                name: port.name.clone().unwrap_or_default(),
                protocol: Protocol::parse(port.protocol.as_deref())?,
                port: u16::try_from(port.port?).ok()?,
                node_port: None,
            })
        });
        Self {
            ports: ports.collect(),
            endpoints: slice.endpoints.iter().flatten().filter_map(Endpoint::read).collect(),
        }
    }
}

impl Endpoint {
    fn read(endpoint: &ApiEndpoint) -> Option<Self> {
        let is = |state: fn(&corten_api::api::discovery::v1::EndpointConditions) -> Option<bool>| {
            endpoint.conditions.as_ref().and_then(state)
        };
        let ready = is(|conditions| conditions.ready).unwrap_or(true);
        Some(Self {
            address: endpoint.addresses.first()?.parse().ok()?,
            hostname: endpoint.hostname.clone().filter(|name| !name.is_empty()),
            node: endpoint.node_name.clone(),
            ready,
            last_resort: is(|c| c.serving).unwrap_or(ready) && is(|c| c.terminating).unwrap_or(false),
        })
    }
}

/// Objects for tests, as YAML would write them.
#[cfg(test)]
pub(crate) fn directory_of(objects: &[serde_json::Value]) -> Directory {
    let mut directory = Directory::default();
    for object in objects {
        if object["kind"] == "Service" {
            directory.set_service(None, Some(&serde_json::from_value(object.clone()).expect("a service")));
        } else {
            directory.set_slice(None, Some(&serde_json::from_value(object.clone()).expect("a slice")));
        }
    }
    directory
}
