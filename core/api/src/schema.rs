//! The schema graph: every type, every field, in one place.
//!
//! Joined from k8s-openapi's schemars output (names, types, descriptions) and our own fact tables
//! (list types and keys, merge strategies). Serves decoding, defaulting, patches, OpenAPI and explain.

/// A type in the graph, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeRef(pub u32);

/// The graph. Built once at start (a few milliseconds), immutable.
#[derive(Debug, Default)]
pub struct Schema {}
