//! Talking to a pod's shim.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use corten_shim::{Reply, Request, SOCKET};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use crate::types::{Error, Result};

/// A connection to a shim.
pub(crate) struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Connection {
    /// Connects to the shim of the pod whose folder this is.
    pub(crate) async fn open(dir: &Path) -> io::Result<Self> {
        Ok(Self { stream: UnixStream::connect(dir.join(SOCKET)).await?, received: Vec::new(), fds: Vec::new() })
    }

    pub(crate) async fn send(&mut self, request: &Request) -> io::Result<()> {
        let body = serde_json::to_vec(request)?;
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        self.stream.write_all(&[&length.to_le_bytes()[..], &body].concat()).await
    }

    /// The next reply; an error of kind `UnexpectedEof` if the shim is gone.
    pub(crate) async fn receive(&mut self) -> io::Result<Reply> {
        loop {
            if let Some(reply) = self.take()? {
                return Ok(reply);
            }
            self.stream.readable().await?;
            let (stream, received, fds) = (&self.stream, &mut self.received, &mut self.fds);
            let read = stream.try_io(Interest::READABLE, || {
                let mut buffer = [0; 16 << 10];
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let mut slices = [IoSliceMut::new(&mut buffer)];
                let message = recvmsg(stream, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
                for ancillary in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(rights) = ancillary {
                        fds.extend(rights);
                    }
                }
                received.extend_from_slice(&buffer[..message.bytes]);
                Ok(message.bytes)
            });
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self) -> io::Result<Option<Reply>> {
        let Some(length) = self.received.first_chunk::<4>() else { return Ok(None) };
        let end = 4 + usize::try_from(u32::from_le_bytes(*length)).map_err(io::Error::other)?;
        if self.received.len() < end {
            return Ok(None);
        }
        let reply = serde_json::from_slice(&self.received[4..end])?;
        self.received.drain(..end);
        Ok(Some(reply))
    }

    /// The descriptors that came with the replies so far.
    pub(crate) fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }
}

/// Reason of errors that say that a shim is gone.
pub(crate) const GONE: &str = "PodLost";

/// Longer than a shim takes for anything: it gives up on a container that does not start before this.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) fn gone(error: io::Error) -> Error {
    Error::new(GONE, format!("the pod's shim does not answer: {error}"))
}

/// Asks a shim one thing.
pub(crate) async fn ask(dir: &Path, request: &Request) -> Result<Reply> {
    Connection::open(dir).await.map_err(gone)?.ask(request).await
}

impl Connection {
    /// Asks one thing, and waits for the answer.
    pub(crate) async fn ask(&mut self, request: &Request) -> Result<Reply> {
        let answer = async {
            self.send(request).await?;
            self.receive().await
        };
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(Reply::Failed { reason, message })) => Err(Error { reason, message }),
            Ok(answer) => answer.map_err(gone),
            Err(_) => Err(Error::new("RuntimeError", format!("the pod's shim is busy for more than {PATIENCE:?}"))),
        }
    }
}
