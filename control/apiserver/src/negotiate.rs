//! In which form the client wants its answer.

use corten_api::protobuf;
use corten_api::status::Status;
use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, header};

use crate::request::Query;

/// How objects are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    /// As they are.
    Object,
    /// As rows.
    Table,
    /// Their metadata alone.
    Metadata,
    /// Aggregated discovery of this version.
    Discovery(&'static str),
}

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Syntax {
    Json,
    Yaml,
    Protobuf,
}

/// Syntax and shape of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    pub(crate) shape: Shape,
    pub(crate) syntax: Syntax,
    /// `v1` or `v1beta1` of meta.k8s.io.
    pub(crate) version: &'static str,
}

impl Form {
    pub(crate) const JSON: Self = Self { shape: Shape::Object, syntax: Syntax::Json, version: "v1" };
}

/// The media types of bodies, as refusals name them.
pub(crate) const MEDIA_TYPES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// What a request says about how its answer is to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) syntax: Syntax,
    /// For people to read.
    pub(crate) pretty: bool,
}

impl Wish {
    /// Of a request's headers and parameters. A form that cannot be had is refused elsewhere, in JSON.
    pub(crate) fn of(headers: &HeaderMap, query: &Query) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let syntax = accept(text(header::ACCEPT)).map_or(Syntax::Json, |form| form.syntax);
        let pretty = match query.get("pretty") {
            Some(wanted) => ["1", "t", "T", "true", "TRUE", "True"].contains(&wanted),
            None => text(header::USER_AGENT)
                .is_some_and(|agent| ["curl", "Wget", "Mozilla/5.0"].iter().any(|one| agent.starts_with(one))),
        };
        Self { syntax, pretty: pretty && syntax == Syntax::Json }
    }
}

/// Whether a client takes compressed answers.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    let weight = |wanted: &str| {
        let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let mut codings = values.flat_map(|value| value.split(','));
        codings.find_map(|coding| {
            let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
            let weight = parameters.trim().strip_prefix("q=").map_or(Some(1.0), |q| q.trim().parse::<f32>().ok());
            name.trim().eq_ignore_ascii_case(wanted).then(|| weight.unwrap_or(0.0))
        })
    };
    weight("gzip").or_else(|| weight("*")).is_some_and(|weight| weight > 0.0)
}

/// The best form of an Accept header that can be served.
pub(crate) fn accept(header: Option<&str>) -> Result<Form, Status> {
    let Some(header) = header.filter(|header| !header.trim().is_empty()) else { return Ok(Form::JSON) };
    // Most clients name one type, or all with the same weight in the order they like.
    if !header.contains(";q=") && !header.contains("; q=") && !header.contains('*') {
        return header.split(',').find_map(form).ok_or_else(not_acceptable);
    }
    let mut ranges: Vec<(&str, f32, bool)> =
        header.split(',').map(|range| (range, weight(range), range.contains('*'))).filter(|one| one.1 > 0.0).collect();
    ranges.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.2.cmp(&right.2)));
    ranges.into_iter().find_map(|(range, ..)| form(range)).ok_or_else(not_acceptable)
}

fn not_acceptable() -> Status {
    refusal(MEDIA_TYPES)
}

/// The refusal of a form in which there are no watches.
pub(crate) fn not_streamed() -> Status {
    refusal("application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch")
}

fn refusal(types: &str) -> Status {
    Status::failure(406, "NotAcceptable", format!("only the following media types are accepted: {types}"))
}

fn weight(range: &str) -> f32 {
    let weight = range.split(';').skip(1).find_map(|part| part.trim().strip_prefix("q=")?.trim().parse().ok());
    weight.filter(|weight: &f32| weight.is_finite()).unwrap_or(1.0)
}

fn form(range: &str) -> Option<Form> {
    let mut parts = range.split(';').map(str::trim);
    let syntax = match parts.next()? {
        "application/json" | "application/*" | "*/*" => Syntax::Json,
        "application/yaml" => Syntax::Yaml,
        protobuf::MEDIA_TYPE => Syntax::Protobuf,
        _ => return None,
    };
    let (mut shape, mut version, mut group) = ("", "", "");
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match name {
            "as" => shape = value,
            "v" => version = value,
            "g" => group = value,
            _ => {}
        }
    }
    let version = match version {
        "" | "v1" => "v1",
        "v1beta1" => "v1beta1",
        "v2" => "v2",
        "v2beta1" => "v2beta1",
        _ => return None,
    };
    let shape = match (shape, group) {
        ("", _) => Shape::Object,
        ("Table", "meta.k8s.io") if !version.starts_with("v2") => Shape::Table,
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io") => Shape::Metadata,
        ("APIGroupDiscoveryList", "apidiscovery.k8s.io") if version.starts_with("v2") => Shape::Discovery(version),
        _ => return None,
    };
    // Tables have cells of any type, for which there is no protobuf.
    if syntax == Syntax::Protobuf && matches!(shape, Shape::Table | Shape::Discovery(_)) {
        return None;
    }
    Some(Form { shape, syntax, version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_is_for_those_who_take_it() {
        let takes = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, http::HeaderValue::from_static(value));
            takes_gzip(&headers)
        };
        for value in ["gzip", "deflate, GZIP;q=0.5", "*", "*;q=0, gzip", "gzip; q=1"] {
            assert!(takes(value), "{value}");
        }
        for value in ["", "deflate", "gzip;q=0", "gzip; q=0.000, *", "gzip;q=x", "*;q=0", "x-gzip"] {
            assert!(!takes(value), "{value}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    fn wins(header: &str) -> Form {
        accept(Some(header)).expect("a form")
    }

    #[test]
    fn the_first_form_that_can_be_served_wins() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(wins(table).shape, Shape::Table);
        assert_eq!(wins("application/vnd.kubernetes.protobuf,application/json").syntax, Syntax::Protobuf);
        assert_eq!(wins("application/cbor,application/json"), Form::JSON);
        assert_eq!(accept(None).expect("fine"), Form::JSON);
        assert_eq!(wins(""), Form::JSON);
        assert_eq!(wins("*/*"), Form::JSON);
        assert_eq!(wins("application/yaml").syntax, Syntax::Yaml);
        assert_eq!(accept(Some("text/html")).expect_err("none").code, 406);
        let discovery = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        assert_eq!(wins(discovery).shape, Shape::Discovery("v2"));
    }

    #[test]
    fn weights_count_and_wildcards_come_last() {
        assert_eq!(wins("application/json;q=0.5, application/yaml").syntax, Syntax::Yaml);
        assert_eq!(wins("*/*,application/vnd.kubernetes.protobuf").syntax, Syntax::Protobuf);
        assert_eq!(accept(Some("application/json;q=0")).expect_err("none").code, 406);
        assert_eq!(wins("application/yaml;q=nan,application/json;q=0.1").syntax, Syntax::Yaml);
    }

    #[test]
    fn tables_are_not_had_in_protobuf() {
        let form = wins(
            "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io",
        );
        assert_eq!((form.syntax, form.shape), (Syntax::Json, Shape::Table));
        let partial = wins("application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io");
        assert_eq!((partial.syntax, partial.shape), (Syntax::Protobuf, Shape::Metadata));
    }
}
