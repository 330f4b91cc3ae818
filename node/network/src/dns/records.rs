//! What the cluster's names mean. Pure: a directory and a question give an answer.
//!
//! A name that exists without the type asked for has an empty answer; only one that does not exist is an error.

use std::net::Ipv4Addr;

use corten_client::Key;

use crate::Range;
use crate::directory::{Directory, Endpoint, Port, Protocol, Service};

/// What a question asks for; types that the cluster never has are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    A,
    Srv,
    Ptr,
    Cname,
    Txt,
    Soa,
    Ns,
    Other,
}

/// A record's content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Data {
    A(Ipv4Addr),
    Srv { weight: u16, port: u16, target: String },
    Ptr(String),
    Cname(String),
    Txt(String),
    Soa,
    Ns(String),
}

/// An answer. Names are in lower case, without the final dot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Whether the name exists.
    pub(crate) exists: bool,
    /// The records of the name.
    pub(crate) records: Vec<Data>,
    /// Records of other names that help.
    pub(crate) additional: Vec<(String, Data)>,
}

impl Answer {
    fn missing() -> Self {
        Self::default()
    }

    /// A name that exists, with the records of it that are of the type.
    fn of(kind: Type, records: Vec<Data>) -> Self {
        let records = records.into_iter().filter(|record| record.is(kind)).collect();
        Self { exists: true, records, additional: Vec::new() }
    }
}

impl Data {
    fn is(&self, kind: Type) -> bool {
        match self {
            Self::A(_) => kind == Type::A,
            Self::Srv { .. } => kind == Type::Srv,
            Self::Ptr(_) => kind == Type::Ptr,
            // Stands for all types of its name.
            Self::Cname(_) => true,
            Self::Txt(_) => kind == Type::Txt,
            Self::Soa => kind == Type::Soa,
            Self::Ns(_) => kind == Type::Ns,
        }
    }
}

/// The part of the name space that the cluster answers for.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    /// Such as `cluster.local`.
    pub(crate) domain: String,
    pub(crate) dns_address: Ipv4Addr,
    /// Ranges whose addresses have no names but the cluster's.
    pub(crate) ranges: [Range; 2],
}

impl Zone {
    /// The zone that a name is in, or none if others answer for it.
    pub(crate) fn of<'a>(&'a self, name: &str) -> Option<&'a str> {
        if name == self.domain || name.strip_suffix(&*self.domain).is_some_and(|rest| rest.ends_with('.')) {
            return Some(&self.domain);
        }
        let address = reverse_address(name)?;
        let inside = |(network, prefix): &Range| {
            let mask = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0);
            u32::from(address) & mask == u32::from(*network) & mask
        };
        self.ranges.iter().any(inside).then_some("in-addr.arpa")
    }

    /// The answer to a question about a name of the zone, in lower case and without the final dot.
    pub(crate) fn answer(&self, directory: &Directory, name: &str, kind: Type) -> Answer {
        if let Some(address) = reverse_address(name) {
            return self.reverse(directory, address, kind);
        }
        let relative = name.strip_suffix(&*self.domain).unwrap_or(name).trim_end_matches('.');
        let labels: Vec<&str> = relative.split('.').filter(|label| !label.is_empty()).collect();
        match *labels {
            [] => Answer::of(kind, vec![Data::Soa, Data::Ns(self.server_name())]),
            ["dns-version"] => Answer::of(kind, vec![Data::Txt("1.1.0".to_owned())]),
            ["dns"] | ["svc"] | ["pod"] => Answer::of(kind, Vec::new()),
            ["ns", "dns"] => Answer::of(kind, vec![Data::A(self.dns_address)]),
            [ref rest @ .., namespace, "svc"] => self.service(directory, rest, namespace, kind),
            [_namespace, "pod"] => Answer::of(kind, Vec::new()),
            [pod, _namespace, "pod"] => match pod.replace('-', ".").parse() {
                Ok(address) => Answer::of(kind, vec![Data::A(address)]),
                Err(_) => Answer::missing(),
            },
            _ => Answer::missing(),
        }
    }

    /// The name of the server.
    pub(crate) fn server_name(&self) -> String {
        format!("ns.dns.{}", self.domain)
    }

    fn service(&self, directory: &Directory, rest: &[&str], namespace: &str, kind: Type) -> Answer {
        let Some((name, rest)) = rest.split_last() else {
            return if directory.has_namespace(namespace) { Answer::of(kind, Vec::new()) } else { Answer::missing() };
        };
        let Some((key, service)) = directory.service(namespace, name) else { return Answer::missing() };
        if let Some(target) = &service.external_name {
            return if rest.is_empty() {
                Answer::of(kind, vec![Data::Cname(target.clone())])
            } else {
                Answer::missing()
            };
        }
        let named = Named { zone: self, directory, key, service };
        match *rest {
            [] if service.is_headless() => named.endpoints(|_| true, kind),
            [] => Answer::of(kind, service.cluster_ip.map(Data::A).into_iter().collect()),
            [protocol] if protocol.starts_with('_') => named.protocol(protocol, kind),
            [port, protocol] if protocol.starts_with('_') => named.port(port, protocol, kind),
            [host] => named.endpoints(|endpoint| host_name(endpoint) == host, kind),
            _ => Answer::missing(),
        }
    }

    fn reverse(&self, directory: &Directory, address: Ipv4Addr, kind: Type) -> Answer {
        let service = |key: &Key| format!("{}.{}.svc.{}", key.name, key.namespace, self.domain);
        if let Some(key) = directory.by_address(address) {
            return Answer::of(kind, vec![Data::Ptr(service(key))]);
        }
        let of_headless =
            |key: &Key| directory.service(&key.namespace, &key.name).is_some_and(|(_, s)| s.is_headless());
        let mut names: Vec<Data> = directory
            .all_slices()
            .flat_map(|(key, slice)| slice.endpoints.iter().map(move |endpoint| (key, endpoint)))
            .filter(|(key, endpoint)| endpoint.address == address && of_headless(key))
            .map(|(key, endpoint)| Data::Ptr(format!("{}.{}", host_name(endpoint), service(key))))
            .collect();
        names.sort();
        names.dedup();
        if names.is_empty() { Answer::missing() } else { Answer::of(kind, names) }
    }
}

/// A service that a question is about.
struct Named<'a> {
    zone: &'a Zone,
    directory: &'a Directory,
    key: &'a Key,
    service: &'a Service,
}

impl Named<'_> {
    fn name(&self) -> String {
        format!("{}.{}.svc.{}", self.key.name, self.key.namespace, self.zone.domain)
    }

    fn visible(&self, endpoint: &Endpoint) -> bool {
        endpoint.ready || self.service.publish_not_ready
    }

    /// Addresses of the endpoints that have a name; without any the name does not exist.
    fn endpoints(&self, wanted: impl Fn(&Endpoint) -> bool, kind: Type) -> Answer {
        let endpoints = self.directory.slices(self.key).flat_map(|slice| &slice.endpoints);
        let chosen = endpoints.filter(|endpoint| self.visible(endpoint) && wanted(endpoint));
        let mut addresses: Vec<Data> = chosen.map(|endpoint| Data::A(endpoint.address)).collect();
        addresses.sort();
        addresses.dedup();
        if addresses.is_empty() { Answer::missing() } else { Answer::of(kind, addresses) }
    }

    /// `_tcp.name`: exists if there is a port below.
    fn protocol(&self, protocol: &str, kind: Type) -> Answer {
        let found = self.ports().into_iter().any(|(_, port)| is_protocol(protocol, port.protocol));
        if found { Answer::of(kind, Vec::new()) } else { Answer::missing() }
    }

    /// `_http._tcp.name`.
    fn port(&self, name: &str, protocol: &str, kind: Type) -> Answer {
        let is_port = |port: &Port| name.strip_prefix('_') == Some(&*port.name) && is_protocol(protocol, port.protocol);
        let found: Vec<_> =
            self.ports().into_iter().filter(|(_, port)| !port.name.is_empty() && is_port(port)).collect();
        if found.is_empty() {
            return Answer::missing();
        }
        let weight = (100 / found.len() as u16).max(1);
        let mut answer = Answer { exists: true, ..Answer::default() };
        for (host, port) in found.into_iter().filter(|_| kind == Type::Srv) {
            let (target, address) = match host {
                Some(endpoint) => (format!("{}.{}", host_name(endpoint), self.name()), Some(endpoint.address)),
                None => (self.name(), self.service.cluster_ip),
            };
            answer.records.push(Data::Srv { weight, port: port.port, target: target.clone() });
            answer.additional.extend(address.map(|address| (target, Data::A(address))));
        }
        answer.additional.dedup();
        answer
    }

    /// The ports that the name offers: the service's, or those of its endpoints.
    fn ports(&self) -> Vec<(Option<&Endpoint>, &Port)> {
        if !self.service.is_headless() {
            return self.service.ports.iter().map(|port| (None, port)).collect();
        }
        let slices = self.directory.slices(self.key);
        slices
            .flat_map(|slice| slice.endpoints.iter().flat_map(|e| slice.ports.iter().map(move |port| (Some(e), port))))
            .filter(|(endpoint, _)| endpoint.is_some_and(|endpoint| self.visible(endpoint)))
            .collect()
    }
}

fn is_protocol(label: &str, protocol: Protocol) -> bool {
    label.strip_prefix('_') == Some(protocol.name())
}

/// An endpoint's own label below its service: its host name, or its address.
fn host_name(endpoint: &Endpoint) -> String {
    endpoint.hostname.clone().unwrap_or_else(|| endpoint.address.to_string().replace('.', "-"))
}

/// The address that a name such as `10.0.43.10.in-addr.arpa` is about.
fn reverse_address(name: &str) -> Option<Ipv4Addr> {
    let address: Ipv4Addr = name.strip_suffix(".in-addr.arpa")?.parse().ok()?;
    let [a, b, c, d] = address.octets();
    Some(Ipv4Addr::new(d, c, b, a))
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
