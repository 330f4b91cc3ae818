//! From services and endpoints to the contents of the packet filter's tables. Pure.
//!
//! Spec: <https://kubernetes.io/docs/reference/networking/virtual-ips/>

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use corten_client::Key;

use super::tables::{Element, Front, Frontend, SetId, Tables, Target};
use crate::directory::{Directory, Endpoint, Port, Service};

/// What the plan needs to know of the node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// Never redirected: the DNS server itself listens there.
    pub(crate) dns_address: Ipv4Addr,
}

/// What all tables have to hold.
pub(crate) fn plan(directory: &Directory, node: &Node) -> Tables {
    let mut tables = Tables::default();
    for (key, service) in directory.services() {
        if service.foreign || service.cluster_ip.is_none_or(|address| address == node.dns_address) {
            continue; // headless, without an address yet, another proxy's, or the DNS
        }
        for port in &service.ports {
            plan_port(&mut tables, &Targets::of(directory, key, port, node), service, port);
        }
    }
    tables
}

fn plan_port(tables: &mut Tables, targets: &Targets, service: &Service, port: &Port) {
    let frontend = |address, port_number| Frontend { address, protocol: port.protocol, port: port_number };
    let affinity = service.affinity;
    for target in &targets.cluster {
        tables.add(SetId::Hairpin, Element::Pair(target.address), None);
    }
    let internal = if service.internal_local { &targets.local } else { &targets.cluster };
    // Without a target there is nothing to add: what is sent to the service range and not redirected is refused.
    let cluster_ip = service.cluster_ip.map(|address| frontend(address, port.port));
    cluster_ip.iter().for_each(|frontend| add_slots(tables, Front::Internal, *frontend, internal, affinity));

    let node_port = port.node_port.map(|number| frontend(Ipv4Addr::UNSPECIFIED, number));
    for frontend in service.external_ips.iter().map(|address| frontend(*address, port.port)).chain(node_port) {
        if targets.cluster.is_empty() {
            tables.add(SetId::Refused, Element::Frontend(frontend), None);
            continue;
        }
        add_slots(tables, Front::External, frontend, &targets.cluster, affinity);
        if service.external_local && targets.local.is_empty() {
            tables.add(SetId::Dropped, Element::Frontend(frontend), None);
        } else if service.external_local {
            add_slots(tables, Front::ExternalLocal, frontend, &targets.local, affinity);
        }
    }
}

fn add_slots(tables: &mut Tables, front: Front, frontend: Frontend, targets: &BTreeSet<Target>, affinity: Option<u32>) {
    let count = targets.len() as u32;
    for (slot, target) in (0..).zip(targets) {
        let set = SetId::Slots { front, count, affinity };
        tables.add(set, Element::Slot(frontend, slot), Some(*target));
        if let Some(affinity) = affinity {
            tables.add(SetId::Sticky { front, affinity }, Element::Sticky(frontend, target.tag()), Some(*target));
        }
    }
}

/// Where the connections to one port of a service may go.
struct Targets {
    /// On all nodes.
    cluster: BTreeSet<Target>,
    /// On this node.
    local: BTreeSet<Target>,
}

impl Targets {
    fn of(directory: &Directory, service: &Key, port: &Port, node: &Node) -> Self {
        let mut all = Vec::new();
        for slice in directory.slices(service) {
            let same = |candidate: &&Port| candidate.name == port.name && candidate.protocol == port.protocol;
            if let Some(port) = slice.ports.iter().find(same) {
                all.extend(slice.endpoints.iter().map(|endpoint| (endpoint, port.port)));
            }
        }
        let is_local = |endpoint: &Endpoint| endpoint.node.as_deref() == Some(&node.name);
        Self { cluster: usable(&all, |_| true), local: usable(&all, is_local) }
    }
}

/// The endpoints that are ready, or, if none is, those that still answer while they end.
fn usable(endpoints: &[(&Endpoint, u16)], of: impl Fn(&Endpoint) -> bool) -> BTreeSet<Target> {
    let choose = |which: fn(&Endpoint) -> bool| -> BTreeSet<Target> {
        let chosen = endpoints.iter().filter(|(endpoint, _)| of(endpoint) && which(endpoint));
        chosen.map(|(endpoint, port)| Target { address: endpoint.address, port: *port }).collect()
    };
    let ready = choose(|endpoint| endpoint.ready);
    if ready.is_empty() { choose(|endpoint| endpoint.last_resort) } else { ready }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
