//! One pair of links per pod: one end here, the other, `eth0`, in the pod's namespace. No bridge.
//!
//! The pod reaches everything through 169.254.1.1, an address that no one has: a permanent neighbour entry says
//! that the other end's hardware address is its. The node has a route to the pod's single address.
//!
//! The kernel is the only state: a link's name is derived from the pod's UID, its alias is the UID, and its route is
//! the pod's address.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Error;
use crate::netlink::{Batch, Socket, finish};
use crate::routing::{self, Link, Mac, Via};

/// The router of every pod.
const ROUTER: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The hardware address of the node's end of every pair. One for all will do: each pair is a network of its own.
const ROUTER_MAC: Mac = [0xee; 6];
/// The pod's end.
const POD_LINK: &str = "eth0";
const PREFIX: &str = "corten";

/// Connects a pod's namespace; finishes or repeats what an earlier call began. `source` is the node's own address.
pub(crate) fn attach(pod: &str, address: Ipv4Addr, netns: &Path, source: Option<Ipv4Addr>) -> Result<(), Error> {
    let failed = |error| Error::cannot(format_args!("connect pod {pod}"), error);
    let netns = File::open(netns).map_err(|e| failed(io::Error::new(e.kind(), format!("{}: {e}", netns.display()))))?;
    try_attach(pod, address, &netns, source).map_err(failed)
}

fn try_attach(pod: &str, address: Ipv4Addr, netns: &File, source: Option<Ipv4Addr>) -> io::Result<()> {
    let (socket, name) = (Socket::route()?, link_name(pod));
    if let Some(link) = routing::find_link(&socket, &name)? {
        if !link.alias.is_empty() && link.alias != pod {
            return Err(io::Error::other(format!("link {name} belongs to pod {}", link.alias)));
        }
        if inside(netns, || connect_pod(address))? {
            return connect_node(&socket, pod, link.index, address, source);
        }
        // Its other end is in a namespace that the pod no longer uses, or that is half-made.
        let mut batch = Batch::default();
        routing::delete_link(&mut batch, link.index);
        finish(socket.call(&batch)?, &[rustix::io::Errno::NODEV])?;
    }
    let mut batch = Batch::default();
    routing::add_pair(&mut batch, (&name, ROUTER_MAC), (POD_LINK, pod_mac(address)), netns.as_fd());
    finish(socket.call(&batch)?, &[])?;
    let link = routing::find_link(&socket, &name)?.ok_or(io::ErrorKind::NotFound)?;
    connect_node(&socket, pod, link.index, address, source)?;
    if !inside(netns, || connect_pod(address))? {
        return Err(io::Error::other("its eth0 vanished"));
    }
    Ok(())
}

/// The node's end.
fn connect_node(socket: &Socket, pod: &str, link: u32, address: Ipv4Addr, source: Option<Ipv4Addr>) -> io::Result<()> {
    silence_ipv6(socket, link)?;
    let mut batch = Batch::default();
    routing::set_alias(&mut batch, link, pod);
    routing::bring_up(&mut batch, link);
    routing::add_neighbour(&mut batch, link, address, pod_mac(address));
    routing::add_route(&mut batch, (address, 32), &Via::Link(link, source));
    finish(socket.call(&batch)?, &[])
}

/// The pod's end; runs in its namespace. False if the pod has no such link.
fn connect_pod(address: Ipv4Addr) -> io::Result<bool> {
    let socket = Socket::route()?;
    let Some(link) = routing::find_link(&socket, POD_LINK)? else { return Ok(false) };
    silence_ipv6(&socket, link.index)?;
    let mut batch = Batch::default();
    routing::bring_up(&mut batch, 1); // the first link of every namespace is its loopback
    routing::add_address(&mut batch, link.index, address, libc::RT_SCOPE_UNIVERSE);
    routing::bring_up(&mut batch, link.index);
    routing::add_neighbour(&mut batch, link.index, ROUTER, ROUTER_MAC);
    routing::add_route(&mut batch, (ROUTER, 32), &Via::Link(link.index, None));
    routing::add_route(&mut batch, (Ipv4Addr::UNSPECIFIED, 0), &Via::Router(link.index, ROUTER));
    finish(socket.call(&batch)?, &[])?;
    Ok(true)
}

fn silence_ipv6(socket: &Socket, link: u32) -> io::Result<()> {
    let mut batch = Batch::default();
    routing::silence_ipv6(&mut batch, link);
    let _ = socket.call(&batch)?; // a kernel without IPv6 is silent anyway
    Ok(())
}

/// Runs `work` in another network namespace, on a thread of its own that ends with it: no other may change its own.
fn inside<T: Send>(netns: &File, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        });
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the pod's namespace died")))
    })
}

/// Removes a pod's link, with its peer and route. False if there is none.
pub(crate) fn detach(pod: &str) -> io::Result<bool> {
    let socket = Socket::route()?;
    let Some(link) = routing::find_link(&socket, &link_name(pod))? else { return Ok(false) };
    remove(&socket, &[link])?;
    Ok(true)
}

/// Removes links; one that is gone already is fine.
pub(crate) fn remove(socket: &Socket, links: &[Link]) -> io::Result<()> {
    let mut batch = Batch::default();
    links.iter().for_each(|link| routing::delete_link(&mut batch, link.index));
    finish(socket.call(&batch)?, &[rustix::io::Errno::NODEV])
}

/// The node's ends of all pods' pairs, also of such as were never finished (those have no alias).
pub(crate) fn pod_links(socket: &Socket) -> io::Result<Vec<Link>> {
    let unfinished = |link: &Link| link.alias.is_empty() && is_link_name(&link.name);
    let mut links = routing::links(socket)?;
    links.retain(|link| unfinished(link) || link.name == link_name(&link.alias));
    Ok(links)
}

/// The pods that are connected, and their addresses.
pub(crate) fn pods(socket: &Socket) -> io::Result<Vec<(String, Ipv4Addr)>> {
    let routes: HashMap<u32, Ipv4Addr> = routing::routes(socket)?
        .into_iter()
        .filter(|route| route.to.1 == 32)
        .map(|route| (route.link, route.to.0))
        .collect();
    let pods = pod_links(socket)?.into_iter();
    Ok(pods.filter_map(|link| Some((link.alias, *routes.get(&link.index)?))).collect())
}

/// The name of the node's end: fifteen characters, the most that the kernel takes.
fn link_name(pod: &str) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    // FNV-1a: stable across versions of everything, which a link that outlives us needs.
    let hash = pod
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let digits = (0..9).map(|n| char::from(DIGITS[(hash >> (n * 5) & 31) as usize]));
    PREFIX.chars().chain(digits).collect()
}

fn is_link_name(name: &str) -> bool {
    let digit = |c: char| c.is_ascii_lowercase() || ('2'..='7').contains(&c);
    name.strip_prefix(PREFIX).is_some_and(|rest| rest.len() == 9 && rest.chars().all(digit))
}

/// A pod's hardware address follows from its IP address.
fn pod_mac(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_never_change() {
        let name = link_name("3d9a7a4e-5c0e-4c43-8f6f-0e8a4c9f2b11");
        assert_eq!(name.len(), 15);
        assert!(is_link_name(&name));
        assert_ne!(name, link_name("3d9a7a4e-5c0e-4c43-8f6f-0e8a4c9f2b12"));
        assert_eq!(link_name("a"), "cortenme3dadsj4");
        assert!(!is_link_name("corten-dns"));
    }
}
