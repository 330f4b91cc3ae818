//! Paths that are no objects: discovery, version, keys.

use std::collections::BTreeMap;

use serde_json::Value;

use super::definitions::Form;
use super::operations::{Answer, KEYS, OK, Operation, VERSION, item};
use super::paths::group_word;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Definitions that these paths answer with.
pub(super) const DEFINITIONS: [&str; 5] = ["APIVersions", "APIGroupList", "APIGroup", "APIResourceList", "Info"];

fn operation(id: &str, tag: &str, description: &str, answer: Answer) -> Operation {
    Operation {
        method: "get",
        action: "",
        id: id.to_owned(),
        tag: tag.to_owned(),
        description: description.to_owned(),
        parameters: Vec::new(),
        body: None,
        answer,
        codes: OK,
        gvk: None,
    }
}

/// Full name of one of `DEFINITIONS`.
pub(super) fn definition(kind: &str) -> String {
    match kind {
        "Info" => VERSION.to_owned(),
        kind => format!("{META}.{kind}"),
    }
}

/// Documents of these paths: the name of each, its path, and what is there.
pub(super) fn all(group_versions: &[(&'static str, &'static str)], form: Form) -> BTreeMap<String, (String, Value)> {
    let object = |kind: &str| Answer::Object(definition(kind));
    let mut all = BTreeMap::new();
    let mut put = |name: &str, operation: Operation| {
        all.insert(name.to_owned(), (format!("/{name}/"), item(&[operation], form)));
    };
    put("api", operation("getCoreAPIVersions", "core", "Versions of the core group.", object("APIVersions")));
    put("apis", operation("getAPIVersions", "apis", "Groups and their versions.", object("APIGroupList")));
    put("version", operation("getCodeVersion", "version", "Version of this server.", object("Info")));
    let (id, tag) = ("getServiceAccountIssuerOpenIDConfiguration", "WellKnown");
    let what = "How tokens of service accounts can be checked, as OpenID Connect describes it.";
    put(".well-known/openid-configuration", operation(id, tag, what, Answer::Text));
    let id = "getServiceAccountIssuerOpenIDKeyset";
    put("openid/v1/jwks", operation(id, KEYS, "Keys that sign tokens of service accounts.", Answer::Text));
    for (group, version) in group_versions {
        let (stem, tag) = (group_word(group, true), group_word(group, false));
        if !group.is_empty() {
            let id = format!("get{stem}APIGroup");
            let what = format!("Versions of the group {group}.");
            put(&format!("apis/{group}"), operation(&id, &tag, &what, object("APIGroup")));
        }
        let root = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
        let mut letters = version.chars();
        let word: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
        let id = format!("get{stem}{word}APIResources");
        let what = "Resources of this version.";
        put(&root, operation(&id, &format!("{tag}_{version}"), what, object("APIResourceList")));
    }
    all
}
