//! A socket to the kernel. Calls block, for microseconds: the kernel does the work inside of the send.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::sockopt::{
    Timeout, set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force, set_socket_timeout,
};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

use super::message::{Batch, Message, messages, u32_at};

const DUMP: i32 = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;

/// A netlink socket.
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// For links, addresses, routes and neighbours.
    pub(crate) fn route() -> io::Result<Self> {
        Self::open(None) // routing is the family's first protocol
    }

    /// For rules and tracked connections.
    pub(crate) fn netfilter() -> io::Result<Self> {
        let socket = Self::open(Some(NETFILTER))?;
        // One transaction is one send, whatever its size. Without the privilege the default has to do.
        let _ = set_socket_send_buffer_size_force(&socket.0, 64 << 20);
        let _ = set_socket_recv_buffer_size_force(&socket.0, 8 << 20);
        Ok(socket)
    }

    fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        // The kernel always answers; this turns a mistake of ours into an error instead of a standstill.
        set_socket_timeout(&fd, Timeout::Recv, Some(Duration::from_secs(10)))?;
        Ok(Self(fd))
    }

    /// Sends messages that all ask for an acknowledgement; returns what became of each.
    pub(crate) fn call(&self, batch: &Batch) -> io::Result<Vec<Result<(), Errno>>> {
        if batch.len() == 0 {
            return Ok(Vec::new()); // the kernel takes no empty datagrams
        }
        self.send(batch)?;
        let mut results = vec![Ok(()); batch.len() as usize];
        let mut missing = batch.len();
        while missing > 0 {
            for message in self.receive()?.into_iter().filter(|m| i32::from(m.kind) == libc::NLMSG_ERROR) {
                if let Some(result) = results.get_mut(message.sequence as usize) {
                    *result = outcome(&message);
                    missing = missing.saturating_sub(1);
                }
            }
        }
        Ok(results)
    }

    /// Sends a transaction, of which only the message before the last asks for an acknowledgement.
    pub(crate) fn commit(&self, batch: &Batch) -> io::Result<()> {
        self.send(batch)?;
        let last = batch.len().saturating_sub(2);
        loop {
            for message in self.receive()?.into_iter().filter(|m| i32::from(m.kind) == libc::NLMSG_ERROR) {
                outcome(&message).map_err(|errno| {
                    let error = io::Error::from(errno);
                    io::Error::new(error.kind(), format!("{error} (message {} of {last})", message.sequence))
                })?;
                if message.sequence == last {
                    return Ok(());
                }
            }
        }
    }

    /// Sends a request whose answer is a list.
    pub(crate) fn list(&self, kind: u16, header: &[u8]) -> io::Result<Vec<Message>> {
        let mut batch = Batch::default();
        batch.push(kind, DUMP, header, |_| {});
        self.send(&batch)?;
        let mut all = Vec::new();
        loop {
            for message in self.receive()? {
                match i32::from(message.kind) {
                    libc::NLMSG_DONE => return Ok(all),
                    libc::NLMSG_ERROR => outcome(&message)?,
                    _ => all.push(message),
                }
            }
        }
    }

    /// Sends a request whose answer is one message.
    pub(crate) fn get(&self, batch: &Batch) -> io::Result<Message> {
        self.send(batch)?;
        let message = self.receive()?.into_iter().next().ok_or(io::ErrorKind::UnexpectedEof)?;
        if i32::from(message.kind) == libc::NLMSG_ERROR {
            outcome(&message)?;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(message)
    }

    fn send(&self, batch: &Batch) -> io::Result<()> {
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.0, batch.bytes(), SendFlags::empty(), &kernel)?;
        Ok(())
    }

    fn receive(&self) -> io::Result<Vec<Message>> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
                Ok((len, _)) => return Ok(messages(&buffer[..len.min(buffer.len())])),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// What an acknowledgement says.
fn outcome(message: &Message) -> Result<(), Errno> {
    match u32_at(&message.body, 0) as i32 {
        0 => Ok(()),
        error => Err(Errno::from_raw_os_error(-error)),
    }
}

/// The first failure but those that `harmless` lists.
pub(crate) fn finish(results: Vec<Result<(), Errno>>, harmless: &[Errno]) -> io::Result<()> {
    results
        .into_iter()
        .find_map(|result| result.err().filter(|e| !harmless.contains(e)))
        .map_or(Ok(()), |e| Err(e.into()))
}
