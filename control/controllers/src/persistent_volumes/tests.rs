//! Claims and volumes in tables: what is seen, and what is then written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corten_api::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use corten_api::api::storage::v1::StorageClass;
use corten_api::k8s_openapi::serde::de::DeserializeOwned;
use expect_test::expect;
use serde_json::{Value, json};

use super::matching::{Place, best};
use super::plan::{self, Step, Surroundings};

fn of<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}

/// Lays the fields of `change` over an object.
fn changed(mut object: Value, change: Value) -> Value {
    json_patch_merge(&mut object, &change);
    object
}

fn json_patch_merge(object: &mut Value, change: &Value) {
    match change {
        Value::Object(fields) => {
            for (field, value) in fields {
                json_patch_merge(&mut object[field], value);
            }
        }
        _ => *object = change.clone(),
    }
}

/// A claim `a/c` with UID 1 for a gibibyte of class `fast`.
fn claim(change: Value) -> PersistentVolumeClaim {
    let object = json!({"metadata": {"name": "c", "namespace": "a", "uid": "1"}, "status": {"phase": "Pending"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
            "resources": {"requests": {"storage": "1Gi"}}}});
    of(changed(object, change))
}

/// A free volume of a gibibyte of class `fast`.
fn volume(name: &str, change: Value) -> Arc<PersistentVolume> {
    let object = json!({"metadata": {"name": name}, "status": {"phase": "Available"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "storageClassName": "fast",
        "hostPath": {"path": "/x"}, "persistentVolumeReclaimPolicy": "Retain"}});
    Arc::new(of(changed(object, change)))
}

/// A change of a volume: it names this claim.
fn named(name: &str, uid: &str) -> Value {
    let uid = Some(uid).filter(|uid| !uid.is_empty());
    json!({"spec": {"claimRef": {"namespace": "a", "name": name, "uid": uid}}})
}

fn class(name: &str, change: Value) -> Arc<StorageClass> {
    Arc::new(of(changed(json!({"metadata": {"name": name}, "provisioner": "example.com/disks"}), change)))
}

fn shown(steps: Vec<Step>) -> String {
    let line = |step| match step {
        Step::Volume { name, patch } => format!("volume {name} {patch}"),
        Step::VolumeStatus { name, patch } => format!("volume {name} {}", patch["status"]),
        Step::Claim { patch } => format!("claim {patch}"),
        Step::ClaimStatus { patch } => format!("claim {}", patch["status"]),
        Step::Tell { warning, reason, message } => format!("{}{reason}: {message}", if warning { "!" } else { "" }),
        Step::Look => "look".to_owned(),
    };
    steps.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What is planned for a claim in a cluster with the classes `fast` and `late`, which waits for the first pod.
fn plan_claim(claim: &PersistentVolumeClaim, volumes: &[Arc<PersistentVolume>]) -> String {
    plan_used(claim, volumes, &[], None)
}

fn plan_used(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    waiting: &[&str],
    used_on: Option<&str>,
) -> String {
    let classes = [class("fast", json!({})), class("late", json!({"volumeBindingMode": "WaitForFirstConsumer"}))];
    let waiting: BTreeSet<String> = waiting.iter().map(|&pod| pod.to_owned()).collect();
    let around = Surroundings { claim, volumes, classes: &classes, place: None, waiting: &waiting, used_on };
    shown(plan::claim(&around))
}

fn pick(claim: &PersistentVolumeClaim, volumes: &[Arc<PersistentVolume>]) -> String {
    best(claim, volumes, false, None).and_then(|volume| volume.metadata.name.clone()).unwrap_or_default()
}

#[test]
fn the_smallest_volume_that_fits_is_taken() {
    let size = |size: &str| json!({"spec": {"capacity": {"storage": size}}});
    let sizes = [volume("small", size("500Mi")), volume("big", size("5Gi")), volume("right", size("2Gi"))];
    assert_eq!(pick(&claim(json!({})), &sizes), "right");
    // Fewer access modes go before less room.
    let modes = json!({"spec": {"accessModes": ["ReadWriteOnce", "ReadOnlyMany"]}});
    assert_eq!(pick(&claim(json!({})), &[volume("many", modes.clone()), volume("few", size("9Gi"))]), "few");
    assert_eq!(pick(&claim(modes.clone()), &[volume("many", modes), volume("few", json!({}))]), "many");
    for (why, change) in [
        ("class", json!({"spec": {"storageClassName": "slow"}})),
        ("mode", json!({"spec": {"volumeMode": "Block"}})),
        ("phase", json!({"status": {"phase": "Released"}})),
        ("deleted", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})),
        ("taken", named("other", "2")),
        ("reserved", named("other", "")),
        ("same name", named("c", "2")),
    ] {
        assert_eq!(pick(&claim(json!({})), &[volume("v", change)]), "", "{why}");
    }
    let selector = json!({"spec": {"selector": {"matchLabels": {"disk": "ssd"}}}});
    let labelled = json!({"metadata": {"labels": {"disk": "ssd"}}});
    assert_eq!(pick(&claim(selector), &[volume("a", json!({})), volume("b", labelled)]), "b");
    // One that is kept for the claim is its own, whatever its class; but it must be big enough.
    let kept = changed(named("c", ""), json!({"spec": {"storageClassName": "slow"}}));
    assert_eq!(pick(&claim(json!({})), &[volume("a", json!({})), volume("kept", kept)]), "kept");
    let tight = changed(named("c", ""), size("1Mi"));
    assert_eq!(pick(&claim(json!({})), &[volume("a", json!({})), volume("tight", tight)]), "a");
}

#[test]
fn a_volume_must_reach_the_node_of_the_first_pod() {
    let on = |node: &str| {
        let here = json!([{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]);
        json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": here}]}}}})
    };
    let volumes = [volume("one", on("n1")), volume("two", on("n2"))];
    let labels = BTreeMap::from([("kubernetes.io/hostname".to_owned(), "n2".to_owned())]);
    let found = best(&claim(json!({})), &volumes, false, Some(Place { name: "n2", labels: &labels }));
    assert_eq!(found.and_then(|volume| volume.metadata.name.as_deref()), Some("two"));
}

#[test]
fn a_claim_and_a_volume_are_bound_from_both_sides() {
    let steps = plan_claim(&claim(json!({})), &[volume("v", json!({}))]);
    expect![[r#"
        volume v {"spec":{"claimRef":{"apiVersion":"v1","kind":"PersistentVolumeClaim","namespace":"a","name":"c","uid":"1","resourceVersion":null}},"metadata":{"annotations":{"pv.kubernetes.io/bound-by-controller":"yes"}}}
        volume v {"phase":"Bound","message":null,"reason":null}
        claim {"metadata":{"annotations":{"pv.kubernetes.io/bind-completed":"yes","pv.kubernetes.io/bound-by-controller":"yes"}},"spec":{"volumeName":"v"}}
        claim {"phase":"Bound","capacity":{"storage":"1Gi"},"accessModes":["ReadWriteOnce"]}"#]].assert_eq(&steps);
    // Taken up where it was broken off.
    let half = volume("v", changed(named("c", "1"), json!({"status": {"phase": "Bound"}})));
    expect![[r#"
        claim {"metadata":{"annotations":{"pv.kubernetes.io/bind-completed":"yes","pv.kubernetes.io/bound-by-controller":"yes"}},"spec":{"volumeName":"v"}}
        claim {"phase":"Bound","capacity":{"storage":"1Gi"},"accessModes":["ReadWriteOnce"]}"#]]
    .assert_eq(&plan_claim(&claim(json!({})), &[half]));
}

fn bound_claim() -> Value {
    json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": "v"},
        "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}})
}

#[test]
fn what_is_bound_stays_bound_and_needs_nothing() {
    let bound = volume("v", changed(named("c", "1"), json!({"status": {"phase": "Bound"}})));
    assert_eq!(plan_claim(&claim(bound_claim()), &[Arc::clone(&bound)]), "");
    assert_eq!(shown(plan::volume(&bound, Some(&claim(bound_claim())))), "");
    // Conditions and words of others are left alone.
    let said = changed(named("c", "1"), json!({"status": {"phase": "Bound", "message": "m", "reason": "r"}}));
    assert_eq!(shown(plan::volume(&volume("v", said), Some(&claim(bound_claim())))), "");
}

#[test]
fn a_claim_whose_volume_is_gone_is_lost() {
    let lines = [
        plan_claim(&claim(bound_claim()), &[]),
        plan_claim(&claim(bound_claim()), &[volume("v", named("c", "other"))]),
        plan_claim(&claim(changed(bound_claim(), json!({"spec": {"volumeName": ""}}))), &[]),
        plan_claim(&claim(changed(bound_claim(), json!({"status": {"phase": "Lost"}}))), &[]),
    ];
    expect![[r#"
        !ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!
        claim {"phase":"Lost"}
        !ClaimMisbound: Two claims are bound to the same volume, this one is bound incorrectly
        claim {"phase":"Lost"}
        !ClaimLost: Bound claim has lost reference to PersistentVolume. Data on the volume is lost!
        claim {"phase":"Lost"}
    "#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn a_volume_that_is_asked_for_by_name_must_fit() {
    let asks = || claim(json!({"spec": {"volumeName": "v"}}));
    let size = json!({"spec": {"capacity": {"storage": "1Mi"}}});
    let other_class = json!({"spec": {"storageClassName": "slow"}});
    let lines = [
        plan_claim(&asks(), &[]),
        plan_claim(&asks(), &[volume("v", size)]),
        plan_claim(&asks(), &[volume("v", other_class)]),
        plan_claim(&asks(), &[volume("v", named("other", "2"))]),
        plan_claim(&asks(), &[volume("v", named("c", "2"))]),
        plan_claim(&asks(), &[volume("v", named("c", ""))]),
    ];
    expect![[r#"

        !VolumeMismatch: Cannot bind to requested volume "v": requested PV is too small
        !VolumeMismatch: Cannot bind to requested volume "v": storageClassName does not match
        !FailedBinding: volume "v" already bound to a different claim.
        !FailedBinding: volume "v" already bound to a different claim.
        volume v {"spec":{"claimRef":{"apiVersion":"v1","kind":"PersistentVolumeClaim","namespace":"a","name":"c","uid":"1","resourceVersion":null}}}
        volume v {"phase":"Bound","message":null,"reason":null}
        claim {"metadata":{"annotations":{"pv.kubernetes.io/bind-completed":"yes"}}}
        claim {"phase":"Bound","capacity":{"storage":"1Gi"},"accessModes":["ReadWriteOnce"]}"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn a_claim_that_finds_nothing_is_told_why() {
    let of_class = |class: &str| claim(json!({"spec": {"storageClassName": class}}));
    let asked = json!({"metadata": {"annotations": {
        "volume.kubernetes.io/storage-provisioner": "example.com/disks",
        "volume.beta.kubernetes.io/storage-provisioner": "example.com/disks"}}});
    let selected = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}},
        "spec": {"storageClassName": "late"}});
    let lines = [
        plan_claim(&of_class(""), &[]),
        plan_claim(&of_class("none"), &[]),
        plan_claim(&claim(json!({})), &[]),
        plan_claim(&claim(asked), &[]),
        // A free volume is not taken before the first pod has a node.
        plan_claim(&of_class("late"), &[volume("v", json!({"spec": {"storageClassName": "late"}}))]),
        plan_used(&of_class("late"), &[], &["p"], None),
        plan_used(&of_class("late"), &[], &["p", "q"], None),
        plan_used(&of_class("late"), &[], &["p"], Some("n1")),
        plan_claim(&claim(selected), &[]),
    ];
    expect![[r#"
        FailedBinding: no persistent volumes available for this claim and no storage class is set
        !ProvisioningFailed: storageclass.storage.k8s.io "none" not found
        claim {"metadata":{"annotations":{"volume.kubernetes.io/storage-provisioner":"example.com/disks","volume.beta.kubernetes.io/storage-provisioner":"example.com/disks"}}}
        ExternalProvisioning: Waiting for a volume to be created either by the external provisioner 'example.com/disks' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.
        ExternalProvisioning: Waiting for a volume to be created either by the external provisioner 'example.com/disks' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.
        WaitForFirstConsumer: waiting for first consumer to be created before binding
        WaitForPodScheduled: waiting for pod p to be scheduled
        WaitForPodScheduled: waiting for pods p,q to be scheduled
        claim {"metadata":{"annotations":{"volume.kubernetes.io/selected-node":"n1"}}}
        claim {"metadata":{"annotations":{"volume.kubernetes.io/storage-provisioner":"example.com/disks","volume.beta.kubernetes.io/storage-provisioner":"example.com/disks"}}}
        ExternalProvisioning: Waiting for a volume to be created either by the external provisioner 'example.com/disks' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn a_claim_without_a_class_gets_the_default_one_later() {
    let mark = |name: &str, created: &str| {
        let annotations = json!({"storageclass.kubernetes.io/is-default-class": "true"});
        class(name, json!({"metadata": {"annotations": annotations, "creationTimestamp": created}}))
    };
    let classes = [mark("old", "2026-01-01T00:00:00Z"), mark("new", "2026-01-02T00:00:00Z"), class("z", json!({}))];
    let plan = |claim: &PersistentVolumeClaim, volumes: &[Arc<PersistentVolume>]| {
        let waiting = BTreeSet::new();
        let around = Surroundings { claim, volumes, classes: &classes, place: None, waiting: &waiting, used_on: None };
        shown(plan::claim(&around))
    };
    let open = claim(json!({"spec": {"storageClassName": null}}));
    assert_eq!(plan(&open, &[]), r#"claim {"spec":{"storageClassName":"new"}}"#);
    // A volume that fits as it is goes first.
    assert!(plan(&open, &[volume("v", json!({"spec": {"storageClassName": null}}))]).starts_with("volume v"));
    let none = claim(json!({"spec": {"storageClassName": ""}}));
    assert!(plan(&none, &[]).starts_with("FailedBinding"));
}

#[test]
fn a_volume_follows_its_claim() {
    let phase = |phase: &str| json!({"status": {"phase": phase}});
    let policy = |policy: &str| json!({"spec": {"persistentVolumeReclaimPolicy": policy}});
    let provisioned = json!({"metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "example.com/disks"}}});
    let by_controller = json!({"metadata": {"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}}});
    let was = |change: Value| changed(changed(named("c", "1"), phase("Bound")), change);
    let look = |volume: Arc<PersistentVolume>, claim: Option<PersistentVolumeClaim>| {
        shown(plan::volume(&volume, claim.as_ref()))
    };
    let elsewhere = || Some(claim(changed(bound_claim(), json!({"spec": {"volumeName": "w"}}))));
    let dynamic = changed(policy("Delete"), provisioned.clone());
    let rows = [
        ("new", look(volume("v", phase("Pending")), None)),
        ("free", look(volume("v", json!({})), None)),
        ("reserved", look(volume("v", named("c", "")), None)),
        ("reserved, claim is there", look(volume("v", named("c", "")), Some(claim(json!({}))))),
        ("claim does not know yet", look(volume("v", named("c", "1")), Some(claim(json!({}))))),
        ("bound", look(volume("v", named("c", "1")), Some(claim(bound_claim())))),
        ("claim is gone", look(volume("v", was(json!({}))), None)),
        ("claim is another", look(volume("v", was(json!({}))), Some(claim(json!({"metadata": {"uid": "2"}}))))),
        ("gone, dynamic", look(volume("v", was(dynamic.clone())), None)),
        ("gone, by hand", look(volume("v", was(policy("Delete"))), None)),
        ("gone, recycled", look(volume("v", was(policy("Recycle"))), None)),
        ("failed before", look(volume("v", changed(was(policy("Recycle")), phase("Failed"))), None)),
        ("released before", look(volume("v", changed(was(json!({})), phase("Released"))), None)),
        ("claim found another", look(volume("v", was(by_controller)), elsewhere())),
        ("claim found another, reserved", look(volume("v", was(json!({}))), elsewhere())),
        ("claim found another, dynamic", look(volume("v", was(dynamic)), elsewhere())),
        ("wrong mode", look(volume("v", was(json!({"spec": {"volumeMode": "Block"}}))), Some(claim(json!({}))))),
    ];
    let text: Vec<String> = rows.iter().map(|(name, steps)| format!("{name}: {}", steps.replace('\n', "; "))).collect();
    expect![[r#"
        new: volume v {"phase":"Available","message":null,"reason":null}
        free: 
        reserved: 
        reserved, claim is there: look
        claim does not know yet: look
        bound: volume v {"phase":"Bound","message":null,"reason":null}
        claim is gone: volume v {"phase":"Released","message":null,"reason":null}
        claim is another: volume v {"phase":"Released","message":null,"reason":null}
        gone, dynamic: volume v {"phase":"Released","message":null,"reason":null}
        gone, by hand: volume v {"phase":"Failed","message":"error getting deleter volume plugin for volume \"v\": no deletable volume plugin matched","reason":null}; !VolumeFailedDelete: error getting deleter volume plugin for volume "v": no deletable volume plugin matched
        gone, recycled: volume v {"phase":"Failed","message":"No recycler plugin found for the volume!","reason":null}; !VolumeFailedRecycle: No recycler plugin found for the volume!
        failed before: 
        released before: 
        claim found another: volume v {"metadata":{"annotations":{"pv.kubernetes.io/bound-by-controller":null}},"spec":{"claimRef":null}}; volume v {"phase":"Available","message":null,"reason":null}
        claim found another, reserved: volume v {"spec":{"claimRef":{"uid":null,"resourceVersion":null}}}; volume v {"phase":"Available","message":null,"reason":null}
        claim found another, dynamic: volume v {"phase":"Released","message":null,"reason":null}
        wrong mode: !VolumeMismatch: Cannot bind PersistentVolume to requested PersistentVolumeClaim "c" due to incompatible volumeMode."#]]
    .assert_eq(&text.join("\n"));
}
