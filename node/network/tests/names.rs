//! The cluster's DNS, asked over the network.

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::api::{FakeApi, service, slice};
use common::{DNS, Machine, OUTSIDE, POD_RANGE, Pod, config, until};
use corten_client::Informers;
use corten_network::Network;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use serde_json::json;
use tokio_util::sync::CancellationToken;

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message.to_vec().expect("a message")
}

fn ask(name: &str, kind: RecordType) -> Message {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
    socket.set_read_timeout(Some(Duration::from_secs(4))).expect("a timeout");
    socket.connect((DNS, 53)).expect("connect");
    socket.send(&question(name, kind)).expect("send");
    let mut buffer = [0; 4096];
    let len = socket.recv(&mut buffer).expect("an answer");
    Message::from_vec(&buffer[..len]).expect("a message")
}

fn ask_tcp(name: &str, kind: RecordType) -> Message {
    let mut stream = TcpStream::connect((DNS, 53)).expect("connect");
    let question = question(name, kind);
    stream.write_all(&(question.len() as u16).to_be_bytes()).expect("send");
    stream.write_all(&question).expect("send");
    let mut len = [0; 2];
    stream.read_exact(&mut len).expect("an answer");
    let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut answer).expect("an answer");
    Message::from_vec(&answer).expect("a message")
}

/// The addresses in an answer, in order.
fn addresses(message: &Message) -> Vec<Ipv4Addr> {
    let mut all: Vec<_> = message
        .answers
        .iter()
        .filter_map(|record| match record.data {
            RData::A(A(address)) => Some(address),
            _ => None,
        })
        .collect();
    all.sort();
    all
}

/// A name server that knows one address for everything.
fn serve_upstream() {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).expect("bind");
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let Ok(question) = Message::from_vec(&buffer[..len]) else { continue };
            let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
            let query = question.queries[0].clone();
            answer.add_answer(Record::from_rdata(query.name().clone(), 60, RData::A(A(Ipv4Addr::new(192, 0, 2, 7)))));
            answer.add_query(query);
            let _ = socket.send_to(&answer.to_vec().expect("a message"), from);
        }
    });
}

#[test]
fn pods_and_the_node_ask_for_names() {
    let Some(machine) = Machine::new() else { return };
    machine.outside.run(serve_upstream);
    machine.run(|| async {
        let resolv_conf = tempfile::NamedTempFile::new().expect("a file");
        let mut config = config();
        config.resolv_conf = resolv_conf.path().to_owned();
        let network = Network::open(config).await.expect("open");
        network.set_pod_range(POD_RANGE).await.expect("range");
        let pod = Pod::attach(&network, "a").await;
        let api = FakeApi::new();
        api.apply(service("web", "10.43.0.20", 80, json!({})));
        api.apply(service("db", "None", 80, json!({})));
        api.apply(slice("db", "TCP", 80, &[("10.42.0.5", true), ("10.42.0.6", true), ("10.42.0.7", false)]));
        api.apply(service("away", "", 80, json!({ "type": "ExternalName", "externalName": "example.com" })));
        let running = Arc::clone(&network);
        let cancel = CancellationToken::new();
        let informers = Informers::new(api.client(), cancel.child_token());
        tokio::spawn(async move { running.run(&informers, cancel).await.expect("run") });
        until("DNS listens", || TcpStream::connect((DNS, 53)).is_ok()).await;
        let web = "web.demo.svc.cluster.local.";
        until("the first list is there", || ask(web, RecordType::A).metadata.response_code == ResponseCode::NoError)
            .await;

        let from_pod = |name: &'static str, kind| pod.namespace.run(move || ask(name, kind));
        let answer = from_pod("WEB.demo.svc.cluster.local.", RecordType::A);
        assert_eq!(addresses(&answer), [Ipv4Addr::new(10, 43, 0, 20)]);
        assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
        assert_eq!(answer.answers[0].ttl, 5);
        let db = [Ipv4Addr::new(10, 42, 0, 5), Ipv4Addr::new(10, 42, 0, 6)];
        assert_eq!(addresses(&from_pod("db.demo.svc.cluster.local.", RecordType::A)), db);
        assert_eq!(addresses(&pod.namespace.run(|| ask_tcp("db.demo.svc.cluster.local.", RecordType::A))), db);

        let nothing = from_pod("web.demo.svc.cluster.local.", RecordType::AAAA);
        assert_eq!((nothing.metadata.response_code, nothing.answers.len()), (ResponseCode::NoError, 0));
        assert_eq!(nothing.authorities[0].record_type(), RecordType::SOA);
        let missing = from_pod("nope.demo.svc.cluster.local.", RecordType::A);
        assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(missing.authorities[0].record_type(), RecordType::SOA);

        let start = Instant::now();
        assert_eq!(
            from_pod("example.com.", RecordType::A).metadata.response_code,
            ResponseCode::ServFail,
            "no upstream"
        );
        // Own addresses would be asked in circles; the other one has no route.
        std::fs::write(resolv_conf.path(), "nameserver 10.43.0.10\nnameserver 203.0.113.1\n").expect("write");
        assert_eq!(from_pod("example.com.", RecordType::A).metadata.response_code, ResponseCode::ServFail, "no route");
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
        std::fs::write(resolv_conf.path(), format!("nameserver 203.0.113.1\nnameserver {OUTSIDE}\n")).expect("write");
        let far = [Ipv4Addr::new(192, 0, 2, 7)];
        assert_eq!(addresses(&from_pod("example.com.", RecordType::A)), far);
        let alias = from_pod("away.demo.svc.cluster.local.", RecordType::A);
        assert_eq!(alias.answers[0].record_type(), RecordType::CNAME);
        assert_eq!(addresses(&alias), far, "an alias is followed");

        api.apply(slice("db", "TCP", 80, &[("10.42.0.5", false), ("10.42.0.6", true)]));
        until("names follow endpoints", || addresses(&ask("db.demo.svc.cluster.local.", RecordType::A)) == db[1..])
            .await;
        // What does not fit into a packet is cut off, and whole over TCP.
        let many: Vec<String> = (2..62).map(|n| format!("10.42.0.{n}")).collect();
        let many: Vec<_> = many.iter().map(|address| (address.as_str(), true)).collect();
        api.apply(slice("db", "TCP", 80, &many));
        let db = "db.demo.svc.cluster.local.";
        until("names follow endpoints", || addresses(&ask_tcp(db, RecordType::A)).len() == 60).await;
        assert!(ask(db, RecordType::A).metadata.truncation);
        let start = Instant::now();
        (0..500).for_each(|_| drop(ask(web, RecordType::A)));
        println!("500 questions, one after the other: {:?}", start.elapsed());
    });
}
