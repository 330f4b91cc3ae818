//! What is added to, and demanded of, new objects for reasons beyond their kind.
//!
//! As upstream's admission plugins NamespaceLifecycle, ServiceAccount, Priority, DefaultTolerationSeconds and
//! RuntimeClass.

use corten_api::names::Scope;
use corten_api::status::Status;
use corten_kinds::AnyKind;
use corten_store::Snapshot;
use serde_json::{Value, json};

use crate::identity::Identity;
use crate::storage;

/// Where pods find their token, the cluster's certificate and their namespace.
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Seconds a token of a pod is valid; a little more than an hour, as upstream.
const TOKEN_SECONDS: i64 = 3607;
/// Seconds a pod stays on a node that is not ready or not reachable.
const TOLERATION_SECONDS: i64 = 300;

/// Objects come into namespaces that are there and stay.
pub(crate) fn namespace_exists(
    snapshot: &Snapshot,
    kind: &dyn AnyKind,
    namespace: Option<&str>,
    name: &str,
) -> Result<(), Status> {
    let (Scope::Namespaced, Some(namespace)) = (kind.scope(), namespace) else { return Ok(()) };
    let Some(entry) = snapshot.get(&storage::key("namespaces", None, namespace)) else {
        let mut status = Status::failure(404, "NotFound", format!("namespaces \"{namespace}\" not found"));
        status.details = Some(json!({"name": namespace, "kind": "namespaces"}));
        return Err(status);
    };
    let object = storage::decode(entry)?;
    if object["metadata"]["deletionTimestamp"].is_null() {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut status = Status::forbidden(kind.names(), name, &why);
    let cause = json!({
        "reason": "NamespaceTerminating", "message": format!("namespace {namespace} is being terminated"),
        "field": "metadata.namespace",
    });
    if let Some(details) = &mut status.details {
        details["causes"] = json!([cause]);
    }
    Err(status)
}

/// Adds to a new object what the cluster decides.
pub(crate) fn mutate(
    snapshot: &Snapshot,
    kind: &dyn AnyKind,
    namespace: Option<&str>,
    mut object: Value,
    _user: &Identity,
) -> Result<Value, Status> {
    if kind.names().kind != "Pod" || !object["spec"].is_object() {
        return Ok(object);
    }
    service_account(snapshot, kind, namespace.unwrap_or_default(), &mut object)?;
    let refused = |name: &Value, why: &str| Status::forbidden(kind.names(), name.as_str().unwrap_or_default(), why);
    priority(&mut object["spec"]).map_err(|why| refused(&object["metadata"]["name"], &why))?;
    tolerations(&mut object["spec"]);
    // No class is served: there is one way in which containers run here.
    if let Some(class) = object["spec"]["runtimeClassName"].as_str().filter(|class| !class.is_empty()) {
        let why = format!("pod rejected: RuntimeClass \"{class}\" not found");
        return Err(refused(&object["metadata"]["name"], &why));
    }
    Ok(object)
}

/// Turns the name of a priority class into its number. The classes that every cluster has are the only ones so far.
fn priority(spec: &mut Value) -> Result<(), String> {
    const PREEMPT: &str = "PreemptLowerPriority";
    let number = match spec["priorityClassName"].as_str() {
        None | Some("") => 0,
        Some("system-cluster-critical") => 2_000_000_000,
        Some("system-node-critical") => 2_000_001_000,
        Some(other) => return Err(format!("no PriorityClass with name {other} was found")),
    };
    let given = &spec["priority"];
    if !given.is_null() && *given != number {
        return Err(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {number} from the given PriorityClass name"
        ));
    }
    let given = spec["preemptionPolicy"].as_str().unwrap_or(PREEMPT);
    if given != PREEMPT {
        return Err(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {PREEMPT} from the given PriorityClass name"
        ));
    }
    spec["priority"] = number.into();
    spec["preemptionPolicy"] = PREEMPT.into();
    Ok(())
}

/// Every pod runs as some account; its token is put where clients look for it.
fn service_account(snapshot: &Snapshot, kind: &dyn AnyKind, namespace: &str, pod: &mut Value) -> Result<(), Status> {
    let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let spec = &mut pod["spec"];
    let name = match (spec["serviceAccountName"].as_str(), spec["serviceAccount"].as_str()) {
        (Some(name), _) | (None, Some(name)) if !name.is_empty() => name.to_owned(),
        _ => "default".to_owned(),
    };
    spec["serviceAccountName"] = name.clone().into();
    spec["serviceAccount"] = name.clone().into();
    let key = storage::key("serviceaccounts", Some(namespace), &name);
    let Some(entry) = snapshot.get(&key) else {
        let why = format!("error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found");
        return Err(Status::forbidden(kind.names(), &pod_name, &why));
    };
    let account = storage::decode(entry)?;
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

fn append(object: &mut Value, field: &str, item: Value) {
    match &mut object[field] {
        Value::Array(list) => list.push(item),
        other => *other = json!([item]),
    }
}

fn tolerations(spec: &mut Value) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = spec["tolerations"].as_array().into_iter().flatten().any(|toleration| {
            let own = toleration["key"].as_str().unwrap_or_default();
            let effect = toleration["effect"].as_str().unwrap_or_default();
            (own == key || own.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        });
        if !tolerated {
            let toleration = json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS,
            });
            append(spec, "tolerations", toleration);
        }
    }
}
