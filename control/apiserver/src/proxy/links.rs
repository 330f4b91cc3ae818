//! Links of a backend's pages, led back through the proxy: what says `/x` there is `.../proxy/x` here.
//!
//! Which attributes are links: k8s.io/apimachinery/pkg/util/proxy/transport.go of Kubernetes.

use flate2::write::{GzDecoder, ZlibDecoder};
use std::io::Write;

/// Attributes that are links, by element.
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];
/// Elements that hold text in which nothing is a tag but their own end.
const RAW: &[&str] = &["script", "style", "textarea", "title", "xmp", "noembed", "noframes", "plaintext"];
/// A tag that is longer than this is none.
const MOST_TAG: usize = 64 << 10;
/// As much is decompressed at once; a thousand times that may come of it.
const MOST_COMPRESSED: usize = 4 << 10;

/// Where a backend is, and where it is seen.
#[derive(Clone)]
pub(super) struct Place {
    /// Host and port of the backend, and those by which the client asked.
    pub(super) hosts: Vec<String>,
    /// Our path up to the backend's root.
    pub(super) own: String,
}

impl Place {
    /// A link as our clients can follow it; `None` if it is good as it is.
    pub(super) fn link(&self, link: &str) -> Option<String> {
        let absolute = ["http://", "https://", "//"].iter().find_map(|start| link.strip_prefix(start));
        let path = match absolute {
            None => link,
            Some(rest) => {
                let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
                self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host)).then_some(path)?
            }
        };
        if !path.starts_with('/') {
            return None;
        }
        if path.starts_with(&self.own) {
            return absolute.map(|_| path.to_owned());
        }
        Some(format!("{}{path}", self.own))
    }
}

/// A page on its way.
pub(super) struct Page {
    decoder: Decoder,
    links: Links,
}

/// Undoes what a page is compressed by.
enum Decoder {
    Plain,
    Gzip(GzDecoder<Vec<u8>>),
    Deflate(ZlibDecoder<Vec<u8>>),
}

impl Page {
    /// A page of this content encoding; `None` if it cannot be read.
    pub(super) fn new(encoding: &str, place: Place) -> Option<Self> {
        let decoder = match encoding {
            "" | "identity" => Decoder::Plain,
            "gzip" => Decoder::Gzip(GzDecoder::new(Vec::new())),
            "deflate" => Decoder::Deflate(ZlibDecoder::new(Vec::new())),
            _ => return None,
        };
        Some(Self { decoder, links: Links { place, state: State::Text, pending: Vec::new(), begun: None } })
    }

    /// How long a piece may be, so that what comes of it is not more than can be kept.
    pub(super) fn most(&self) -> usize {
        match self.decoder {
            Decoder::Plain => usize::MAX,
            Decoder::Gzip(_) | Decoder::Deflate(_) => MOST_COMPRESSED,
        }
    }

    /// The next piece; the last one is `None`. What cannot be decompressed ends the page, as it would at the client.
    pub(super) fn piece(&mut self, piece: Option<&[u8]>) -> Vec<u8> {
        let plain = self.decoder.decode(piece.unwrap_or_default());
        let mut out = Vec::with_capacity(plain.len() + 256);
        self.links.push(&plain, &mut out);
        if piece.is_none() {
            out.append(&mut self.links.pending);
        }
        out
    }
}

impl Decoder {
    fn decode(&mut self, bytes: &[u8]) -> Vec<u8> {
        let write = |decoder: &mut dyn Write| decoder.write_all(bytes).and_then(|()| decoder.flush());
        match self {
            Self::Plain => bytes.to_vec(),
            Self::Gzip(decoder) => {
                let _ = write(decoder);
                std::mem::take(decoder.get_mut())
            }
            Self::Deflate(decoder) => {
                let _ = write(decoder);
                std::mem::take(decoder.get_mut())
            }
        }
    }
}

/// Where in a page we are.
enum State {
    Text,
    Comment,
    /// In an element that ends with its own tag alone.
    Raw(&'static str),
}

struct Links {
    place: Place,
    state: State,
    /// Not decided yet: the beginning of a tag, mostly.
    pending: Vec<u8>,
    /// The tag that `pending` is the beginning of, as far as it has been read.
    begun: Option<Tag>,
}

/// A tag: its name, the values of its attributes, and where it ends.
#[derive(Default)]
struct Tag {
    name: String,
    /// Name and place of the value.
    attributes: Vec<(String, std::ops::Range<usize>)>,
    /// Of a tag that is not complete, where its last complete attribute ends.
    end: usize,
    /// Before this has come, a tag that is not complete need not be read again.
    awaited: u8,
}

impl Links {
    fn push(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        self.pending.extend_from_slice(plain);
        // Whoever sends a long tag byte by byte must not make us read it from its beginning for each.
        let is_worth = self.begun.as_ref().is_none_or(|tag| plain.contains(&tag.awaited));
        if is_worth || self.pending.len() >= MOST_TAG {
            self.advance(out);
        }
    }

    /// Hands on all that is decided.
    fn advance(&mut self, out: &mut Vec<u8>) {
        let mut pending = std::mem::take(&mut self.pending);
        let mut rest = pending.as_slice();
        while let Some(left) = self.step(rest, out).filter(|left| left.len() < rest.len()) {
            rest = left;
        }
        let decided = pending.len() - rest.len();
        pending.drain(..decided);
        // The room that a large piece took is not kept for the beginning of a tag.
        pending.shrink_to(4 * MOST_TAG);
        self.pending = pending;
    }

    /// Hands on one piece of text or one tag; what is left, or `None` if more must come first.
    fn step<'a>(&mut self, rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
        let hand_on = |out: &mut Vec<u8>, count: usize| {
            out.extend_from_slice(&rest[..count]);
            Some(&rest[count..])
        };
        match self.state {
            State::Comment => match find(rest, b"-->") {
                Some(at) => {
                    self.state = State::Text;
                    hand_on(out, at + 3)
                }
                None => hand_on(out, rest.len().saturating_sub(2)),
            },
            State::Raw(name) => match end_of(rest, name) {
                Some(at) => {
                    self.state = State::Text;
                    hand_on(out, at)
                }
                // The end tag may be cut in two.
                None => hand_on(out, rest.len().saturating_sub(name.len() + 2)),
            },
            State::Text => match rest.iter().position(|byte| *byte == b'<') {
                None => hand_on(out, rest.len()),
                Some(at @ 1..) => hand_on(out, at),
                Some(0) => self.tag(rest, out),
            },
        }
    }

    /// What begins with `<`.
    fn tag<'a>(&mut self, rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
        const COMMENT: &[u8] = b"<!--";
        if rest.len() < COMMENT.len() && COMMENT.starts_with(rest) {
            return None;
        }
        if rest.starts_with(COMMENT) {
            self.state = State::Comment;
            out.extend_from_slice(COMMENT);
            return Some(&rest[COMMENT.len()..]);
        }
        if rest.get(1).is_some_and(u8::is_ascii_alphabetic) {
            let (head, after) = rest.split_at(rest.len().min(MOST_TAG));
            let mut tag = self.begun.take().unwrap_or_default();
            if tag.read_on(head).is_some() {
                self.rewrite(head, &tag, out);
                if let Some(raw) = RAW.iter().find(|raw| **raw == tag.name) {
                    self.state = State::Raw(raw);
                }
                return Some(&rest[tag.end..]);
            }
            if head.len() < MOST_TAG {
                self.begun = Some(tag);
                return None;
            }
            // All of it: another tag may seem to begin at each of its bytes, and each would be read as far.
            out.extend_from_slice(head);
            return Some(after);
        }
        out.push(b'<');
        Some(&rest[1..])
    }

    fn rewrite(&self, text: &[u8], tag: &Tag, out: &mut Vec<u8>) {
        let links = LINKS.iter().find(|(name, _)| *name == tag.name).map_or(&[][..], |(_, links)| links);
        let mut written = 0;
        for (_, place) in tag.attributes.iter().filter(|(name, _)| links.contains(&name.as_str())) {
            let value = std::str::from_utf8(&text[place.clone()]).unwrap_or_default();
            if let Some(link) = self.place.link(value) {
                out.extend_from_slice(&text[written..place.start]);
                out.extend_from_slice(link.as_bytes());
                written = place.end;
            }
        }
        out.extend_from_slice(&text[written..tag.end]);
    }
}

impl Tag {
    /// Reads the opening tag at the beginning of `text` from where its last complete attribute ends; `None` if the tag
    /// is not complete. `text` begins with what it was before.
    fn read_on(&mut self, text: &[u8]) -> Option<()> {
        let until = |from: usize, ends: &dyn Fn(u8) -> bool| {
            text[from..].iter().position(|byte| ends(*byte)).map(|count| from + count)
        };
        let lower = |range: std::ops::Range<usize>| String::from_utf8_lossy(&text[range]).to_ascii_lowercase();
        let is_space = |byte: u8| byte.is_ascii_whitespace();
        self.awaited = b'>';
        if self.end == 0 {
            self.end = until(1, &|byte| is_space(byte) || byte == b'/' || byte == b'>')?;
            self.name = lower(1..self.end);
        }
        loop {
            let mut at = until(self.end, &|byte| !is_space(byte) && byte != b'/')?;
            if text[at] == b'>' {
                self.end = at + 1;
                return Some(());
            }
            // A sign that stands where a name begins is part of the name.
            let name_end = until(at + 1, &|byte| is_space(byte) || [b'/', b'>', b'='].contains(&byte))?;
            let name = lower(at..name_end);
            at = until(name_end, &|byte| !is_space(byte))?;
            if text[at] != b'=' {
                self.end = at;
                continue;
            }
            at = until(at + 1, &|byte| !is_space(byte))?;
            let value = match text[at] {
                quote @ (b'"' | b'\'') => {
                    self.awaited = quote;
                    at + 1..until(at + 1, &|byte| byte == quote)?
                }
                _ => at..until(at, &|byte| is_space(byte) || byte == b'>')?,
            };
            self.awaited = b'>';
            self.end = value.end + usize::from([b'"', b'\''].contains(&text[at]));
            self.attributes.push((name, value));
        }
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// Where the tag is that ends an element.
fn end_of(text: &[u8], name: &str) -> Option<usize> {
    let ends = |window: &[u8]| window.starts_with(b"</") && window[2..].eq_ignore_ascii_case(name.as_bytes());
    text.windows(name.len() + 2).position(ends)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place() -> Place {
        Place { hosts: vec!["10.42.0.5:8080".to_owned(), "cluster".to_owned()], own: "/p/proxy".to_owned() }
    }

    /// A page that comes in pieces of this size.
    fn page(text: &[u8], size: usize) -> Vec<u8> {
        let mut page = Page::new("", place()).expect("plain");
        let mut out: Vec<u8> = text.chunks(size).flat_map(|piece| page.piece(Some(piece))).collect();
        out.extend(page.piece(None));
        out
    }

    #[test]
    fn links_of_the_backend_lead_through_the_proxy() {
        for (link, expected) in [
            ("/", Some("/p/proxy/")),
            ("/x?y=/z#a", Some("/p/proxy/x?y=/z#a")),
            ("http://10.42.0.5:8080/x", Some("/p/proxy/x")),
            ("//CLUSTER/x", Some("/p/proxy/x")),
            ("https://cluster/p/proxy/x", Some("/p/proxy/x")),
            ("/p/proxy/x", None),
            ("x", None),
            ("", None),
            ("#top", None),
            ("//example.com/x", None),
            ("http://10.42.0.5/x", None),
            ("http://10.42.0.5:8080", None),
            ("mailto:a@b", None),
        ] {
            assert_eq!(place().link(link).as_deref(), expected, "{link}");
        }
    }

    #[test]
    fn pages_are_rewritten_wherever_they_are_cut() {
        let cases = [
            (r#"<a href="/rewriteme">test</a>"#, r#"<a href="/p/proxy/rewriteme">test</a>"#),
            (r#"<A  HREF = '/x' class=/y>"#, r#"<A  HREF = '/p/proxy/x' class=/y>"#),
            ("<img src=/a.png usemap=/m><p src=/x>", "<img src=/p/proxy/a.png usemap=/p/proxy/m><p src=/x>"),
            ("<a href=/x/>", "<a href=/p/proxy/x/>"),
            (r#"<a title="<a href='/x'>" href="/y">"#, r#"<a title="<a href='/x'>" href="/p/proxy/y">"#),
            (r#"<!-- <a href="/x"> --><a href="/x">"#, r#"<!-- <a href="/x"> --><a href="/p/proxy/x">"#),
            (
                r#"<script src="/s">if (a<b) "<a href='/x'>"</SCRIPT><a href="/x">"#,
                r#"<script src="/p/proxy/s">if (a<b) "<a href='/x'>"</SCRIPT><a href="/p/proxy/x">"#,
            ),
            ("1 < 2 && <b>", "1 < 2 && <b>"),
            ("<a =/x href=/y>", "<a =/x href=/p/proxy/y>"),
            (r#"<a href="/never ends"#, r#"<a href="/never ends"#),
            ("<!-", "<!-"),
            ("<a href>", "<a href>"),
            ("<a href=>", "<a href=>"),
            ("", ""),
        ];
        for (text, expected) in cases {
            for size in 1..=text.len().max(1) {
                assert_eq!(String::from_utf8_lossy(&page(text.as_bytes(), size)), expected, "in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_tag_without_end_is_not_kept() {
        let text = [b"<a href=\"".as_slice(), &vec![b'x'; 1 << 20]].concat();
        let mut page = Page::new("", place()).expect("plain");
        for piece in text.chunks(1000) {
            page.piece(Some(piece));
            assert!(page.links.pending.len() <= MOST_TAG + 1000);
        }
    }

    #[test]
    fn a_large_piece_is_rewritten_to_its_end() {
        let text = |link: &str| [link, link, link].join("x".repeat(100 << 10).as_str());
        let (before, after) = (text(r#"<a href="/x">"#), text(r#"<a href="/p/proxy/x">"#));
        assert!(page(before.as_bytes(), before.len()) == after.as_bytes(), "three links");
    }

    #[test]
    fn what_is_too_long_for_a_tag_is_handed_on_however_it_is_cut() {
        let link = |path: &str| format!("<a href=\"{path}\">");
        let never_ends = format!("<a title='{}", "<b ".repeat(MOST_TAG / 2));
        let (before, after) = (never_ends.clone() + ">" + &link("/x"), never_ends + ">" + &link("/p/proxy/x"));
        for size in [before.len(), 1000, 7] {
            assert!(page(before.as_bytes(), size) == after.as_bytes(), "in pieces of {size}");
        }
    }

    #[test]
    fn a_long_tag_may_come_byte_by_byte() {
        let many = [format!(" title=\"{}\"", ">".repeat(60_000)), " b='>'".repeat(10_000), " b".repeat(30_000)];
        for attributes in many {
            let tag = |link: &str| format!("<a{attributes} href=\"{link}\">");
            assert!(page(tag("/x").as_bytes(), 1) == tag("/p/proxy/x").as_bytes(), "{}", &attributes[..10]);
        }
    }

    #[test]
    fn little_comes_of_a_compressed_piece_at_once() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&vec![b' '; 8 << 20]).expect("compressed");
        let gzip = encoder.finish().expect("compressed");
        let mut page = Page::new("gzip", place()).expect("known");
        let pieces: Vec<usize> = gzip.chunks(page.most()).map(|piece| page.piece(Some(piece)).len()).collect();
        assert_eq!(pieces.iter().sum::<usize>(), 8 << 20);
        assert!(pieces.iter().all(|length| *length <= 1100 * MOST_COMPRESSED), "{pieces:?}");
        assert!(page.links.pending.capacity() <= 4 * MOST_TAG, "nothing is left of it");
    }

    #[test]
    fn compressed_pages_are_read() {
        let text = br#"<a href="/x">"#;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).expect("compressed");
        let gzip = encoder.finish().expect("compressed");
        let mut page = Page::new("gzip", place()).expect("known");
        let mut out: Vec<u8> = gzip.chunks(3).flat_map(|piece| page.piece(Some(piece))).collect();
        out.extend(page.piece(None));
        assert_eq!(String::from_utf8_lossy(&out), r#"<a href="/p/proxy/x">"#);
        assert!(Page::new("br", place()).is_none());
    }

    proptest! {
        #[test]
        fn no_page_depends_on_how_it_is_cut(
            parts in prop::collection::vec(prop::sample::select(vec![
                "<", ">", "a", " href", "=", "\"", "'", "/x", "<!--", "-->", "<a ", "<script>", "</script", "é", "\n",
            ]), 0..20),
            size in 1_usize..8,
        ) {
            let text = parts.concat();
            prop_assert_eq!(page(text.as_bytes(), size), page(text.as_bytes(), text.len().max(1)));
        }

        #[test]
        fn what_has_no_links_of_ours_stays_as_it_is(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let text: Vec<u8> = text.into_iter().filter(|byte| *byte != b'/').collect();
            prop_assert_eq!(page(&text, 7), text);
        }
    }
}
