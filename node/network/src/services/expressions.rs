//! Expressions of the packet filter: what a rule does to a packet, step by step, with registers of four bytes.
//!
//! Numbers are those of linux/netfilter/nf_tables.h. Several steps in a row form one rule; a lookup that finds nothing
//! and a comparison that fails end the rule, and the next one goes on.

use std::net::Ipv4Addr;

use crate::Range;
use crate::netlink::Attributes;

/// The first register; the others follow.
pub(crate) const REGISTER: u32 = 8;

const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const LIST_ELEMENT: u16 = 1;
const VALUE: u16 = 1; // NFTA_DATA_VALUE
const VERDICT: u16 = 2; // NFTA_DATA_VERDICT

/// How a packet's way through a chain ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    Drop,
    Return,
    /// Into another chain, and back.
    Jump(&'static str),
}

/// What to do to a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Meta {
    Mark = 3,
    Protocol = 16,
}

/// Writes the expressions of one rule.
pub(crate) struct Rule<'a, 'b>(pub(crate) &'a mut Attributes<'b>);

impl Rule<'_, '_> {
    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.0.nest(LIST_ELEMENT, |a| {
            a.text(EXPRESSION_NAME, name);
            a.nest(EXPRESSION_DATA, fill);
        });
    }

    fn payload(&mut self, base: u32, offset: u32, len: u32, to: u32) {
        self.expression("payload", |a| {
            a.number_be(1, to);
            a.number_be(2, base);
            a.number_be(3, offset);
            a.number_be(4, len);
        });
    }

    /// Loads the source address.
    pub(crate) fn source_address(&mut self, to: u32) {
        self.payload(1, 12, 4, to);
    }

    /// Loads the destination address.
    pub(crate) fn destination_address(&mut self, to: u32) {
        self.payload(1, 16, 4, to);
    }

    /// Loads the destination port.
    pub(crate) fn destination_port(&mut self, to: u32) {
        self.payload(2, 2, 2, to);
    }

    /// Loads something about the packet.
    pub(crate) fn meta(&mut self, key: Meta, to: u32) {
        self.expression("meta", |a| {
            a.number_be(1, to);
            a.number_be(2, key as u32);
        });
    }

    /// Sets the packet's mark.
    pub(crate) fn set_mark(&mut self, from: u32) {
        self.expression("meta", |a| {
            a.number_be(2, Meta::Mark as u32);
            a.number_be(3, from);
        });
    }

    /// Loads a random number below `modulus`.
    pub(crate) fn random(&mut self, to: u32, modulus: u32) {
        self.expression("numgen", |a| {
            a.number_be(1, to);
            a.number_be(2, modulus);
            a.number_be(3, 1); // random, not in turn: turns of services that are called alternately would interlock
            a.number_be(4, 0);
        });
    }

    /// Loads what kind of address the source (or the destination) is to this node.
    fn address_kind(&mut self, flag: u32, to: u32) {
        self.expression("fib", |a| {
            a.number_be(1, to);
            a.number_be(2, 3); // the kind of address
            a.number_be(3, flag);
        });
    }

    /// Loads the connection's status bits.
    fn connection_status(&mut self, to: u32) {
        self.expression("ct", |a| {
            a.number_be(1, to);
            a.number_be(2, 2);
        });
    }

    /// Ends the rule unless a register equals (or differs from) a value.
    fn compare(&mut self, register: u32, equal: bool, value: &[u8]) {
        self.expression("cmp", |a| {
            a.number_be(1, register);
            a.number_be(2, u32::from(!equal));
            a.nest(3, |a| a.put(VALUE, value));
        });
    }

    /// Computes `register & mask ^ flip`.
    fn bits(&mut self, register: u32, mask: [u8; 4], flip: [u8; 4]) {
        self.expression("bitwise", |a| {
            a.number_be(1, register);
            a.number_be(2, register);
            a.number_be(3, 4);
            a.nest(4, |a| a.put(VALUE, &mask));
            a.nest(5, |a| a.put(VALUE, &flip));
            a.number_be(6, 0);
        });
    }

    /// Clears the bits of a register that are not in `bits`, a number in the machine's byte order.
    pub(crate) fn mask(&mut self, register: u32, bits: u32) {
        self.bits(register, bits.to_ne_bytes(), [0; 4]);
    }

    /// Ends the rule unless what a register holds is in a set.
    pub(crate) fn in_set(&mut self, set: &str, from: u32) {
        self.expression("lookup", |a| {
            a.text(1, set);
            a.number_be(2, from);
        });
    }

    /// Loads what a map says; ends the rule if that is nothing.
    pub(crate) fn look_up(&mut self, map: &str, from: u32, to: u32) {
        self.expression("lookup", |a| {
            a.text(1, map);
            a.number_be(2, from);
            a.number_be(3, to);
        });
    }

    /// Notes in a map what a register holds, for some seconds; begins anew if it is there already.
    pub(crate) fn remember(&mut self, map: &str, from: u32, value: u32, seconds: u32) {
        self.change_map(1, map, from, value, Some(seconds));
    }

    /// Deletes an element from a map, if it is there.
    pub(crate) fn forget(&mut self, map: &str, from: u32, value: u32) {
        self.change_map(2, map, from, value, None);
    }

    fn change_map(&mut self, operation: u32, map: &str, from: u32, value: u32, seconds: Option<u32>) {
        self.expression("dynset", |a| {
            a.text(1, map);
            a.number_be(3, operation);
            a.number_be(4, from);
            a.number_be(5, value);
            if let Some(seconds) = seconds {
                a.put(6, &(u64::from(seconds) * 1000).to_be_bytes());
            }
        });
    }

    /// Redirects the connection to the address and port in two registers.
    pub(crate) fn redirect(&mut self, address: u32, port: u32) {
        self.expression("nat", |a| {
            a.number_be(1, 1);
            a.number_be(2, libc::NFPROTO_IPV4 as u32);
            a.number_be(3, address);
            a.number_be(5, port);
        });
    }

    /// Gives the connection this node's address.
    pub(crate) fn masquerade(&mut self) {
        self.expression("masq", |_| {});
    }

    /// Tells the sender that no one listens.
    fn reject(&mut self, how: u32, code: u8) {
        self.expression("reject", |a| {
            a.number_be(1, how);
            a.put(2, &[code]);
        });
    }

    /// Answers with a reset, which only TCP knows.
    pub(crate) fn reset(&mut self) {
        self.meta(Meta::Protocol, REGISTER);
        self.compare(REGISTER, true, &[libc::IPPROTO_TCP as u8]);
        self.reject(1, 0);
    }

    /// Answers that the port is unreachable.
    pub(crate) fn refuse(&mut self) {
        self.reject(0, 3);
    }

    /// Ends the way through the chain.
    pub(crate) fn verdict(&mut self, verdict: Verdict) {
        let (code, chain) = match verdict {
            Verdict::Drop => (0, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
            Verdict::Return => (-5_i32, None),
        };
        self.expression("immediate", |a| {
            a.number_be(1, 0);
            a.nest(2, |a| {
                a.nest(VERDICT, |a| {
                    a.number_be(1, code as u32);
                    if let Some(chain) = chain {
                        a.text(2, chain);
                    }
                });
            });
        });
    }

    /// Ends the rule unless the source address is inside (or outside) of a range.
    pub(crate) fn source_in(&mut self, range: Range, inside: bool) {
        self.source_address(REGISTER);
        self.compare_range(range, inside);
    }

    /// Ends the rule unless the destination address is inside (or outside) of a range.
    pub(crate) fn destination_in(&mut self, range: Range, inside: bool) {
        self.destination_address(REGISTER);
        self.compare_range(range, inside);
    }

    fn compare_range(&mut self, (network, prefix): Range, inside: bool) {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
        self.bits(REGISTER, mask.to_be_bytes(), [0; 4]);
        self.compare(REGISTER, inside, &Ipv4Addr::from(u32::from(network) & mask).octets());
    }

    /// Ends the rule unless the destination is an address of this node.
    pub(crate) fn destination_is_here(&mut self) {
        self.address_kind(2, REGISTER);
        self.compare(REGISTER, true, &u32::from(libc::RTN_LOCAL).to_ne_bytes());
    }

    /// Ends the rule if the source is an address of this node.
    pub(crate) fn source_is_elsewhere(&mut self) {
        self.address_kind(1, REGISTER);
        self.compare(REGISTER, false, &u32::from(libc::RTN_LOCAL).to_ne_bytes());
    }

    /// Ends the rule unless the connection was redirected.
    pub(crate) fn was_redirected(&mut self) {
        const REDIRECTED: [u8; 4] = 0x20_u32.to_ne_bytes(); // IPS_DST_NAT
        self.connection_status(REGISTER);
        self.bits(REGISTER, REDIRECTED, [0; 4]);
        self.compare(REGISTER, false, &[0; 4]);
    }

    /// Ends the rule unless the mark has a bit.
    pub(crate) fn has_mark(&mut self, bit: u32) {
        self.meta(Meta::Mark, REGISTER);
        self.bits(REGISTER, bit.to_ne_bytes(), [0; 4]);
        self.compare(REGISTER, true, &bit.to_ne_bytes());
    }

    /// Sets or clears a bit of the mark, by way of a register.
    pub(crate) fn change_mark(&mut self, bit: u32, set: bool, register: u32) {
        self.meta(Meta::Mark, register);
        let flip = if set { bit } else { 0 };
        self.bits(register, (!bit).to_ne_bytes(), flip.to_ne_bytes());
        self.set_mark(register);
    }
}
