//! Questions about other names go to the node's own name servers, unchanged.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long one name server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many are asked.
const SERVERS: usize = 3;

/// Asks the name servers of a resolver configuration, one after the other. None if none answers.
pub(crate) async fn forward(
    question: &[u8],
    over_tcp: bool,
    resolv_conf: &Path,
    is_own: impl Fn(IpAddr) -> bool,
) -> Option<Message> {
    // Read each time: it is small, and changes when the machine moves to another network.
    let text = tokio::fs::read_to_string(resolv_conf).await.unwrap_or_default();
    let servers = name_servers(&text).into_iter().filter(|server| !is_own(*server)).take(SERVERS);
    for server in servers {
        let server = SocketAddr::new(server, 53);
        let ask = async { if over_tcp { ask_tcp(server, question).await } else { ask_udp(server, question).await } };
        match timeout(PATIENCE, ask).await {
            Ok(Ok(message)) => return Some(message),
            Ok(Err(error)) => tracing::debug!(%server, %error, "a name server does not answer"),
            Err(_) => tracing::debug!(%server, "a name server is silent"),
        }
    }
    None
}

/// The name servers that a resolver configuration lists.
fn name_servers(text: &str) -> Vec<IpAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() == Some("nameserver") {
            servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
        }
    }
    servers
}

async fn ask_udp(server: SocketAddr, question: &[u8]) -> io::Result<Message> {
    let local: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?; // the kernel then lets no one else answer
    socket.send(question).await?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let len = socket.recv(&mut buffer).await?;
        if let Some(answer) = answer_to(question, &buffer[..len]) {
            return Ok(answer);
        }
    }
}

async fn ask_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = (question.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(question);
    stream.write_all(&framed).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    answer_to(question, &answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A message, if it is the answer to this question.
fn answer_to(question: &[u8], answer: &[u8]) -> Option<Message> {
    (question.get(..2)? == answer.get(..2)?).then(|| Message::from_vec(answer).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolver_configurations_are_read_as_they_come() {
        let text = "# x\nsearch a b\n nameserver 10.0.0.1 \nnameserver\nnameserver fe80::1%eth0\nnameserver ::1\n#nameserver 9.9.9.9";
        assert_eq!(name_servers(text).iter().map(IpAddr::to_string).collect::<Vec<_>>(), ["10.0.0.1", "::1"]);
    }
}
