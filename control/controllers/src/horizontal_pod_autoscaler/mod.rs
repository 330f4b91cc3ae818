//! Gives targets as many replicas as their load demands.
//!
//! Spec: <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/>
//! Invariant: what cannot be measured never shrinks a target.
//!
//! `metrics` asks, `replicas` judges one metric, `behavior` says how fast, `plan` decides. What was recommended before
//! is remembered here and lost with the process, as with upstream.

mod behavior;
mod metrics;
mod plan;
mod replicas;
mod targets;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corten_api::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus};
use corten_api::api::core::v1::Pod;
use corten_api::quantity::Quantity;
use corten_api::selector::Labels;
use corten_client::{Informer, Key, Next, Writes, reference};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::context::{Context, Error, or_gone};
use behavior::History;
use metrics::Asker;
use plan::{Conditions, Failure, Plan, needs_metrics};
use replicas::Tolerance;
use targets::Scale;

/// How often targets are looked at, as upstream.
const PERIOD: Duration = Duration::from_secs(15);
const TOLERANCE: f64 = 0.1;

pub(crate) async fn run(cx: Context) {
    let autoscalers = cx.informers.of::<HorizontalPodAutoscaler>();
    let pods = cx.informers.of::<Pod>();
    let scaler = Scaler { autoscalers: autoscalers.clone(), pods: pods.clone(), histories: Arc::default() };
    let queue = cx.queue.clone();
    autoscalers.on_change(move |old, new| {
        // Its own status is no reason to look again.
        let changed = new.filter(|new| old.is_none_or(|old| old.metadata.generation != new.metadata.generation));
        if let Some(autoscaler) = changed.or(old.filter(|_| new.is_none())) {
            queue.add(Key::of(autoscaler));
        }
    });
    tokio::join!(autoscalers.synced(), pods.synced());
    cx.work(4, move |cx, key| {
        let scaler = scaler.clone();
        async move { scaler.sync(&cx, &key).await }
    })
    .await;
}

#[derive(Clone)]
struct Scaler {
    autoscalers: Informer<HorizontalPodAutoscaler>,
    pods: Informer<Pod>,
    histories: Arc<Mutex<HashMap<Key, History>>>,
}

impl Scaler {
    async fn sync(&self, cx: &Context, key: &Key) -> Result<Next, Error> {
        let Some(autoscaler) = self.autoscalers.by_key(key) else {
            self.histories.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            return Ok(Next::Wait);
        };
        let now = cx.config.clock.now();
        let target = &autoscaler.spec.scale_target_ref;
        let version = target.api_version.as_deref().unwrap_or("v1");
        let scale = Scale::of(&cx.client, &key.namespace, version, &target.kind, &target.name).await;
        let scale = match scale {
            Ok(scale) => scale,
            Err(why) => {
                let mut conditions = Conditions::of(&autoscaler, now);
                let message = format!("the HPA controller was unable to get the target's current scale: {why}");
                conditions.set("AbleToScale", false, "FailedGetScale", message);
                let status = with(&autoscaler, conditions);
                self.warn(cx, &autoscaler, &status, &[("FailedGetScale", why)]);
                return self.tell(cx, &autoscaler, status).await;
            }
        };
        let readings = if needs_metrics(&autoscaler, scale.wanted) {
            match self.read(cx, &autoscaler, &scale).await {
                Ok(readings) => readings,
                Err(Failure { reason, message }) => {
                    let mut conditions = Conditions::of(&autoscaler, now);
                    conditions.set("ScalingActive", false, "InvalidSelector", message.clone());
                    let status = with(&autoscaler, conditions);
                    self.warn(cx, &autoscaler, &status, &[(reason, message)]);
                    return self.tell(cx, &autoscaler, status).await;
                }
            }
        } else {
            Vec::new()
        };
        let mut plan = {
            let mut histories = self.histories.lock().unwrap_or_else(PoisonError::into_inner);
            plan::plan(&autoscaler, scale.wanted, &readings, histories.entry(key.clone()).or_default(), now)
        };
        self.warn(cx, &autoscaler, &plan.status, &plan.trouble);
        self.scale(cx, key, &autoscaler, &scale, &mut plan).await;
        self.tell(cx, &autoscaler, plan.status).await
    }

    /// What the metrics of a target say.
    async fn read(
        &self,
        cx: &Context,
        autoscaler: &HorizontalPodAutoscaler,
        scale: &Scale,
    ) -> Result<Vec<Result<plan::Reading, Failure>>, Failure> {
        if scale.selector.is_empty() {
            let message = "the HPA target's scale is missing a selector".to_owned();
            return Err(Failure { reason: "SelectorRequired", message });
        }
        let selector = Labels::parse(&scale.selector).map_err(|error| {
            let message = format!("couldn't convert selector into a corresponding internal selector object: {error}");
            Failure { reason: "InvalidSelector", message }
        })?;
        let all = self.pods.list_in(&autoscaler.namespace().unwrap_or_default());
        let pods: Vec<&Pod> = all
            .iter()
            .map(|pod| &**pod)
            .filter(|pod| selector.matches_optional(pod.metadata.labels.as_ref()))
            .collect();
        let namespace = autoscaler.namespace().unwrap_or_default();
        let asker = Asker {
            client: &cx.client,
            namespace: &namespace,
            selector: &scale.selector,
            pods: &pods,
            current: scale.wanted,
            there: scale.there,
            tolerance: tolerance(autoscaler),
            now: cx.config.clock.now(),
        };
        let mut readings = Vec::new();
        for metric in autoscaler.spec.metrics.iter().flatten() {
            readings.push(asker.read(metric).await);
        }
        Ok(readings)
    }

    /// Sets the number of replicas; a failure goes into the plan's status.
    async fn scale(
        &self,
        cx: &Context,
        key: &Key,
        autoscaler: &HorizontalPodAutoscaler,
        scale: &Scale,
        plan: &mut Plan,
    ) {
        let Some((replicas, reason)) = plan.scale.clone() else { return };
        let now = cx.config.clock.now();
        match scale.set(&cx.client, replicas).await {
            Ok(()) => {
                let mut histories = self.histories.lock().unwrap_or_else(PoisonError::into_inner);
                histories.entry(key.clone()).or_default().changed(scale.wanted, replicas, now);
                drop(histories);
                let message = format!("New size: {replicas}; reason: {reason}");
                cx.recorder.normal(&cx.config.clock, reference(autoscaler), "SuccessfulRescale", message);
            }
            Err(why) => {
                let trouble = format!("New size: {replicas}; reason: {reason}; error: {why}");
                let mut conditions = Conditions::of(autoscaler, now);
                let message = format!("the HPA controller was unable to update the target scale: {why}");
                conditions.set("AbleToScale", false, "FailedUpdateScale", message);
                plan.status = HorizontalPodAutoscalerStatus {
                    desired_replicas: scale.wanted,
                    current_replicas: Some(scale.wanted),
                    ..with(autoscaler, conditions)
                };
                self.warn(cx, autoscaler, &plan.status, &[("FailedRescale", trouble)]);
            }
        }
    }

    /// Tells of trouble when it comes, not every time that it is still there.
    fn warn(
        &self,
        cx: &Context,
        autoscaler: &HorizontalPodAutoscaler,
        status: &HorizontalPodAutoscalerStatus,
        trouble: &[(&'static str, String)],
    ) {
        let before = autoscaler.status.as_ref().and_then(|status| status.conditions.as_ref());
        if before == status.conditions.as_ref() {
            return;
        }
        for (reason, message) in trouble {
            cx.recorder.warning(&cx.config.clock, reference(autoscaler), reason, message);
        }
    }

    /// Writes the status if it is another one.
    async fn tell(
        &self,
        cx: &Context,
        autoscaler: &HorizontalPodAutoscaler,
        status: HorizontalPodAutoscalerStatus,
    ) -> Result<Next, Error> {
        if autoscaler.status.as_ref() == Some(&status) {
            return Ok(Next::After(PERIOD));
        }
        let mut value = serde_json::to_value(&status)?;
        if let (Value::Object(fields), None) = (&mut value, &status.current_metrics) {
            fields.insert("currentMetrics".to_owned(), Value::Null);
        }
        let metadata = json!({"uid": autoscaler.uid(), "resourceVersion": autoscaler.resource_version()});
        let namespace = autoscaler.namespace().unwrap_or_default();
        let api: Api<HorizontalPodAutoscaler> = Api::namespaced(cx.client.clone(), &namespace);
        let patch = Patch::Merge(json!({"metadata": metadata, "status": value}));
        let written = or_gone(api.patch_status(&autoscaler.name_any(), &PatchParams::default(), &patch).await)?;
        let mut writes = Writes::default();
        written.iter().for_each(|written| writes.note(&self.autoscalers, written));
        writes.settle().await;
        Ok(Next::After(PERIOD))
    }
}

/// The status as it was, with other conditions.
fn with(autoscaler: &HorizontalPodAutoscaler, conditions: Conditions) -> HorizontalPodAutoscalerStatus {
    let before = autoscaler.status.clone().unwrap_or_default();
    HorizontalPodAutoscalerStatus { conditions: conditions.list(), ..before }
}

fn tolerance(autoscaler: &HorizontalPodAutoscaler) -> Tolerance {
    let behavior = autoscaler.spec.behavior.clone().unwrap_or_default();
    let of = |rules: Option<HPAScalingRules>| {
        let text = rules.and_then(|rules| rules.tolerance)?;
        let millis = i32::try_from(Quantity::of(&text).ok()?.millis()).ok()?;
        Some(f64::from(millis) / 1000.0)
    };
    Tolerance { up: of(behavior.scale_up).unwrap_or(TOLERANCE), down: of(behavior.scale_down).unwrap_or(TOLERANCE) }
}
