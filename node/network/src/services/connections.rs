//! Tracked connections that have to be forgotten.
//!
//! A redirection is decided once per connection. For TCP that is right: a connection ends with its endpoint. UDP has
//! no end; a client that goes on from the same port would be sent to an endpoint that is gone for ever.

use std::collections::HashSet;
use std::io;
use std::net::Ipv4Addr;

use super::tables::{Frontend, Target};
use crate::directory::Protocol;
use crate::netlink::{Batch, Socket, attribute, finish};

const GET: u16 = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8 | 1;
const DELETE: u16 = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8 | 2;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const HEADER: [u8; 4] = [libc::AF_INET as u8, 0, 0, 0];

/// One direction of a connection.
struct Tuple {
    source: (Ipv4Addr, u16),
    destination: (Ipv4Addr, u16),
    protocol: u8,
}

/// Forgets the UDP connections that these redirections made. Returns how many there were.
pub(crate) fn forget(socket: &Socket, ways: &HashSet<(Frontend, Target)>) -> io::Result<usize> {
    if ways.is_empty() {
        return Ok(0);
    }
    let mut batch = Batch::default();
    for message in socket.list(GET, &HEADER)? {
        let body = message.body.get(4..).unwrap_or_default();
        let (Some(original), Some(reply)) = (attribute(body, ORIGINAL), attribute(body, REPLY)) else { continue };
        if let (Some(asked), Some(answered)) = (read_tuple(original), read_tuple(reply))
            && took_one(ways, &asked, &answered)
        {
            batch.push(DELETE, libc::NLM_F_REQUEST | libc::NLM_F_ACK, &HEADER, |a| {
                a.nest(ORIGINAL, |a| copy_nested(a, original));
            });
        }
    }
    let count = batch.len() as usize;
    if count > 0 {
        finish(socket.call(&batch)?, &[rustix::io::Errno::NOENT])?;
    }
    Ok(count)
}

fn took_one(ways: &HashSet<(Frontend, Target)>, asked: &Tuple, answered: &Tuple) -> bool {
    let target = Target { address: answered.source.0, port: answered.source.1 };
    let was_redirected = asked.destination != answered.source;
    asked.protocol == Protocol::Udp as u8
        && was_redirected
        && [asked.destination.0, Ipv4Addr::UNSPECIFIED].into_iter().any(|address| {
            ways.contains(&(Frontend { address, protocol: Protocol::Udp, port: asked.destination.1 }, target))
        })
}

fn read_tuple(tuple: &[u8]) -> Option<Tuple> {
    let (addresses, protocol) = (attribute(tuple, 1)?, attribute(tuple, 2)?);
    let address = |kind| Some(Ipv4Addr::from(<[u8; 4]>::try_from(attribute(addresses, kind)?).ok()?));
    let port = |kind| Some(u16::from_be_bytes(attribute(protocol, kind)?.try_into().ok()?));
    Some(Tuple {
        source: (address(1)?, port(2)?),
        destination: (address(2)?, port(3)?),
        protocol: *attribute(protocol, 1)?.first()?,
    })
}

/// A tuple as it was received, with its parts marked as nested again.
fn copy_nested(to: &mut crate::netlink::Attributes<'_>, tuple: &[u8]) {
    for (kind, value) in crate::netlink::attributes(tuple) {
        match kind {
            1 | 2 => to.nest(kind, |a| crate::netlink::attributes(value).for_each(|(kind, value)| a.put(kind, value))),
            _ => to.put(kind, value),
        }
    }
}
