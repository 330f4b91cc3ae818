//! Kubeconfig files for people and tools.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Credentials;

/// A kubeconfig with one cluster, one user and one context named `corten`.
pub(super) fn render(url: &str, user: &str, ca_pem: &str, credentials: &Credentials) -> String {
    let encode = |text: &str| STANDARD.encode(text);
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: corten
  cluster:
    server: {url}
    certificate-authority-data: {ca}
users:
- name: {user}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: corten
  context:
    cluster: corten
    user: {user}
current-context: corten
",
        ca = encode(ca_pem),
        certificate = encode(&credentials.certificate),
        key = encode(&credentials.key),
    )
}
