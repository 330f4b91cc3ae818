//! Messages with descriptors over a Unix socket.

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use corten_shim::{Reply, Request};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Longest message.
const MOST: u32 = 4 << 20;

/// Reads one request; `None` at the end.
pub(crate) fn read(stream: &mut UnixStream) -> io::Result<Option<Request>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(length);
    if length > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message that is too long"));
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    stream.read_exact(&mut bytes)?;
    serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from)
}

/// Sends one reply, with descriptors.
pub(crate) fn write(stream: &UnixStream, reply: &Reply, fds: &[OwnedFd]) -> io::Result<()> {
    let body = serde_json::to_vec(reply)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let message = [&length.to_le_bytes()[..], &body].concat();
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::Error::other("too many descriptors"));
    }
    let slices = [io::IoSlice::new(&message)];
    let sent = sendmsg(stream, &slices, &mut control, SendFlags::NOSIGNAL)?;
    // What did not fit goes without the descriptors, which went with the first bytes.
    io::Write::write_all(&mut &*stream, &message[sent..])
}
