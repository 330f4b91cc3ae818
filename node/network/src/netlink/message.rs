//! Messages and attributes, written and read.

/// Set on attributes that hold attributes.
const NESTED: u16 = 1 << 15;

/// Messages that are sent by one call.
#[derive(Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Number of messages; the sequence number of each is its index.
    len: u32,
    /// Where the last message begins.
    last: usize,
}

impl Batch {
    /// Appends a message: its type, flags, fixed header and attributes.
    pub(crate) fn push(&mut self, kind: u16, flags: i32, header: &[u8], fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.bytes.len();
        self.last = start;
        self.bytes.extend_from_slice(&[0; 4]); // the length, known below
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&self.len.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(header);
        pad(&mut self.bytes);
        fill(&mut Attributes(&mut self.bytes));
        let len = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
        self.len += 1;
    }

    /// Makes the last message ask for an acknowledgement.
    pub(crate) fn acknowledge_last(&mut self) {
        if let Some(flags) = self.bytes.get_mut(self.last + 6..self.last + 8) {
            let with = u16::from_ne_bytes([flags[0], flags[1]]) | libc::NLM_F_ACK as u16;
            flags.copy_from_slice(&with.to_ne_bytes());
        }
    }

    /// How many messages there are.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// What is sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Writes attributes at the end of a message.
pub(crate) struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    /// An attribute of bytes.
    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) {
        self.0.extend_from_slice(&(value.len() as u16 + 4).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        pad(self.0);
    }

    /// A number in the machine's byte order, as routing wants it.
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// A number in network byte order, as the packet filter wants it.
    pub(crate) fn number_be(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// Text, with the zero byte that ends it.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes);
    }

    /// An attribute that holds attributes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.nest_after(kind, &[], fill);
    }

    /// An attribute that holds a fixed header and then attributes.
    pub(crate) fn nest_after(&mut self, kind: u16, header: &[u8], fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        self.0.extend_from_slice(header);
        pad(self.0);
        fill(&mut Attributes(self.0));
        let len = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// A message that was received.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) kind: u16,
    pub(crate) sequence: u32,
    pub(crate) body: Vec<u8>,
}

/// The messages of one datagram. A last one that was cut off is kept, as far as it goes.
pub(crate) fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while bytes.len() >= 16 {
        let len = (u32_at(bytes, 0) as usize).clamp(16, bytes.len());
        messages.push(Message {
            kind: u16::from_ne_bytes([bytes[4], bytes[5]]),
            sequence: u32_at(bytes, 8),
            body: bytes[16..len].to_vec(),
        });
        bytes = &bytes[len.next_multiple_of(4).min(bytes.len())..];
    }
    messages
}

/// The attributes in some bytes: number and value.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        if bytes.len() < 4 {
            return None;
        }
        let len = (u16::from_ne_bytes([bytes[0], bytes[1]]) as usize).clamp(4, bytes.len());
        let kind = u16::from_ne_bytes([bytes[2], bytes[3]]) & 0x3fff;
        let value = &bytes[4..len];
        bytes = &bytes[len.next_multiple_of(4).min(bytes.len())..];
        Some((kind, value))
    })
}

/// One attribute.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// The number at an offset; 0 beyond the end.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..offset + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut batch = Batch::default();
        batch.push(16, 1, &[7; 3], |a| {
            a.text(3, "eth0");
            a.nest(18, |a| a.number(1, 5));
        });
        batch.push(17, 1, &[], |_| {});
        let read = messages(batch.bytes());
        assert_eq!((read[0].kind, read[0].sequence, read[1].kind, read[1].sequence), (16, 0, 17, 1));
        let body = &read[0].body[4..];
        assert_eq!(attribute(body, 3), Some(&b"eth0\0"[..]));
        assert_eq!(attribute(body, 18).and_then(|nested| attribute(nested, 1)), Some(&5u32.to_ne_bytes()[..]));
    }

    #[test]
    fn cut_off_input_is_no_danger() {
        let mut batch = Batch::default();
        batch.push(16, 1, &[0; 16], |a| a.text(3, "some name"));
        for len in 0..batch.bytes().len() {
            for message in messages(&batch.bytes()[..len]) {
                let _ = attributes(&message.body).count();
            }
        }
    }
}
