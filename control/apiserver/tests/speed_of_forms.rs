//! How long lists and watches take in each form. Run with
//! `cargo nextest run --release -p corten-apiserver --test speed_of_forms --run-ignored all --no-capture`.

#[expect(dead_code, reason = "other tests of this crate use the rest")]
mod common;

use std::time::{Duration, Instant};

use common::Api;
use corten_apiserver::Identity;
use futures::StreamExt;
use http::Request;
use http::header::ACCEPT;
use http_body_util::{BodyExt, Full};
use serde_json::json;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const FORMS: [(&str, &str); 6] = [
    ("JSON", "application/json"),
    ("protobuf", "application/vnd.kubernetes.protobuf"),
    ("table", "application/json;as=Table;v=v1;g=meta.k8s.io"),
    ("metadata", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"),
    ("metadata in protobuf", "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"),
    ("YAML", "application/yaml"),
];

#[expect(clippy::print_stdout, reason = "it is for people")]
fn tell(what: &str, figure: &str) {
    println!("{what:<44} {figure}");
}

async fn fill(api: &Api, count: usize) {
    let filling = "x".repeat(750);
    for n in 0..count {
        let map = json!({"metadata": {"name": format!("m{n:05}"), "labels": {"n": (n % 10).to_string()}}, "data": {"k": filling}});
        assert_eq!(api.post(MAPS, &map).await.0, 201);
    }
}

#[tokio::test]
#[ignore = "measures"]
async fn lists() {
    let api = Api::new().await;
    fill(&api, 5000).await;
    let selector = ("JSON, one label of ten", "application/json");
    for (name, accept) in FORMS.into_iter().chain([selector]) {
        let query = if name == selector.0 { "?labelSelector=n%3D3" } else { "" };
        let mut times = Vec::new();
        let mut size = 0;
        for _ in 0..7 {
            let start = Instant::now();
            let request = Request::get(format!("{MAPS}{query}")).header(ACCEPT, accept);
            let answer = api.raw(Identity::admin(), request.body(Full::default()).expect("a request")).await;
            assert_eq!(answer.status(), 200);
            let mut pieces = answer.into_body().into_data_stream();
            size = 0;
            while let Some(piece) = pieces.next().await {
                size += piece.expect("bytes").len();
            }
            times.push(start.elapsed());
        }
        times.sort();
        tell(&format!("list of 5,000 as {name}"), &format!("{:?} ({size} bytes)", times[times.len() / 2]));
    }
}

#[tokio::test]
#[ignore = "measures"]
async fn watches() {
    const UPDATES: usize = 500;
    for (name, accept) in &FORMS[..3] {
        for watchers in [100, 1000] {
            let api = Api::new().await;
            let mut watching = Vec::new();
            for _ in 0..watchers {
                let request = Request::get(format!("{MAPS}?watch=1&resourceVersion=2")).header(ACCEPT, *accept);
                let answer = api.raw(Identity::admin(), request.body(Full::default()).expect("a request")).await;
                watching.push(answer.into_body().into_data_stream());
            }
            fill(&api, UPDATES).await;
            let last = format!("m{:05}", UPDATES - 1);
            let start = Instant::now();
            let all = watching.into_iter().map(|mut pieces| {
                let last = last.as_bytes();
                async move {
                    while let Some(piece) = pieces.next().await {
                        let piece = piece.expect("bytes");
                        if piece.windows(last.len()).rev().take(2000).any(|window| window == last) {
                            return;
                        }
                    }
                }
            });
            let all = futures::future::join_all(all);
            tokio::time::timeout(Duration::from_secs(100), all).await.expect("in time");
            let (events, taken) = (watchers * UPDATES, start.elapsed());
            #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
            let rate = events as f64 / taken.as_secs_f64();
            tell(&format!("{watchers} watchers x {UPDATES} as {name}"), &format!("{taken:?}, {rate:.0} events/s"));
        }
    }
}
