//! The last stage: an answer in the syntax that the client asked for.
//!
//! Handlers answer in JSON, which is what the store holds. What is large or lasts (lists, watches) they write in the
//! wanted syntax themselves.

use corten_api::protobuf::{self, Protobuf};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::Value;

use crate::body::{self, Answer, Object};
use crate::negotiate::{Syntax, Wish};

const YAML: HeaderValue = HeaderValue::from_static("application/yaml");
pub(crate) const PROTOBUF: HeaderValue = HeaderValue::from_static(protobuf::MEDIA_TYPE);

/// What an object is, from its JSON.
#[derive(Deserialize)]
struct TypeMeta<'a> {
    #[serde(rename = "apiVersion", borrow, default)]
    api_version: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    kind: std::borrow::Cow<'a, str>,
}

/// Rewrites an object's JSON in the wanted syntax; other answers, and objects that have no such form, stay as they are.
pub(crate) async fn render(protobuf: &Protobuf, wish: Wish, mut answer: Answer) -> Answer {
    if (wish.syntax == Syntax::Json && !wish.pretty) || answer.extensions_mut().remove::<Object>().is_none() {
        return answer;
    }
    let (mut parts, incoming) = answer.into_parts();
    let json = match incoming.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(never) => match never {},
    };
    let rewritten = match wish.syntax {
        Syntax::Json => pretty(&json),
        Syntax::Yaml => yaml(&json).inspect(|_| drop(parts.headers.insert(CONTENT_TYPE, YAML))),
        Syntax::Protobuf => {
            in_protobuf(protobuf, &json).inspect(|_| drop(parts.headers.insert(CONTENT_TYPE, PROTOBUF)))
        }
    };
    Answer::from_parts(parts, body::full(rewritten.map_or(json, Into::into)))
}

fn pretty(json: &[u8]) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_slice(json).ok()?;
    serde_json::to_vec_pretty(&value).ok()
}

fn yaml(json: &[u8]) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_slice(json).ok()?;
    serde_saphyr::to_string(&value).ok().map(String::into_bytes)
}

fn in_protobuf(protobuf: &Protobuf, json: &[u8]) -> Option<Vec<u8>> {
    let names: TypeMeta<'_> = serde_json::from_slice(json).ok()?;
    match protobuf.encode(&names.api_version, &names.kind, json) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            let error = corten_base::chain(&error);
            tracing::warn!(error, kind = &*names.kind, "answering in JSON what was asked for in protobuf");
            None
        }
    }
}
