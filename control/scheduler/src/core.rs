//! The scheduler without a network: changes go in, decisions come out.

use std::collections::HashMap as ByText;
use std::sync::Arc;

use corten_base::Timestamp;
use corten_client::Key;

use crate::cache::{Cache, Dropped};
use crate::config::{DEFAULT_SCHEDULER, Profile};
use crate::decisions::{Decisions, Findings, Record};
use crate::framework::Change;
use crate::model::{NodeFacts, PodInfo, Wants};
use crate::plugins::{ClaimPlan, plan_claims};
use crate::preempt::{NoRoom, make_room};
use crate::queue::{Entry, Queue};
use crate::schedule::{Chosen, Unfit, cycle, schedule};

/// Cache, queue, and what was decided but not yet carried out.
pub(crate) struct Core {
    pub(crate) cache: Cache,
    pub(crate) queue: Queue,
    profiles: Vec<Arc<Profile>>,
    decisions: Decisions,
    /// With which node the next search begins.
    start: usize,
    /// Pods that are being bound.
    binding: ByText<Key, Entry>,
    /// Pods whose victims are being removed, with their UIDs: another pod may take the name meanwhile.
    preempting: ByText<Key, String>,
}

/// What is to be done.
pub(crate) enum Step {
    Bind(Placement),
    Reject(Rejected),
}

/// A pod that has been given a node.
#[derive(Debug)]
pub(crate) struct Placement {
    pub(crate) pod: Arc<PodInfo>,
    pub(crate) scheduler: String,
    pub(crate) node: Arc<str>,
    pub(crate) claims: Vec<ClaimPlan>,
}

/// A pod that fits nowhere.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) pod: Arc<PodInfo>,
    pub(crate) scheduler: String,
    pub(crate) message: String,
    pub(crate) nomination: Nomination,
    /// Pods that have to leave.
    pub(crate) victims: Vec<Arc<PodInfo>>,
    /// Less important pods that were to have the room that this one gets.
    pub(crate) displaced: Vec<Arc<PodInfo>>,
}

/// What becomes of the node on which a pod waits for room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Nomination {
    Keep,
    Clear,
    Set(Arc<str>),
}

impl Core {
    pub(crate) fn new(profiles: Vec<Profile>, decisions: Decisions) -> Self {
        let (cache, queue) = (Cache::default(), Queue::default());
        let profiles = profiles.into_iter().map(Arc::new).collect();
        Self { cache, queue, profiles, decisions, start: 0, binding: ByText::new(), preempting: ByText::new() }
    }

    /// Has the next search begin with this node.
    #[cfg(test)]
    pub(crate) fn begin_at(&mut self, start: usize) {
        self.start = start;
    }

    /// The profile that serves a pod.
    fn profile(&self, wants: &Wants) -> Option<&Arc<Profile>> {
        let name = if wants.scheduler.is_empty() { DEFAULT_SCHEDULER } else { wants.scheduler.as_str() };
        self.profiles.iter().find(|profile| profile.name == name)
    }

    /// Whether the pod is one that this scheduler is to place.
    pub(crate) fn serves(&self, pod: &PodInfo) -> bool {
        pod.node.is_empty() && !pod.deleting && pod.wants.as_ref().is_some_and(|wants| self.profile(wants).is_some())
    }

    /// Takes in a pod as it is now; `None` if it is gone or has ended.
    pub(crate) fn set_pod(&mut self, key: &Key, pod: Option<PodInfo>, now: Timestamp) {
        let Some(pod) = pod.map(Arc::new) else {
            self.queue.remove(key);
            self.binding.remove(key);
            self.preempting.remove(key);
            let dropped = self.cache.nominated.remove(key);
            self.dropped(dropped, "", now);
            if let Some(gone) = self.cache.remove_pod(key) {
                self.queue.changed(&Change::PodGone(&gone), &self.cache, now);
            }
            return;
        };
        if !pod.node.is_empty() {
            self.set_placed(&pod, now);
            return;
        }
        if self.cache.is_assumed(&pod) {
            return;
        }
        // Another pod of that name may have been there.
        self.cache.remove_pod(key);
        if !self.serves(&pod) {
            self.queue.remove(key);
            let dropped = self.cache.nominated.remove(key);
            self.dropped(dropped, "", now);
            return;
        }
        // What an earlier process promised counts; later it is known better here than in a status that lags behind.
        if !pod.nominated.is_empty() && !self.queue.knows(key) {
            let dropped = self.cache.nominated.set(&pod, &pod.nominated);
            self.dropped(dropped, "", now);
        }
        self.cache.nominated.update(&pod);
        self.queue.set(&pod, now);
    }

    fn set_placed(&mut self, pod: &Arc<PodInfo>, now: Timestamp) {
        self.queue.remove(&pod.key);
        self.binding.remove(&pod.key);
        let dropped = self.cache.nominated.remove(&pod.key);
        let old = self.cache.place(Arc::clone(pod));
        self.dropped(dropped, &pod.node, now);
        let Some(old) = old.filter(|old| old.uid == pod.uid) else {
            self.queue.changed(&Change::PodCame(pod), &self.cache, now);
            return;
        };
        if old.labels != pod.labels {
            self.queue.changed(&Change::PodCame(pod), &self.cache, now);
        }
        if old.labels != pod.labels || !old.requests.fit_in(&pod.requests) {
            self.queue.changed(&Change::PodGone(&old), &self.cache, now);
        }
    }

    /// Room is no longer kept for a pod: as good as if it had left that node, unless it is there (on `placed`) now.
    fn dropped(&mut self, dropped: Option<Dropped>, placed: &str, now: Timestamp) {
        let Some((pod, node)) = dropped.filter(|(_, node)| **node != *placed) else { return };
        let gone = PodInfo { node: node.to_string(), ..PodInfo::clone(&pod) };
        self.queue.changed(&Change::PodGone(&gone), &self.cache, now);
    }

    /// Takes in a node as it is now; `None` if it is gone.
    pub(crate) fn set_node(&mut self, name: &str, node: Option<NodeFacts>, now: Timestamp) {
        let Some(new) = node else {
            if let Some(old) = self.cache.remove_node(name) {
                self.queue.changed(&Change::NodeGone(&old), &self.cache, now);
            }
            return;
        };
        let old = self.cache.set_node(new);
        let Some(slot) = self.cache.slot(name) else { return };
        let new = Arc::clone(&self.cache.node(slot).facts);
        match old {
            None => self.queue.changed(&Change::NodeCame(&new), &self.cache, now),
            Some(old) if old.decides_as(&new) => {}
            Some(old) => self.queue.changed(&Change::NodeChanged { old: &old, new: &new }, &self.cache, now),
        }
    }

    /// A claim has changed.
    pub(crate) fn claim_changed(&mut self, key: &Key, now: Timestamp) {
        self.queue.changed(&Change::Claim(key), &self.cache, now);
    }

    /// Something about volumes, classes or limits of drivers has changed.
    pub(crate) fn storage_changed(&mut self, now: Timestamp) {
        self.queue.changed(&Change::Storage, &self.cache, now);
    }

    /// Labels of a namespace have changed.
    pub(crate) fn namespaces_changed(&mut self, now: Timestamp) {
        self.queue.changed(&Change::Namespaces, &self.cache, now);
    }

    /// Decides about the next pod. `seed` decides among equals.
    pub(crate) fn next(&mut self, now: Timestamp, seed: usize) -> Option<Step> {
        self.queue.tick(now);
        let entry = self.queue.pop()?;
        self.cache.settle();
        let pod = Arc::clone(&entry.pod);
        let profile = Arc::clone(self.profile(pod.wants.as_deref()?)?);
        let decided = cycle(&self.cache, &profile, &pod).map(|cycle| schedule(&cycle, self.start, seed))?;
        match decided {
            Ok(chosen) => Some(self.chosen(entry, &profile, chosen, now)),
            Err(unfit) => Some(self.unfit(entry, &profile, *unfit, now, seed)),
        }
    }

    fn chosen(&mut self, entry: Entry, profile: &Profile, chosen: Chosen, now: Timestamp) -> Step {
        let pod = Arc::clone(&entry.pod);
        self.start = (self.start + chosen.looked_at) % self.cache.len().max(1);
        let node = Arc::clone(&self.cache.node(chosen.slot).facts.name);
        let plan = cycle(&self.cache, profile, &pod)
            .map(|cycle| plan_claims(&cycle, &chosen.state, self.cache.node(chosen.slot)));
        let claims = plan.and_then(Result::ok).unwrap_or_default();
        self.decisions.record(Record {
            node: Some(Arc::clone(&node)),
            evaluated_nodes: chosen.looked_at.max(1),
            findings: Findings::of_choice(&self.cache, chosen.scores, chosen.rejections),
            ..self.decision(&entry, now)
        });
        for claim in &claims {
            if let ClaimPlan::Bind { claim, volume, .. } = claim {
                self.cache.storage.promise(volume, claim.clone());
            }
        }
        let dropped = self.cache.nominated.remove(&pod.key);
        let assumed = Arc::new(PodInfo { node: node.to_string(), wants: None, ..PodInfo::clone(&pod) });
        self.cache.assume(Arc::clone(&assumed));
        self.queue.changed(&Change::PodCame(&assumed), &self.cache, now);
        self.dropped(dropped, &node, now);
        self.binding.insert(pod.key.clone(), entry);
        Step::Bind(Placement { pod, scheduler: profile.name.clone(), node, claims })
    }

    fn unfit(&mut self, entry: Entry, profile: &Profile, mut unfit: Unfit, now: Timestamp, seed: usize) -> Step {
        let pod = Arc::clone(&entry.pod);
        let room = match cycle(&self.cache, profile, &pod) {
            // The cache may not show yet that victims are leaving: others must not be asked as well.
            Some(_) if unfit.nodes > 0 && self.preempting.get(&pod.key) == Some(&pod.uid) => {
                Err(NoRoom::NotNow("waiting for the preemption for this pod to be finished"))
            }
            Some(cycle) if unfit.nodes > 0 => make_room(&cycle, &unfit, seed),
            _ => Err(NoRoom::NotNow("")),
        };
        let (mut nomination, mut victims, mut displaced) = (Nomination::Keep, Vec::new(), Vec::new());
        match room {
            Ok(room) => {
                let facts = Arc::clone(&self.cache.node(room.slot).facts);
                let lesser = self.cache.nominated.on(facts.hash).iter();
                displaced = lesser.filter(|own| own.priority < pod.priority && own.key != pod.key).cloned().collect();
                for own in &displaced {
                    let dropped = self.cache.nominated.remove(&own.key);
                    self.dropped(dropped, "", now);
                    self.queue.retry(&own.key, now);
                }
                let dropped = self.cache.nominated.set(&pod, &facts.name);
                self.dropped(dropped, "", now);
                nomination = Nomination::Set(Arc::clone(&facts.name));
                victims = room.victims;
                if !victims.is_empty() {
                    self.preempting.insert(pod.key.clone(), pod.uid.clone());
                }
            }
            Err(why) => {
                if matches!(why, NoRoom::NoWay(_)) && self.cache.nominated.node_of(&pod.key).is_some() {
                    let dropped = self.cache.nominated.remove(&pod.key);
                    self.dropped(dropped, "", now);
                    nomination = Nomination::Clear;
                }
                unfit.preemption = format!("no new claims to deallocate, preemption: {why}");
            }
        }
        let message = unfit.to_string();
        let objectors = unfit.objectors();
        self.decisions.record(Record {
            message: message.clone(),
            preempts: victims.iter().map(|own| own.key.clone()).collect(),
            evaluated_nodes: unfit.rejections.len(),
            findings: Findings::of_rejections(&self.cache, unfit.rejections),
            ..self.decision(&entry, now)
        });
        self.queue.rejected(entry, objectors, now);
        Step::Reject(Rejected { pod, scheduler: profile.name.clone(), message, nomination, victims, displaced })
    }

    /// A decision of which only the subject is known.
    fn decision(&self, entry: &Entry, now: Timestamp) -> Record {
        Record {
            key: entry.pod.key.clone(),
            uid: entry.pod.uid.clone(),
            time: now,
            attempt: entry.attempts,
            cluster_nodes: self.cache.len(),
            ..Record::default()
        }
    }

    /// The victims of a pod are on their way: all of them, or some are still there and it has to be decided again.
    pub(crate) fn evicted(&mut self, pod: &PodInfo, all: bool, now: Timestamp) {
        if self.preempting.get(&pod.key) != Some(&pod.uid) {
            return;
        }
        self.preempting.remove(&pod.key);
        if !all {
            self.queue.postpone(&pod.key, now);
        }
    }

    /// A binding is in the API, or failed. `pod` is what the API shows by now, if it still is to be placed.
    pub(crate) fn bound(&mut self, placement: &Placement, succeeded: bool, pod: Option<PodInfo>, now: Timestamp) {
        for claim in &placement.claims {
            if let ClaimPlan::Bind { volume, .. } = claim {
                self.cache.storage.release(volume);
            }
        }
        let key = &placement.pod.key;
        let entry = self.binding.remove(key).filter(|entry| entry.pod.uid == placement.pod.uid);
        if succeeded {
            return;
        }
        self.cache.forget(&placement.pod);
        let freed = PodInfo { node: placement.node.to_string(), ..PodInfo::clone(&placement.pod) };
        self.queue.changed(&Change::PodGone(&freed), &self.cache, now);
        if let Some(entry) = entry
            && let Some(pod) = pod.filter(|pod| pod.uid == entry.pod.uid && self.serves(pod))
        {
            self.queue.failed(entry.with(pod), now);
        }
    }
}
