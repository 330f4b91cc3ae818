//! What an object uses of what quotas bound.
//!
//! Behaviour: pkg/quota/v1/evaluator/core of Kubernetes v1.36.

use corten_api::names::Names;
use corten_api::quantity::Quantity;
use serde_json::Value;

use super::super::pod_resources::{Amounts, amount, with_overhead};
use super::super::{is, list};

/// Kinds of the core group that have counted under their plain names since before there was `count/…`.
const PLAIN: [&str; 7] =
    ["ConfigMap", "PersistentVolumeClaim", "Pod", "ReplicationController", "ResourceQuota", "Secret", "Service"];
const CLASS_SUFFIX: &str = ".storageclass.storage.k8s.io/";
const DEVICES_SUFFIX: &str = ".deviceclass.resource.k8s.io/devices";

/// Whether objects of the kind count at all. Events come and go by themselves.
pub(super) fn is_counted(names: &Names) -> bool {
    names.kind != "Event"
}

/// Whether objects of this kind may use the resource.
pub(super) fn may_use(names: &Names, resource: &str) -> bool {
    match resource.strip_prefix("count/") {
        Some(counted) => counted == names.qualified_resource(),
        None if is(names, "resource.k8s.io", "ResourceClaim") => resource.ends_with(DEVICES_SUFFIX),
        None => names.group.is_empty() && PLAIN.contains(&names.kind),
    }
}

/// What an object uses, by resource.
pub(super) fn of(names: &Names, object: &Value) -> Amounts {
    let one = Quantity::from_units(1);
    let mut used = Amounts::from([(format!("count/{}", names.qualified_resource()), one)]);
    if is(names, "resource.k8s.io", "ResourceClaim") {
        devices(object, &mut used);
    }
    if !names.group.is_empty() || !PLAIN.contains(&names.kind) {
        return used;
    }
    // A pod that has ended uses nothing any more; it is still there, though.
    let ended = ["Failed", "Succeeded"].contains(&object["status"]["phase"].as_str().unwrap_or_default());
    if names.kind == "Pod" && ended {
        return used;
    }
    used.insert(names.plural.to_owned(), one);
    match names.kind {
        "Pod" => pod(object, &mut used),
        "Service" => service(object, &mut used),
        "PersistentVolumeClaim" => claim(object, &mut used),
        _ => {}
    }
    used
}

fn pod(pod: &Value, used: &mut Amounts) {
    for (name, value) in with_overhead(pod, "requests") {
        let standard =
            ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str()) || name.starts_with("hugepages-");
        used.insert(format!("requests.{name}"), value);
        if standard {
            used.insert(name, value);
        }
    }
    for (name, value) in with_overhead(pod, "limits") {
        if ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str()) {
            used.insert(format!("limits.{name}"), value);
        }
    }
}

fn service(service: &Value, used: &mut Amounts) {
    let spec = &service["spec"];
    let ports = list(spec, "ports");
    let numbered = |port: &&Value| port["nodePort"].as_i64().unwrap_or(0) != 0;
    let count = match spec["type"].as_str().unwrap_or_default() {
        "NodePort" => ports.len(),
        "LoadBalancer" => {
            used.insert("services.loadbalancers".to_owned(), Quantity::from_units(1));
            if spec["allocateLoadBalancerNodePorts"] == false {
                ports.iter().filter(numbered).count()
            } else {
                ports.len()
            }
        }
        _ => 0,
    };
    let count = Quantity::from_units(i64::try_from(count).unwrap_or(i64::MAX));
    used.insert("services.nodeports".to_owned(), count);
}

fn claim(claim: &Value, used: &mut Amounts) {
    let asked = amount(&claim["spec"]["resources"]["requests"]["storage"]);
    // A volume that could not grow as far as was asked, and is asked less now, still holds what it got.
    let size = asked.max(amount(&claim["status"]["allocatedResources"]["storage"]));
    used.insert("requests.storage".to_owned(), size);
    let beta = claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str();
    if let Some(class) = beta.or(claim["spec"]["storageClassName"].as_str()).filter(|class| !class.is_empty()) {
        used.insert(format!("{class}{CLASS_SUFFIX}persistentvolumeclaims"), Quantity::from_units(1));
        used.insert(format!("{class}{CLASS_SUFFIX}requests.storage"), size);
    }
}

/// Devices that a claim may get at most.
fn devices(claim: &Value, used: &mut Amounts) {
    for request in list(&claim["spec"]["devices"], "requests") {
        let wishes = Some(&request["exactly"]).filter(|exactly| exactly.is_object()).into_iter();
        let mut most = Amounts::new();
        for wish in wishes.chain(list(request, "firstAvailable")) {
            let class = wish["deviceClassName"].as_str().unwrap_or_default();
            // All of a kind are as many as one claim can get.
            let count = if wish["allocationMode"] == "All" { 32 } else { wish["count"].as_i64().unwrap_or(1) };
            let own = most.entry(format!("{class}{DEVICES_SUFFIX}")).or_default();
            *own = (*own).max(Quantity::from_units(count));
        }
        for (name, count) in most {
            *used.entry(name).or_default() += count;
        }
    }
}
