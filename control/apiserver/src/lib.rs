//! The API server: Kubernetes' HTTP API over the store.
//!
//! A request's path, one module a stage: `serve` (TLS, HTTP) → `authenticate` → `authorize` → `route` → `verbs`
//! (decode → admit → `AnyKind::process` → `storage` commit → encode). docs/api.md walks through it.
//!
//! Architecture invariant: nothing here knows a kind by name, save `subresources` and `admission`, which are about
//! pods, service accounts and namespaces by their nature, and `authorize::node`.

mod admission;
mod authenticate;
mod authorize;
mod body;
mod bootstrap;
mod canonical;
mod components;
mod discovery;
mod documents;
mod eviction;
mod filter;
mod health;
mod identity;
mod lists;
mod managed;
mod metrics;
mod negotiate;
mod node_proxy;
mod objects;
mod openapi;
mod openid;
mod pieces;
mod pki;
mod policy;
mod proxy;
mod recent;
mod render;
mod request;
mod reviews;
mod route;
mod serve;
mod server;
mod standing;
mod storage;
mod subresources;
mod table;
mod token_request;
mod tokens;
mod turns;
mod verbs;
mod version;
mod virtual_kinds;
mod watch_events;

pub use body::Body;
pub use identity::Identity;
pub use node_proxy::{NodeDialer, NodeStream};
pub use pki::{Credentials, Pki, PkiError, PkiOptions, SigningOrder};
pub use server::{Config, Server, Service, StartError};

/// The Kubernetes version that is served.
pub const KUBERNETES_VERSION: &str = "v1.36.0+corten";
