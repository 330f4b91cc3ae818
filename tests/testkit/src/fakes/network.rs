//! Links of pods: an address of the node's range each.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use corten_agent::ports::{Network, PortError};
use tokio::sync::watch;

use super::lock;

/// As the real network.
const RANGE_PATIENCE: Duration = Duration::from_secs(30);

/// A network whose links are entries in a map.
#[derive(Default)]
pub struct FakeNetwork {
    range: watch::Sender<Option<Ipv4Addr>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    links: BTreeMap<String, Ipv4Addr>,
    refusal: Option<String>,
}

impl FakeNetwork {
    /// From now on no pod can be connected for this reason, or every pod can again.
    pub fn refuse(&self, why: Option<&str>) {
        lock(&self.state).refusal = why.map(str::to_owned);
    }

    /// UIDs of the pods that have a link.
    #[must_use]
    pub fn links(&self) -> Vec<String> {
        lock(&self.state).links.keys().cloned().collect()
    }

    /// The machine has lost power.
    pub(crate) fn reboot(&self) {
        lock(&self.state).links.clear();
        self.range.send_replace(None);
    }
}

fn failed(message: &str) -> PortError {
    PortError { reason: "NetworkError", message: message.to_owned() }
}

#[async_trait]
impl Network for FakeNetwork {
    async fn attach(&self, pod_uid: &str, _netns: &Path) -> Result<Vec<IpAddr>, PortError> {
        if let Some(why) = lock(&self.state).refusal.clone() {
            return Err(failed(&why));
        }
        if let Some(address) = lock(&self.state).links.get(pod_uid) {
            return Ok(vec![IpAddr::V4(*address)]);
        }
        let mut range = self.range.subscribe();
        let base = match tokio::time::timeout(RANGE_PATIENCE, range.wait_for(Option::is_some)).await {
            Ok(Ok(range)) => *range,
            _ => None,
        };
        let base = u32::from(base.ok_or_else(|| failed("the node has no pod range yet"))?);
        let mut state = lock(&self.state);
        let free = (2..255).map(|number| Ipv4Addr::from(base + number));
        let address = free.into_iter().find(|address| !state.links.values().any(|own| own == address));
        let address = address.ok_or_else(|| failed("the node's pod range is used up"))?;
        state.links.insert(pod_uid.to_owned(), address);
        Ok(vec![IpAddr::V4(address)])
    }

    async fn detach(&self, pod_uid: &str) -> Result<(), PortError> {
        lock(&self.state).links.remove(pod_uid);
        Ok(())
    }

    async fn retain(&self, pod_uids: &[String]) -> Result<(), PortError> {
        lock(&self.state).links.retain(|uid, _| pod_uids.contains(uid));
        Ok(())
    }

    async fn set_pod_range(&self, (base, _): (Ipv4Addr, u8)) -> Result<(), PortError> {
        self.range.send_replace(Some(base));
        Ok(())
    }
}
