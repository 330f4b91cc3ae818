//! Administrators' tools can read the service rules.

mod common;

use std::io::ErrorKind;
use std::process::Command;
use std::sync::Arc;

use common::api::{FakeApi, service, slice};
use common::talk::{ask_tcp, serve_tcp};
use common::{Machine, NODE, config, until};
use corten_client::Informers;
use corten_network::Network;
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// What `nft` says in the namespace of the thread; none where it is not installed.
fn nft(arguments: &[&str]) -> Option<String> {
    let output = match Command::new("nft").args(arguments).output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("skipped: no nft");
            return None;
        }
        Err(error) => panic!("nft: {error}"),
    };
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // As JSON, old versions cannot write statements that change a map, which they warn of.
    let only_warns = errors.lines().all(|line| line.starts_with("warning: "));
    assert!(output.status.success() && only_warns, "{arguments:?}: {}\n{errors}\n{text}", output.status);
    Some(text.into_owned())
}

#[test]
fn nft_lists_what_is_there() {
    let Some(machine) = Machine::new() else { return };
    machine.run(|| async {
        let network = Network::open(config()).await.expect("open");
        if nft(&["list", "tables"]).is_none() {
            return;
        }
        nft(&["list", "ruleset"]);
        let api = FakeApi::new();
        let (client, cancel) = (api.client(), CancellationToken::new());
        let running = Arc::clone(&network);
        let informers = Informers::new(client, cancel.child_token());
        tokio::spawn(async move { running.run(&informers, cancel).await.expect("run") });
        // One of each kind: plain and sticky, from inside and outside, with endpoints here, elsewhere and nowhere.
        for (n, affinity) in [(0, "None"), (1, "ClientIP")] {
            for (m, policy) in [(0, "Cluster"), (1, "Local")] {
                for (k, endpoints) in [(0, &["10.42.0.2", "10.42.0.3"][..]), (1, &[])] {
                    let number = 20 + n * 4 + m * 2 + k;
                    let ports = json!([{ "port": 80, "protocol": "TCP", "nodePort": 30000 + number }]);
                    let spec = json!({ "type": "NodePort", "ports": ports, "sessionAffinity": affinity,
                        "externalIPs": [format!("192.168.77.{number}")], "externalTrafficPolicy": policy });
                    let name = format!("service-{number}");
                    api.apply(service(&name, &format!("10.43.0.{number}"), 80, spec));
                    let endpoints: Vec<_> = endpoints.iter().map(|address| (*address, true)).collect();
                    api.apply(slice(&name, "TCP", 8080, &endpoints));
                }
            }
        }
        let elsewhere = json!({ "type": "NodePort", "externalTrafficPolicy": "Local",
            "ports": [{ "port": 80, "protocol": "TCP", "nodePort": 30050 }] });
        api.apply(service("elsewhere", "10.43.0.50", 80, elsewhere));
        let mut remote = slice("elsewhere", "TCP", 8080, &[("10.42.0.4", true)]);
        remote["endpoints"][0]["nodeName"] = json!("another");
        api.apply(remote);
        api.apply(service("last", "10.43.0.51", 80, json!({})));
        api.apply(slice("last", "TCP", 8081, &[(&NODE.to_string(), true)]));
        serve_tcp("last", 8081);
        until("rules are there", || ask_tcp(([10, 43, 0, 51].into(), 80)).is_ok()).await;

        nft(&["list", "tables"]);
        nft(&["--json", "list", "ruleset"]);
        let text = nft(&["list", "ruleset"]).expect("a listing");
        for part in ["10.43.0.51 . tcp . 80 . 0x00000000 : 192.168.77.1 . 8081", "map @sticky", "map @external-local-2"]
        {
            assert!(text.contains(part), "{part}");
        }
        assert!(!text.contains("invalid"));
    });
}

#[test]
fn sticking_leaves_the_packets_mark_alone() {
    let Some(machine) = Machine::new() else { return };
    machine.run(|| async {
        let network = Network::open(config()).await.expect("open");
        let rules = "table ip probe {
            chain marking { type route hook output priority mangle; meta mark set 0x42; };
            chain counting { type filter hook postrouting priority 200;
                ip daddr 192.168.77.1 tcp dport 8081 meta mark 0x42 counter comment same;
                ip daddr 192.168.77.1 tcp dport 8081 meta mark != 0x42 counter comment other; }; }";
        if nft(&[rules]).is_none() {
            return;
        }
        let api = FakeApi::new();
        let (client, cancel) = (api.client(), CancellationToken::new());
        let informers = Informers::new(client, cancel.child_token());
        tokio::spawn(async move { network.run(&informers, cancel).await.expect("run") });
        api.apply(service(
            "web",
            "10.43.0.20",
            80,
            json!({ "type": "NodePort", "sessionAffinity": "ClientIP",
            "ports": [{ "port": 80, "protocol": "TCP", "nodePort": 30080 }] }),
        ));
        api.apply(slice("web", "TCP", 8081, &[(&NODE.to_string(), true)]));
        serve_tcp("web", 8081);
        for to in [([10, 43, 0, 20].into(), 80), (NODE, 30080)] {
            until("the service answers", || ask_tcp(to).is_ok()).await; // finds nothing that it sticks to
            for _ in 0..3 {
                ask_tcp(to).expect("an answer"); // sticks
            }
        }
        let counted = nft(&["list", "table", "ip", "probe"]).expect("a listing");
        let line =
            |comment: &str| counted.lines().find(|line| line.ends_with(&format!("{comment}\""))).expect("a rule");
        assert!(!line("same").contains("packets 0 ") && line("other").contains("packets 0 "), "{counted}");
    });
}
