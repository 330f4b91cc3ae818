//! Services and slices in, tables out.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::directory::directory_of;

fn check(objects: &[Value], want: Expect) {
    let node = Node { name: "here".to_owned(), dns_address: Ipv4Addr::new(10, 43, 0, 10) };
    want.assert_eq(&plan(&directory_of(objects), &node).to_string());
}

fn service(spec: Value) -> Value {
    json!({ "kind": "Service", "metadata": { "name": "web", "namespace": "demo" }, "spec": spec })
}

fn port(port: u16) -> Value {
    json!([{ "name": "http", "port": port, "protocol": "TCP", "nodePort": 30080 }])
}

/// Endpoints as "address node state".
fn slice(name: &str, endpoints: &[&str]) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|text| {
            let words: Vec<&str> = text.split(' ').collect();
            let conditions = match words[2] {
                "ready" => json!({ "ready": true }),
                "ending" => json!({ "ready": false, "serving": true, "terminating": true }),
                "dead" => json!({ "ready": false, "serving": false, "terminating": true }),
                _ => json!({ "ready": false }),
            };
            json!({ "addresses": [words[0]], "nodeName": words[1], "conditions": conditions })
        })
        .collect();
    json!({ "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": endpoints,
        "metadata": { "name": name, "namespace": "demo", "labels": { "kubernetes.io/service-name": "web" } },
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }, { "name": "other", "port": 9, "protocol": "UDP" }] })
}

#[test]
fn each_ready_endpoint_has_one_slot() {
    check(
        &[
            service(json!({ "clusterIP": "10.43.0.5", "ports": [{ "name": "http", "port": 80 }] })),
            slice("web-1", &["10.42.0.7 here ready", "10.42.1.9 there ready", "10.42.1.8 there starting"]),
            slice("web-2", &["10.42.0.3 here ready", "10.42.0.7 here ready"]),
        ],
        expect![[r#"
            internal-3
              10.43.0.5 tcp 80 #0 -> 10.42.0.3:8080
              10.43.0.5 tcp 80 #1 -> 10.42.0.7:8080
              10.43.0.5 tcp 80 #2 -> 10.42.1.9:8080
            hairpin
              10.42.0.3
              10.42.0.7
              10.42.1.9
        "#]],
    );
}

#[test]
fn endpoints_that_end_are_the_last_resort() {
    let service = service(json!({ "clusterIP": "10.43.0.5", "ports": [{ "name": "http", "port": 80 }] }));
    check(
        &[
            service.clone(),
            slice("web-1", &["10.42.0.7 here ending", "10.42.0.8 here dead", "10.42.0.9 here starting"]),
        ],
        expect![[r#"
            internal-1
              10.43.0.5 tcp 80 #0 -> 10.42.0.7:8080
            hairpin
              10.42.0.7
        "#]],
    );
    check(&[service, slice("web-1", &["10.42.0.8 here dead"])], expect![[""]]);
}

#[test]
fn traffic_from_outside_has_ways_of_its_own() {
    let spec = json!({ "clusterIP": "10.43.0.5", "externalIPs": ["192.0.2.1"], "ports": port(80) });
    check(
        &[service(spec.clone()), slice("web-1", &["10.42.1.9 there ready"])],
        expect![[r#"
            internal-1
              10.43.0.5 tcp 80 #0 -> 10.42.1.9:8080
            external-1
              node tcp 30080 #0 -> 10.42.1.9:8080
              192.0.2.1 tcp 80 #0 -> 10.42.1.9:8080
            hairpin
              10.42.1.9
        "#]],
    );
    check(
        &[service(spec)],
        expect![[r#"
            refused
              node tcp 30080
              192.0.2.1 tcp 80
        "#]],
    );
}

#[test]
fn local_traffic_policies_keep_to_this_node() {
    let spec = json!({ "clusterIP": "10.43.0.5", "ports": port(80),
        "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local" });
    check(
        &[service(spec.clone()), slice("web-1", &["10.42.0.7 here ready", "10.42.1.9 there ready"])],
        expect![[r#"
            internal-1
              10.43.0.5 tcp 80 #0 -> 10.42.0.7:8080
            external-2
              node tcp 30080 #0 -> 10.42.0.7:8080
              node tcp 30080 #1 -> 10.42.1.9:8080
            external-local-1
              node tcp 30080 #0 -> 10.42.0.7:8080
            hairpin
              10.42.0.7
              10.42.1.9
        "#]],
    );
    check(
        &[service(spec), slice("web-1", &["10.42.1.9 there ready"])],
        expect![[r#"
            external-1
              node tcp 30080 #0 -> 10.42.1.9:8080
            hairpin
              10.42.1.9
            dropped
              node tcp 30080
        "#]],
    );
}

#[test]
fn clients_that_stick_have_maps_of_their_own() {
    let spec = json!({ "clusterIP": "10.43.0.5", "ports": [{ "name": "http", "port": 80 }], "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 60 } } });
    check(
        &[service(spec), slice("web-1", &["10.42.0.7 here ready", "10.42.1.9 there ready"])],
        expect![[r#"
            internal-2-sticky-60
              10.43.0.5 tcp 80 #0 -> 10.42.0.7:8080
              10.43.0.5 tcp 80 #1 -> 10.42.1.9:8080
            internal-sticky-60
              10.43.0.5 tcp 80 0x15ba0007 -> 10.42.0.7:8080
              10.43.0.5 tcp 80 0x15ba0109 -> 10.42.1.9:8080
            hairpin
              10.42.0.7
              10.42.1.9
        "#]],
    );
}

/// Tags are 32 bits for 48: where two endpoints have the same, the map must not have two elements with one key.
#[test]
fn endpoints_with_the_same_tag_share_their_clients() {
    let spec =
        json!({ "clusterIP": "10.43.0.5", "ports": [{ "name": "http", "port": 80 }], "sessionAffinity": "ClientIP" });
    let mut other = slice("web-2", &["10.43.0.7 here ready"]);
    other["ports"][0]["port"] = json!(8081);
    check(
        &[service(spec), slice("web-1", &["10.42.0.7 here ready"]), other],
        expect![[r#"
            internal-2-sticky-10800
              10.43.0.5 tcp 80 #0 -> 10.42.0.7:8080
              10.43.0.5 tcp 80 #1 -> 10.43.0.7:8081
            internal-sticky-10800
              10.43.0.5 tcp 80 0x15ba0007 -> 10.42.0.7:8080
            hairpin
              10.42.0.7
              10.43.0.7
        "#]],
    );
}

#[test]
fn some_services_have_no_rules() {
    let ready = slice("web-1", &["10.42.0.7 here ready"]);
    for spec in [
        json!({ "clusterIP": "None", "ports": port(80) }),
        json!({ "clusterIP": "10.43.0.10", "ports": port(80) }), // the DNS itself
        json!({ "type": "ExternalName", "externalName": "example.com", "ports": port(80) }),
        json!({ "ports": port(80) }),
    ] {
        check(&[service(spec), ready.clone()], expect![[""]]);
    }
    let mut foreign = service(json!({ "clusterIP": "10.43.0.5", "ports": port(80) }));
    foreign["metadata"]["labels"] = json!({ "service.kubernetes.io/service-proxy-name": "x" });
    check(&[foreign, ready], expect![[""]]);
}

/// What a change of endpoints costs.
#[test]
fn a_change_is_a_few_elements() {
    let node = Node { name: "here".to_owned(), dns_address: Ipv4Addr::new(10, 43, 0, 10) };
    let service = service(json!({ "clusterIP": "10.43.0.5", "ports": [{ "name": "http", "port": 80 }] }));
    let tables = |endpoints: &[&str]| plan(&directory_of(&[service.clone(), slice("web-1", endpoints)]), &node);
    let before = tables(&["10.42.0.7 here ready", "10.42.0.8 here ready"]);
    assert!(before.changes_to(&before).is_empty());

    let same_count = before.changes_to(&tables(&["10.42.0.7 here ready", "10.42.0.9 here ready"]));
    assert!(!same_count.rules && same_count.new_sets.is_empty() && same_count.gone_sets.is_empty());
    let count = |list: &[(SetId, Vec<_>)]| list.iter().map(|(_, elements)| elements.len()).sum::<usize>();
    assert_eq!((count(&same_count.removed), count(&same_count.added)), (2, 2), "a slot and a hairpin pair");

    let fewer = before.changes_to(&tables(&["10.42.0.7 here ready"]));
    assert!(fewer.rules && fewer.new_sets.len() == 1 && fewer.gone_sets.len() == 1);
}
