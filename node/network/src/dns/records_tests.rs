//! Names in, answers out.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::directory::directory_of;

fn directory() -> Directory {
    let service = |name: &str, spec: Value| json!({ "kind": "Service", "metadata": { "name": name, "namespace": "demo" }, "spec": spec });
    let slice = |name: &str, endpoints: Value| {
        json!({ "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": endpoints,
            "metadata": { "name": format!("{name}-1"), "namespace": "demo", "labels": { "kubernetes.io/service-name": name } },
            "ports": [{ "name": "http", "port": 8080 }] })
    };
    let ports =
        json!([{ "name": "http", "port": 80, "protocol": "TCP" }, { "name": "dns", "port": 53, "protocol": "UDP" }]);
    directory_of(&[
        service("web", json!({ "clusterIP": "10.43.0.20", "ports": ports })),
        slice("web", json!([{ "addresses": ["10.42.0.9"], "hostname": "one" }])),
        service("db", json!({ "clusterIP": "None", "ports": [{ "name": "http", "port": 80 }] })),
        slice(
            "db",
            json!([{ "addresses": ["10.42.0.5"], "hostname": "db-0" }, { "addresses": ["10.42.0.6"] },
                { "addresses": ["10.42.0.7"], "hostname": "db-2", "conditions": { "ready": false } }]),
        ),
        service("early", json!({ "clusterIP": "None", "publishNotReadyAddresses": true })),
        slice("early", json!([{ "addresses": ["10.42.0.8"], "conditions": { "ready": false } }])),
        service("idle", json!({ "clusterIP": "None" })),
        service("away", json!({ "type": "ExternalName", "externalName": "Example.com." })),
        json!({ "kind": "Service", "metadata": { "name": "kubernetes", "namespace": "default" },
            "spec": { "clusterIP": "10.43.0.1", "ports": [{ "name": "https", "port": 443 }] } }),
    ])
}

fn check(questions: &[(&str, Type)], want: Expect) {
    let zone = Zone {
        domain: "cluster.local".to_owned(),
        dns_address: Ipv4Addr::new(10, 43, 0, 10),
        ranges: [(Ipv4Addr::new(10, 43, 0, 0), 16), (Ipv4Addr::new(10, 42, 0, 0), 16)],
    };
    let directory = directory();
    let mut text = String::new();
    for (name, kind) in questions {
        let answer = match zone.of(name) {
            None => "forward".to_owned(),
            Some(_) => render(&zone.answer(&directory, name, *kind)),
        };
        text += &format!("{name} {kind:?}: {answer}\n");
    }
    want.assert_eq(&text);
}

fn render(answer: &Answer) -> String {
    if !answer.exists {
        return "no such name".to_owned();
    }
    let records: Vec<String> = answer.records.iter().map(|record| format!("{record:?}")).collect();
    if records.is_empty() { "nothing of that type".to_owned() } else { records.join(", ") }
}

#[test]
fn services() {
    check(
        &[
            ("web.demo.svc.cluster.local", Type::A),
            ("web.demo.svc.cluster.local", Type::Other),
            ("web.demo.svc.cluster.local", Type::Srv),
            ("kubernetes.default.svc.cluster.local", Type::A),
            ("nope.demo.svc.cluster.local", Type::A),
            ("web.other.svc.cluster.local", Type::A),
            ("away.demo.svc.cluster.local", Type::A),
            ("away.demo.svc.cluster.local", Type::Cname),
            ("one.web.demo.svc.cluster.local", Type::A),
            ("x.one.web.demo.svc.cluster.local", Type::A),
        ],
        expect![[r#"
            web.demo.svc.cluster.local A: A(10.43.0.20)
            web.demo.svc.cluster.local Other: nothing of that type
            web.demo.svc.cluster.local Srv: nothing of that type
            kubernetes.default.svc.cluster.local A: A(10.43.0.1)
            nope.demo.svc.cluster.local A: no such name
            web.other.svc.cluster.local A: no such name
            away.demo.svc.cluster.local A: Cname("example.com")
            away.demo.svc.cluster.local Cname: Cname("example.com")
            one.web.demo.svc.cluster.local A: A(10.42.0.9)
            x.one.web.demo.svc.cluster.local A: no such name
        "#]],
    );
}

#[test]
fn headless_services() {
    check(
        &[
            ("db.demo.svc.cluster.local", Type::A),
            ("db-0.db.demo.svc.cluster.local", Type::A),
            ("db-0.db.demo.svc.cluster.local", Type::Other),
            ("10-42-0-6.db.demo.svc.cluster.local", Type::A),
            ("db-2.db.demo.svc.cluster.local", Type::A),
            ("early.demo.svc.cluster.local", Type::A),
            ("idle.demo.svc.cluster.local", Type::A),
        ],
        expect![[r#"
            db.demo.svc.cluster.local A: A(10.42.0.5), A(10.42.0.6)
            db-0.db.demo.svc.cluster.local A: A(10.42.0.5)
            db-0.db.demo.svc.cluster.local Other: nothing of that type
            10-42-0-6.db.demo.svc.cluster.local A: A(10.42.0.6)
            db-2.db.demo.svc.cluster.local A: no such name
            early.demo.svc.cluster.local A: A(10.42.0.8)
            idle.demo.svc.cluster.local A: no such name
        "#]],
    );
}

#[test]
fn ports() {
    check(
        &[
            ("_http._tcp.web.demo.svc.cluster.local", Type::Srv),
            ("_http._tcp.web.demo.svc.cluster.local", Type::A),
            ("_dns._udp.web.demo.svc.cluster.local", Type::Srv),
            ("_http._udp.web.demo.svc.cluster.local", Type::Srv),
            ("_tcp.web.demo.svc.cluster.local", Type::Srv),
            ("_sctp.web.demo.svc.cluster.local", Type::Srv),
            ("_http._tcp.db.demo.svc.cluster.local", Type::Srv),
        ],
        expect![[r#"
            _http._tcp.web.demo.svc.cluster.local Srv: Srv { weight: 100, port: 80, target: "web.demo.svc.cluster.local" }
            _http._tcp.web.demo.svc.cluster.local A: nothing of that type
            _dns._udp.web.demo.svc.cluster.local Srv: Srv { weight: 100, port: 53, target: "web.demo.svc.cluster.local" }
            _http._udp.web.demo.svc.cluster.local Srv: no such name
            _tcp.web.demo.svc.cluster.local Srv: nothing of that type
            _sctp.web.demo.svc.cluster.local Srv: no such name
            _http._tcp.db.demo.svc.cluster.local Srv: Srv { weight: 50, port: 8080, target: "db-0.db.demo.svc.cluster.local" }, Srv { weight: 50, port: 8080, target: "10-42-0-6.db.demo.svc.cluster.local" }
        "#]],
    );
}

#[test]
fn the_rest_of_the_zone() {
    check(
        &[
            ("cluster.local", Type::Soa),
            ("cluster.local", Type::Ns),
            ("cluster.local", Type::A),
            ("ns.dns.cluster.local", Type::A),
            ("dns-version.cluster.local", Type::Txt),
            ("svc.cluster.local", Type::A),
            ("demo.svc.cluster.local", Type::A),
            ("other.svc.cluster.local", Type::A),
            ("pod.cluster.local", Type::A),
            ("10-42-0-5.demo.pod.cluster.local", Type::A),
            ("ten-42-0-5.demo.pod.cluster.local", Type::A),
            ("example.com.demo.svc.cluster.local", Type::A),
            ("nope.cluster.local", Type::A),
            ("example.com", Type::A),
            ("mycluster.local", Type::A),
        ],
        expect![[r#"
            cluster.local Soa: Soa
            cluster.local Ns: Ns("ns.dns.cluster.local")
            cluster.local A: nothing of that type
            ns.dns.cluster.local A: A(10.43.0.10)
            dns-version.cluster.local Txt: Txt("1.1.0")
            svc.cluster.local A: nothing of that type
            demo.svc.cluster.local A: nothing of that type
            other.svc.cluster.local A: no such name
            pod.cluster.local A: nothing of that type
            10-42-0-5.demo.pod.cluster.local A: A(10.42.0.5)
            ten-42-0-5.demo.pod.cluster.local A: no such name
            example.com.demo.svc.cluster.local A: no such name
            nope.cluster.local A: no such name
            example.com A: forward
            mycluster.local A: forward
        "#]],
    );
}

#[test]
fn addresses() {
    check(
        &[
            ("20.0.43.10.in-addr.arpa", Type::Ptr),
            ("20.0.43.10.in-addr.arpa", Type::A),
            ("99.0.43.10.in-addr.arpa", Type::Ptr),
            ("5.0.42.10.in-addr.arpa", Type::Ptr),
            ("6.0.42.10.in-addr.arpa", Type::Ptr),
            ("9.0.42.10.in-addr.arpa", Type::Ptr),
            ("1.1.168.192.in-addr.arpa", Type::Ptr),
            ("43.10.in-addr.arpa", Type::Ptr),
        ],
        expect![[r#"
            20.0.43.10.in-addr.arpa Ptr: Ptr("web.demo.svc.cluster.local")
            20.0.43.10.in-addr.arpa A: nothing of that type
            99.0.43.10.in-addr.arpa Ptr: no such name
            5.0.42.10.in-addr.arpa Ptr: Ptr("db-0.db.demo.svc.cluster.local")
            6.0.42.10.in-addr.arpa Ptr: Ptr("10-42-0-6.db.demo.svc.cluster.local")
            9.0.42.10.in-addr.arpa Ptr: no such name
            1.1.168.192.in-addr.arpa Ptr: forward
            43.10.in-addr.arpa Ptr: forward
        "#]],
    );
}
