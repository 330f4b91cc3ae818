//! In which form the client wants its answer.

use corten_api::status::Status;

/// How objects are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// Syntax and shape of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) shape: Shape,
    pub(crate) yaml: bool,
    /// `v1` or `v1beta1` of meta.k8s.io.
    pub(crate) version: &'static str,
}

impl Form {
    pub(crate) const JSON: Self = Self { shape: Shape::Object, yaml: false, version: "v1" };
}

/// The first form of an Accept header that can be served.
pub(crate) fn accept(header: Option<&str>) -> Result<Form, Status> {
    let Some(header) = header.filter(|header| !header.trim().is_empty()) else { return Ok(Form::JSON) };
    header.split(',').find_map(form).ok_or_else(|| {
        Status::failure(
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json, application/yaml",
        )
    })
}

fn form(range: &str) -> Option<Form> {
    let mut parts = range.split(';').map(str::trim);
    let yaml = match parts.next()? {
        "application/json" | "application/*" | "*/*" => false,
        "application/yaml" => true,
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
    Some(Form { shape, yaml, version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_can_be_served_wins() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(accept(Some(table)).expect("fine").shape, Shape::Table);
        assert_eq!(accept(Some("application/vnd.kubernetes.protobuf,application/json")).expect("fine"), Form::JSON);
        assert_eq!(accept(None).expect("fine"), Form::JSON);
        assert_eq!(accept(Some("")).expect("fine"), Form::JSON);
        assert_eq!(accept(Some("*/*")).expect("fine"), Form::JSON);
        assert!(accept(Some("application/yaml")).expect("fine").yaml);
        assert_eq!(accept(Some("text/html")).expect_err("none").code, 406);
        let discovery = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        assert_eq!(accept(Some(discovery)).expect("fine").shape, Shape::Discovery("v2"));
    }
}
