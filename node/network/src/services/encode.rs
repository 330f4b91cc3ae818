//! The table, its chains, sets and rules, as messages to the packet filter. What is sent together takes effect at once
//! and as a whole, or not at all.

use std::net::Ipv4Addr;

use super::expressions::{Meta, REGISTER, Rule, Verdict};
use super::tables::{Changes, Element, Front, Frontend, SetId, Tables, Target};
use crate::Range;
use crate::netlink::{Attributes, Batch};

/// The table's name.
const TABLE: &str = "corten";
/// Which client sticks to which endpoint.
const STICKY: &str = "sticky";
/// The bit of a packet's mark that asks for this node's address as its source; the same that kube-proxy uses.
const MASQUERADE: u32 = 0x4000;
/// Elements of one message, whose length is a number of 16 bits.
const ELEMENTS: usize = 400;

const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const DELETE_SET: u16 = 11;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;

const CREATE: i32 = libc::NLM_F_CREATE;
const APPEND: i32 = libc::NLM_F_CREATE | libc::NLM_F_APPEND;

// Types of keys and values, by the numbers under which `nft list ruleset` knows them.
const ADDRESS: u32 = 7;
const PROTOCOL: u32 = 12;
const PORT: u32 = 13;
const NUMBER: u32 = 19;

/// Chains that are entered by rules. Those in the first part are written anew when the sets change.
const SERVICES: &str = "services";
const EXTERNAL: &str = "external";
const EXTERNAL_LOCAL: &str = "external-local";
const NODE_PORTS: &str = "node-ports";
const NODE_PORTS_LOCAL: &str = "node-ports-local";
const REFUSE: &str = "refuse";

/// What rules need to know of the cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranges {
    pub(crate) cluster: Range,
    pub(crate) services: Range,
    pub(crate) dns_address: Ipv4Addr,
}

/// A transaction.
pub(crate) struct Transaction(Batch);

impl Transaction {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let mut batch = Batch::default();
        batch.push(libc::NFNL_MSG_BATCH_BEGIN as u16, libc::NLM_F_REQUEST, &batch_header(), |_| {});
        Self(batch)
    }

    /// The messages. The last one before the end asks for an acknowledgement.
    pub(crate) fn finish(mut self) -> Batch {
        self.0.acknowledge_last();
        self.0.push(libc::NFNL_MSG_BATCH_END as u16, libc::NLM_F_REQUEST, &batch_header(), |_| {});
        self.0
    }

    /// Deletes the table with all that is in it, whether it exists or not.
    pub(crate) fn delete_table(&mut self) {
        self.push(NEW_TABLE, CREATE, |a| a.text(1, TABLE)); // deleting what does not exist would fail
        self.push(DELETE_TABLE, 0, |a| a.text(1, TABLE));
    }

    /// Creates the table, which must not exist, its chains, and the sets and rules that do not depend on services.
    pub(crate) fn create_frame(&mut self, ranges: &Ranges) {
        self.push(NEW_TABLE, CREATE | libc::NLM_F_EXCL, |a| a.text(1, TABLE));
        for chain in [SERVICES, EXTERNAL, EXTERNAL_LOCAL, NODE_PORTS, NODE_PORTS_LOCAL, REFUSE] {
            self.chain(chain, None);
        }
        for (chain, kind, hook, priority) in [
            ("prerouting", "nat", libc::NF_INET_PRE_ROUTING, -100),
            ("nat-output", "nat", libc::NF_INET_LOCAL_OUT, -100),
            ("postrouting", "nat", libc::NF_INET_POST_ROUTING, 100),
            ("input", "filter", libc::NF_INET_LOCAL_IN, 0),
            ("forward", "filter", libc::NF_INET_FORWARD, 0),
            ("output", "filter", libc::NF_INET_LOCAL_OUT, 0),
        ] {
            self.chain(chain, Some((kind, hook as u32, priority)));
        }
        [SetId::Hairpin, SetId::Refused, SetId::Dropped].into_iter().for_each(|id| self.set(id));
        self.sticky_map();
        for chain in ["prerouting", "nat-output"] {
            self.rule(chain, |rule| rule.verdict(Verdict::Jump(SERVICES)));
        }
        for chain in ["input", "forward", "output"] {
            self.rule(chain, |rule| rule.verdict(Verdict::Jump(REFUSE)));
        }
        self.masquerade_rules(ranges);
        self.refuse_rules(ranges);
        self.service_rules(&[], ranges);
    }

    /// Applies changes of services.
    pub(crate) fn apply(&mut self, changes: &Changes, new: &Tables, ranges: &Ranges) {
        changes.new_sets.iter().for_each(|id| self.set(*id));
        changes.removed.iter().for_each(|(id, elements)| self.elements(DELETE_ELEMENT, *id, elements));
        changes.added.iter().for_each(|(id, elements)| self.elements(NEW_ELEMENT, *id, elements));
        if changes.rules {
            for chain in [SERVICES, EXTERNAL, EXTERNAL_LOCAL, NODE_PORTS, NODE_PORTS_LOCAL] {
                self.push(DELETE_RULE, 0, |a| {
                    a.text(1, TABLE);
                    a.text(2, chain);
                });
            }
            self.service_rules(&new.dispatched(), ranges);
        }
        for id in &changes.gone_sets {
            self.push(DELETE_SET, 0, |a| {
                a.text(1, TABLE);
                a.text(2, &id.to_string());
            });
        }
    }

    /// The way to an endpoint: cluster IPs, then external IPs, then node ports.
    fn service_rules(&mut self, sets: &[SetId], ranges: &Ranges) {
        self.dispatch(SERVICES, sets, Front::Internal, false);
        self.rule(SERVICES, |rule| rule.verdict(Verdict::Jump(EXTERNAL)));
        self.rule(SERVICES, |rule| {
            rule.destination_in((Ipv4Addr::LOCALHOST, 8), false);
            rule.destination_in((ranges.dns_address, 32), false);
            rule.destination_is_here();
            rule.verdict(Verdict::Jump(NODE_PORTS));
        });
        for (chain, local, any_address) in [(EXTERNAL, EXTERNAL_LOCAL, false), (NODE_PORTS, NODE_PORTS_LOCAL, true)] {
            // Pods and the node itself count as inside, from where all endpoints are to be had.
            self.rule(chain, |rule| {
                rule.source_in(ranges.cluster, false);
                rule.source_is_elsewhere();
                rule.verdict(Verdict::Jump(local));
            });
            self.dispatch(local, sets, Front::ExternalLocal, any_address);
            self.rule(local, |rule| {
                frontend(rule, any_address);
                rule.in_set(&SetId::Dropped.to_string(), REGISTER + 1);
                rule.verdict(Verdict::Drop);
            });
            self.dispatch(chain, sets, Front::External, any_address);
        }
    }

    /// The rules that look into the sets of one front. Registers: client's address, service's address, protocol,
    /// port, then slot or tag of an endpoint, then the endpoint: parts that follow each other form the keys.
    fn dispatch(&mut self, chain: &str, sets: &[SetId], wanted: Front, any_address: bool) {
        let mark = |rule: &mut Rule<'_, '_>| {
            if wanted == Front::External {
                rule.change_mark(MASQUERADE, true, REGISTER + 8);
            }
        };
        // A looked up tag takes the way through the packet's mark, which is put back at once: `nft` (1.0.6), even
        // `nft list tables`, aborts on a rule that uses what a map says as a part of a key or writes it to a map,
        // because it does not know how long that is. Nothing between the two steps can end the rule.
        let tag = |rule: &mut Rule<'_, '_>, map: &str, from: u32| {
            rule.look_up(map, from, REGISTER + 4);
            rule.meta(Meta::Mark, REGISTER + 8);
            rule.set_mark(REGISTER + 4);
            rule.meta(Meta::Mark, REGISTER + 4);
            rule.set_mark(REGISTER + 8);
        };
        // Whoever sticks to an endpoint that is still there goes on to it.
        for id in sets {
            if let SetId::Sticky { front, affinity } = *id
                && front == wanted
            {
                self.rule(chain, |rule| {
                    rule.source_address(REGISTER);
                    frontend(rule, any_address);
                    tag(rule, STICKY, REGISTER);
                    rule.look_up(&id.to_string(), REGISTER + 1, REGISTER + 5);
                    rule.remember(STICKY, REGISTER, REGISTER + 4, affinity);
                    mark(rule);
                    rule.redirect(REGISTER + 5, REGISTER + 6);
                });
            }
        }
        for id in sets {
            if let SetId::Slots { front, count, affinity } = *id
                && front == wanted
            {
                self.rule(chain, |rule| {
                    rule.source_address(REGISTER);
                    frontend(rule, any_address);
                    rule.random(REGISTER + 4, count);
                    if let Some(affinity) = affinity {
                        tag(rule, &id.to_string(), REGISTER + 1);
                        rule.look_up(&SetId::Sticky { front, affinity }.to_string(), REGISTER + 1, REGISTER + 5);
                        rule.forget(STICKY, REGISTER, REGISTER + 4); // what is there leads to an endpoint that is gone
                        rule.remember(STICKY, REGISTER, REGISTER + 4, affinity);
                    } else {
                        rule.look_up(&id.to_string(), REGISTER + 1, REGISTER + 5);
                    }
                    mark(rule);
                    rule.redirect(REGISTER + 5, REGISTER + 6);
                });
            }
        }
    }

    fn masquerade_rules(&mut self, ranges: &Ranges) {
        const MULTICAST: Range = (Ipv4Addr::new(224, 0, 0, 0), 4);
        self.rule("postrouting", |rule| {
            rule.has_mark(MASQUERADE);
            rule.change_mark(MASQUERADE, false, REGISTER);
            rule.masquerade();
        });
        // A pod that reaches itself through a service would not know its own address as a partner.
        self.rule("postrouting", |rule| {
            rule.was_redirected();
            rule.source_address(REGISTER);
            rule.destination_address(REGISTER + 1);
            rule.in_set(&SetId::Hairpin.to_string(), REGISTER);
            rule.masquerade();
        });
        // No one outside of the cluster knows the way to a pod.
        self.rule("postrouting", |rule| {
            rule.source_in(ranges.cluster, true);
            rule.destination_in(ranges.cluster, false);
            rule.destination_in(MULTICAST, false);
            rule.masquerade();
        });
    }

    /// What should have been redirected and was not has no endpoint: better a quick no than a long silence.
    fn refuse_rules(&mut self, ranges: &Ranges) {
        self.rule(REFUSE, |rule| {
            rule.was_redirected();
            rule.verdict(Verdict::Return);
        });
        let kinds: [&dyn Fn(&mut Rule<'_, '_>); 3] = [
            &|rule| {
                rule.destination_in(ranges.services, true);
                rule.destination_in((ranges.dns_address, 32), false);
            },
            &|rule| {
                frontend(rule, false);
                rule.in_set(&SetId::Refused.to_string(), REGISTER + 1);
            },
            &|rule| {
                rule.destination_in((Ipv4Addr::LOCALHOST, 8), false);
                rule.destination_in((ranges.dns_address, 32), false);
                rule.destination_is_here();
                frontend(rule, true);
                rule.in_set(&SetId::Refused.to_string(), REGISTER + 1);
            },
        ];
        for kind in kinds {
            self.rule(REFUSE, |rule| {
                kind(rule);
                rule.reset();
            });
            self.rule(REFUSE, |rule| {
                kind(rule);
                rule.refuse();
            });
        }
    }

    fn push(&mut self, kind: u16, flags: i32, fill: impl FnOnce(&mut Attributes<'_>)) {
        const TABLES: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;
        self.0.push(TABLES | kind, libc::NLM_F_REQUEST | flags, &[libc::NFPROTO_IPV4 as u8, 0, 0, 0], fill);
    }

    fn chain(&mut self, name: &str, hook: Option<(&str, u32, i32)>) {
        self.push(NEW_CHAIN, CREATE, |a| {
            a.text(1, TABLE);
            a.text(3, name);
            if let Some((kind, hook, priority)) = hook {
                a.nest(4, |a| {
                    a.number_be(1, hook);
                    a.number_be(2, priority as u32);
                });
                a.number_be(5, 1); // accept what no rule decides
                a.text(7, kind);
            }
        });
    }

    fn rule(&mut self, chain: &str, fill: impl FnOnce(&mut Rule<'_, '_>)) {
        self.push(NEW_RULE, APPEND, |a| {
            a.text(1, TABLE);
            a.text(2, chain);
            a.nest(4, |a| fill(&mut Rule(a)));
        });
    }

    fn set(&mut self, id: SetId) {
        let (key, value): (&[u32], &[u32]) = match id {
            SetId::Slots { affinity: None, .. } => (&[ADDRESS, PROTOCOL, PORT, NUMBER], &[ADDRESS, PORT]),
            SetId::Slots { affinity: Some(_), .. } => (&[ADDRESS, PROTOCOL, PORT, NUMBER], &[NUMBER]),
            SetId::Sticky { .. } => (&[ADDRESS, PROTOCOL, PORT, NUMBER], &[ADDRESS, PORT]),
            SetId::Hairpin => (&[ADDRESS, ADDRESS], &[]),
            SetId::Refused | SetId::Dropped => (&[ADDRESS, PROTOCOL, PORT], &[]),
        };
        self.any_set(&id.to_string(), 0, key, value);
    }

    /// Written by rules: client's address, service's address, protocol and port → tag of an endpoint; elements expire.
    fn sticky_map(&mut self) {
        const WITH_TIMEOUTS_AND_WRITTEN_BY_RULES: u32 = 0x10 | 0x20;
        self.any_set(STICKY, WITH_TIMEOUTS_AND_WRITTEN_BY_RULES, &[ADDRESS, ADDRESS, PROTOCOL, PORT], &[NUMBER]);
    }

    /// A map if there are values.
    fn any_set(&mut self, name: &str, flags: u32, key: &[u32], value: &[u32]) {
        const IS_MAP: u32 = 8;
        let joined = |types: &[u32]| types.iter().fold(0, |all, one| all << 6 | one);
        let flags = if value.is_empty() { flags } else { flags | IS_MAP };
        // The identifier joins what one transaction creates; names are enough for that, but it must be there.
        let identifier = self.0.len();
        self.push(NEW_SET, CREATE, |a| {
            a.text(1, TABLE);
            a.text(2, name);
            a.number_be(3, flags);
            a.number_be(4, joined(key));
            a.number_be(5, key.len() as u32 * 4);
            if !value.is_empty() {
                a.number_be(6, joined(value));
                a.number_be(7, value.len() as u32 * 4);
            }
            a.number_be(10, identifier);
        });
    }

    fn elements(&mut self, kind: u16, id: SetId, elements: &[(Element, Option<Target>)]) {
        let flags = if kind == NEW_ELEMENT { CREATE } else { 0 };
        let name = id.to_string();
        let value_bytes = |target: &Target| match id {
            SetId::Slots { affinity: Some(_), .. } => target.tag().to_ne_bytes().to_vec(),
            _ => target_bytes(target).to_vec(),
        };
        for chunk in elements.chunks(ELEMENTS) {
            self.push(kind, flags, |a| {
                a.text(1, TABLE);
                a.text(2, &name);
                a.nest(3, |a| {
                    for (element, target) in chunk {
                        a.nest(1, |a| {
                            a.nest(1, |a| a.put(1, &key_bytes(element)));
                            if let Some(target) = target.filter(|_| kind == NEW_ELEMENT) {
                                a.nest(2, |a| a.put(1, &value_bytes(&target)));
                            }
                        });
                    }
                });
            });
        }
    }
}

/// Everything anew, in one transaction.
pub(crate) fn replace_all(tables: &Tables, ranges: &Ranges) -> Batch {
    let mut transaction = Transaction::new();
    transaction.delete_table();
    transaction.create_frame(ranges);
    transaction.apply(&Tables::default().changes_to(tables), tables, ranges);
    transaction.finish()
}

/// Loads where a client knocks into the second register and those that follow.
fn frontend(rule: &mut Rule<'_, '_>, any_address: bool) {
    rule.destination_address(REGISTER + 1);
    if any_address {
        rule.mask(REGISTER + 1, 0); // a constant would do as well, but `nft` could not name its type
    }
    rule.meta(Meta::Protocol, REGISTER + 2);
    rule.destination_port(REGISTER + 3);
}

fn key_bytes(element: &Element) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20);
    match element {
        Element::Slot(frontend, number) | Element::Sticky(frontend, number) => {
            put_frontend(&mut bytes, frontend);
            bytes.extend(number.to_ne_bytes());
        }
        Element::Pair(address) => bytes.extend(address.octets().repeat(2)),
        Element::Frontend(frontend) => put_frontend(&mut bytes, frontend),
    }
    bytes
}

/// Each part of a key takes four bytes.
fn put_frontend(bytes: &mut Vec<u8>, frontend: &Frontend) {
    let [high, low] = frontend.port.to_be_bytes();
    bytes.extend(frontend.address.octets());
    bytes.extend([frontend.protocol as u8, 0, 0, 0, high, low, 0, 0]);
}

fn target_bytes(target: &Target) -> [u8; 8] {
    let ([a, b, c, d], [high, low]) = (target.address.octets(), target.port.to_be_bytes());
    [a, b, c, d, high, low, 0, 0]
}

/// The header of the messages around a transaction; it names the packet filter.
fn batch_header() -> [u8; 4] {
    [0, 0, 0, libc::NFNL_SUBSYS_NFTABLES as u8]
}
