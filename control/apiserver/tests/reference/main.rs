//! Walks the reference OpenAPI document of v1.36 beside what we serve: every path, operation, definition, property,
//! list type, merge key and default is served and equal, or docs/compat.md says why not.
//!
//! The reference is at hand where the project's shared folder is; elsewhere the walk says that it is skipped.

#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod common;
mod compat;
mod facts;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use common::Api;
use compat::Compat;
use facts::Facts;
use serde_json::Value;

/// As many differences as a person reads; the file named in the failure has all.
const SHOWN: usize = 80;

/// The shared folder beside the project, or beside the project that this is a worktree of.
fn shared() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let beside = root.ancestors().skip(1).take(2).map(|folder| folder.join("shared"));
    std::env::var_os("CORTEN_SHARED")
        .map(PathBuf::from)
        .into_iter()
        .chain(beside)
        .find(|path| path.join("data").is_dir())
}

fn unpacked(path: &Path) -> String {
    let file = fs::File::open(path).expect("the reference data can be read");
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("gzip");
    text
}

async fn document(api: &Api, path: &str) -> Value {
    let (code, value) = api.get(path).await;
    assert_eq!(code, 200, "GET {path}: {value}");
    value
}

/// What our server tells of itself.
async fn served() -> Facts {
    let api = Api::new().await;
    let mut served = Facts::default();
    facts::described(&document(&api, "/openapi/v2").await, &mut served);
    let groups = document(&api, "/apis").await;
    let groups = groups["groups"].as_array().into_iter().flatten();
    let versions = groups.flat_map(|group| group["versions"].as_array().into_iter().flatten().cloned());
    let mut paths: Vec<String> =
        versions.filter_map(|version| version["groupVersion"].as_str().map(|name| format!("apis/{name}"))).collect();
    paths.push("api/v1".to_owned());
    for path in paths {
        facts::discovered(&document(&api, &format!("/{path}")).await, &mut served);
        facts::defaulted(&document(&api, &format!("/openapi/v3/{path}")).await, &mut served);
    }
    served
}

/// What the reference tells.
fn reference(data: &Path) -> Facts {
    let text = unpacked(&data.join("kubernetes-1.36-openapi-v2.json.gz"));
    let document = serde_json::from_str(&text).expect("JSON");
    let mut reference = Facts::default();
    facts::described(&document, &mut reference);
    facts::discoverable(&document, &mut reference);
    facts::declared_defaults(&unpacked(&data.join("kubernetes-1.36-fields.tsv.gz")), &document, &mut reference);
    reference
}

/// How the two differ: the fact, and a line that says how. Of an operation or a definition that is not there, that alone.
fn differences(reference: &Facts, served: &Facts) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (fact, wanted) in reference {
        match served.get(fact) {
            None if facts::holder(fact).is_some_and(|holder| !served.contains_key(holder)) => {}
            None => drop(found.insert(fact.clone(), format!("missing: {fact} = {wanted}"))),
            Some(own) if own != wanted => {
                found.insert(fact.clone(), format!("differs: {fact} = {own}, not {wanted}"));
            }
            Some(_) => {}
        }
    }
    for (fact, own) in served.iter().filter(|(fact, _)| !reference.contains_key(*fact)) {
        found.insert(fact.clone(), format!("more than the reference: {fact} = {own}"));
    }
    found
}

#[tokio::test]
async fn everything_in_the_reference_is_served_and_equal_or_listed() {
    let Some(shared) = shared() else {
        eprintln!("skipped: there is no reference data (../shared/data, or $CORTEN_SHARED/data)");
        return;
    };
    let compat = Compat::read();
    let differences = differences(&reference(&shared.join("data")), &served().await);
    let unlisted: Vec<&str> =
        differences.iter().filter(|(fact, _)| !compat.lists(fact)).map(|(_, line)| line.as_str()).collect();
    let stale = compat.stale(differences.keys().map(String::as_str));
    if unlisted.is_empty() && stale.is_empty() {
        return;
    }
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reference-differences.txt");
    fs::write(&all, unlisted.join("\n")).expect("the differences can be written");
    let mut said = String::new();
    for pattern in &stale {
        let _ = writeln!(said, "docs/compat.md lists `{pattern}`, but nothing differs there any more: remove the row");
    }
    if !unlisted.is_empty() {
        let _ = writeln!(said, "{} differences are not listed in docs/compat.md:", unlisted.len());
        for line in unlisted.iter().take(SHOWN) {
            let _ = writeln!(said, "  {line}");
        }
        let _ = writeln!(said, "all of them: {}", all.display());
    }
    panic!("{said}");
}
