use std::os::unix::fs::PermissionsExt;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::FromDer;

use super::*;

fn options(node: &str) -> PkiOptions {
    PkiOptions {
        node_name: node.to_owned(),
        addresses: vec![IpAddr::from([192, 0, 2, 7])],
        service_address: IpAddr::from([10, 43, 0, 1]),
        names: Vec::new(),
    }
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a timestamp")
}

fn days(days: i64) -> Timestamp {
    now() + std::time::Duration::from_secs(u64::try_from(days * 86_400).expect("positive"))
}

#[test]
fn a_second_start_loads_what_the_first_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().join("pki");
    let first = Pki::open(&folder, &options("n1"), now()).expect("made");
    let second = Pki::open(&folder, &options("n1"), days(10)).expect("loaded");
    assert_eq!(first.ca_pem(), second.ca_pem());
    assert_eq!(first.admin().certificate, second.admin().certificate);
    assert_eq!(first.service_account_key(), second.service_account_key());
    assert_eq!(folder.metadata().expect("a folder").permissions().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(&folder).expect("a folder") {
        let entry = entry.expect("an entry");
        assert_eq!(entry.metadata().expect("a file").permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
}

#[test]
fn what_expires_or_no_longer_fits_is_renewed() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = Pki::open(folder.path(), &options("n1"), now()).expect("made");
    let renamed = Pki::open(folder.path(), &options("n2"), now()).expect("loaded");
    assert_ne!(first.apiserver.credentials().certificate, renamed.apiserver.credentials().certificate);
    assert_ne!(first.kubelet.credentials().certificate, renamed.kubelet.credentials().certificate);
    assert_eq!(first.admin().certificate, renamed.admin().certificate);
    let later = Pki::open(folder.path(), &options("n2"), days(300)).expect("loaded");
    assert_ne!(renamed.admin().certificate, later.admin().certificate);
    assert_eq!(first.ca_pem(), later.ca_pem());
    assert!(!later.renew(days(301)).expect("nothing to do"));
    assert!(later.renew(days(600)).expect("renewed"));
}

#[test]
fn a_damaged_file_is_named() {
    for file in ["ca.crt", "ca.key", "apiserver.crt", "apiserver.key", "admin.crt", "kubelet.key", "sa.key"] {
        let folder = tempfile::tempdir().expect("a folder");
        Pki::open(folder.path(), &options("n1"), now()).expect("made");
        let path = folder.path().join(file);
        let text = std::fs::read_to_string(&path).expect("text");
        std::fs::write(&path, &text[..text.len() / 2]).expect("written");
        let error = Pki::open(folder.path(), &options("n1"), now()).err().expect("an error").to_string();
        assert!(error.contains(file) && error.contains("is damaged"), "{error}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    Pki::open(folder.path(), &options("n1"), now()).expect("made");
    std::fs::remove_file(folder.path().join("ca.key")).expect("removed");
    let error = Pki::open(folder.path(), &options("n1"), now()).err().expect("an error").to_string();
    assert!(error.contains("ca.key"), "{error}");
}

#[test]
fn a_lost_certificate_is_made_again() {
    let folder = tempfile::tempdir().expect("a folder");
    Pki::open(folder.path(), &options("n1"), now()).expect("made");
    std::fs::remove_file(folder.path().join("kubelet.crt")).expect("removed");
    Pki::open(folder.path(), &options("n1"), now()).expect("made again");
    assert!(folder.path().join("kubelet.crt").exists());
}

#[test]
fn the_kubeconfig_names_server_and_user() {
    let pki = Pki::ephemeral(&options("n1"), now()).expect("made");
    let text = pki.admin_kubeconfig("https://192.0.2.7:6443");
    assert!(text.contains("server: https://192.0.2.7:6443\n") && text.contains("user: kubernetes-admin\n"), "{text}");
}

#[test]
fn all_configurations_can_be_built() {
    let pki = Pki::ephemeral(&options("n1"), now()).expect("made");
    pki.apiserver_tls().expect("server");
    pki.kubelet_tls().expect("kubelet");
    pki.kubelet_client_tls().expect("client");
    pki.client_verifier().expect("verifier");
    pki.issue_server("x", &["x.example".to_owned()], &[], now()).expect("server certificate");
    pki.issue_client("jane", &["dev"], now()).expect("client certificate");
}

/// A request as somebody made it, with two organizations and other names.
const REQUEST: &str = include_str!("jane.csr");

#[test]
fn a_request_is_signed_over_its_own_names_and_key() {
    let pki = Pki::ephemeral(&options("n1"), now()).expect("made");
    let (request, usages) = (REQUEST, ["digital signature", "client auth"].map(str::to_owned));
    let sign = |lifetime: std::time::Duration| {
        pki.sign(&SigningOrder {
            request: request.as_bytes(),
            usages: &usages,
            lifetime,
            serial: [0xff; 16],
            now: now(),
        })
    };
    let day = std::time::Duration::from_secs(86_400);
    let text = sign(day).expect("signed");
    let der = CertificateDer::from_pem_slice(text.as_bytes()).expect("PEM");
    let (rest, parsed) = x509_parser::parse_x509_certificate(&der).expect("a certificate");
    assert!(rest.is_empty());
    assert_eq!(parsed.subject().to_string(), "CN=jane, O=dev, O=ops");
    assert!(!parsed.is_ca());
    let (from, until) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    assert_eq!((now().as_second() - from, until - from), (300, 86_400));
    let names = parsed.subject_alternative_name().expect("readable").expect("there");
    assert_eq!(names.value.general_names.len(), 2);
    let (_, asked) = x509_parser::pem::parse_x509_pem(request.as_bytes()).expect("PEM");
    let (_, asked) =
        x509_parser::certification_request::X509CertificationRequest::from_der(&asked.contents).expect("a request");
    assert_eq!(parsed.public_key().raw, asked.certification_request_info.subject_pki.raw);
    // Whoever trusts the authority trusts it.
    let time = rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        u64::try_from(now().as_second()).expect("after 1970"),
    ));
    pki.client_verifier().expect("a verifier").verify_client_cert(&der, &[], time).expect("trusted");
    // Nothing lives longer than the authority.
    let text = sign(day * 36_500).expect("signed");
    let der = CertificateDer::from_pem_slice(text.as_bytes()).expect("PEM");
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).expect("a certificate");
    let (_, authority) = x509_parser::parse_x509_certificate(pki.authority.certificate()).expect("a certificate");
    assert_eq!(parsed.validity().not_after, authority.validity().not_after);
}

#[test]
fn a_request_that_somebody_has_changed_is_not_signed() {
    let pki = Pki::ephemeral(&options("n1"), now()).expect("made");
    let text = REQUEST;
    let (_, block) = x509_parser::pem::parse_x509_pem(text.as_bytes()).expect("PEM");
    let mut der = block.contents;
    let place = der.windows(4).position(|bytes| bytes == b"jane").expect("the name");
    der[place..place + 4].copy_from_slice(b"root");
    use base64::Engine;
    let changed = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        base64::engine::general_purpose::STANDARD.encode(der)
    );
    let sign = |request: &str, usage: &str| {
        let usages = [usage.to_owned()];
        let lifetime = std::time::Duration::from_secs(3600);
        pki.sign(&SigningOrder { request: request.as_bytes(), usages: &usages, lifetime, serial: [1; 16], now: now() })
    };
    let error = sign(&changed, "client auth").expect_err("it does not fit its signature");
    assert!(error.starts_with("unable to verify certificate request signature"), "{error}");
    assert_eq!(sign(text, "world peace").expect_err("unknown"), "unrecognized usage \"world peace\"");
    assert!(sign("nothing", "client auth").is_err());
}
