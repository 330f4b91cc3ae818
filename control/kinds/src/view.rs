//! Kinds that are another view of a kind: an older version, or the same objects under another group.
//!
//! Invariant: the store holds objects of the hub only, and its rules decide; a view converts and nothing else.

use std::time::Duration;

use corten_api::field::FieldErrors;
use corten_api::names::{Names, Scope};
use corten_api::status::Status;
use corten_base::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::kind::{Erased, Kind};
use crate::{AnyKind, ColumnHead, Deletion, Operation, Subresource, WriteContext};

/// Another view of a hub, which is the kind that is stored.
///
/// Both conversions must keep everything that clients set: what one shape has no place for goes into annotations.
pub(crate) trait View: Sync + 'static {
    /// The type of its objects.
    type Object: Serialize + DeserializeOwned;
    /// The kind that is stored.
    type Hub: Kind;

    /// Its only value.
    const HUB: &'static Erased<Self::Hub>;
    const NAMES: Names;
    /// Field selectors, if they are not the hub's.
    const FIELDS: Option<&'static [&'static str]> = None;

    /// What the hub calls one of `FIELDS`.
    fn hub_field(name: &'static str) -> &'static str {
        name
    }
    /// Defaults that this version has and the hub has not.
    fn default(_new: &mut Self::Object) {}
    /// What is wrong with what a client sends in this version, besides what the hub finds.
    fn validate(_new: &Self::Object, _errs: &mut FieldErrors) {}
    /// The object as it is stored.
    fn to_hub(view: Self::Object) -> Result<<Self::Hub as Kind>::Object, Status>;
    /// The stored object as this version shows it.
    fn of_hub(hub: <Self::Hub as Kind>::Object) -> Result<Self::Object, Status>;
}

/// A view without its type.
pub(crate) struct Viewed<V>(pub(crate) V);

impl<V: View> AnyKind for Viewed<V> {
    fn names(&self) -> &'static Names {
        &const { V::NAMES }
    }

    fn stored(&self) -> &'static Names {
        V::HUB.names()
    }

    fn is_view(&self) -> bool {
        true
    }

    fn to_stored(&self, object: Value) -> Result<Value, Status> {
        let mut view: V::Object = serde_json::from_value(object).map_err(|error| {
            let (version, kind) = (V::NAMES.version, V::NAMES.kind);
            Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {error}"))
        })?;
        V::default(&mut view);
        let mut errs = FieldErrors::default();
        V::validate(&view, &mut errs);
        let hub = V::to_hub(view)?;
        if !errs.is_empty() {
            use corten_api::k8s_openapi::Metadata;
            return Err(Status::invalid(&V::NAMES, hub.metadata().name.as_deref().unwrap_or_default(), &errs));
        }
        serde_json::to_value(&hub).map_err(Status::internal)
    }

    fn to_served(&self, object: Value) -> Result<Value, Status> {
        let hub = serde_json::from_value(object).map_err(Status::internal)?;
        serde_json::to_value(V::of_hub(hub)?).map_err(Status::internal)
    }

    fn scope(&self) -> Scope {
        V::HUB.scope()
    }

    fn subresources(&self) -> &'static [Subresource] {
        V::HUB.subresources()
    }

    fn storage(&self) -> &'static str {
        V::HUB.storage()
    }

    fn verbs(&self) -> &'static [&'static str] {
        V::HUB.verbs()
    }

    fn columns(&self) -> &'static [ColumnHead] {
        V::HUB.columns()
    }

    fn cells(&self, object: &[u8], now: Timestamp) -> Result<Vec<Value>, Status> {
        V::HUB.cells(object, now)
    }

    fn defaulted(&self, object: &Value) -> Result<Value, Status> {
        V::HUB.defaulted(object)
    }

    fn process(&self, new: Value, operation: Operation<'_>, cx: &WriteContext<'_>) -> Result<Value, Status> {
        V::HUB.process(new, operation, cx)
    }

    fn creates_on_update(&self) -> bool {
        V::HUB.creates_on_update()
    }

    fn orphans_dependents(&self) -> bool {
        V::HUB.orphans_dependents()
    }

    fn orphan_warning(&self) -> Option<&'static str> {
        V::HUB.orphan_warning()
    }

    fn shows_deleted(&self) -> bool {
        V::HUB.shows_deleted()
    }

    fn deletion(&self, object: &Value, grace: Option<i64>) -> Deletion {
        V::HUB.deletion(object, grace)
    }

    fn mark_deleted(&self, object: &mut Value) {
        V::HUB.mark_deleted(object);
    }

    fn held(&self, object: &Value) -> bool {
        V::HUB.held(object)
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let of_hub = V::HUB.fields(object);
        let Some(own) = V::FIELDS else { return of_hub };
        let value = |name| of_hub.iter().find(|(hub, _)| *hub == V::hub_field(name)).map(|(_, value)| value.clone());
        own.iter().map(|name| (*name, value(name).unwrap_or_default())).collect()
    }

    fn field_names(&self) -> &'static [&'static str] {
        V::FIELDS.unwrap_or_else(|| V::HUB.field_names())
    }

    fn claims(&self, object: &Value) -> Vec<String> {
        V::HUB.claims(object)
    }

    fn scale(&self, object: &Value) -> Option<Value> {
        V::HUB.scale(object)
    }

    fn set_scale(&self, object: &mut Value, replicas: i64) {
        V::HUB.set_scale(object, replicas);
    }

    fn time_to_live(&self) -> Option<Duration> {
        V::HUB.time_to_live()
    }
}
