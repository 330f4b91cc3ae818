//! The server: HTTP echo with version and host name, TCP echo, UDP echo.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::{Result, files, signals};

/// What `/ready` answers; `/ready/off` and `/ready/on` change it.
static READY: AtomicBool = AtomicBool::new(true);
/// What `/healthz` answers; `/healthz/off` and `/healthz/on` change it.
static HEALTHY: AtomicBool = AtomicBool::new(true);
/// Set by SIGTERM: the server answers what it is asked and goes.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// Serves until SIGTERM or SIGINT. Requests keep being answered for `$DRAIN_SECONDS` (1) after the signal.
pub(crate) fn run() -> Result<()> {
    let port =
        |name: &str, default: u16| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (http, tcp, udp) = (port("PORT", 8080), port("TCP_PORT", 7000), port("UDP_PORT", 7001));
    let listener = bind(http)?;
    println!("testbox {} on {} serves http :{http} tcp :{tcp} udp :{udp}", version(), files::hostname());
    if let Ok(listener) = bind(tcp) {
        thread::spawn(move || accept(&listener, echo));
    }
    if let Ok(socket) = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, udp)).or_else(|_| UdpSocket::bind(("0.0.0.0", udp))) {
        thread::spawn(move || echo_datagrams(&socket));
    }
    thread::spawn(move || accept(&listener, answer));
    let signal = signals::wait_for_end()?;
    STOPPING.store(true, Ordering::Relaxed);
    let drain = port("DRAIN_SECONDS", 1);
    println!("testbox got {signal}, stops in {drain} s");
    thread::sleep(Duration::from_secs(u64::from(drain)));
    Ok(())
}

fn bind(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))
}

fn accept(listener: &TcpListener, serve: fn(TcpStream) -> std::io::Result<()>) {
    for stream in listener.incoming().flatten() {
        thread::spawn(move || {
            let _ = serve(stream);
        });
    }
}

fn version() -> String {
    std::env::var("TESTBOX_VERSION").unwrap_or_else(|_| "unknown".to_owned())
}

/// Reads requests off one connection and answers each.
fn answer(stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let peer = stream.peer_addr()?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap_or("").to_owned(), words.next().unwrap_or("/").to_owned());
        let (mut length, mut close) = (0, false);
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
                break;
            }
            let header = header.to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            close |= header.starts_with("connection:") && header.contains("close");
        }
        let mut body = vec![0; length.min(1 << 20)];
        reader.read_exact(&mut body)?;
        let (code, text) = respond(&method, &path, &body, &peer.to_string());
        close |= STOPPING.load(Ordering::Relaxed);
        let connection = if close { "close" } else { "keep-alive" };
        write!(
            stream,
            "HTTP/1.1 {code}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n{text}",
            text.len()
        )?;
        if close {
            return Ok(());
        }
    }
}

fn respond(method: &str, path: &str, body: &[u8], peer: &str) -> (&'static str, String) {
    let switch = |flag: &AtomicBool, on: bool| {
        flag.store(on, Ordering::Relaxed);
        ("200 OK", format!("{on}\n"))
    };
    let state = |flag: &AtomicBool| {
        if flag.load(Ordering::Relaxed) {
            ("200 OK", "ok\n".to_owned())
        } else {
            ("503 Service Unavailable", "no\n".to_owned())
        }
    };
    match path {
        "/ready" => state(&READY),
        "/ready/off" => switch(&READY, false),
        "/ready/on" => switch(&READY, true),
        "/healthz" => state(&HEALTHY),
        "/healthz/off" => switch(&HEALTHY, false),
        "/healthz/on" => switch(&HEALTHY, true),
        "/hostname" => ("200 OK", format!("{}\n", files::hostname())),
        "/version" => ("200 OK", format!("{}\n", version())),
        "/client" => ("200 OK", format!("{peer}\n")),
        "/env" => ("200 OK", std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect()),
        "/echo" => ("200 OK", String::from_utf8_lossy(body).into_owned()),
        _ => match path.strip_prefix("/file") {
            Some(file) => match std::fs::read(file) {
                Ok(bytes) => ("200 OK", String::from_utf8_lossy(&bytes).into_owned()),
                Err(error) => ("404 Not Found", format!("{file}: {error}\n")),
            },
            None => ("200 OK", format!("testbox {} on {}: {method} {path}\n", version(), files::hostname())),
        },
    }
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = stream.try_clone()?;
    std::io::copy(&mut reader, &mut stream).map(|_| ())
}

fn echo_datagrams(socket: &UdpSocket) {
    let mut buffer = [0; 65536];
    while let Ok((count, peer)) = socket.recv_from(&mut buffer) {
        let _ = socket.send_to(&buffer[..count], peer);
    }
}
