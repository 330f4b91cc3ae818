//! Deletes tokens for new nodes when their time is over.
//!
//! Spec: <https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/#token-cleaner>
//! Invariant: a token that does not say when it ends, or says it in a way that cannot be understood, stays.

use std::time::Duration;

use corten_api::api::core::v1::Secret;
use corten_base::Timestamp;
use corten_client::{Key, Next};
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};

use crate::context::{Context, or_gone};

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";

pub(crate) async fn run(cx: Context) {
    let secrets = cx.informers.filtered::<Secret>(&format!("type={TYPE}"));
    let queue = cx.queue.clone();
    secrets.on_change(move |_, new| {
        new.filter(|secret| end(secret).is_some()).into_iter().for_each(|secret| queue.add(Key::of(secret)));
    });
    secrets.synced().await;
    cx.work(1, move |cx, key| {
        let secrets = secrets.clone();
        async move {
            let Some(secret) = secrets.by_key(&key) else { return Ok(Next::Wait) };
            let Some(end) = end(&secret) else { return Ok(Next::Wait) };
            let left = Duration::try_from(end.duration_since(cx.config.clock.now())).unwrap_or_default();
            if !left.is_zero() {
                return Ok(Next::After(left));
            }
            let api: Api<Secret> = Api::namespaced(cx.client, &key.namespace);
            let preconditions = Preconditions { uid: secret.uid(), resource_version: secret.resource_version() };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            or_gone(api.delete(&key.name, &params).await)?;
            Ok(Next::Wait)
        }
    })
    .await;
}

/// When a token ends.
fn end(secret: &Secret) -> Option<Timestamp> {
    if secret.metadata.namespace.as_deref() != Some(NAMESPACE) || secret.type_.as_deref() != Some(TYPE) {
        return None;
    }
    let text = &secret.data.as_ref()?.get("expiration")?.0;
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_tokens_that_say_when_they_end_do() {
        // "2026-01-01T00:00:00Z" and "soon".
        let (time, soon) = ("MjAyNi0wMS0wMVQwMDowMDowMFo=", "c29vbg==");
        for (namespace, kind, expiration, ends) in [
            ("kube-system", TYPE, json!({"expiration": time}), true),
            ("kube-system", TYPE, json!({"expiration": soon}), false),
            ("kube-system", TYPE, json!({}), false),
            ("kube-system", "Opaque", json!({"expiration": time}), false),
            ("default", TYPE, json!({"expiration": time}), false),
        ] {
            let secret = json!({"metadata": {"name": "t", "namespace": namespace}, "type": kind, "data": expiration});
            let secret: Secret = serde_json::from_value(secret).expect("a secret");
            assert_eq!(end(&secret).is_some(), ends, "{secret:?}");
        }
    }
}
