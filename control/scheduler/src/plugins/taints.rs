//! Taints repel pods that do not tolerate them.
//!
//! Spec: <https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/>

use corten_api::api::core::v1::Taint;

use crate::snapshot::{NodeInfo, PodInfo};

pub(crate) fn filter(pod: &PodInfo, node: &NodeInfo) -> Vec<String> {
    let repelling = node.taints.iter().filter(|taint| ["NoSchedule", "NoExecute"].contains(&taint.effect.as_str()));
    match repelling.into_iter().find(|taint| !tolerates(pod, taint)) {
        Some(taint) => {
            let value = taint.value.as_deref().unwrap_or_default();
            vec![format!("node(s) had untolerated taint {{{}: {value}}}", taint.key)]
        }
        None => Vec::new(),
    }
}

pub(super) fn tolerates(pod: &PodInfo, taint: &Taint) -> bool {
    pod.tolerations.iter().any(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        let own = toleration.value.as_deref().unwrap_or_default();
        let value = match toleration.operator.as_deref() {
            Some("Exists") => true,
            _ => own == taint.value.as_deref().unwrap_or_default(),
        };
        (effect.is_empty() || effect == taint.effect) && (key.is_empty() || key == taint.key) && value
    })
}
