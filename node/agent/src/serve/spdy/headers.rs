//! SPDY header blocks: name-value pairs, compressed by one zlib stream a direction with the protocol's dictionary.
//!
//! Source: the SPDY protocol draft 3.1, section 2.6.10.

use std::collections::BTreeMap;
use std::io;
use std::sync::LazyLock;

use bytes::{Buf, BufMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Names in lower case, and their values.
pub(crate) type Headers = BTreeMap<String, String>;

/// Most bytes of a header block once it is unpacked.
const LIMIT: usize = 256 * 1024;

/// Words of the dictionary that carry their length before them.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
content-length content-location content-md5 content-range content-type date etag expect expires from host if-match \
if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
keep-alive origin";
/// Its end, without lengths.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not \
Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov \
Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=\
iso-8859-1,utf-,*,enq=0.";

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = Vec::with_capacity(1423);
    for word in WORDS.split(' ') {
        let word = word.replace('_', " ");
        bytes.put_u32(u32::try_from(word.len()).unwrap_or(0));
        bytes.put_slice(word.as_bytes());
    }
    bytes.put_slice(TAIL.as_bytes());
    bytes
});

/// Packs header blocks, in the order in which they are sent.
pub(crate) struct Compressor(Compress);

impl Compressor {
    pub(crate) fn new() -> io::Result<Self> {
        let mut zlib = Compress::new(Compression::fast(), true);
        zlib.set_dictionary(&DICTIONARY)?;
        Ok(Self(zlib))
    }

    pub(crate) fn block(&mut self, headers: &Headers) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        plain.put_u32(number(headers.len()));
        for (name, value) in headers {
            for text in [name, value] {
                plain.put_u32(number(text.len()));
                plain.put_slice(text.as_bytes());
            }
        }
        let mut packed = Vec::with_capacity(plain.len() + 64);
        let start = self.0.total_in();
        loop {
            let done = usize::try_from(self.0.total_in() - start).unwrap_or(plain.len());
            self.0.compress_vec(&plain[done..], &mut packed, FlushCompress::Sync)?;
            if packed.len() < packed.capacity() {
                return Ok(packed);
            }
            packed.reserve(packed.capacity());
        }
    }
}

/// Unpacks header blocks, in the order in which they came.
pub(crate) struct Decompressor(Decompress);

impl Decompressor {
    pub(crate) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(crate) fn block(&mut self, packed: &[u8]) -> io::Result<Headers> {
        let plain = self.inflate(packed)?;
        parse(&plain).ok_or_else(|| io::Error::other("malformed SPDY header block"))
    }

    fn inflate(&mut self, packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::with_capacity(1024);
        let start = self.0.total_in();
        loop {
            let done = usize::try_from(self.0.total_in() - start).unwrap_or(packed.len());
            match self.0.decompress_vec(&packed[done..], &mut plain, FlushDecompress::Sync) {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&DICTIONARY)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
                Ok(Status::StreamEnd) => return Ok(plain),
                Ok(Status::Ok | Status::BufError) => {}
            }
            if plain.len() < plain.capacity() {
                return Ok(plain);
            }
            if plain.len() > LIMIT {
                return Err(io::Error::other("SPDY header block is too long"));
            }
            plain.reserve(plain.capacity());
        }
    }
}

fn parse(mut bytes: &[u8]) -> Option<Headers> {
    let mut headers = Headers::new();
    let count = bytes.try_get_u32().ok()?;
    let mut text = || {
        let length = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
        let text = String::from_utf8_lossy(bytes.get(..length)?).into_owned();
        bytes.advance(length);
        Some(text)
    };
    for _ in 0..count {
        let (name, value) = (text()?, text()?);
        headers.insert(name.to_ascii_lowercase(), value);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_protocols() {
        assert_eq!(DICTIONARY.len(), 1423);
        // zlib writes the dictionary's Adler-32 after its two-byte header: the start of every SPDY/3 connection.
        let packed = Compressor::new().expect("zlib").block(&Headers::new()).expect("packed");
        assert_eq!(packed[2..6], [0xe3, 0xc6, 0xa7, 0xc2]);
    }

    #[test]
    fn blocks_of_any_size_share_one_stream() {
        let (mut deflate, mut inflate) = (Compressor::new().expect("zlib"), Decompressor::new());
        for size in [0_u64, 1, 500, 5_000, 60_000, 3] {
            let value: String =
                (0..size).map(|index| char::from(b'a' + u8::try_from(index * index % 26).unwrap_or(0))).collect();
            let headers = Headers::from([("streamtype".to_owned(), value)]);
            let packed = deflate.block(&headers).expect("packed");
            assert_eq!(inflate.block(&packed).expect("unpacked"), headers, "{size}");
        }
    }
}
