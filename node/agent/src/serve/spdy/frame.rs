//! SPDY/3.1 frames on the wire.
//!
//! Source: the SPDY protocol draft 3.1, section 2. All numbers are big-endian. Flow control is not kept: no Kubernetes
//! client does (their implementation ignores windows), TCP's own window holds back a fast sender.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::headers::{Compressor, Decompressor, Headers};

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const CONTROL: u32 = 0x8000_0000;
const VERSION: u32 = 3;
const FIN: u8 = 1;
/// Most bytes of a control frame: header blocks of Kubernetes clients take a hundred.
const CONTROL_LIMIT: usize = 64 * 1024;
/// Most bytes of data in a frame that is accepted; clients send 32 KiB.
const DATA_LIMIT: usize = 4 * 1024 * 1024;

/// What a peer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Opens a stream.
    SynStream { stream: u32, headers: Headers, fin: bool },
    /// Accepts a stream.
    SynReply { stream: u32 },
    /// Bytes of a stream; `fin` ends the sender's half.
    Data { stream: u32, bytes: Bytes, fin: bool },
    /// Ends a stream at once.
    Reset { stream: u32 },
    /// To be sent back as it is.
    Ping { id: u32 },
    /// No further streams.
    GoAway,
    /// Something this implementation need not act on.
    Other,
}

/// Reads the next frame; `None` at the end of the connection.
pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin), inflate: &mut Decompressor) -> io::Result<Option<Frame>> {
    let mut head = [0; 8];
    match from.read_exact(&mut head).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut head = &head[..];
    let first = head.get_u32();
    let second = head.get_u32();
    let flags = u8::try_from(second >> 24).unwrap_or(0);
    let length = usize::try_from(second & 0x00ff_ffff).unwrap_or(usize::MAX);
    let control = first & CONTROL != 0;
    if length > if control { CONTROL_LIMIT } else { DATA_LIMIT } {
        return Err(io::Error::other(format!("SPDY frame of {length} bytes is too long")));
    }
    let mut payload = BytesMut::zeroed(length);
    from.read_exact(&mut payload).await?;
    let payload = payload.freeze();
    if control {
        parse_control(first, flags, payload, inflate).map(Some)
    } else {
        Ok(Some(Frame::Data { stream: first, bytes: payload, fin: flags & FIN != 0 }))
    }
}

fn parse_control(first: u32, flags: u8, mut payload: Bytes, inflate: &mut Decompressor) -> io::Result<Frame> {
    if (first & !CONTROL) >> 16 != VERSION {
        return Err(io::Error::other(format!("SPDY version {} is not spoken here", (first & !CONTROL) >> 16)));
    }
    let kind = u16::try_from(first & 0xffff).unwrap_or(0);
    let needed = match kind {
        SYN_STREAM => 10,
        SYN_REPLY | PING | HEADERS => 4,
        RST_STREAM => 8,
        _ => 0,
    };
    if payload.len() < needed {
        return Err(io::Error::other(format!("SPDY control frame of type {kind} is too short")));
    }
    Ok(match kind {
        SYN_STREAM => {
            let stream = payload.get_u32() & !CONTROL;
            payload.advance(6);
            Frame::SynStream { stream, headers: inflate.block(&payload)?, fin: flags & FIN != 0 }
        }
        SYN_REPLY | HEADERS => {
            let stream = payload.get_u32() & !CONTROL;
            // Every header block passes through the one zlib stream, wanted or not.
            inflate.block(&payload)?;
            if kind == SYN_REPLY { Frame::SynReply { stream } } else { Frame::Other }
        }
        RST_STREAM => Frame::Reset { stream: payload.get_u32() & !CONTROL },
        PING => Frame::Ping { id: payload.get_u32() },
        GOAWAY => Frame::GoAway,
        _ => Frame::Other,
    })
}

/// The bytes of a frame.
pub(crate) fn encode(frame: &Frame, deflate: &mut Compressor) -> io::Result<Bytes> {
    let mut out = BytesMut::new();
    match frame {
        Frame::SynStream { stream, headers, fin } => {
            let block = deflate.block(headers)?;
            control(&mut out, SYN_STREAM, u8::from(*fin), 10 + block.len());
            out.put_u32(*stream);
            out.put_slice(&[0; 6]);
            out.put_slice(&block);
        }
        Frame::SynReply { stream } => {
            let block = deflate.block(&Headers::new())?;
            control(&mut out, SYN_REPLY, 0, 4 + block.len());
            out.put_u32(*stream);
            out.put_slice(&block);
        }
        Frame::Data { stream, bytes, fin } => {
            out.reserve(8 + bytes.len());
            out.put_u32(*stream);
            out.put_u32(u32::from(*fin) << 24 | u32::try_from(bytes.len()).unwrap_or(0));
            out.put_slice(bytes);
        }
        Frame::Reset { stream } => {
            const CANCEL: u32 = 5;
            control(&mut out, RST_STREAM, 0, 8);
            out.put_u32(*stream);
            out.put_u32(CANCEL);
        }
        Frame::Ping { id } => {
            control(&mut out, PING, 0, 4);
            out.put_u32(*id);
        }
        Frame::GoAway => {
            control(&mut out, GOAWAY, 0, 8);
            out.put_u64(0);
        }
        Frame::Other => {}
    }
    Ok(out.freeze())
}

fn control(out: &mut BytesMut, kind: u16, flags: u8, length: usize) {
    out.put_u32(CONTROL | VERSION << 16 | u32::from(kind));
    out.put_u32(u32::from(flags) << 24 | u32::try_from(length).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn round_trip(frames: &[Frame]) -> Vec<Frame> {
        let (mut deflate, mut inflate) = (Compressor::new().expect("zlib"), Decompressor::new());
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend_from_slice(&encode(frame, &mut deflate).expect("encoded"));
        }
        let mut reader = bytes.as_slice();
        let mut seen = Vec::new();
        while let Some(frame) = read(&mut reader, &mut inflate).await.expect("readable") {
            seen.push(frame);
        }
        seen
    }

    #[tokio::test]
    async fn frames_survive_the_wire() {
        let headers =
            Headers::from([("streamtype".to_owned(), "stdin".to_owned()), ("port".to_owned(), "8080".to_owned())]);
        let frames = [
            Frame::SynStream { stream: 1, headers: headers.clone(), fin: false },
            Frame::SynStream { stream: 3, headers, fin: true },
            Frame::SynReply { stream: 1 },
            Frame::Data { stream: 1, bytes: Bytes::from_static(b"hello"), fin: false },
            Frame::Data { stream: 1, bytes: Bytes::new(), fin: true },
            Frame::Reset { stream: 3 },
            Frame::Ping { id: 7 },
            Frame::GoAway,
        ];
        assert_eq!(round_trip(&frames).await, frames);
    }

    #[tokio::test]
    async fn junk_is_an_error_not_a_panic() {
        let cases: &[&[u8]] = &[
            &[0x80, 3, 0, 1, 0, 0, 0, 2, 0, 0],
            &[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1],
            &[0x80, 3, 0, 1, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
            &[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
            &[0, 0, 0, 1, 0, 0xff, 0xff, 0xff],
            &[0, 0, 0, 1, 0, 0, 0, 9, 1],
        ];
        for case in cases {
            assert!(read(&mut &**case, &mut Decompressor::new()).await.is_err(), "{case:?}");
        }
    }
}
