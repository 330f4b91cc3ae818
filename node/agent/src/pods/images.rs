//! Getting a container's image by its pull policy.
//!
//! Behaviour and words: pkg/kubelet/images/image_manager.go of Kubernetes v1.36.

use std::time::Duration;

use corten_api::api::core::v1::{Container, Pod};

use crate::pods::credentials::credentials;
use crate::pods::events::Events;
use crate::ports::{Image, Images, PortError};
use crate::sources::Sources;

/// First delay after a failed pull, and the longest.
const FIRST_DELAY: Duration = Duration::from_secs(10);
const MOST_DELAY: Duration = Duration::from_secs(300);

/// The delay that follows a delay.
pub(crate) fn next_delay(before: Option<Duration>) -> Duration {
    before.map_or(FIRST_DELAY, |delay| (delay * 2).min(MOST_DELAY))
}

/// Finds or pulls, and tells about it.
pub(crate) async fn fetch(
    images: &dyn Images,
    sources: &Sources,
    pod: &Pod,
    container: &Container,
    events: &Events,
) -> Result<Image, PortError> {
    let reference = container.image.clone().unwrap_or_default();
    let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
    let found = images.find(&reference).await.inspect_err(|error| {
        let message = format!("Failed to apply default image tag \"{reference}\": {}", error.message);
        events.warning(Some(&container.name), "InspectFailed", message);
    })?;
    match found {
        Some(image) if policy != "Always" => {
            let message = format!("Container image \"{reference}\" already present on machine");
            events.normal(Some(&container.name), "Pulled", message);
            Ok(image)
        }
        None if policy == "Never" => {
            let message = format!("Container image \"{reference}\" is not present with pull policy of Never");
            events.warning(Some(&container.name), "ErrImageNeverPull", message.clone());
            events.warning(Some(&container.name), "Failed", "Error: ErrImageNeverPull");
            Err(PortError { reason: "ErrImageNeverPull", message })
        }
        _ => {
            let credentials = credentials(sources, pod, &reference).await;
            pull(images, container, &reference, &credentials, events).await
        }
    }
}

/// Finds, if the policy lets it, and tells about it.
pub(crate) async fn look(images: &dyn Images, container: &Container, events: &Events) -> Option<Image> {
    if container.image_pull_policy.as_deref() == Some("Always") {
        return None;
    }
    let reference = container.image.as_deref().unwrap_or_default();
    let image = images.find(reference).await.ok().flatten()?;
    let message = format!("Container image \"{reference}\" already present on machine");
    events.normal(Some(&container.name), "Pulled", message);
    Some(image)
}

async fn pull(
    images: &dyn Images,
    container: &Container,
    reference: &str,
    credentials: &[(String, String)],
    events: &Events,
) -> Result<Image, PortError> {
    let name = Some(container.name.as_str());
    events.normal(name, "Pulling", format!("Pulling image \"{reference}\""));
    let start = tokio::time::Instant::now();
    match images.pull(reference, credentials).await {
        Ok(image) => {
            let took = start.elapsed();
            let message =
                format!("Successfully pulled image \"{reference}\" in {took:.3?}. Image size: {} bytes.", image.size);
            events.normal(name, "Pulled", message);
            Ok(image)
        }
        Err(error) => {
            let message = format!("Failed to pull image \"{reference}\": {}", error.message);
            events.warning(name, "Failed", message);
            events.warning(name, "Failed", format!("Error: {}", error.reason));
            Err(error)
        }
    }
}
