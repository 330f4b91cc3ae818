//! Which server is behind a pod, a service or a node.

use std::net::{IpAddr, SocketAddr};

use corten_api::api::core::v1::{Node, Pod, Service};
use corten_api::api::discovery::v1::{Endpoint, EndpointSlice};
use corten_api::status::Status;
use corten_kinds::Proxied;
use serde::de::DeserializeOwned;

use crate::route::Target;
use crate::server::Server;
use crate::storage;

/// A server that requests are handed to.
pub(super) enum Backend {
    /// An address, with TLS or without.
    Address { address: SocketAddr, tls: bool },
    /// A node's kubelet, which the dialer knows.
    Kubelet(Box<Node>),
}

/// The three parts of `[scheme:]name[:port]`.
struct Reference<'a> {
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

impl<'a> Reference<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        (["", "http", "https"].contains(&scheme) && !name.is_empty()).then_some(Self { scheme, name, port })
    }

    fn backend(&self, address: IpAddr, port: u16) -> Result<Backend, Status> {
        if !is_reachable(address) {
            return Err(Status::bad_request("address not allowed"));
        }
        Ok(Backend::Address { address: SocketAddr::new(address, port), tls: self.scheme == "https" })
    }

    /// The port as a number; that of the scheme if none is named.
    fn number(&self) -> Option<u16> {
        match (self.port, self.scheme) {
            ("", "https") => Some(443),
            ("", _) => Some(80),
            (port, _) => port.parse().ok().filter(|port| *port != 0),
        }
    }
}

/// Whether an address is somebody else's: not this machine's own, nor one that only its link knows.
fn is_reachable(address: IpAddr) -> bool {
    let local = match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let address = address.to_canonical();
    !local && !address.is_loopback() && !address.is_unspecified() && !address.is_multicast()
}

/// The server that a request is for.
pub(super) fn find(server: &Server, target: &Target) -> Result<Backend, Status> {
    let text = target.name.as_deref().unwrap_or_default();
    let names = target.kind.names();
    let reference = Reference::parse(text)
        .ok_or_else(|| Status::bad_request(format!("invalid {} request {text:?}", names.singular)))?;
    match target.kind.proxied().ok_or_else(Status::no_such_path)? {
        Proxied::Pod => pod(server, target, &reference),
        Proxied::Service => service(server, target, &reference),
        Proxied::Node => node(server, target, &reference),
    }
}

fn read<T: DeserializeOwned>(server: &Server, target: &Target, name: &str) -> Result<T, Status> {
    storage::of(server, &Target { name: Some(name.to_owned()), ..target.clone() })
}

fn pod(server: &Server, target: &Target, reference: &Reference<'_>) -> Result<Backend, Status> {
    let pod: Pod = read(server, target, reference.name)?;
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).unwrap_or_default();
    let address: IpAddr = address.parse().map_err(|_| Status::bad_request("address not allowed"))?;
    let declared = || {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let first = containers.flat_map(|container| container.ports.iter().flatten()).next();
        first.and_then(|port| u16::try_from(port.container_port).ok())
    };
    let port = if reference.port.is_empty() { declared().or_else(|| reference.number()) } else { reference.number() };
    let port = port.ok_or_else(|| Status::bad_request(format!("invalid port {:?}", reference.port)))?;
    reference.backend(address, port)
}

fn node(server: &Server, target: &Target, reference: &Reference<'_>) -> Result<Backend, Status> {
    let node: Node = read(server, target, reference.name)?;
    let status = node.status.as_ref();
    let kubelet = status
        .and_then(|status| status.daemon_endpoints.as_ref())
        .and_then(|endpoints| endpoints.kubelet_endpoint.as_ref())
        .map_or(10250, |endpoint| endpoint.port);
    if reference.port.is_empty() || reference.port == kubelet.to_string() {
        return Ok(Backend::Kubelet(Box::new(node)));
    }
    let addresses = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let internal = addresses.iter().find(|address| address.type_ == "InternalIP");
    let address = internal.and_then(|address| address.address.parse().ok());
    let address: IpAddr = address.ok_or_else(|| Status::bad_request("address not allowed"))?;
    let port = reference.number();
    let port = port.ok_or_else(|| Status::bad_request(format!("invalid port {:?}", reference.port)))?;
    reference.backend(address, port)
}

fn service(server: &Server, target: &Target, reference: &Reference<'_>) -> Result<Backend, Status> {
    let unavailable = |message: String| Status::failure(503, "ServiceUnavailable", message);
    let service: Service = read(server, target, reference.name)?;
    // A number means the service's port; endpoints know ports by name.
    let port = match reference.port.parse::<i32>() {
        Err(_) => reference.port.to_owned(),
        Ok(number) => {
            let mut ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
            let found = ports.find(|port| port.port == number);
            let found = found.ok_or_else(|| {
                unavailable(format!("no service port {number} found for service {:?}", reference.name))
            })?;
            found.name.clone().unwrap_or_default()
        }
    };
    let mut all = ready(server, target, reference.name, &port);
    if all.is_empty() {
        return Err(unavailable(format!("no endpoints available for service {:?}", reference.name)));
    }
    let (address, port) = all.swap_remove(server.config().random.below(all.len()));
    reference.backend(address, port)
}

/// Where pods of a service listen that are ready.
fn ready(server: &Server, target: &Target, name: &str, port: &str) -> Vec<(IpAddr, u16)> {
    const SERVICE: &str = "kubernetes.io/service-name";
    let snapshot = server.store().snapshot();
    let namespace = target.namespace.as_deref().unwrap_or_default();
    let mut found = Vec::new();
    for (_, entry) in snapshot.prefix(&storage::prefix("endpointslices", Some(namespace))) {
        let Ok(slice) = serde_json::from_slice::<EndpointSlice>(&entry.value) else { continue };
        if slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE)).is_none_or(|own| own != name) {
            continue;
        }
        let own = slice.ports.iter().flatten().find(|own| own.name.as_deref().unwrap_or_default() == port);
        let Some(number) = own.and_then(|own| own.port).and_then(|port| u16::try_from(port).ok()) else { continue };
        for endpoint in slice.endpoints.iter().flatten().filter(|endpoint| is_ready(endpoint)) {
            // Only pods are reached this way: an endpoint that somebody wrote by hand may point anywhere.
            let Some(pod) = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod")) else {
                continue;
            };
            let key = storage::key("pods", Some(namespace), pod.name.as_deref().unwrap_or_default());
            let pod: Option<Pod> = snapshot.get(&key).and_then(|entry| serde_json::from_slice(&entry.value).ok());
            let ips = pod.and_then(|pod| pod.status?.pod_ips).unwrap_or_default();
            let address = endpoint.addresses.iter().find(|address| ips.iter().any(|ip| ip.ip == **address));
            found.extend(address.and_then(|address| address.parse().ok()).map(|address| (address, number)));
        }
    }
    found
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_have_up_to_three_parts() {
        let show = |text: &str| {
            Reference::parse(text)
                .map(|reference| format!("{}|{}|{}", reference.scheme, reference.name, reference.port))
        };
        assert_eq!(show("a").as_deref(), Some("|a|"));
        assert_eq!(show("a:80").as_deref(), Some("|a|80"));
        assert_eq!(show("https:a:web").as_deref(), Some("https|a|web"));
        assert_eq!(show("https:a:").as_deref(), Some("https|a|"));
        for bad in ["ftp:a:1", "a:b:c:d", "", ":80"] {
            assert_eq!(show(bad), None, "{bad}");
        }
    }

    #[test]
    fn nobody_is_led_to_this_machine() {
        for address in ["127.0.0.1", "::1", "169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1", "::ffff:127.0.0.1"] {
            assert!(!is_reachable(address.parse().expect("an address")), "{address}");
        }
        for address in ["10.42.0.5", "fd00::1", "192.168.1.1"] {
            assert!(is_reachable(address.parse().expect("an address")), "{address}");
        }
    }
}
