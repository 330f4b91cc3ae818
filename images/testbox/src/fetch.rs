//! A client: HTTP/1.1 GET, TCP and UDP.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::{Result, dns};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Fetches a URL `count` times, a connection each, and prints the bodies.
pub(crate) fn get(url: &str, count: usize) -> Result<u8> {
    let mut failed = false;
    for _ in 0..count {
        let (code, body) = request(url)?;
        print!("{body}");
        failed |= code >= 400;
    }
    Ok(u8::from(failed))
}

/// Fetches a URL again and again for so many seconds and counts.
pub(crate) fn load(url: &str, seconds: u64, pause_ms: u64) -> Result<u8> {
    let start = Instant::now();
    let (mut good, mut bad) = (0_u64, 0_u64);
    while start.elapsed() < Duration::from_secs(seconds) {
        match request(url) {
            Ok((code, _)) if code < 400 => good += 1,
            Ok((code, body)) => {
                println!("failed: {code} {body}");
                bad += 1;
            }
            Err(error) => {
                println!("failed: {error}");
                bad += 1;
            }
        }
        std::thread::sleep(Duration::from_millis(pause_ms));
    }
    println!("{good} ok, {bad} failed");
    Ok(u8::from(bad > 0))
}

/// One GET: status code and body.
fn request(url: &str) -> Result<(u16, String)> {
    let rest = url.strip_prefix("http://").ok_or("only http:// is spoken here")?;
    let (host, path) = rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, path.to_owned()));
    let mut stream = TcpStream::connect_timeout(&address(host, 80)?, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").ok_or("the answer has no end of headers")?;
    let code =
        head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).ok_or("the answer has no status code")?;
    Ok((code, body.to_owned()))
}

/// Sends `text` over TCP and prints what comes back.
pub(crate) fn tcp(target: &str, text: &str) -> Result<u8> {
    let mut stream = TcpStream::connect_timeout(&address(target, 7000)?, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(text.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    println!("{answer}");
    Ok(0)
}

/// Sends `text` as one datagram and prints the answer.
pub(crate) fn udp(target: &str, text: &str) -> Result<u8> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.send_to(text.as_bytes(), address(target, 7001)?)?;
    let mut buffer = [0; 65536];
    let count = socket.recv(&mut buffer)?;
    println!("{}", String::from_utf8_lossy(&buffer[..count]));
    Ok(0)
}

/// `HOST[:PORT]`, resolved by our own DNS client (a static glibc has no resolver).
fn address(target: &str, default_port: u16) -> Result<SocketAddr> {
    let (host, port) = match target.rsplit_once(':') {
        Some((host, port)) => (host, port.parse()?),
        None => (target, default_port),
    };
    let ip: IpAddr = match host.parse() {
        Ok(ip) => ip,
        Err(_) => dns::lookup(host, None)?.into_iter().next().ok_or_else(|| format!("{host} has no address"))?.into(),
    };
    Ok(SocketAddr::new(ip, port))
}
