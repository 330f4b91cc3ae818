//! Objects in which every field is set: defaults must leave them alone.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::kind::{Erased, Kind};

/// Upstream's object of a kind, if the reference data is at hand.
fn golden(file: &str) -> Option<Value> {
    let places = [concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"), "/work/shared/data"];
    let archive = places
        .iter()
        .map(|place| Path::new(place).join("kubernetes-1.36-golden-objects.tar.xz"))
        .find(|path| path.exists())?;
    let output = Command::new("tar").arg("-xJOf").arg(archive).arg(format!("HEAD/{file}.json")).output().ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

fn check<K: Kind>(file: &str) {
    let Some(value) = golden(file) else { return println!("skipped: {file}: no reference data at hand") };
    let mut object = Erased::<K>::typed(&value).expect("fits its type");
    let before = serde_json::to_value(&object).expect("JSON");
    K::default(&mut object);
    let mut after = serde_json::to_value(&object).expect("JSON");
    // What is limited is requested: the names of the two differ in these objects.
    for list in ["containers", "initContainers"] {
        for (index, container) in before["spec"][list].as_array().into_iter().flatten().enumerate() {
            after["spec"][list][index]["resources"] = container["resources"].clone();
        }
    }
    if before["spec"]["resources"].is_object() {
        after["spec"]["resources"] = before["spec"]["resources"].clone();
    }
    assert_eq!(after, before, "{file}");
}

#[test]
fn defaults_leave_whole_objects_alone() {
    check::<crate::pods::Pods>("core.v1.Pod");
    check::<crate::services::Services>("core.v1.Service");
    check::<crate::nodes::Nodes>("core.v1.Node");
    check::<crate::endpoints::EndpointsKind>("core.v1.Endpoints");
    check::<crate::endpoint_slices::EndpointSlices>("discovery.k8s.io.v1.EndpointSlice");
    check::<crate::networking::Ingresses>("networking.k8s.io.v1.Ingress");
    check::<crate::networking::IngressClasses>("networking.k8s.io.v1.IngressClass");
    check::<crate::networking::NetworkPolicies>("networking.k8s.io.v1.NetworkPolicy");
    check::<crate::networking::IpAddresses>("networking.k8s.io.v1.IPAddress");
    check::<crate::networking::ServiceCidrs>("networking.k8s.io.v1.ServiceCIDR");
    check::<crate::certificates::SigningRequests>("certificates.k8s.io.v1.CertificateSigningRequest");
    check::<crate::admission::MutatingWebhooks>("admissionregistration.k8s.io.v1.MutatingWebhookConfiguration");
    check::<crate::admission::ValidatingWebhooks>("admissionregistration.k8s.io.v1.ValidatingWebhookConfiguration");
    check::<crate::admission::ValidatingPolicies>("admissionregistration.k8s.io.v1.ValidatingAdmissionPolicy");
    check::<crate::admission::ValidatingBindings>("admissionregistration.k8s.io.v1.ValidatingAdmissionPolicyBinding");
    check::<crate::admission::MutatingPolicies>("admissionregistration.k8s.io.v1.MutatingAdmissionPolicy");
    check::<crate::admission::MutatingBindings>("admissionregistration.k8s.io.v1.MutatingAdmissionPolicyBinding");
    check::<crate::flow::FlowSchemas>("flowcontrol.apiserver.k8s.io.v1.FlowSchema");
    check::<crate::flow::PriorityLevels>("flowcontrol.apiserver.k8s.io.v1.PriorityLevelConfiguration");
}
