//! Who writes: from requests to the entries of `metadata.managedFields`.
//!
//! The rules are `corten_api::apply`'s. Here they meet kinds, versions and the clock.

use corten_api::apply::{Author, Managers, Operation, Reset, Typed, Versions, update};
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::schema::{Schema, TypeRef};
use corten_api::status::Status;
use corten_kinds::{AnyKind, KINDS, Subresource};
use http::header::{CONTENT_TYPE, USER_AGENT};
use serde_json::Value;

use crate::objects;
use crate::request::Request;
use crate::route::{Target, subresource_name};
use crate::server::Server;

/// Longest name of a manager.
const LONGEST: usize = 128;

/// Who writes.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    pub(crate) manager: String,
    pub(crate) subresource: &'static str,
}

/// Whether a write is recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tracking<'a> {
    /// No: what is recorded stays.
    Unseen,
    /// What the writer changes becomes its own.
    Update(&'a Writer),
    /// The new object says who owns what.
    Given,
}

const fn options(kind: &'static str) -> Names {
    Names { group: "meta.k8s.io", version: "v1", kind, plural: "", singular: "", short: &[], categories: &[] }
}

static CREATE_OPTIONS: Names = options("CreateOptions");
static UPDATE_OPTIONS: Names = options("UpdateOptions");
static PATCH_OPTIONS: Names = options("PatchOptions");

/// Whether the body is a configuration to apply.
pub(crate) fn is_apply(request: &Request) -> bool {
    let kind = request.header(CONTENT_TYPE).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim() == "application/apply-patch+yaml"
}

impl Writer {
    /// The server itself.
    pub(crate) fn server() -> Self {
        Self { manager: "kube-apiserver".to_owned(), subresource: "" }
    }

    /// The one who sends a request: `fieldManager`, else the first part of the user agent.
    pub(crate) fn of(request: &Request, target: &Target) -> Result<Self, Status> {
        let manager = request.query.get("fieldManager").unwrap_or_default();
        let apply = is_apply(request);
        let mut errs = FieldErrors::default();
        if apply && manager.is_empty() {
            errs.required("fieldManager", "is required for apply patch");
        }
        if request.method == http::Method::PATCH && !apply && request.query.has("force") {
            errs.forbidden("force", "may not be specified for non-apply patch");
        }
        if manager.len() > LONGEST {
            errs.invalid("fieldManager", manager, format!("may not be more than {LONGEST} bytes"));
        }
        if let Some((at, letter)) = manager.chars().enumerate().find(|(_, letter)| letter.is_control()) {
            let why = format!("invalid character U+{:04X} (at position {at})", u32::from(letter));
            errs.invalid("fieldManager", manager, why);
        }
        if !errs.is_empty() {
            let names = match request.method {
                http::Method::POST => &CREATE_OPTIONS,
                http::Method::PUT => &UPDATE_OPTIONS,
                _ => &PATCH_OPTIONS,
            };
            return Err(Status::invalid(names, "", &errs));
        }
        let manager = if manager.is_empty() { unnamed(request) } else { manager.to_owned() };
        Ok(Self { manager, subresource: target.subresource.map_or("", subresource_name) })
    }

    /// What the entries of this writer say now.
    pub(crate) fn author(&self, server: &Server, kind: &dyn AnyKind, operation: Operation) -> Author {
        let time = objects::time(server.clock().now());
        Author {
            manager: self.manager.clone(),
            operation,
            api_version: kind.names().api_version(),
            subresource: self.subresource.to_owned(),
            time: time.as_str().unwrap_or_default().to_owned(),
        }
    }
}

/// The name of a client that gives itself none. Clients inside this process have no user agent, but their users have
/// names.
fn unnamed(request: &Request) -> String {
    let agent = request.header(USER_AGENT).unwrap_or_default();
    let mut name = String::new();
    let letters = agent.split('/').next().unwrap_or_default().chars().filter(|letter| !letter.is_control());
    for letter in letters {
        if name.len() + letter.len_utf8() > LONGEST {
            break;
        }
        name.push(letter);
    }
    if !name.is_empty() {
        return name;
    }
    let user = &request.user;
    if user.is_in("system:nodes") {
        return "kubelet".to_owned();
    }
    match user.name.strip_prefix("system:").and_then(|name| name.rsplit(':').next()) {
        Some(name) if name != "anonymous" => name.to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// The versions of a kind that is stored once.
pub(crate) struct Served<'a> {
    schema: &'a Schema,
    kind: &'a dyn AnyKind,
}

impl Served<'_> {
    fn version(&self, api_version: &str) -> Option<&'static dyn AnyKind> {
        let same = |other: &&dyn AnyKind| {
            other.storage() == self.kind.storage()
                && !other.is_virtual()
                && other.names().version == api_version.rsplit('/').next().unwrap_or_default()
                && other.names().api_version() == api_version
        };
        KINDS.iter().copied().find(same)
    }
}

impl Versions for Served<'_> {
    fn convert(&self, object: &Value, api_version: &str) -> Option<(Value, TypeRef)> {
        let from = self.version(object.get("apiVersion")?.as_str()?)?;
        let to = self.version(api_version)?;
        let names = to.names();
        let root = self.schema.find(names.group, names.version, names.kind)?;
        let stored = from.to_stored(object.clone()).ok()?;
        Some((to.to_served(stored).ok()?, root))
    }
}

impl Server {
    /// Runs `with` with the type of a kind as it is served.
    pub(crate) fn with_type<T>(
        &self,
        kind: &dyn AnyKind,
        with: impl FnOnce(Typed<'_>) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let names = kind.names();
        let schema = self.schema();
        let root = schema.find(names.group, names.version, names.kind).ok_or_else(Status::no_such_path)?;
        with(Typed { schema, root, versions: &Served { schema, kind } })
    }
}

/// Which fields a write of this part cannot own.
pub(crate) fn reset(kind: &dyn AnyKind, subresource: Option<Subresource>) -> Reset {
    match subresource {
        Some(Subresource::Status) => Reset::AllButStatus,
        None if kind.subresources().contains(&Subresource::Status) => Reset::Status,
        _ => Reset::Nothing,
    }
}

/// Takes the managers out of an object.
pub(crate) fn take(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.shift_remove("managedFields")
}

/// Puts managers into an object.
pub(crate) fn put(object: &mut Value, managers: Option<Value>) {
    if let Some(managers) = managers {
        objects::metadata(object).insert("managedFields".to_owned(), managers);
    }
}

/// The managers of a new object that was `given` some. `object` is what the client sent, with its defaults.
pub(crate) fn created(
    server: &Server,
    kind: &dyn AnyKind,
    tracking: Tracking<'_>,
    given: Option<&Value>,
    object: &Value,
) -> Option<Value> {
    let Tracking::Update(writer) = tracking else { return given.cloned() };
    let managers = given.and_then(|given| Managers::parse(given).ok()).unwrap_or_default();
    let author = writer.author(server, kind, Operation::Update);
    record(server, kind, managers, &author, None, object)
}

/// The managers of an object that was changed, and whether they are others now. `before` are those of the old object,
/// `given` those of the new one as the client left them; neither object has any.
pub(crate) fn changed(
    server: &Server,
    kind: &dyn AnyKind,
    tracking: Tracking<'_>,
    before: Option<Value>,
    given: Option<Value>,
    (old, new): (&Value, &Value),
) -> (Option<Value>, bool) {
    let writer = match tracking {
        Tracking::Unseen => return (before, false),
        // What differs in nothing but the time is no change.
        Tracking::Given if Managers::same(before.as_ref(), given.as_ref()) => return (before, false),
        Tracking::Given => return (given, true),
        Tracking::Update(writer) => writer,
    };
    let given = given.filter(|given| before.as_ref() != Some(given) && writer.subresource.is_empty());
    if given.as_ref().is_some_and(Managers::is_reset) {
        let gone = before.is_some();
        return (None, gone);
    }
    // Who does not understand managers, or breaks them, does not lose them.
    let edited = given.and_then(|given| Managers::parse(&given).ok()).filter(|managers| !managers.is_empty());
    let managers = match edited {
        Some(managers) => managers,
        // Nobody is recorded until somebody applies.
        None if before.is_none() || old == new => return (before, false),
        None => {
            let author = writer.author(server, kind, Operation::Update);
            return (record(server, kind, Managers::stored(before), &author, Some(old), new), true);
        }
    };
    let author = writer.author(server, kind, Operation::Update);
    let after = record(server, kind, managers, &author, Some(old), new);
    let differ = !Managers::same(before.as_ref(), after.as_ref());
    (after, differ)
}

/// Ownership after a write, in the version in which the author sees the object.
fn record(
    server: &Server,
    kind: &dyn AnyKind,
    managers: Managers,
    author: &Author,
    old: Option<&Value>,
    new: &Value,
) -> Option<Value> {
    let (names, schema) = (kind.names(), server.schema());
    let Some(root) = schema.find(names.group, names.version, names.kind) else { return managers.encode() };
    let typed = Typed { schema, root, versions: &Served { schema, kind } };
    // Through subresources only what they are about changes; the rest needs no rule.
    let reset = if author.subresource.is_empty() { reset(kind, None) } else { Reset::Nothing };
    if !kind.is_view() {
        return update(typed, reset, managers, author, old, new).encode();
    }
    let served = |object: &Value| kind.to_served(object.clone());
    match (old.map(served).transpose(), served(new)) {
        (Ok(old), Ok(new)) => update(typed, reset, managers, author, old.as_ref(), &new).encode(),
        _ => managers.encode(),
    }
}
