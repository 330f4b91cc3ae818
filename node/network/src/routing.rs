//! Links, addresses, routes and neighbours as messages, and as they are listed.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::Range;
use crate::netlink::{Batch, Message, Socket, attribute, u32_at};

/// Marks our routes, so that they are found again: a number that no routing daemon uses.
pub(crate) const OUR_PROTOCOL: u8 = 67;

/// A hardware address.
pub(crate) type Mac = [u8; 6];

const ACK: i32 = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
const CREATE: i32 = ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
const REPLACE: i32 = ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;

/// A network link.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) alias: String,
}

/// A route of the main table to IPv4 addresses.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) to: Range,
    /// Index of the link; 0 for routes that lead nowhere.
    pub(crate) link: u32,
    pub(crate) kind: u8,
    pub(crate) protocol: u8,
}

/// The fixed part of a link message.
fn link_header(index: u32, flags: i32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&(flags as u32).to_ne_bytes());
    header[12..16].copy_from_slice(&(flags as u32).to_ne_bytes()); // which flags to change
    header
}

/// A pair of links: `name` here, `peer` in another namespace.
pub(crate) fn add_pair(
    batch: &mut Batch,
    (name, mac): (&str, Mac),
    (peer, peer_mac): (&str, Mac),
    netns: BorrowedFd<'_>,
) {
    const PEER: u16 = 1; // VETH_INFO_PEER
    batch.push(libc::RTM_NEWLINK, CREATE, &link_header(0, 0), |a| {
        a.text(libc::IFLA_IFNAME, name);
        a.put(libc::IFLA_ADDRESS, &mac);
        a.nest(libc::IFLA_LINKINFO, |a| {
            a.put(libc::IFLA_INFO_KIND, b"veth");
            a.nest(libc::IFLA_INFO_DATA, |a| {
                a.nest_after(PEER, &link_header(0, 0), |a| {
                    a.text(libc::IFLA_IFNAME, peer);
                    a.put(libc::IFLA_ADDRESS, &peer_mac);
                    a.number(libc::IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
                });
            });
        });
    });
}

/// A link of a kind that needs no settings.
pub(crate) fn add_plain(batch: &mut Batch, name: &str, kind: &str) {
    batch.push(libc::RTM_NEWLINK, CREATE, &link_header(0, 0), |a| {
        a.text(libc::IFLA_IFNAME, name);
        a.nest(libc::IFLA_LINKINFO, |a| a.put(libc::IFLA_INFO_KIND, kind.as_bytes()));
    });
}

/// Brings a link up.
pub(crate) fn bring_up(batch: &mut Batch, index: u32) {
    batch.push(libc::RTM_SETLINK, ACK, &link_header(index, libc::IFF_UP), |_| {});
}

/// Notes whose link it is.
pub(crate) fn set_alias(batch: &mut Batch, index: u32, alias: &str) {
    batch.push(libc::RTM_SETLINK, ACK, &link_header(index, 0), |a| a.put(libc::IFLA_IFALIAS, alias.as_bytes()));
}

/// Keeps IPv6 from talking on a link that only carries IPv4: no address, no solicitations.
pub(crate) fn silence_ipv6(batch: &mut Batch, index: u32) {
    const ADDRESS_GENERATION: u16 = 8; // IFLA_INET6_ADDR_GEN_MODE
    const NONE: u8 = 1;
    batch.push(libc::RTM_SETLINK, ACK, &link_header(index, 0), |a| {
        a.nest(libc::IFLA_AF_SPEC, |a| a.nest(libc::AF_INET6 as u16, |a| a.put(ADDRESS_GENERATION, &[NONE])));
    });
}

/// Removes a link, and with it its peer, addresses and routes.
pub(crate) fn delete_link(batch: &mut Batch, index: u32) {
    batch.push(libc::RTM_DELLINK, ACK, &link_header(index, 0), |_| {});
}

/// Gives a link a single address.
pub(crate) fn add_address(batch: &mut Batch, index: u32, address: Ipv4Addr, scope: u8) {
    let mut header = [libc::AF_INET as u8, 32, 0, scope, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    batch.push(libc::RTM_NEWADDR, REPLACE, &header, |a| {
        a.put(libc::IFA_LOCAL, &address.octets());
        a.put(libc::IFA_ADDRESS, &address.octets());
    });
}

/// A neighbour that never needs to be asked for its hardware address.
pub(crate) fn add_neighbour(batch: &mut Batch, index: u32, address: Ipv4Addr, mac: Mac) {
    const DESTINATION: u16 = 1; // NDA_DST
    const HARDWARE_ADDRESS: u16 = 2; // NDA_LLADDR
    let mut header = [0; 12];
    header[0] = libc::AF_INET as u8;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&0x80u16.to_ne_bytes()); // NUD_PERMANENT
    batch.push(libc::RTM_NEWNEIGH, REPLACE, &header, |a| {
        a.put(DESTINATION, &address.octets());
        a.put(HARDWARE_ADDRESS, &mac);
    });
}

/// Where a route leads.
pub(crate) enum Via {
    /// To whatever is on a link, talking to it from an address of ours if one is given.
    Link(u32, Option<Ipv4Addr>),
    /// Through a router on a link.
    Router(u32, Ipv4Addr),
    /// Nowhere: senders are told so.
    Nowhere,
}

fn route_header(prefix: u8, scope: u8, kind: u8) -> [u8; 12] {
    let family = libc::AF_INET as u8;
    [family, prefix, 0, 0, libc::RT_TABLE_MAIN, OUR_PROTOCOL, scope, kind, 0, 0, 0, 0]
}

/// Adds or replaces a route.
pub(crate) fn add_route(batch: &mut Batch, (to, prefix): Range, via: &Via) {
    let (scope, kind) = match via {
        Via::Link(..) => (libc::RT_SCOPE_LINK, libc::RTN_UNICAST),
        Via::Router(..) => (libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST),
        Via::Nowhere => (libc::RT_SCOPE_UNIVERSE, libc::RTN_UNREACHABLE),
    };
    batch.push(libc::RTM_NEWROUTE, REPLACE, &route_header(prefix, scope, kind), |a| {
        if prefix > 0 {
            a.put(libc::RTA_DST, &to.octets());
        }
        match via {
            Via::Link(link, source) => {
                a.number(libc::RTA_OIF, *link);
                if let Some(source) = source {
                    a.put(libc::RTA_PREFSRC, &source.octets());
                }
            }
            Via::Router(link, router) => {
                a.number(libc::RTA_OIF, *link);
                a.put(libc::RTA_GATEWAY, &router.octets());
            }
            Via::Nowhere => {}
        }
    });
}

/// Removes a route of ours that leads nowhere.
pub(crate) fn delete_route(batch: &mut Batch, (to, prefix): Range) {
    let header = route_header(prefix, libc::RT_SCOPE_NOWHERE, libc::RTN_UNREACHABLE);
    batch.push(libc::RTM_DELROUTE, ACK, &header, |a| a.put(libc::RTA_DST, &to.octets()));
}

/// The link of a name, if there is one.
pub(crate) fn find_link(socket: &Socket, name: &str) -> io::Result<Option<Link>> {
    let mut batch = Batch::default();
    batch.push(libc::RTM_GETLINK, libc::NLM_F_REQUEST, &link_header(0, 0), |a| a.text(libc::IFLA_IFNAME, name));
    match socket.get(&batch) {
        Ok(message) => Ok(Some(read_link(&message))),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// All links.
pub(crate) fn links(socket: &Socket) -> io::Result<Vec<Link>> {
    Ok(socket.list(libc::RTM_GETLINK, &link_header(0, 0))?.iter().map(read_link).collect())
}

fn read_link(message: &Message) -> Link {
    let body = message.body.get(16..).unwrap_or_default();
    let text = |kind| {
        let bytes = attribute(body, kind).unwrap_or_default();
        String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned()
    };
    Link { index: u32_at(&message.body, 4), name: text(libc::IFLA_IFNAME), alias: text(libc::IFLA_IFALIAS) }
}

/// The routes of the main table.
pub(crate) fn routes(socket: &Socket) -> io::Result<Vec<Route>> {
    let messages = socket.list(libc::RTM_GETROUTE, &[libc::AF_INET as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
    Ok(messages.iter().filter_map(read_route).collect())
}

fn read_route(message: &Message) -> Option<Route> {
    let (header, body) = message.body.split_at_checked(12)?;
    let link = attribute(body, libc::RTA_OIF).map_or(0, |value| u32_at(value, 0));
    let to = attribute(body, libc::RTA_DST).and_then(address).unwrap_or(Ipv4Addr::UNSPECIFIED);
    let main = header[4] == libc::RT_TABLE_MAIN;
    main.then_some(Route { to: (to, header[1]), link, kind: header[7], protocol: header[5] })
}

/// All IPv4 addresses: index of the link and address.
pub(crate) fn addresses(socket: &Socket) -> io::Result<Vec<(u32, Ipv4Addr)>> {
    let messages = socket.list(libc::RTM_GETADDR, &[libc::AF_INET as u8, 0, 0, 0, 0, 0, 0, 0])?;
    let read = |message: &Message| {
        let local = attribute(message.body.get(8..)?, libc::IFA_LOCAL)?;
        Some((u32_at(&message.body, 4), address(local)?))
    };
    Ok(messages.iter().filter_map(read).collect())
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}
