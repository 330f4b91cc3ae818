//! Tokens of service accounts: for pods on the node, bound to them, and for whom these pods have tokens.

use corten_api::status::Status;
use serde_json::Value;

use super::super::list;
use super::Own;
use crate::authorize::{Attributes, References, Resource};

/// The verb on an audience by which policy lets a node have tokens for it that no pod asks for.
const AUDIENCE: &str = "request-serviceaccounts-token-audience";

pub(super) fn check(own: &Own<'_>) -> Result<(), Status> {
    let reference = &own.new["spec"]["boundObjectRef"];
    let version = reference["apiVersion"].as_str().unwrap_or_default();
    let is_bound = reference["kind"] == "Pod" && ["", "v1"].contains(&version);
    own.demand(is_bound, "node requested token not bound to a pod")?;
    let uid = reference["uid"].as_str().unwrap_or_default();
    own.demand(!uid.is_empty(), "node requested token with a pod binding without a uid")?;
    // Whether it is this pod, and runs as this account, is looked at when the token is bound to it.
    let name = reference["name"].as_str().unwrap_or_default();
    let pod = own.write.find("pods", own.write.namespace, name)?;
    let here = |pod: &Value| pod["spec"]["nodeName"] == *own.node && pod["metadata"]["uid"] == uid;
    match pod.filter(here) {
        Some(pod) => audience(own, &pod),
        None => own.refuse("node requested token bound to a pod scheduled on a different node"),
    }
}

fn audience(own: &Own<'_>, pod: &Value) -> Result<(), Status> {
    let audience = match list(&own.new["spec"], "audiences") {
        [] => "",
        [one] => one.as_str().unwrap_or_default(),
        _ => return own.refuse("node may only request 0 or 1 audiences"),
    };
    if is_wanted(own, pod, audience)? {
        return Ok(());
    }
    let (namespace, name) = (own.write.namespace.unwrap_or_default(), own.write.name);
    let resource = Resource { resource: audience, namespace, name: name.into(), ..Resource::default() };
    let may = own.write.server.authorizer().allows(own.write.user, &Attributes::to(AUDIENCE, resource));
    let why = format!(
        "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
        own.write.user.name
    );
    own.demand(may, why)
}

/// Whether a pod has tokens for an audience: in its files, or for the driver of one of its volumes.
fn is_wanted(own: &Own<'_>, pod: &Value, audience: &str) -> Result<bool, Status> {
    let of = |token: &Value| token["audience"].as_str().unwrap_or_default() == audience;
    let volumes = list(&pod["spec"], "volumes");
    let parts = volumes.iter().flat_map(|volume| list(&volume["projected"], "sources"));
    if parts.map(|part| &part["serviceAccountToken"]).any(|token| token.is_object() && of(token)) {
        return Ok(true);
    }
    let mut drivers: Vec<String> =
        volumes.iter().filter_map(|volume| volume["csi"]["driver"].as_str().map(str::to_owned)).collect();
    for claim in References::of(pod).claims {
        let claim = own.write.find("persistentvolumeclaims", own.write.namespace, &claim)?.unwrap_or_default();
        let Some(volume) = claim["spec"]["volumeName"].as_str() else { continue };
        let volume = own.write.find("persistentvolumes", None, volume)?.unwrap_or_default();
        drivers.extend(volume["spec"]["csi"]["driver"].as_str().map(str::to_owned));
    }
    for driver in drivers {
        let driver = own.write.find("csidrivers", None, &driver)?.unwrap_or_default();
        if list(&driver["spec"], "tokenRequests").iter().any(of) {
            return Ok(true);
        }
    }
    Ok(false)
}
