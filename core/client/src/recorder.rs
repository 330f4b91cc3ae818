//! Events: what happened to an object, told to people.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use corten_api::api::core::v1::{Event, EventSource, ObjectReference};
use corten_api::meta::{ObjectMeta, Time};
use corten_base::{Clock, Timestamp, chain};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc;

/// Events that may wait to be written; beyond that they are dropped: they must never hold up work.
const QUEUE: usize = 1024;
/// Different events that are remembered, so that a repetition counts up instead of being new.
const REMEMBERED: usize = 4096;

/// Names that are tried for an event.
const NAMES: i128 = 16;

/// Events about one object that are recorded at once, and the time after which one more may be, as in client-go: what
/// fails again and again must not flood the store.
const BURST: u32 = 25;
const REFILL: Duration = Duration::from_secs(300);

/// Records events as one component. Clones share a queue.
#[derive(Clone, Debug)]
pub struct Recorder {
    sender: mpsc::Sender<Note>,
}

#[derive(Clone, Debug)]
struct Note {
    object: ObjectReference,
    kind: &'static str,
    reason: String,
    message: String,
    at: Time,
    clock: Clock,
}

/// How events and owners name an object.
#[must_use]
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: Some(object.name_any()),
        namespace: object.namespace(),
        uid: object.uid(),
        resource_version: object.resource_version(),
        field_path: None,
    }
}

/// Makes a recorder of one component, on one host if it has one.
fn start(client: Client, component: &str, host: Option<String>) -> mpsc::Sender<Note> {
    let (sender, mut notes) = mpsc::channel::<Note>(QUEUE);
    let source = EventSource { component: Some(component.to_owned()), host };
    tokio::spawn(async move {
        let mut known: HashMap<String, (String, i32)> = HashMap::new();
        let mut last_stamp = 0;
        let mut allowances: HashMap<String, Allowance> = HashMap::new();
        while let Some(note) = notes.recv().await {
            if known.len() > REMEMBERED {
                known.clear();
            }
            if allowances.len() > REMEMBERED {
                allowances.clear();
            }
            let uid = note.object.uid.clone().unwrap_or_default();
            if !allowances.entry(uid).or_insert_with(|| Allowance::full(note.at.0)).take(note.at.0) {
                continue;
            }
            // Names of events carry the time, and no two have the same.
            last_stamp = note.clock.now().as_nanosecond().max(last_stamp + 1);
            if let Err(error) = write(&client, &source, &mut known, &note, last_stamp).await {
                tracing::debug!(reason = note.reason, error = chain(&error), "an event was not recorded");
            }
        }
    });
    sender
}

/// How many events an object has left.
struct Allowance {
    left: u32,
    /// From when on the next one grows back.
    since: Timestamp,
}

impl Allowance {
    fn full(now: Timestamp) -> Self {
        Self { left: BURST, since: now }
    }

    fn take(&mut self, now: Timestamp) -> bool {
        while self.left < BURST && now >= self.since + REFILL {
            self.since += REFILL;
            self.left += 1;
        }
        if self.left == BURST {
            self.since = now;
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

impl Recorder {
    /// A recorder; `host` is the node for those who run on one.
    #[must_use]
    pub fn new(client: Client, component: &str, host: Option<String>) -> Arc<Self> {
        Arc::new(Self { sender: start(client, component, host) })
    }

    /// Something went as it should.
    pub fn normal(&self, clock: &Clock, object: ObjectReference, reason: &str, message: impl Into<String>) {
        self.note(clock, object, "Normal", reason, message.into());
    }

    /// Something went wrong.
    pub fn warning(&self, clock: &Clock, object: ObjectReference, reason: &str, message: impl Into<String>) {
        self.note(clock, object, "Warning", reason, message.into());
    }

    fn note(&self, clock: &Clock, object: ObjectReference, kind: &'static str, reason: &str, message: String) {
        let at = Time(clock.now());
        let note = Note { object, kind, reason: reason.to_owned(), message, at, clock: clock.clone() };
        let _ = self.sender.try_send(note);
    }
}

async fn write(
    client: &Client,
    source: &EventSource,
    known: &mut HashMap<String, (String, i32)>,
    note: &Note,
    stamp: i128,
) -> Result<(), kube::Error> {
    let object = &note.object;
    let namespace =
        object.namespace.clone().filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| "default".to_owned());
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let uid = object.uid.as_deref().unwrap_or_default();
    let field = object.field_path.as_deref().unwrap_or_default();
    let identity = format!("{uid} {field} {} {} {}", note.kind, note.reason, note.message);
    if let Some((name, count)) = known.get_mut(&identity) {
        let change = json!({"count": *count + 1, "lastTimestamp": note.at, "message": note.message});
        match api.patch(name, &PatchParams::default(), &Patch::Merge(&change)).await {
            Ok(_) => {
                *count += 1;
                return Ok(());
            }
            // It has expired meanwhile: it is new again.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let name = object.name.as_deref().unwrap_or_default();
    let mut event = Event {
        metadata: ObjectMeta { namespace: Some(namespace), ..ObjectMeta::default() },
        involved_object: object.clone(),
        reason: Some(note.reason.clone()),
        message: Some(note.message.clone()),
        type_: Some(note.kind.to_owned()),
        source: Some(source.clone()),
        reporting_component: source.component.clone(),
        reporting_instance: source.host.clone(),
        first_timestamp: Some(note.at.clone()),
        last_timestamp: Some(note.at.clone()),
        count: Some(1),
        ..Event::default()
    };
    // Another component may have told something of the same object at the same moment.
    for stamp in stamp..stamp + NAMES {
        let event_name = format!("{name}.{stamp:x}");
        event.metadata.name = Some(event_name.clone());
        match api.create(&PostParams::default(), &event).await {
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
            result => {
                result?;
                known.insert(identity, (event_name, 1));
                break;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_keeps_failing_is_told_of_less_often() {
        let mut own = Allowance::full(Timestamp::UNIX_EPOCH);
        // An event every ten seconds for an hour.
        let told = (0..360).filter(|turn| own.take(Timestamp::UNIX_EPOCH + Duration::from_secs(turn * 10))).count();
        assert_eq!(told, 25 + 11);
        // And after a quiet day.
        let later = Timestamp::UNIX_EPOCH + Duration::from_secs(90_000);
        assert_eq!((0..100).filter(|_| own.take(later)).count(), 25);
    }
}
