//! ServiceAccount: pods run as some account, and find its token.

use corten_api::names::Names;
use corten_api::status::Status;
use serde_json::{Value, json};

use super::{Attempt, Plugin, append, is_pod, list};
use crate::authorize::{MIRROR, References};

/// Where pods find their token, the cluster's certificate and their namespace.
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Seconds a token of a pod is valid; a little more than an hour, as upstream.
const TOKEN_SECONDS: i64 = 3607;

pub(super) struct ServiceAccount;

impl Plugin for ServiceAccount {
    fn changes(&self, names: &Names) -> bool {
        is_pod(names)
    }

    fn admit(&self, write: &Attempt<'_>, pod: &mut Value) -> Result<(), Status> {
        if write.old.is_some() {
            Ok(())
        } else if pod["metadata"]["annotations"].get(MIRROR).is_some() {
            mirror(write, pod)
        } else {
            service_account(write, pod)
        }
    }
}

/// What a node runs anyway it makes known as it is: nothing is added, and it has no part in accounts and secrets.
fn mirror(write: &Attempt<'_>, pod: &Value) -> Result<(), Status> {
    let used = References::named_by(pod);
    let mut parts = list(&pod["spec"], "volumes").iter().flat_map(|volume| list(&volume["projected"], "sources"));
    let why = if used.account.is_some() {
        "a mirror pod may not reference service accounts"
    } else if !used.secrets.is_empty() {
        "a mirror pod may not reference secrets"
    } else if parts.any(|part| part["serviceAccountToken"].is_object()) {
        "a mirror pod may not use serviceAccountToken volume projections"
    } else {
        return Ok(());
    };
    Err(write.forbidden(pod, why))
}

/// Every pod runs as some account; its token is put where clients look for it.
fn service_account(write: &Attempt<'_>, pod: &mut Value) -> Result<(), Status> {
    let namespace = write.namespace.unwrap_or_default();
    let spec = &pod["spec"];
    let name = match (spec["serviceAccountName"].as_str(), spec["serviceAccount"].as_str()) {
        (Some(name), _) | (None, Some(name)) if !name.is_empty() => name.to_owned(),
        _ => "default".to_owned(),
    };
    let Some(account) = write.find("serviceaccounts", Some(namespace), &name)? else {
        let why = format!("error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found");
        return Err(write.forbidden(pod, &why));
    };
    let spec = &mut pod["spec"];
    spec["serviceAccountName"] = name.clone().into();
    spec["serviceAccount"] = name.into();
    if spec["imagePullSecrets"].as_array().is_none_or(Vec::is_empty) && account["imagePullSecrets"].is_array() {
        spec["imagePullSecrets"] = account["imagePullSecrets"].clone();
    }
    let wanted = spec["automountServiceAccountToken"].as_bool();
    if !wanted.or(account["automountServiceAccountToken"].as_bool()).unwrap_or(true) {
        return Ok(());
    }
    let mounted = |container: &Value| {
        container["volumeMounts"].as_array().into_iter().flatten().any(|mount| mount["mountPath"] == TOKEN_PATH)
    };
    let lists = ["initContainers", "containers"];
    let needed = lists.iter().any(|list| spec[*list].as_array().into_iter().flatten().any(|c| !mounted(c)));
    if !needed {
        return Ok(());
    }
    let volume = format!("kube-api-access-{}", suffix(&pod["metadata"]["uid"]));
    let spec = &mut pod["spec"];
    for list in lists {
        for container in spec[list].as_array_mut().into_iter().flatten().filter(|c| c.is_object() && !mounted(c)) {
            let mount = json!({"name": volume, "readOnly": true, "mountPath": TOKEN_PATH});
            append(container, "volumeMounts", mount);
        }
    }
    let source = json!({
        "name": volume,
        "projected": {"defaultMode": 0o644, "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            ]}},
        ]},
    });
    append(spec, "volumes", source);
    Ok(())
}

/// Five letters that differ between pods.
fn suffix(uid: &Value) -> String {
    uid.as_str().unwrap_or_default().chars().filter(char::is_ascii_alphanumeric).take(5).collect()
}
