//! Which pod has which address. Pure: the kernel's links are what lasts.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use crate::Range;

/// The addresses of this node's pods.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    range: Option<Range>,
    by_pod: HashMap<String, Ipv4Addr>,
    used: HashSet<Ipv4Addr>,
    /// The address given last: the search for a free one begins after it, so that none comes back at once.
    last: Option<Ipv4Addr>,
}

impl Addresses {
    /// Takes new addresses from this range. Those given before stay.
    pub(crate) fn set_range(&mut self, range: Range) {
        self.range = Some(range);
    }

    /// Notes an address that a pod has already.
    pub(crate) fn keep(&mut self, pod: &str, address: Ipv4Addr) {
        self.used.insert(address);
        self.by_pod.insert(pod.to_owned(), address);
        self.last = self.last.max(Some(address));
    }

    /// The address of a pod, if it has one.
    pub(crate) fn get(&self, pod: &str) -> Option<Ipv4Addr> {
        self.by_pod.get(pod).copied()
    }

    /// The address of a pod: the one that it has, or else a free one. None if the range is used up or not known.
    pub(crate) fn take(&mut self, pod: &str) -> Option<Ipv4Addr> {
        if let Some(address) = self.get(pod) {
            return Some(address);
        }
        let (first, last) = bounds(self.range?)?;
        let count = last - first + 1;
        let start = match self.last.map(u32::from) {
            Some(given) if (first..last).contains(&given) => given + 1,
            _ => first,
        };
        let address = (0..count)
            .map(|step| Ipv4Addr::from(first + (start - first + step) % count))
            .find(|address| !self.used.contains(address))?;
        self.used.insert(address);
        self.by_pod.insert(pod.to_owned(), address);
        self.last = Some(address);
        Some(address)
    }

    /// Frees a pod's address.
    pub(crate) fn release(&mut self, pod: &str) -> Option<Ipv4Addr> {
        let address = self.by_pod.remove(pod)?;
        self.used.remove(&address);
        Some(address)
    }
}

/// First and last address for pods: neither the range's own, nor the one that users take for a router, nor broadcast.
fn bounds((network, prefix): Range) -> Option<(u32, u32)> {
    let size = 1u64.checked_shl(32 - u32::from(prefix.min(32)))?;
    let network = u64::from(u32::from(network)) & !(size - 1);
    let (first, last) = (network + 2, network + size - 2);
    (size >= 4 && first <= last).then_some((first as u32, last as u32))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addresses(prefix: u8) -> Addresses {
        let mut addresses = Addresses::default();
        addresses.set_range((Ipv4Addr::new(10, 42, 0, 0), prefix));
        addresses
    }

    #[test]
    fn addresses_go_round() {
        let mut addresses = addresses(29); // .2 to .6
        let mut take = |pod: &str| addresses.take(pod).map(|address| address.octets()[3]);
        assert_eq!((take("a"), take("b"), take("a")), (Some(2), Some(3), Some(2)));
        assert_eq!(addresses.release("a"), Some(Ipv4Addr::new(10, 42, 0, 2)));
        let mut take = |pod: &str| addresses.take(pod).map(|address| address.octets()[3]);
        assert_eq!((take("c"), take("d"), take("e"), take("f"), take("g")), (Some(4), Some(5), Some(6), Some(2), None));
    }

    #[test]
    fn without_a_range_there_is_no_address() {
        assert_eq!(Addresses::default().take("a"), None);
        assert_eq!(addresses(31).take("a"), None);
    }

    proptest! {
        #[test]
        fn two_pods_never_share_an_address(steps in proptest::collection::vec((0u8..20, any::<bool>()), 0..200)) {
            let mut addresses = addresses(28);
            for (pod, take) in steps {
                let pod = pod.to_string();
                if take {
                    if let Some(address) = addresses.take(&pod) {
                        prop_assert!((2..=14).contains(&address.octets()[3]));
                    } else {
                        prop_assert_eq!(addresses.by_pod.len(), 13);
                    }
                } else {
                    addresses.release(&pod);
                }
                let given: HashSet<_> = addresses.by_pod.values().copied().collect();
                prop_assert_eq!(given.len(), addresses.by_pod.len());
                prop_assert_eq!(&given, &addresses.used);
            }
        }
    }
}
