//! What somebody may not do to an object although policy lets him write objects of its kind: checks that look at the
//! object and at who asks. [`GUARDS`] is the only list.

use corten_api::status::Status;
use corten_kinds::{Subresource, Warnings};
use serde_json::Value;

use super::{Attempt, namespace_lifecycle, node_restriction};
use crate::authorize::{escalation, signers};
use crate::identity::Identity;
use crate::route::Target;
use crate::server::Server;
use crate::verbs::Change;

/// What is to be done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Create,
    Change(Change),
    Delete,
    /// Something is posted to a subresource: the object at hand is what was posted.
    Post(Subresource),
}

/// Whether an act is allowed. The object at hand is the new one, save for deletions.
type Guard = fn(&Attempt<'_>, Act, Option<&Value>) -> Result<(), Status>;

static GUARDS: &[Guard] = &[node_restriction::check, namespace_lifecycle::keep, not_more_than_held, signed_by_signers];

/// Refuses what may not be done.
pub(crate) fn check(write: &Attempt<'_>, act: Act, new: Option<&Value>) -> Result<(), Status> {
    GUARDS.iter().try_for_each(|guard| guard(write, act, new))
}

/// Refuses what may not be posted to a subresource of a stored object.
pub(crate) fn check_post(
    server: &Server,
    user: &Identity,
    target: &Target,
    old: &Value,
    posted: &Value,
) -> Result<(), Status> {
    let Some(subresource) = target.subresource else { return Ok(()) };
    let attempt = Attempt {
        server,
        user,
        snapshot: &server.store().snapshot(),
        kind: target.kind,
        namespace: target.namespace.as_deref(),
        name: target.name.as_deref().unwrap_or_default(),
        old: Some(old),
        told: &Warnings::default(),
    };
    check(&attempt, Act::Post(subresource), Some(posted))
}

/// Nobody gives what he does not have.
fn not_more_than_held(write: &Attempt<'_>, act: Act, new: Option<&Value>) -> Result<(), Status> {
    match (act, new) {
        (Act::Create | Act::Change(_), Some(new)) => {
            escalation::check(write.server.authorizer(), write.user, write.names(), write.old, new)
        }
        _ => Ok(()),
    }
}

/// Requests for certificates are decided by those who may for their signer.
fn signed_by_signers(write: &Attempt<'_>, act: Act, new: Option<&Value>) -> Result<(), Status> {
    match (act, write.old, new) {
        (Act::Change(what), Some(old), Some(new)) => {
            signers::check(write.server.authorizer(), write.user, write.names(), what, (old, new))
        }
        _ => Ok(()),
    }
}
