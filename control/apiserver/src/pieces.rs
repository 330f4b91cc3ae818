//! Bodies that are made while they are sent: a large answer is never in memory a second time.

use std::convert::Infallible;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body::{Frame, SizeHint};

use crate::body::Body;

/// Bytes that are handed over at a time: enough that a frame costs little, few enough that memory does not matter.
const PIECE: usize = 64 << 10;

/// A list in JSON: a head, objects between braces and commas, and `]}`.
pub(crate) struct JsonList {
    head: Option<Bytes>,
    /// Each without the brace that opens it.
    items: std::vec::IntoIter<Bytes>,
    left: usize,
    first: bool,
}

impl JsonList {
    /// `head` ends before the bracket that opens the list.
    pub(crate) fn new(head: Bytes, items: Vec<Bytes>) -> Self {
        // Brackets, the last brace, and for each item a brace and, but for the first, a comma.
        let around = 3 + 2 * items.len() - usize::from(!items.is_empty());
        let left = head.len() + items.iter().map(Bytes::len).sum::<usize>() + around;
        Self { head: Some(head), items: items.into_iter(), left, first: true }
    }
}

impl http_body::Body for JsonList {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut piece = BytesMut::with_capacity(self.left.min(PIECE + PIECE / 4));
        if let Some(head) = self.head.take() {
            piece.extend_from_slice(&head);
            piece.put_u8(b'[');
        }
        while piece.len() < PIECE {
            let Some(item) = self.items.next() else {
                piece.extend_from_slice(b"]}");
                break;
            };
            piece.extend_from_slice(if std::mem::replace(&mut self.first, false) { b"{" } else { b",{" });
            piece.extend_from_slice(&item);
        }
        self.left -= piece.len();
        Poll::Ready(Some(Ok(Frame::data(piece.freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

/// A body, compressed on its way.
pub(crate) struct Gzip {
    body: Body,
    /// `None` once it is over.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Gzip {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())) }
    }
}

impl http_body::Body for Gzip {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if self.encoder.is_none() {
                return Poll::Ready(None);
            }
            let next = ready!(Pin::new(&mut self.body).poll_frame(cx));
            let Some(encoder) = self.encoder.as_mut() else { return Poll::Ready(None) };
            let compressed = match next {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    // Writing to a vector does not fail.
                    let _ = encoder.write_all(&data);
                    std::mem::take(encoder.get_mut())
                }
                Some(Err(never)) => match never {},
                None => self.encoder.take().and_then(|encoder| encoder.finish().ok()).unwrap_or_default(),
            };
            if !compressed.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(compressed.into()))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use http_body::Body as _;
    use http_body_util::BodyExt;

    use super::*;
    use crate::body;

    #[tokio::test]
    async fn lists_are_as_long_as_they_say() {
        for count in [0, 1, 2, 3000] {
            let items: Vec<Bytes> = (0..count).map(|n| Bytes::from(format!("\"a\":\"{n:0100}\"}}"))).collect();
            let list = JsonList::new(Bytes::from_static(b"{\"items\":"), items);
            let promised = list.size_hint().exact();
            let bytes = list.collect().await.expect("bytes").to_bytes();
            assert_eq!(promised, Some(bytes.len() as u64));
            let value: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
            assert_eq!(value["items"].as_array().map(Vec::len), Some(count));
        }
    }

    #[tokio::test]
    async fn what_is_compressed_comes_back() {
        let items: Vec<Bytes> = (0..3000).map(|n| Bytes::from(format!("\"a\":{n}}}"))).collect();
        let list = || JsonList::new(Bytes::from_static(b"{\"items\":"), items.clone()).boxed_unsync();
        let plain = list().collect().await.expect("bytes").to_bytes();
        let zipped = Gzip::new(list()).collect().await.expect("bytes").to_bytes();
        assert!(zipped.len() < plain.len() / 2);
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&*zipped).read_to_end(&mut back).expect("unzips");
        assert!(back == plain);
        let nothing = Gzip::new(body::full(Bytes::new())).collect().await.expect("bytes").to_bytes();
        flate2::read::GzDecoder::new(&*nothing).read_to_end(&mut back).expect("unzips");
    }
}
