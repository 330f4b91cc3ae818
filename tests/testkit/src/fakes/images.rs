//! Images: every reference is here, unless the test says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use corten_agent::ports::{Image, Images, PortError};
use corten_base::{Clock, Timestamp};

use super::lock;

/// A store of images and the registry behind it.
pub struct FakeImages {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Not on the machine.
    absent: BTreeSet<String>,
    /// Not in the registry either.
    unknown: BTreeSet<String>,
    delay: Duration,
    find_delay: Duration,
    pulls: BTreeMap<String, Vec<Timestamp>>,
}

impl FakeImages {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// The machine does not have the image; the registry does.
    pub fn evict(&self, reference: &str) {
        lock(&self.state).absent.insert(reference.to_owned());
    }

    /// Nobody has the image.
    pub fn withdraw(&self, reference: &str) {
        self.evict(reference);
        lock(&self.state).unknown.insert(reference.to_owned());
    }

    /// The registry has the image from now on.
    pub fn publish(&self, reference: &str) {
        lock(&self.state).unknown.remove(reference);
    }

    /// The machine has the image from now on, though nobody pulled it.
    pub fn import(&self, reference: &str) {
        lock(&self.state).absent.remove(reference);
    }

    /// How long a pull takes from now on.
    pub fn set_delay(&self, delay: Duration) {
        lock(&self.state).delay = delay;
    }

    /// How long a look for an image takes from now on.
    pub fn set_find_delay(&self, delay: Duration) {
        lock(&self.state).find_delay = delay;
    }

    /// When somebody began to pull the image.
    #[must_use]
    pub fn pulls(&self, reference: &str) -> Vec<Timestamp> {
        lock(&self.state).pulls.get(reference).cloned().unwrap_or_default()
    }
}

fn image(reference: &str) -> Image {
    let id = format!("sha256:{reference}");
    let entrypoint = vec!["/program".to_owned()];
    Image { id, tags: vec![reference.to_owned()], size: 1000, entrypoint, ..Image::default() }
}

#[async_trait]
impl Images for FakeImages {
    async fn find(&self, reference: &str) -> Result<Option<Image>, PortError> {
        let delay = lock(&self.state).find_delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        Ok((!lock(&self.state).absent.contains(reference)).then(|| image(reference)))
    }

    async fn pull(&self, reference: &str, _credentials: &[(String, String)]) -> Result<Image, PortError> {
        let delay = {
            let mut state = lock(&self.state);
            state.pulls.entry(reference.to_owned()).or_default().push(self.clock.now());
            state.delay
        };
        tokio::time::sleep(delay).await;
        let mut state = lock(&self.state);
        if state.unknown.contains(reference) {
            let message = format!("failed to resolve reference \"{reference}\": not found");
            return Err(PortError { reason: "ErrImagePull", message });
        }
        state.absent.remove(reference);
        Ok(image(reference))
    }

    async fn list(&self) -> Result<Vec<Image>, PortError> {
        Ok(Vec::new())
    }
}
