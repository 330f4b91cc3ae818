//! DefaultTolerationSeconds: pods stay for a while on a node that is not ready or not reachable.

use corten_api::names::Names;
use corten_api::status::Status;
use serde_json::{Value, json};

use super::{Attempt, Plugin, append, is_pod, list};

/// How long.
const SECONDS: i64 = 300;

pub(super) struct DefaultTolerationSeconds;

impl Plugin for DefaultTolerationSeconds {
    fn changes(&self, names: &Names) -> bool {
        is_pod(names)
    }

    fn admit(&self, write: &Attempt<'_>, pod: &mut Value) -> Result<(), Status> {
        if write.old.is_some() {
            return Ok(());
        }
        let spec = &mut pod["spec"];
        for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
            let tolerated = list(spec, "tolerations").iter().any(|toleration| {
                let own = toleration["key"].as_str().unwrap_or_default();
                let effect = toleration["effect"].as_str().unwrap_or_default();
                (own == key || own.is_empty()) && (effect == "NoExecute" || effect.is_empty())
            });
            if !tolerated {
                let toleration =
                    json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS});
                append(spec, "tolerations", toleration);
            }
        }
        Ok(())
    }
}
