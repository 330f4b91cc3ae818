//! Protobuf's wire format: keys, varints, lengths.

use crate::codec::DecodeError;

/// Wire types.
pub(super) const VARINT: u8 = 0;
pub(super) const FIXED64: u8 = 1;
pub(super) const BYTES: u8 = 2;
const GROUP: u8 = 3;
const GROUP_END: u8 = 4;
const FIXED32: u8 = 5;

/// Appends a varint.
pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low(value) | 0x80);
        value >>= 7;
    }
    out.push(low(value));
}

fn low(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

/// Appends the key of a field.
pub(super) fn key(out: &mut Vec<u8>, tag: u32, wire: u8) {
    varint(out, u64::from(tag) << 3 | u64::from(wire));
}

/// Appends a field of bytes.
pub(super) fn field(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    key(out, tag, BYTES);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Bytes of a varint.
pub(super) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Begins a field whose length is not known yet; [`close`] wants what this returns.
pub(super) fn open(out: &mut Vec<u8>, tag: u32) -> usize {
    key(out, tag, BYTES);
    out.push(0);
    out.len()
}

/// Ends a field: puts its length before it.
pub(super) fn close(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start;
    let more = varint_len(length as u64) - 1;
    if more > 0 {
        out.resize(out.len() + more, 0);
        out.copy_within(start..start + length, start + more);
    }
    let mut rest = length as u64;
    for place in &mut out[start - 1..start + more] {
        *place = low(rest) | 0x80;
        rest >>= 7;
    }
    out[start - 1 + more] &= 0x7f;
}

/// Reads fields one after another.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Tag and wire type of the next field; `None` at the end.
    pub(super) fn key(&mut self) -> Result<Option<(u32, u8)>, DecodeError> {
        if self.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let wire = (key & 7).to_le_bytes()[0];
        match u32::try_from(key >> 3) {
            Ok(tag) if tag > 0 && i32::try_from(tag).is_ok() => Ok(Some((tag, wire))),
            _ => Err(DecodeError(format!("proto: illegal tag {} (wire type {wire})", key >> 3))),
        }
    }

    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for (index, byte) in self.bytes.iter().enumerate() {
            if index == 10 {
                return Err(DecodeError("proto: integer overflow".to_owned()));
            }
            value |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(index).unwrap_or(u32::MAX)).unwrap_or(0);
            if byte & 0x80 == 0 {
                self.bytes = &self.bytes[index + 1..];
                return Ok(value);
            }
        }
        Err(too_short())
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.varint()?;
        let length = usize::try_from(length).map_err(|_| too_short())?;
        self.take(length)
    }

    pub(super) fn fixed64(&mut self) -> Result<u64, DecodeError> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| too_short())?))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or_else(too_short)?;
        self.bytes = rest;
        Ok(taken)
    }

    /// Skips the value of a field that is not known.
    pub(super) fn skip(&mut self, wire: u8) -> Result<(), DecodeError> {
        let mut groups = 0_usize;
        let mut wire = wire;
        loop {
            match wire {
                VARINT => drop(self.varint()?),
                FIXED64 => drop(self.take(8)?),
                BYTES => drop(self.bytes()?),
                FIXED32 => drop(self.take(4)?),
                GROUP => groups += 1,
                GROUP_END if groups > 0 => groups -= 1,
                GROUP_END => return Err(DecodeError("proto: unexpected end of group".to_owned())),
                other => return Err(DecodeError(format!("proto: illegal wireType {other}"))),
            }
            if groups == 0 {
                return Ok(());
            }
            (_, wire) = self.key()?.ok_or_else(too_short)?;
        }
    }
}

fn too_short() -> DecodeError {
    DecodeError("unexpected EOF".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_come_back(value: u64) {
            let mut out = Vec::new();
            varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint().expect("reads"), value);
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn a_length_is_put_before_what_it_counts(length in 0_usize..20_000) {
            let mut out = b"x".to_vec();
            let start = open(&mut out, 3);
            out.resize(start + length, 7);
            close(&mut out, start);
            let mut plain = b"x".to_vec();
            field(&mut plain, 3, &vec![7; length]);
            prop_assert_eq!(out, plain);
        }
    }
}
