//! What the node's own namespace needs, whatever pods there are.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use crate::netlink::{Batch, Socket, finish};
use crate::routing::{self, OUR_PROTOCOL, Via};
use crate::{Config, Error, Range, links};

/// Holds the address of the cluster's DNS, and the route that covers the service range. Leads nowhere.
const SERVICE_LINK: &str = "corten-dns";

/// Sets it up; repeats harmlessly. Returns the node's address if the node has it.
pub(crate) fn open(config: &Config) -> Result<Option<Ipv4Addr>, Error> {
    allow_forwarding();
    let failed = |error| Error::cannot("set up the node's network", error);
    let socket = Socket::route().map_err(failed)?;
    let source = own_address(&socket, config.node_ip).map_err(failed)?;
    service_link(&socket, config, source).map_err(failed)?;
    Ok(source)
}

/// The service range needs a route, or the node's own processes could not even try to reach a service: their packets
/// are redirected only after a route was found. What no rule redirects is refused by the rules, or ends here.
fn service_link(socket: &Socket, config: &Config, source: Option<Ipv4Addr>) -> io::Result<()> {
    let link = match routing::find_link(socket, SERVICE_LINK)? {
        Some(link) => link,
        None => {
            add_service_link(socket)?;
            routing::find_link(socket, SERVICE_LINK)?.ok_or(io::ErrorKind::NotFound)?
        }
    };
    let mut batch = Batch::default();
    routing::bring_up(&mut batch, 1); // loopback: services reach the node itself through it
    routing::silence_ipv6(&mut batch, link.index);
    finish(socket.call(&batch)?, &[rustix::io::Errno::AFNOSUPPORT, rustix::io::Errno::OPNOTSUPP])?;
    let mut batch = Batch::default();
    // Scope host: the node must never choose this address as the source of what it sends elsewhere.
    routing::add_address(&mut batch, link.index, config.dns_address, libc::RT_SCOPE_HOST);
    routing::bring_up(&mut batch, link.index);
    routing::add_route(&mut batch, config.service_range, &Via::Link(link.index, source));
    finish(socket.call(&batch)?, &[])
}

/// Kernels without dummy links take a bridge that nothing is plugged into for one.
fn add_service_link(socket: &Socket) -> io::Result<()> {
    let add = |kind| {
        let mut batch = Batch::default();
        routing::add_plain(&mut batch, SERVICE_LINK, kind);
        finish(socket.call(&batch)?, &[rustix::io::Errno::EXIST])
    };
    add("dummy").or_else(|_| add("bridge"))
}

/// The node's address, if one of its links has it.
fn own_address(socket: &Socket, node: IpAddr) -> io::Result<Option<Ipv4Addr>> {
    let IpAddr::V4(node) = node else { return Ok(None) };
    Ok(routing::addresses(socket)?.into_iter().map(|(_, address)| address).find(|address| *address == node))
}

/// A missing privilege shows soon enough; a read-only /proc may have been set up right by whoever made it so.
fn allow_forwarding() {
    const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
    let is_on = || std::fs::read_to_string(FORWARD).is_ok_and(|text| text.trim() == "1");
    if !is_on()
        && let Err(error) = std::fs::write(FORWARD, "1")
    {
        tracing::warn!(%error, "cannot turn on IPv4 forwarding; pods may not reach each other");
    }
}

/// Refuses what is sent to an address of the node's range that no pod has, instead of letting it leave the machine.
pub(crate) fn refuse_unknown_pods(range: Range) -> io::Result<()> {
    let socket = Socket::route()?;
    let outdated = |route: &routing::Route| {
        route.protocol == OUR_PROTOCOL && route.kind == libc::RTN_UNREACHABLE && route.to != range
    };
    let mut batch = Batch::default();
    routing::routes(&socket)?.into_iter().filter(outdated).for_each(|r| routing::delete_route(&mut batch, r.to));
    routing::add_route(&mut batch, range, &Via::Nowhere);
    finish(socket.call(&batch)?, &[rustix::io::Errno::SRCH])
}

/// Removes every link, address and route of ours.
pub(crate) fn purge() -> io::Result<()> {
    let socket = Socket::route()?;
    let mut ours = links::pod_links(&socket)?;
    ours.extend(routing::find_link(&socket, SERVICE_LINK)?);
    links::remove(&socket, &ours)?;
    let mut batch = Batch::default();
    let nowhere = |route: &routing::Route| route.protocol == OUR_PROTOCOL && route.kind == libc::RTN_UNREACHABLE;
    routing::routes(&socket)?.into_iter().filter(nowhere).for_each(|r| routing::delete_route(&mut batch, r.to));
    finish(socket.call(&batch)?, &[rustix::io::Errno::SRCH])
}
