//! A DNS client for A records that follows resolv.conf (servers, search, ndots) and /etc/hosts.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use crate::Result;

/// Prints the addresses of a name.
pub(crate) fn resolve(name: &str, server: Option<&str>) -> Result<u8> {
    let addresses = lookup(name, server)?;
    addresses.iter().for_each(|address| println!("{address}"));
    Ok(u8::from(addresses.is_empty()))
}

/// The addresses of a name; an error if no form of it exists.
pub(crate) fn lookup(name: &str, server: Option<&str>) -> Result<Vec<Ipv4Addr>> {
    if let Some(address) = from_hosts_file(name) {
        return Ok(vec![address]);
    }
    let config = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let words = |key: &str| -> Vec<String> {
        let lines = config.lines().filter_map(|line| line.trim().strip_prefix(key));
        lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
    };
    let servers = server.map_or_else(|| words("nameserver"), |server| vec![server.to_owned()]);
    let ndots = words("options").iter().find_map(|option| option.strip_prefix("ndots:")?.parse().ok()).unwrap_or(1);
    let mut forms: Vec<String> = words("search").iter().map(|domain| format!("{name}.{domain}")).collect();
    if name.ends_with('.') {
        forms = vec![name.to_owned()];
    } else if name.matches('.').count() >= ndots {
        forms.insert(0, name.to_owned());
    } else {
        forms.push(name.to_owned());
    }
    let mut last: Box<dyn std::error::Error> = format!("{name}: no such name").into();
    for form in forms {
        match servers.iter().map(|server| query(&form, server)).find(std::result::Result::is_ok) {
            Some(Ok(addresses)) if !addresses.is_empty() => return Ok(addresses),
            Some(Ok(_)) => {}
            _ => last = format!("{form}: no DNS server answered").into(),
        }
    }
    Err(last)
}

fn from_hosts_file(name: &str) -> Option<Ipv4Addr> {
    let hosts = std::fs::read_to_string("/etc/hosts").ok()?;
    hosts.lines().find_map(|line| {
        let mut words = line.split('#').next().unwrap_or("").split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word == name).then_some(address)
    })
}

/// One query; an empty list if the name does not exist or has no address.
fn query(name: &str, server: &str) -> Result<Vec<Ipv4Addr>> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.connect((server, 53))?;
    let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        packet.push(u8::try_from(label.len())?);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, 1, 0, 1]);
    let mut buffer = [0; 4096];
    for _ in 0..2 {
        socket.send(&packet)?;
        if let Ok(count) = socket.recv(&mut buffer) {
            return parse(&buffer[..count], packet.len()).ok_or_else(|| "the DNS answer is malformed".into());
        }
    }
    Err("no answer".into())
}

/// A records of an answer whose question section ends at `offset`.
fn parse(packet: &[u8], mut offset: usize) -> Option<Vec<Ipv4Addr>> {
    let count = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]);
    let mut addresses = Vec::new();
    for _ in 0..count {
        while *packet.get(offset)? != 0 && packet[offset] & 0xc0 == 0 {
            offset += usize::from(packet[offset]) + 1;
        }
        offset += if packet[offset] == 0 { 1 } else { 2 };
        let kind = u16::from_be_bytes([*packet.get(offset)?, *packet.get(offset + 1)?]);
        let length = usize::from(u16::from_be_bytes([*packet.get(offset + 8)?, *packet.get(offset + 9)?]));
        let data = packet.get(offset + 10..offset + 10 + length)?;
        if let (1, &[a, b, c, d]) = (kind, data) {
            addresses.push(Ipv4Addr::new(a, b, c, d));
        }
        offset += 10 + length;
    }
    Some(addresses)
}
