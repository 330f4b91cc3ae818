//! Parameters of operations, by name.

use serde_json::{Map, Value, json};

use super::definitions::Form;

/// A parameter as a document describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    kind: &'static str,
    place: &'static str,
    description: &'static str,
}

const fn query(name: &'static str, kind: &'static str, description: &'static str) -> Parameter {
    Parameter { name, kind, place: "query", description }
}

const fn path(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, kind: "string", place: "path", description }
}

pub(super) const NAME: Parameter = path("name", "Name of the object.");
pub(super) const NAMESPACE: Parameter = path("namespace", "Namespace in which the object is.");
/// What is below a proxy.
pub(super) const BELOW: Parameter = path("path", "Path on the server behind the proxy.");
pub(super) const PRETTY: Parameter = query("pretty", "string", "Whether to indent the answer for people.");

const DRY_RUN: Parameter =
    query("dryRun", "string", "With the value All the request is checked and answered, and nothing is changed.");
const FIELD_VALIDATION: Parameter = query(
    "fieldValidation",
    "string",
    "How unknown and duplicate fields are met: Strict refuses them, Warn (the default) warns of them, Ignore drops them.",
);
const FIELD_MANAGER: Parameter =
    query("fieldManager", "string", "Who makes the change, as managed fields are to remember it.");
const CONTINUE: Parameter =
    query("continue", "string", "Token of the piece of the list that comes next, from the metadata of the last one.");
const FIELD_SELECTOR: Parameter = query("fieldSelector", "string", "Selects objects by values of their fields.");
const LABEL_SELECTOR: Parameter = query("labelSelector", "string", "Selects objects by their labels.");
const LIMIT: Parameter = query("limit", "integer", "Most objects that one answer holds; the rest comes in pieces.");
const VERSION: Parameter =
    query("resourceVersion", "string", "Version of the data that is asked for, as resourceVersionMatch reads it.");
const VERSION_MATCH: Parameter =
    query("resourceVersionMatch", "string", "How resourceVersion is meant: Exact or NotOlderThan.");
const INITIAL: Parameter = query(
    "sendInitialEvents",
    "boolean",
    "Whether a watch begins with the objects that are there and a bookmark that ends them.",
);
const TIMEOUT: Parameter = query("timeoutSeconds", "integer", "Seconds after which the list or the watch ends.");

pub(super) const LIST: &[Parameter] = &[
    query("allowWatchBookmarks", "boolean", "Whether a watch may send bookmarks, which tell how far it is."),
    CONTINUE,
    FIELD_SELECTOR,
    LABEL_SELECTOR,
    LIMIT,
    VERSION,
    VERSION_MATCH,
    INITIAL,
    TIMEOUT,
    query("watch", "boolean", "Whether to go on with the changes of the objects instead of listing them."),
];

pub(super) const WRITE: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];

pub(super) const PATCH: &[Parameter] = &[
    DRY_RUN,
    FIELD_MANAGER,
    FIELD_VALIDATION,
    query("force", "boolean", "Whether an apply takes over fields that other managers own."),
];

const GRACE: Parameter = query("gracePeriodSeconds", "integer", "Seconds that the object gets to end; 0 is at once.");
const UNREADABLE: Parameter = query(
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "boolean",
    "Whether to delete an object that cannot be read from the store, without what depends on reading it.",
);
const ORPHAN: Parameter =
    query("orphanDependents", "boolean", "Deprecated: propagationPolicy says it. Whether dependents stay.");
const PROPAGATION: Parameter =
    query("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground.");

pub(super) const DELETE: &[Parameter] = &[DRY_RUN, GRACE, UNREADABLE, ORPHAN, PROPAGATION];

pub(super) const DELETE_COLLECTION: &[Parameter] = &[
    CONTINUE,
    DRY_RUN,
    FIELD_SELECTOR,
    GRACE,
    UNREADABLE,
    LABEL_SELECTOR,
    LIMIT,
    ORPHAN,
    PROPAGATION,
    VERSION,
    VERSION_MATCH,
    INITIAL,
    TIMEOUT,
];

const CONTAINER: Parameter = query("container", "string", "The container that is meant; the only one if left out.");
const STDERR: Parameter = query("stderr", "boolean", "Whether to pass on the standard error stream.");
const STDIN: Parameter = query("stdin", "boolean", "Whether to pass on the standard input stream.");
const STDOUT: Parameter = query("stdout", "boolean", "Whether to pass on the standard output stream.");
const TTY: Parameter = query("tty", "boolean", "Whether to give the process a terminal.");

pub(super) const ATTACH: &[Parameter] = &[CONTAINER, STDERR, STDIN, STDOUT, TTY];
pub(super) const EXEC: &[Parameter] = &[
    query("command", "string", "The command, one parameter for each of its words."),
    CONTAINER,
    STDERR,
    STDIN,
    STDOUT,
    TTY,
];
pub(super) const PORT_FORWARD: &[Parameter] = &[query("ports", "integer", "Ports of the pod to forward.")];
pub(super) const PROXY: &[Parameter] = &[query("path", "string", "Path on the server behind the proxy.")];
pub(super) const LOG: &[Parameter] = &[
    CONTAINER,
    query("follow", "boolean", "Whether to go on with what the container writes from now on."),
    query("insecureSkipTLSVerifyBackend", "boolean", "Whether to trust the node without checking its certificate."),
    query("limitBytes", "integer", "Most bytes to answer."),
    query("previous", "boolean", "Whether the container's last run is meant."),
    query("sinceSeconds", "integer", "Answers what was written in the last so many seconds."),
    query("stream", "string", "Which stream: All, Stdout or Stderr."),
    query("tailLines", "integer", "Answers the last so many lines."),
    query("timestamps", "boolean", "Whether to begin each line with its time."),
];

impl Parameter {
    /// Whether a v2 document says it once for all operations. kubectl up to 1.26 looks for these two on the spot.
    fn is_shared(self) -> bool {
        self != NAME && self != DRY_RUN && self != FIELD_VALIDATION
    }

    fn describe(self, form: Form) -> Value {
        let mut parameter = json!({"name": self.name, "in": self.place, "description": self.description});
        if let Some(map) = parameter.as_object_mut() {
            if self.place == "path" {
                map.insert("required".to_owned(), true.into());
            }
            match form {
                Form::V2 => {
                    map.insert("type".to_owned(), self.kind.into());
                    map.insert("uniqueItems".to_owned(), true.into());
                }
                Form::V3 => drop(map.insert("schema".to_owned(), json!({"type": self.kind, "uniqueItems": true}))),
            }
        }
        parameter
    }

    /// Name of a shared parameter in a v2 document.
    fn key(self) -> String {
        let place = if self.place == "path" { "-path" } else { "" };
        format!("{}{place}", self.name)
    }
}

/// The parameters of an operation or a path.
pub(super) fn list(parameters: &[Parameter], form: Form) -> Vec<Value> {
    let one = |parameter: &Parameter| match form {
        Form::V2 if parameter.is_shared() => json!({"$ref": format!("#/parameters/{}", parameter.key())}),
        _ => parameter.describe(form),
    };
    parameters.iter().map(one).collect()
}

/// All shared parameters of a v2 document.
pub(super) fn shared() -> Map<String, Value> {
    let lists = [LIST, WRITE, PATCH, DELETE, DELETE_COLLECTION, ATTACH, EXEC, PORT_FORWARD, PROXY, LOG];
    let singles = [NAMESPACE, BELOW, PRETTY];
    let all = lists.into_iter().flatten().chain(&singles).filter(|parameter| parameter.is_shared());
    let mut shared: Vec<(String, Value)> = all.map(|one| (one.key(), one.describe(Form::V2))).collect();
    shared.sort_by(|(a, _), (b, _)| a.cmp(b));
    shared.dedup_by(|(a, _), (b, _)| a == b);
    shared.into_iter().collect()
}
