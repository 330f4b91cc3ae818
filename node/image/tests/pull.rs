//! Pulling from a registry on this machine: the distribution API in a few lines.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;

use corten_image::{Error, ImageRef, ImageStore};
use serde_json::json;
use sha2::{Digest, Sha256};

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Answers GET and HEAD of these paths until the test ends; the port.
fn serve(content: HashMap<String, (&'static str, Vec<u8>)>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let content = Arc::new(content);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let content = Arc::clone(&content);
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
                let mut stream = stream;
                loop {
                    let mut request = String::new();
                    if reader.read_line(&mut request).unwrap_or(0) == 0 {
                        return;
                    }
                    let mut header = String::new();
                    while reader.read_line(&mut header).is_ok_and(|count| count > 2) {
                        header.clear();
                    }
                    let mut words = request.split_whitespace();
                    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                    let (status, (kind, body)) = match content.get(path) {
                        Some(found) => ("200 OK", found.clone()),
                        None => ("404 Not Found", ("application/json", b"{\"errors\":[]}".to_vec())),
                    };
                    let (length, name) = (body.len(), digest(&body));
                    let head = format!(
                        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nDocker-Content-Digest: {name}\r\n\r\n"
                    );
                    let body = if method == "HEAD" { Vec::new() } else { body };
                    if stream.write_all(&[head.into_bytes(), body].concat()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// The paths of an image `app:v1` with one file; `layer_as` is what the registry serves for its layer.
fn image(layer_as: impl Fn(&[u8]) -> Vec<u8>) -> HashMap<String, (&'static str, Vec<u8>)> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append_data(&mut header, "hello", &b"world"[..]).expect("packed");
    let layer = tar.into_inner().expect("packed");
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/hello"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}});
    let config = config.to_string().into_bytes();
    let descriptor =
        |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)]});
    let manifest = manifest.to_string().into_bytes();
    let blob = |bytes: &[u8]| format!("/v2/app/blobs/{}", digest(bytes));
    HashMap::from([
        ("/v2/".to_owned(), ("application/json", b"{}".to_vec())),
        (format!("/v2/app/manifests/{}", digest(&manifest)), (MANIFEST, manifest.clone())),
        ("/v2/app/manifests/v1".to_owned(), (MANIFEST, manifest)),
        (blob(&config), ("application/octet-stream", config)),
        (blob(&layer), ("application/octet-stream", layer_as(&layer))),
    ])
}

async fn pull(port: u16, name: &str) -> (tempfile::TempDir, ImageStore, Result<corten_image::Image, Error>) {
    let dir = tempfile::tempdir().expect("a folder");
    let store = ImageStore::open(dir.path().join("images")).expect("a store");
    let reference: ImageRef = format!("127.0.0.1:{port}/{name}").parse().expect("a reference");
    let result = store.pull(&reference, &[]).await;
    (dir, store, result)
}

#[tokio::test]
async fn a_pulled_image_is_there_with_its_files() {
    let port = serve(image(<[u8]>::to_vec));
    let (_dir, store, pulled) = pull(port, "app:v1").await;
    let pulled = pulled.expect("pulled");
    assert_eq!(pulled.cmd, ["/hello"]);
    let layers = store.layers(&pulled.id).expect("unpacked");
    assert_eq!(std::fs::read_to_string(layers[0].join("hello")).expect("a file"), "world");
    assert!(store.find(&format!("127.0.0.1:{port}/app:v1")).expect("looked").is_some());
}

#[tokio::test]
async fn what_a_registry_does_not_deliver_is_an_error_and_leaves_nothing() {
    let message = |result: Result<corten_image::Image, Error>| result.expect_err("not pulled").to_string();
    let port = serve(image(<[u8]>::to_vec));
    let (_dir, _, missing) = pull(port, "app:v2").await;
    let missing = message(missing);
    assert!(missing.contains("failed to pull and unpack image") && missing.contains("v2"), "{missing}");
    let port = serve(image(|layer| layer.iter().map(|byte| byte ^ 1).collect()));
    let (_dir, store, wrong) = pull(port, "app:v1").await;
    let wrong = message(wrong);
    assert!(wrong.contains("sha256:"), "{wrong}");
    assert!(store.list().expect("listed").is_empty());
    // Nobody listens there: an answer at once, not a panic.
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let (_dir, _, refused) = pull(closed, "app:v1").await;
    let refused = message(refused);
    assert!(refused.contains("refused") || refused.contains("connect"), "{refused}");
}
