//! Service rules against the kernel.

mod common;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::api::{FakeApi, service, slice};
use common::talk::{ask_tcp, ask_udp, serve_tcp, serve_udp};
use common::{Machine, NODE, OUTSIDE, POD_RANGE, Pod, config, until};
use corten_client::Informers;
use corten_network::Network;
use serde_json::json;
use tokio_util::sync::CancellationToken;

const WEB: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 43, 0, 20), 80);

/// A network that runs against an API, and three pods that serve under their names.
struct Cluster {
    network: Arc<Network>,
    api: FakeApi,
    cancel: CancellationToken,
    pods: Vec<Pod>,
}

impl Cluster {
    async fn start() -> Self {
        let network = Network::open(config()).await.expect("open");
        network.set_pod_range(POD_RANGE).await.expect("range");
        let mut pods = Vec::new();
        for name in ["a", "b", "c"] {
            let pod = Pod::attach(&network, name).await;
            pod.namespace.run(move || {
                serve_tcp(name, 8080);
                serve_udp(name, 8080);
            });
            pods.push(pod);
        }
        let mut cluster = Self { network, api: FakeApi::new(), cancel: CancellationToken::new(), pods };
        cluster.run();
        cluster
    }

    fn run(&mut self) {
        self.cancel = CancellationToken::new();
        let (network, client, cancel) = (Arc::clone(&self.network), self.api.client(), self.cancel.clone());
        let informers = Informers::new(client, cancel.child_token());
        tokio::spawn(async move { network.run(&informers, cancel).await.expect("run") });
    }

    /// The endpoints of a service are the pods that are listed, ready or not.
    fn endpoints(&self, service: &str, protocol: &str, ready: &[(usize, bool)]) {
        let addresses: Vec<String> = self.pods.iter().map(|pod| pod.address.to_string()).collect();
        let list: Vec<_> = ready.iter().map(|(pod, ready)| (addresses[*pod].as_str(), *ready)).collect();
        self.api.apply(slice(service, protocol, 8080, &list));
    }

    /// How often each server answered, asked from a pod.
    fn ask_often(&self, from: usize, to: (Ipv4Addr, u16), times: usize) -> BTreeMap<String, usize> {
        self.pods[from].namespace.run(move || count(to, times))
    }
}

fn count(to: (Ipv4Addr, u16), times: usize) -> BTreeMap<String, usize> {
    let mut answers = BTreeMap::new();
    for _ in 0..times {
        let answer = ask_tcp(to).expect("an answer");
        *answers.entry(answer.split(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    answers
}

fn first_word(answer: std::io::Result<String>) -> String {
    answer.map(|text| text.split(' ').next().unwrap_or_default().to_owned()).unwrap_or_else(|error| error.to_string())
}

#[test]
fn connections_spread_evenly_over_what_is_ready() {
    let Some(machine) = Machine::new() else { return };
    machine.run(|| async {
        let cluster = Cluster::start().await;
        cluster.api.apply(service("web", "10.43.0.20", 80, json!({})));
        cluster.endpoints("web", "TCP", &[(0, true), (1, true), (2, true)]);
        until("the service answers", || ask_tcp(WEB).is_ok()).await;
        let answers = cluster.ask_often(0, WEB, 1500);
        println!("{answers:?}");
        // The mean is 500 and the deviation 18: five of them are chance once in a million.
        assert!(answers.len() == 3 && answers.values().all(|n| (410..590).contains(n)), "{answers:?}");
        assert_eq!(count(WEB, 100).len(), 3, "from the node itself, too");
        let seen = cluster.pods[0].namespace.run(|| (0..20).filter_map(|_| ask_tcp(WEB).ok()).collect::<Vec<_>>());
        let client = cluster.pods[0].address.to_string();
        let b_saw = seen.iter().find(|answer| answer.starts_with('b')).expect("an answer of b");
        assert_eq!(*b_saw, format!("b {client}"), "pods see each other's true address");

        cluster.endpoints("web", "TCP", &[(0, false), (1, true), (2, false)]);
        let only_b = |to| (0..30).all(|_| first_word(ask_tcp(to)) == "b");
        let took = until("only b answers", || only_b(WEB)).await;
        println!("endpoints changed within {took:?}");
        // A pod that reaches itself through its own service.
        assert_eq!(cluster.ask_often(1, WEB, 20)["b"], 20);
    });
}

#[test]
fn the_node_itself_can_be_an_endpoint() {
    let Some(machine) = Machine::new() else { return };
    machine.run(|| async {
        let cluster = Cluster::start().await;
        serve_tcp("node", 6443);
        let kubernetes = (Ipv4Addr::new(10, 43, 0, 1), 443);
        cluster.api.apply(service("kubernetes", "10.43.0.1", 443, json!({})));
        cluster.api.apply(slice("kubernetes", "TCP", 6443, &[(&NODE.to_string(), true)]));
        until("the node reaches itself", || ask_tcp(kubernetes).is_ok()).await;
        let answer = cluster.pods[0].namespace.run(move || ask_tcp(kubernetes)).expect("pod to API server");
        assert_eq!(answer, format!("node {}", cluster.pods[0].address));
    });
}

#[test]
fn a_rolling_update_loses_no_connection() {
    let Some(machine) = Machine::new() else { return };
    machine.run(|| async {
        let cluster = Cluster::start().await;
        cluster.api.apply(service("web", "10.43.0.20", 80, json!({})));
        cluster.endpoints("web", "TCP", &[(1, true), (2, true)]);
        until("the service answers", || ask_tcp(WEB).is_ok()).await;
        let load = std::thread::spawn(|| count(WEB, 3000));
        for round in 0..200_usize {
            let sets: [&[(usize, bool)]; 4] =
                [&[(0, true)], &[(0, true), (1, true), (2, true)], &[(1, true), (2, false)], &[(1, true), (2, true)]];
            cluster.endpoints("web", "TCP", sets[round % 4]);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let answers = load.join().expect("no connection failed");
        assert_eq!(answers.values().sum::<usize>(), 3000);
        println!("{answers:?}");
    });
}

#[test]
fn what_has_no_endpoint_is_refused_at_once() {
    let Some(machine) = Machine::new() else { return };
    machine.run(|| async {
        let cluster = Cluster::start().await;
        let ports = json!([{ "port": 80, "protocol": "TCP", "nodePort": 30080 }]);
        cluster.api.apply(service("web", "10.43.0.20", 80, json!({ "type": "NodePort", "ports": ports })));
        cluster.endpoints("web", "TCP", &[(0, false)]);
        cluster.api.apply(service("marker", "10.43.0.21", 80, json!({})));
        cluster.endpoints("marker", "TCP", &[(1, true)]);
        until("rules are there", || ask_tcp((Ipv4Addr::new(10, 43, 0, 21), 80)).is_ok()).await;
        let unknown = (Ipv4Addr::new(10, 43, 9, 9), 80);
        for to in [WEB, unknown, (NODE, 30080)] {
            let start = Instant::now();
            assert_eq!(ask_tcp(to).expect_err("refused").kind(), ErrorKind::ConnectionRefused, "node to {to:?}");
            let answer = cluster.pods[2].namespace.run(move || ask_tcp(to));
            assert_eq!(answer.expect_err("refused").kind(), ErrorKind::ConnectionRefused, "pod to {to:?}");
            assert!(start.elapsed() < Duration::from_millis(500), "{to:?}: {:?}", start.elapsed());
        }
        let udp = cluster.pods[2].namespace.run(|| ask_udp(&UdpSocket::bind("0.0.0.0:0").expect("bind"), WEB));
        assert_eq!(udp.expect_err("refused").kind(), ErrorKind::ConnectionRefused);
        // The DNS address is a service without endpoints, too, and must stay open.
        let dns = json!({ "ports": [{ "port": 53, "protocol": "TCP" }] });
        cluster.api.apply(service("kube-dns", "10.43.0.10", 53, dns));
        tokio::time::sleep(Duration::from_millis(50)).await;
        let connect = || std::net::TcpStream::connect("10.43.0.10:53").map(drop);
        connect().expect("node to DNS");
        cluster.pods[0].namespace.run(connect).expect("pod to DNS");
    });
}

#[test]
fn node_ports_and_external_addresses_answer() {
    let Some(machine) = Machine::new() else { return };
    let ask_outside = |to| machine.outside.run(move || ask_tcp(to));
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (finish, finished) = tokio::sync::oneshot::channel::<()>();
    std::thread::scope(|scope| {
        let node = &machine.node;
        scope.spawn(move || {
            node.run(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async move {
                    let cluster = Cluster::start().await;
                    let ports = json!([{ "port": 80, "protocol": "TCP", "nodePort": 30080 }]);
                    let spec = json!({ "type": "NodePort", "ports": ports, "externalIPs": ["192.168.77.99"] });
                    cluster.api.apply(service("web", "10.43.0.20", 80, spec));
                    cluster.endpoints("web", "TCP", &[(0, true), (1, true)]);
                    let ports = json!([{ "port": 80, "protocol": "TCP", "nodePort": 30081 }]);
                    let spec = json!({ "type": "NodePort", "ports": ports, "externalTrafficPolicy": "Local" });
                    cluster.api.apply(service("local", "10.43.0.21", 80, spec.clone()));
                    cluster.endpoints("local", "TCP", &[(2, true)]);
                    let mut spec = spec;
                    spec["ports"][0]["nodePort"] = json!(30082);
                    cluster.api.apply(service("elsewhere", "10.43.0.22", 80, spec));
                    let mut remote = slice("elsewhere", "TCP", 8080, &[("10.42.0.4", true)]);
                    remote["endpoints"][0]["nodeName"] = json!("another");
                    cluster.api.apply(remote);
                    for to in [WEB, (NODE, 30080), (NODE, 30081), (NODE, 30082)] {
                        until("the node reaches a service", || ask_tcp(to).is_ok()).await;
                        cluster.pods[0].namespace.run(move || ask_tcp(to)).expect("a pod reaches a service");
                    }
                    ready.send(()).expect("the test waits");
                    let _ = finished.await;
                });
            });
        });
        is_ready.recv().expect("the cluster");
        let answer = ask_outside((NODE, 30080)).expect("a node port");
        assert!(answer.ends_with(&NODE.to_string()), "masqueraded: {answer}");
        assert_eq!(ask_outside((NODE, 30081)).expect("a local node port"), format!("c {OUTSIDE}"), "keeps the client");
        assert_eq!(ask_outside((NODE, 30082)).expect_err("no endpoint here").kind(), ErrorKind::TimedOut);
        finish.send(()).expect("the cluster waits");
    });
}

#[test]
fn clients_stick_to_their_endpoint_while_it_is_there() {
    let Some(machine) = Machine::new() else { return };
    machine.run(|| async {
        let cluster = Cluster::start().await;
        cluster.api.apply(service("web", "10.43.0.20", 80, json!({ "sessionAffinity": "ClientIP" })));
        cluster.endpoints("web", "TCP", &[(0, true), (1, true)]);
        until("the service answers", || ask_tcp(WEB).is_ok()).await;
        let first = count(WEB, 50);
        assert_eq!(first.len(), 1, "{first:?}");
        cluster.endpoints("web", "TCP", &[(0, true), (1, true), (2, true)]);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(first, count(WEB, 50), "a new endpoint changes nothing");
        let (gone, others) = if first.contains_key("a") { (0, [1, 2]) } else { (1, [0, 2]) };
        cluster.endpoints("web", "TCP", &[(gone, false), (others[0], true), (others[1], true)]);
        until("another answers", || first_word(ask_tcp(WEB)) != *first.keys().next().expect("one")).await;
        assert_eq!(count(WEB, 50).len(), 1, "sticks to the next one");
    });
}

#[test]
fn udp_clients_move_on_when_their_endpoint_goes() {
    let Some(machine) = Machine::new() else { return };
    machine.run(|| async {
        let cluster = Cluster::start().await;
        cluster.api.apply(service("web", "10.43.0.20", 80, json!({ "ports": [{ "port": 80, "protocol": "UDP" }] })));
        cluster.endpoints("web", "UDP", &[(0, true)]);
        let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
        until("the service answers", || ask_udp(&UdpSocket::bind("0.0.0.0:0").expect("bind"), WEB).is_ok()).await;
        assert_eq!(first_word(ask_udp(&socket, WEB)), "a");
        cluster.endpoints("web", "UDP", &[(0, false), (1, true)]);
        until("the same socket reaches another", || first_word(ask_udp(&socket, WEB)) == "b").await;
    });
}

#[test]
fn rules_stay_while_no_process_runs() {
    let Some(machine) = Machine::new() else { return };
    machine.run(|| async {
        let mut cluster = Cluster::start().await;
        cluster.api.apply(service("web", "10.43.0.20", 80, json!({})));
        cluster.endpoints("web", "TCP", &[(0, true)]);
        until("the service answers", || ask_tcp(WEB).is_ok()).await;
        cluster.cancel.cancel();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(first_word(ask_tcp(WEB)), "a");
        // Another process takes over: it finds the table, and replaces what changed meanwhile.
        cluster.endpoints("web", "TCP", &[(1, true)]);
        let load = std::thread::spawn(|| count(WEB, 500));
        cluster.network = Network::open(config()).await.expect("open");
        cluster.run();
        until("b answers", || first_word(ask_tcp(WEB)) == "b").await;
        load.join().expect("no connection failed");
    });
}

#[test]
fn a_thousand_services_are_quick() {
    let Some(machine) = Machine::new() else { return };
    machine.run(|| async {
        let mut cluster = Cluster::start().await;
        let start = Instant::now();
        for n in 0..1000_u16 {
            let [high, low] = n.to_be_bytes();
            let name = format!("service-{n}");
            cluster.api.apply(service(&name, &format!("10.43.{}.{low}", high + 1), 80, json!({})));
            cluster.endpoints(&name, "TCP", &[(0, true), (1, true)]);
        }
        let last = (Ipv4Addr::new(10, 43, 4, 231), 80);
        until("all are there", || ask_tcp(last).is_ok()).await;
        println!("1,000 services x 2 endpoints, created one by one: {:?}", start.elapsed());
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut times = Vec::new();
        for n in 0..20 {
            let (pod, name) = if n % 2 == 0 { (2, "c") } else { (0, "a") };
            let start = Instant::now();
            cluster.endpoints("service-999", "TCP", &[(pod, true)]);
            until("the change shows", || first_word(ask_tcp(last)) == name).await;
            times.push(start.elapsed());
        }
        times.sort();
        println!("one change, from the API to a connection: median {:?}, max {:?}", times[10], times[19]);
        assert!(times[10] < Duration::from_millis(200));
        cluster.cancel.cancel();
        tokio::time::sleep(Duration::from_millis(20)).await;
        cluster.endpoints("service-999", "TCP", &[(1, true)]);
        let start = Instant::now();
        cluster.run();
        until("all is replaced", || first_word(ask_tcp(last)) == "b").await;
        println!("all lists read and all rules replaced after a restart: {:?}", start.elapsed());
    });
}
