//! Finds the node's own address, name and whether either may be one.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use anyhow::Context;

use crate::settings::{POD_RANGE, SERVICE_RANGE};

/// The address at which others reach this machine: that of the default route, else the first global one.
pub(crate) fn node_ip() -> anyhow::Result<Ipv4Addr> {
    if let Some(address) = of_default_route().filter(|address| is_global(*address)) {
        return Ok(address);
    }
    let table = fs::read_to_string("/proc/net/fib_trie").context("cannot read this machine's addresses")?;
    local(&table)
        .into_iter()
        .find(|address| is_global(*address))
        .context("this machine has no IPv4 address that others could reach: give it one, or name one by --node-ip")
}

/// The source address of packets to far away. Nothing is sent: connecting a UDP socket only looks up the route.
fn of_default_route() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(198, 51, 100, 1), 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn is_global(address: Ipv4Addr) -> bool {
    let of_cluster = [POD_RANGE, SERVICE_RANGE].into_iter().any(|range| contains(range, address));
    !(address.is_loopback() || address.is_link_local() || address.is_unspecified() || of_cluster)
}

fn contains((network, prefix): (Ipv4Addr, u8), address: Ipv4Addr) -> bool {
    let shift = 32 - u32::from(prefix);
    u32::from(network).checked_shr(shift) == u32::from(address).checked_shr(shift)
}

/// This machine's own addresses according to the kernel's routing table.
fn local(table: &str) -> BTreeSet<Ipv4Addr> {
    let mut found = BTreeSet::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in table.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(last);
        }
    }
    found
}

/// This machine's host name, as a node is named.
pub(crate) fn node_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}

/// What is wrong with a node's name, if anything: it must be a DNS subdomain.
pub(crate) fn check_node_name(name: &str) -> Result<(), &'static str> {
    let is_label = |label: &str| {
        let edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = label.as_bytes();
        bytes.first().copied().is_some_and(edge)
            && bytes.last().copied().is_some_and(edge)
            && bytes.iter().all(|&byte| edge(byte) || byte == b'-')
    };
    match name {
        "" => Err("it is empty"),
        _ if name.len() > 253 => Err("it is longer than 253 characters"),
        _ if !name.split('.').all(is_label) => {
            Err("it must consist of lower case letters, digits, '-' and '.', and begin and end with a letter or digit")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 172.30.1.0
        /24 link UNICAST
     |-- 172.30.1.1
        /32 host LOCAL
Local:
     |-- 10.43.0.10
        /32 host LOCAL
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 127.255.255.255
        /32 link BROADCAST
     |-- 172.30.1.1
        /32 host LOCAL
";

    #[test]
    fn own_addresses_are_told_from_others() {
        let all = local(TABLE);
        assert_eq!(all.len(), 3);
        let global: Vec<_> = all.into_iter().filter(|address| is_global(*address)).collect();
        assert_eq!(global, [Ipv4Addr::new(172, 30, 1, 1)]);
    }

    #[test]
    fn node_names_are_dns_names() {
        for good in ["a", "node-1", "node-1.example.org"] {
            assert_eq!(check_node_name(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a..b", "a_b", &"a".repeat(254)] {
            assert!(check_node_name(bad).is_err(), "{bad}");
        }
    }
}
