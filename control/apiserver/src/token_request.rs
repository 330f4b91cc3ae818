//! TokenRequest: a token for a service account, on request.

use std::time::Duration;

use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::objects::Warnings;
use crate::server::Server;
use crate::storage;
use crate::tokens::{Bound, ISSUER, Subject};

/// Names of the kind.
pub(crate) static TOKEN_REQUEST: Names = Names {
    group: "authentication.k8s.io",
    version: "v1",
    kind: "TokenRequest",
    plural: "",
    singular: "",
    short: &[],
    categories: &[],
};

static ACCOUNTS: Names = Names {
    group: "",
    version: "v1",
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "",
    short: &[],
    categories: &[],
};

const DEFAULT_SECONDS: i64 = 3600;
const LEAST_SECONDS: i64 = 600;
const MOST_SECONDS: i64 = 1 << 32;
/// Kubelets ask for tokens of just this life for pods. Programs that never read their token again are common enough
/// that such tokens go on to be good for a year, as upstream, unless the pod ends before.
const POD_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 86_400;

/// Answers a request: `asked` with its defaults and its status, as the account `name` in `namespace`. A dry
/// run answers all but the token.
pub(crate) fn answer(
    server: &Server,
    namespace: &str,
    name: &str,
    account: &Value,
    mut asked: Value,
    dry_run: bool,
) -> Result<(Value, Warnings), Status> {
    is_for(&asked["metadata"], namespace, name, account)?;
    let spec = &asked["spec"];
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
    let mut errs = FieldErrors::default();
    if seconds < LEAST_SECONDS {
        errs.invalid("spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes");
    } else if seconds > MOST_SECONDS {
        errs.invalid("spec.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds");
    }
    if !errs.is_empty() {
        return Err(Status::invalid(&TOKEN_REQUEST, "", &errs));
    }
    let given = spec["audiences"].as_array().into_iter().flatten();
    let mut audiences: Vec<String> = given.filter_map(|own| own.as_str().map(str::to_owned)).collect();
    if audiences.is_empty() {
        audiences.push(ISSUER.to_owned());
    }
    let mut subject = Subject {
        namespace: namespace.to_owned(),
        serviceaccount: Bound { name: name.to_owned(), uid: text(&account["metadata"]["uid"]) },
        ..Subject::default()
    };
    if spec["boundObjectRef"].is_object() {
        bind(server, &spec["boundObjectRef"], &mut subject)?;
    }
    let now = server.clock().now();
    let mut valid = seconds;
    if subject.pod.is_some() && seconds == POD_SECONDS && audiences == [ISSUER] {
        subject.warnafter = Some(now.as_second() + seconds);
        valid = EXTENDED_SECONDS;
    }
    let token = if dry_run {
        String::new()
    } else {
        server.tokens().issue(subject, audiences.clone(), valid, now).map_err(Status::internal)?
    };
    if !asked["metadata"].is_object() {
        asked["metadata"] = json!({});
    }
    asked["metadata"]["name"] = name.into();
    asked["metadata"]["namespace"] = namespace.into();
    asked["metadata"]["creationTimestamp"] = crate::objects::time(now);
    asked["spec"]["audiences"] = audiences.into();
    asked["spec"]["expirationSeconds"] = seconds.into();
    asked["status"] = status(&token, now + Duration::from_secs(seconds.unsigned_abs()));
    Ok((asked, Warnings::new()))
}

/// Refuses a request that says it is for another account than the one at the path.
fn is_for(metadata: &Value, namespace: &str, name: &str, account: &Value) -> Result<(), Status> {
    let mut errs = FieldErrors::default();
    for (field, here) in [("name", name), ("namespace", namespace)] {
        if let Some(own) = metadata[field].as_str().filter(|own| !own.is_empty() && *own != here) {
            let why = format!("must match the service account {field} if specified");
            errs.invalid(format!("metadata.{field}"), own, why);
        }
    }
    if !errs.is_empty() {
        return Err(Status::invalid(&TOKEN_REQUEST, name, &errs));
    }
    let is = text(&account["metadata"]["uid"]);
    if let Some(wanted) = metadata["uid"].as_str().filter(|wanted| !wanted.is_empty() && *wanted != is) {
        let why = format!(
            "the UID in the token request ({wanted}) does not match the UID in record ({is}). The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(&ACCOUNTS, name, &why));
    }
    Ok(())
}

fn status(token: &str, expires: Timestamp) -> Value {
    let expires = Timestamp::from_second(expires.as_second()).map(|time| time.to_string()).unwrap_or_default();
    json!({"token": token, "expirationTimestamp": expires})
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Binds a token to an object, which must be there.
fn bind(server: &Server, reference: &Value, subject: &mut Subject) -> Result<(), Status> {
    let (name, kind) = (text(&reference["name"]), text(&reference["kind"]));
    let own = Some(subject.namespace.as_str());
    let (storage, plural, namespace) = match (reference["apiVersion"].as_str().unwrap_or_default(), kind.as_str()) {
        ("v1" | "", "Pod") => ("pods", "pods", own),
        ("v1" | "", "Secret") => ("secrets", "secrets", own),
        ("v1" | "", "Node") => ("minions", "nodes", None),
        (version, kind) => {
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            let why = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
            return Err(Status::bad_request(why));
        }
    };
    let names = Names { group: "", version: "v1", kind: "", plural, singular: "", short: &[], categories: &[] };
    let snapshot = server.store().snapshot();
    let object: Option<Value> = storage::find(&snapshot, storage, namespace, &name)?;
    let object = object.ok_or_else(|| Status::not_found(&names, &name))?;
    let bound = Bound { name: name.clone(), uid: text(&object["metadata"]["uid"]) };
    if let Some(wanted) = reference["uid"].as_str().filter(|wanted| !wanted.is_empty() && *wanted != bound.uid) {
        let why = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(&names, &name, &why));
    }
    match storage {
        "secrets" => subject.secret = Some(bound),
        "minions" => subject.node = Some(bound),
        _ => {
            let account = &subject.serviceaccount.name;
            if object["spec"]["serviceAccountName"] != *account.as_str() {
                let why = format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                );
                return Err(Status::bad_request(why));
            }
            // The node is told along; that it is not there (any more) is no reason to refuse.
            if let Some(node) = object["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
                let found: Option<Value> = storage::find(&snapshot, "minions", None, node)?;
                let uid = found.map(|node| text(&node["metadata"]["uid"]));
                subject.node = Some(Bound { name: node.to_owned(), uid: uid.unwrap_or_default() });
            }
            subject.pod = Some(bound);
        }
    }
    Ok(())
}
