//! User names and passwords for registries, from a pod's `imagePullSecrets`.
//!
//! Spec: <https://kubernetes.io/docs/tasks/configure-pod-container/pull-image-private-registry/>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use corten_api::api::core::v1::{Pod, Secret};
use serde_json::Value;

use crate::sources::Sources;

/// Where Docker keeps the credentials of its own registry.
const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// What may open the registry of this image, in the order of the pod's secrets.
pub(crate) async fn credentials(sources: &Sources, pod: &Pod, image: &str) -> Vec<(String, String)> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut all = Vec::new();
    for reference in pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten()) {
        // As upstream: a secret that is not there does not stop the pull.
        if let Ok(Some(secret)) = sources.secret(namespace, &reference.name).await {
            all.extend(of_secret(&secret, image));
        }
    }
    all
}

/// The host that serves an image.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// The host of a key such as `https://index.docker.io/v1/`.
fn host_of(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

fn of_secret(secret: &Secret, image: &str) -> Vec<(String, String)> {
    let data = |name: &str| secret.data.as_ref()?.get(name).and_then(|bytes| serde_json::from_slice(&bytes.0).ok());
    let auths: Value = match (data(".dockerconfigjson"), data(".dockercfg")) {
        (Some::<Value>(config), _) => config["auths"].clone(),
        (None, Some(auths)) => auths,
        (None, None) => return Vec::new(),
    };
    let wanted = registry(image);
    let serves = |key: &str| {
        let host = host_of(key);
        host == wanted || (DOCKER_HUB.contains(&host) && DOCKER_HUB.contains(&wanted))
    };
    let entries = auths.as_object().into_iter().flatten().filter(|(key, _)| serves(key));
    entries.filter_map(|(_, entry)| pair(entry)).collect()
}

fn pair(entry: &Value) -> Option<(String, String)> {
    let text = |name: &str| entry[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    if let (Some(user), Some(password)) = (text("username"), text("password")) {
        return Some((user, password));
    }
    let both = String::from_utf8(STANDARD.decode(text("auth")?).ok()?).ok()?;
    let (user, password) = both.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_images_registry_sees_a_password() {
        let config = json!({"auths": {
            "https://index.docker.io/v1/": {"auth": STANDARD.encode("hub:one:two")},
            "registry.example:5000": {"username": "me", "password": "three"},
        }});
        let data = STANDARD.encode(config.to_string());
        let secret: Secret = serde_json::from_value(json!({"data": {".dockerconfigjson": data}})).expect("a secret");
        let pair = |user: &str, password: &str| vec![(user.to_owned(), password.to_owned())];
        assert_eq!(of_secret(&secret, "nginx"), pair("hub", "one:two"));
        assert_eq!(of_secret(&secret, "registry.example:5000/a/b:1"), pair("me", "three"));
        assert_eq!(of_secret(&secret, "other.example/a"), []);
    }
}
