//! Probes against real listeners on the loopback interface and a fake runtime.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::answer::Answer;
use super::*;
use crate::ports::{
    ContainerSpec, ContainerState, ExecSpec, PodSpec, PodState, PortError, RuntimeEvent, Session, Usage,
};
use crate::testing::{self, FakeApi};

const SECOND: Duration = Duration::from_secs(1);

/// Answers every request with the same bytes; tells the port and the requests' first bytes.
async fn server(answer: String) -> (u16, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let (sender, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 4096];
            let count = stream.read(&mut buffer).await.unwrap_or(0);
            let _ = sender.send(String::from_utf8_lossy(&buffer[..count]).into_owned());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (port, requests)
}

fn response(status: &str, headers: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: 2\r\n\r\nok")
}

fn target(port: u16) -> http::Target {
    http::Target { https: false, host: "127.0.0.1".to_owned(), port, path: "/healthz".to_owned(), headers: Vec::new() }
}

/// A port where nobody listens.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.expect("a listener").local_addr().expect("an address").port()
}

#[tokio::test]
async fn http_statuses() {
    for (status, expected) in [
        ("200 OK", Answer::Healthy),
        ("304 Not Modified", Answer::Healthy),
        ("404 Not Found", Answer::Unhealthy("HTTP probe failed with statuscode: 404".to_owned())),
        ("503 Service Unavailable", Answer::Unhealthy("HTTP probe failed with statuscode: 503".to_owned())),
    ] {
        let (port, _requests) = server(response(status, "")).await;
        assert_eq!(http::run(&target(port), SECOND).await, expected);
    }
}

#[tokio::test]
async fn http_requests_look_like_the_kubelets() {
    let (port, mut requests) = server(response("200 OK", "")).await;
    let mut target = target(port);
    target.path = "/ready?full=1".to_owned();
    target.headers = vec![("Host".to_owned(), "web.example".to_owned()), ("X-Own".to_owned(), "1".to_owned())];
    assert_eq!(http::run(&target, SECOND).await, Answer::Healthy);
    let request = requests.recv().await.expect("a request");
    let mut lines: Vec<&str> = request.trim_end().split("\r\n").collect();
    lines[1..].sort_unstable();
    let expected = [
        "GET /ready?full=1 HTTP/1.1",
        "Accept: */*",
        "Connection: close",
        "Host: web.example",
        "User-Agent: kube-probe/1.36",
        "X-Own: 1",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn http_redirects() {
    let (own, _requests) = server(response("200 OK", "")).await;
    let (port, _own) = server(response("302 Found", &format!("Location: http://127.0.0.1:{own}/there\r\n"))).await;
    assert_eq!(http::run(&target(port), SECOND).await, Answer::Healthy);
    let (port, _other) = server(response("302 Found", "Location: http://other.example/\r\n")).await;
    let warning = "Probe terminated redirects, Response body: ok".to_owned();
    assert_eq!(http::run(&target(port), SECOND).await, Answer::Warning(warning));
    let (port, _round) = server(response("302 Found", "Location: /again\r\n")).await;
    let endless = format!("Get \"http://127.0.0.1:{port}/again\": stopped after 10 redirects");
    assert_eq!(http::run(&target(port), SECOND).await, Answer::Unhealthy(endless));
}

#[tokio::test]
async fn http_failures_read_like_gos() {
    let port = free_port().await;
    let refused =
        format!("Get \"http://127.0.0.1:{port}/healthz\": dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert_eq!(http::run(&target(port), SECOND).await, Answer::Unhealthy(refused));
    // The kernel accepts, nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let port = silent.local_addr().expect("an address").port();
    let slow = format!(
        "Get \"http://127.0.0.1:{port}/healthz\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
    );
    assert_eq!(http::run(&target(port), Duration::from_millis(50)).await, Answer::Unhealthy(slow));
    let (port, _requests) = server(String::new()).await;
    let ended = format!("Get \"http://127.0.0.1:{port}/healthz\": EOF");
    assert_eq!(http::run(&target(port), SECOND).await, Answer::Unhealthy(ended));
}

#[tokio::test]
async fn https_trusts_anybody() {
    let made = rcgen::generate_simple_self_signed(["other.example".to_owned()]).expect("a certificate");
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .expect("a configuration");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(response("200 OK", "").as_bytes()).await;
        }
    });
    let target = http::Target { https: true, ..target(port) };
    assert_eq!(http::run(&target, SECOND).await, Answer::Healthy);
    let (port, _requests) = server(response("400 Bad Request", "")).await;
    let target = http::Target { https: true, port, ..target };
    let answer = http::run(&target, SECOND).await;
    assert!(matches!(&answer, Answer::Unhealthy(why) if why.contains("tls: ")), "{answer:?}");
}

#[tokio::test]
async fn tcp_connects() {
    let (port, _requests) = server(String::new()).await;
    assert_eq!(tcp::run("127.0.0.1", port, SECOND).await, Answer::Healthy);
    let port = free_port().await;
    let refused = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert_eq!(tcp::run("127.0.0.1", port, SECOND).await, Answer::Unhealthy(refused));
}

/// A health service over hyper's HTTP/2 server; `status` is what it says.
async fn health_service(status: u8, grpc_status: &'static str) -> u16 {
    use ::http::{HeaderMap, Response};
    use http_body::Frame;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(move |_| async move {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", ::http::HeaderValue::from_static(grpc_status));
                let message = bytes::Bytes::from(vec![0, 0, 0, 0, 2, 0x08, status]);
                let frames = [Ok::<_, std::convert::Infallible>(Frame::data(message)), Ok(Frame::trailers(trailers))];
                let body = http_body_util::StreamBody::new(futures::stream::iter(frames));
                Ok::<_, std::convert::Infallible>(Response::new(body))
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            let executor = hyper_util::rt::TokioExecutor::new();
            tokio::spawn(hyper::server::conn::http2::Builder::new(executor).serve_connection(io, service));
        }
    });
    port
}

#[tokio::test]
async fn grpc_health() {
    let port = health_service(1, "0").await;
    assert_eq!(grpc::run("127.0.0.1", port, "db", SECOND).await, Answer::Healthy);
    let port = health_service(2, "0").await;
    let not_serving = "service unhealthy (responded with \"NOT_SERVING\")".to_owned();
    assert_eq!(grpc::run("127.0.0.1", port, "", SECOND).await, Answer::Unhealthy(not_serving));
    let port = health_service(0, "12").await;
    assert!(
        matches!(grpc::run("127.0.0.1", port, "", SECOND).await, Answer::Unhealthy(why) if why.contains("does not implement"))
    );
}

/// Runs commands that a test decides on.
#[derive(Default)]
struct FakeRuntime {
    /// Exit code of the next commands; 1000 for a command that never ends, 1001 for one that cannot be run.
    code: AtomicU16,
    runs: AtomicU32,
}

fn unused() -> PortError {
    PortError { reason: "Unused", message: "not in this test".to_owned() }
}

#[async_trait]
impl Runtime for FakeRuntime {
    async fn create_pod(&self, _: PodSpec) -> Result<PodState, PortError> {
        Err(unused())
    }
    async fn remove_pod(&self, _: &str) -> Result<(), PortError> {
        Err(unused())
    }
    async fn start_container(&self, _: ContainerSpec) -> Result<ContainerState, PortError> {
        Err(unused())
    }
    async fn signal(&self, _: &str, _: &str, _: i32) -> Result<(), PortError> {
        Err(unused())
    }
    async fn kill(&self, _: &str, _: &str) -> Result<(), PortError> {
        Err(unused())
    }
    async fn remove_container(&self, _: &str, _: &str) -> Result<(), PortError> {
        Err(unused())
    }
    async fn list(&self) -> Result<Vec<PodState>, PortError> {
        Err(unused())
    }
    fn events(&self) -> mpsc::UnboundedReceiver<RuntimeEvent> {
        mpsc::unbounded_channel().1
    }
    async fn exec(&self, _: &str, _: &str, spec: ExecSpec) -> Result<Session, PortError> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let code = self.code.load(Ordering::Relaxed);
        if code == 1001 {
            return Err(unused());
        }
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        let (exit, exited) = tokio::sync::oneshot::channel();
        std::fs::File::from(writer).write_all(format!("ran {}", spec.args.join(" ")).as_bytes()).expect("written");
        if code == 1000 {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                drop(exit);
            });
        } else {
            let _ = exit.send(i32::from(code));
        }
        let resize = mpsc::channel(1).0;
        Ok(Session { stdin: None, stdout: Some(reader), stderr: None, resize, exit: exited })
    }
    async fn attach(&self, _: &str, _: &str) -> Result<Session, PortError> {
        Err(unused())
    }
    async fn connect(&self, _: &str, _: u16) -> Result<TcpStream, PortError> {
        Err(unused())
    }
    async fn reopen_log(&self, _: &str, _: &str) -> Result<(), PortError> {
        Err(unused())
    }
    async fn usage(&self, _: &str) -> Result<(Usage, BTreeMap<String, Usage>), PortError> {
        Err(unused())
    }
}

#[tokio::test]
async fn commands() {
    let fake = Arc::new(FakeRuntime::default());
    let runtime: Arc<dyn Runtime> = fake.clone();
    let command = ["check".to_owned(), "it".to_owned()];
    let run = |timeout| exec::run(&runtime, "u1", "c1", &command, timeout);
    assert_eq!(run(SECOND).await, Answer::Healthy);
    fake.code.store(3, Ordering::Relaxed);
    assert_eq!(run(SECOND).await, Answer::Unhealthy("ran check it".to_owned()));
    fake.code.store(1001, Ordering::Relaxed);
    assert_eq!(run(SECOND).await, Answer::Unknown("not in this test".to_owned()));
    fake.code.store(1000, Ordering::Relaxed);
    let slow = "command timed out: \"check it\" timed out after 0s".to_owned();
    assert_eq!(run(Duration::from_millis(20)).await, Answer::Unhealthy(slow));
}

struct Bench {
    api: FakeApi,
    fake: Arc<FakeRuntime>,
    probes: Probes,
    verdicts: mpsc::UnboundedReceiver<Verdict>,
    clock: Clock,
}

fn bench() -> Bench {
    let (api, fake, clock) =
        (FakeApi::default(), Arc::new(FakeRuntime::default()), Clock::virtual_from(Timestamp::UNIX_EPOCH));
    let tools = Tools {
        runtime: fake.clone(),
        recorder: Recorder::new(api.client(), "kubelet", Some("n1".to_owned())),
        clock: clock.clone(),
        random: Random::seeded(1),
    };
    let (sender, verdicts) = mpsc::unbounded_channel();
    Bench { api, fake, probes: Probes::new(tools, sender), verdicts, clock }
}

fn pod(container: Value) -> Arc<Pod> {
    Arc::new(testing::pod(json!({
        "metadata": {"name": "web", "namespace": "demo", "uid": "u1"}, "spec": {"containers": [container]},
    })))
}

fn running(bench: &Bench, id: &str) -> RunningContainer {
    let pod_ip = Some("127.0.0.1".parse().expect("an address"));
    RunningContainer {
        name: "main".to_owned(),
        id: id.to_owned(),
        started_at: bench.clock.now(),
        started: false,
        ending: false,
        pod_ip,
    }
}

impl Bench {
    async fn next(&mut self) -> (ProbeKind, bool) {
        let verdict = self.verdicts.recv().await.expect("a verdict");
        (verdict.kind, verdict.healthy)
    }

    /// Messages of the events so far.
    async fn events(&self) -> Vec<String> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let text = |event: &Value| {
            format!("{} {} {}", event["reason"], event["involvedObject"]["fieldPath"], event["message"])
                .replace('"', "")
        };
        self.api.posted().iter().map(text).collect()
    }
}

fn checks() -> Value {
    json!({"exec": {"command": ["check", "$(WHAT)"]}, "periodSeconds": 10, "failureThreshold": 2})
}

#[tokio::test(start_paused = true)]
async fn a_container_that_comes_up_is_ready_at_once() {
    let mut bench = bench();
    bench.fake.code.store(1, Ordering::Relaxed);
    let pod = pod(json!({"name": "main", "env": [{"name": "WHAT", "value": "me"}], "readinessProbe": checks()}));
    let container = running(&bench, "c1");
    let start = bench.clock.now();
    bench.probes.sync(&pod, std::slice::from_ref(&container));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(bench.verdicts.try_recv().is_err());
    bench.fake.code.store(0, Ordering::Relaxed);
    assert_eq!(bench.next().await, (ProbeKind::Readiness, true));
    assert!(bench.clock.since(start) < Duration::from_millis(80), "{:?}", bench.clock.since(start));
    assert!(bench.events().await.is_empty());
    // It fails twice, and people are told each time.
    bench.fake.code.store(1, Ordering::Relaxed);
    assert_eq!(bench.next().await, (ProbeKind::Readiness, false));
    assert_eq!(bench.clock.since(start).as_secs(), 20);
    let told = "Unhealthy spec.containers{main} Readiness probe failed: ran check me";
    assert_eq!(bench.events().await, [told, told]);
    // A container that is gone is left alone.
    bench.probes.sync(&pod, &[]);
    let runs = bench.fake.runs.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(bench.fake.runs.load(Ordering::Relaxed), runs);
}

#[tokio::test(start_paused = true)]
async fn the_others_wait_for_the_startup_probe() {
    let mut bench = bench();
    bench.fake.code.store(1, Ordering::Relaxed);
    let mut startup = checks();
    startup["failureThreshold"] = 10.into();
    let pod =
        pod(json!({"name": "main", "startupProbe": startup, "livenessProbe": checks(), "readinessProbe": checks()}));
    let container = running(&bench, "c1");
    bench.probes.sync(&pod, std::slice::from_ref(&container));
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert!(bench.verdicts.try_recv().is_err());
    bench.fake.code.store(0, Ordering::Relaxed);
    assert_eq!(bench.next().await, (ProbeKind::Startup, true));
    let mut both = [bench.next().await, bench.next().await];
    both.sort_by_key(|(kind, _)| kind.name());
    assert_eq!(both, [(ProbeKind::Liveness, true), (ProbeKind::Readiness, true)]);
    assert!(bench.clock.since(container.started_at) < Duration::from_secs(32));
    // Liveness fails once and for all; readiness goes on.
    bench.fake.code.store(1, Ordering::Relaxed);
    let mut both = [bench.next().await, bench.next().await];
    both.sort_by_key(|(kind, _)| kind.name());
    assert_eq!(both, [(ProbeKind::Liveness, false), (ProbeKind::Readiness, false)]);
    bench.fake.code.store(0, Ordering::Relaxed);
    assert_eq!(bench.next().await, (ProbeKind::Readiness, true));
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(bench.verdicts.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_new_agent_asks_within_a_period() {
    let mut bench = bench();
    let pod = pod(json!({"name": "main", "startupProbe": checks(), "readinessProbe": checks()}));
    let container = RunningContainer { started: true, ..running(&bench, "c1") };
    tokio::time::sleep(Duration::from_secs(60)).await;
    let start = bench.clock.now();
    bench.probes.sync(&pod, &[container]);
    assert_eq!(bench.next().await, (ProbeKind::Readiness, true));
    assert!(bench.clock.since(start) <= Duration::from_secs(10));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(bench.verdicts.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_ends_is_only_asked_whether_it_can_serve() {
    let mut bench = bench();
    let own = pod(json!({"name": "main", "livenessProbe": checks(), "readinessProbe": checks()}));
    let container = running(&bench, "c1");
    bench.probes.sync(&own, std::slice::from_ref(&container));
    bench.next().await;
    bench.next().await;
    bench.probes.sync(&own, &[RunningContainer { ending: true, ..container }]);
    bench.fake.code.store(1, Ordering::Relaxed);
    assert_eq!(bench.next().await, (ProbeKind::Readiness, false));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(bench.verdicts.try_recv().is_err());
}

#[tokio::test]
async fn named_ports_are_found() {
    let mut bench = bench();
    let (port, mut requests) = server(response("200 OK", "")).await;
    let probe = json!({"httpGet": {"port": "web", "path": "/x", "scheme": "HTTP"}});
    let ports = json!([{"name": "web", "containerPort": port}]);
    let pod = pod(json!({"name": "main", "ports": ports, "readinessProbe": probe}));
    let container = running(&bench, "c1");
    bench.probes.sync(&pod, &[container]);
    assert_eq!(bench.next().await, (ProbeKind::Readiness, true));
    assert!(requests.recv().await.expect("a request").starts_with("GET /x HTTP/1.1"));
}
