//! Asks for metrics, and lets `replicas` judge them.

use std::collections::BTreeMap;
use std::time::Duration;

use corten_api::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricStatus, MetricIdentifier, MetricSpec, MetricStatus, MetricTarget,
    MetricValueStatus, ObjectMetricStatus, PodsMetricStatus, ResourceMetricStatus,
};
use corten_api::api::core::v1::Pod;
use corten_api::k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use corten_api::meta::LabelSelector;
use corten_api::quantity::Quantity;
use corten_base::{Timestamp, chain};
use kube::Client;
use serde_json::Value;

use super::plan::{Failure, Reading};
use super::replicas::{About, Proposal, Sample, Samples, Target, Tolerance, of_pods, of_share, of_value, ready};
use super::targets::{encoded, get, resource_of};

const RESOURCES: &str = "/apis/metrics.k8s.io/v1beta1";
const CUSTOM: &str = "/apis/custom.metrics.k8s.io/v1beta2";
const EXTERNAL: &str = "/apis/external.metrics.k8s.io/v1beta1";

/// What metrics are read for.
pub(super) struct Asker<'a> {
    pub(super) client: &'a Client,
    pub(super) namespace: &'a str,
    /// The target's selector, as text.
    pub(super) selector: &'a str,
    pub(super) pods: &'a [&'a Pod],
    /// Replicas that are wanted, and that there are.
    pub(super) current: i32,
    pub(super) there: i32,
    pub(super) tolerance: Tolerance,
    pub(super) now: Timestamp,
}

impl Asker<'_> {
    /// What one metric says.
    pub(super) async fn read(&self, metric: &MetricSpec) -> Result<Reading, Failure> {
        let (reason, read) = match metric.type_.as_str() {
            "Resource" => ("FailedGetResourceMetric", self.resource(metric).await),
            "ContainerResource" => ("FailedGetContainerResourceMetric", self.container(metric).await),
            "Pods" => ("FailedGetPodsMetric", self.pods(metric).await),
            "Object" => ("FailedGetObjectMetric", self.object(metric).await),
            "External" => ("FailedGetExternalMetric", self.external(metric).await),
            other => ("InvalidMetricSourceType", Err(format!("unknown metric source type {other:?}"))),
        };
        let word = |why| format!("the HPA was unable to compute the replica count: {why}");
        read.map_err(|why| Failure { reason, message: word(why) })
    }

    async fn resource(&self, metric: &MetricSpec) -> Result<Reading, String> {
        let source = metric.resource.as_ref().ok_or("it names no resource")?;
        let about = About { resource: &source.name, container: None };
        let proposal = self.of_resource(about, &source.target).await?;
        let current = shown(proposal, &source.target);
        let status = ResourceMetricStatus { name: source.name.clone(), current };
        let name = match source.target.average_utilization {
            Some(_) => format!("{} resource utilization (percentage of request)", source.name),
            None => format!("{} resource", source.name),
        };
        let status = MetricStatus { type_: metric.type_.clone(), resource: Some(status), ..MetricStatus::default() };
        Ok(Reading { replicas: proposal.replicas, name, status })
    }

    async fn container(&self, metric: &MetricSpec) -> Result<Reading, String> {
        let source = metric.container_resource.as_ref().ok_or("it names no resource")?;
        let about = About { resource: &source.name, container: Some(&source.container) };
        let proposal = self.of_resource(about, &source.target).await?;
        let current = shown(proposal, &source.target);
        let status =
            ContainerResourceMetricStatus { name: source.name.clone(), container: source.container.clone(), current };
        let name = match source.target.average_utilization {
            Some(_) => format!("{} container resource utilization (percentage of request)", source.name),
            None => format!("{} container resource", source.name),
        };
        let status =
            MetricStatus { type_: metric.type_.clone(), container_resource: Some(status), ..MetricStatus::default() };
        Ok(Reading { replicas: proposal.replicas, name, status })
    }

    async fn of_resource(&self, about: About<'_>, target: &MetricTarget) -> Result<Proposal, String> {
        let wanted = match (target.average_utilization, &target.average_value) {
            (Some(percent), _) => Target::Utilization(percent.into()),
            (None, Some(value)) => Target::Average(millis(value)?),
            (None, None) => return Err("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set".to_owned()),
        };
        let path = format!("{RESOURCES}/namespaces/{}/pods?labelSelector={}", self.namespace, encoded(self.selector));
        let unable = |error| {
            format!(
                "failed to get {} utilization: unable to get metrics for resource {}: unable to fetch metrics from resource metrics API: {}",
                about.resource,
                about.resource,
                chain(&error)
            )
        };
        let list = get(self.client, &path).await.map_err(unable)?;
        let samples = resource_samples(&list, about);
        of_pods(self.current, self.pods, samples, about, (wanted, self.tolerance), self.now)
    }

    async fn pods(&self, metric: &MetricSpec) -> Result<Reading, String> {
        let source = metric.pods.as_ref().ok_or("it names no metric")?;
        let target = source.target.average_value.as_ref().ok_or("it has no averageValue")?;
        let name = &source.metric.name;
        let path = format!(
            "{CUSTOM}/namespaces/{}/pods/*/{name}?labelSelector={}&metricLabelSelector={}",
            self.namespace,
            encoded(self.selector),
            encoded(&text_of(source.metric.selector.as_ref()))
        );
        let unable = |error| {
            format!("unable to get metric {name}: unable to fetch metrics from custom metrics API: {}", chain(&error))
        };
        let list = get(self.client, &path).await.map_err(unable)?;
        let about = About { resource: "", container: None };
        let target = (Target::Average(millis(target)?), self.tolerance);
        let proposal = of_pods(self.current, self.pods, custom_samples(&list), about, target, self.now)?;
        let current =
            MetricValueStatus { average_value: Some(amount(proposal.average)), ..MetricValueStatus::default() };
        let status = PodsMetricStatus { metric: source.metric.clone(), current };
        let status = MetricStatus { type_: metric.type_.clone(), pods: Some(status), ..MetricStatus::default() };
        Ok(Reading { replicas: proposal.replicas, name: format!("pods metric {name}"), status })
    }

    async fn object(&self, metric: &MetricSpec) -> Result<Reading, String> {
        let source = metric.object.as_ref().ok_or("it names no object")?;
        let (of, name) = (&source.described_object, &source.metric.name);
        let version = of.api_version.as_deref().unwrap_or("v1");
        let resource = resource_of(self.client, version, &of.kind).await?;
        let group = version.split_once('/').map_or(String::new(), |(group, _)| format!(".{group}"));
        let selector = encoded(&text_of(source.metric.selector.as_ref()));
        let path = format!(
            "{CUSTOM}/namespaces/{}/{resource}{group}/{}/{name}?metricLabelSelector={selector}",
            self.namespace, of.name
        );
        let unable = |error| {
            format!(
                "unable to get metric {name}: {} on {}: unable to fetch metrics from custom metrics API: {}",
                of.kind,
                of.name,
                chain(&error)
            )
        };
        let list = get(self.client, &path).await.map_err(unable)?;
        let value = list["items"][0]["value"].as_str().and_then(|text| text.parse::<Quantity>().ok());
        let value = value.ok_or_else(|| format!("no metrics returned from custom metrics API for {name}"))?.millis();
        let (proposal, current) = self.of_one(value, &source.target)?;
        let status = ObjectMetricStatus { metric: source.metric.clone(), described_object: of.clone(), current };
        let status = MetricStatus { type_: metric.type_.clone(), object: Some(status), ..MetricStatus::default() };
        Ok(Reading { replicas: proposal.replicas, name: format!("{} metric {name}", of.kind), status })
    }

    async fn external(&self, metric: &MetricSpec) -> Result<Reading, String> {
        let source = metric.external.as_ref().ok_or("it names no metric")?;
        let MetricIdentifier { name, selector } = &source.metric;
        let selector = text_of(selector.as_ref());
        let path = format!("{EXTERNAL}/namespaces/{}/{name}?labelSelector={}", self.namespace, encoded(&selector));
        let unable = |error| {
            format!(
                "unable to get external metric {}/{name}/{selector}: unable to fetch metrics from external metrics API: {}",
                self.namespace,
                chain(&error)
            )
        };
        let list = get(self.client, &path).await.map_err(unable)?;
        let values: Vec<i64> = list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|item| Some(item["value"].as_str()?.parse::<Quantity>().ok()?.millis()))
            .collect();
        if values.is_empty() {
            return Err(format!("no metrics returned from external metrics API for {name}"));
        }
        let sum = values.into_iter().fold(0, i64::saturating_add);
        let (proposal, current) = self.of_one(sum, &source.target)?;
        let status = ExternalMetricStatus { metric: source.metric.clone(), current };
        let status = MetricStatus { type_: metric.type_.clone(), external: Some(status), ..MetricStatus::default() };
        Ok(Reading { replicas: proposal.replicas, name: format!("external metric {name}({selector})"), status })
    }

    /// One value for all pods, or for each its share.
    fn of_one(&self, value: i64, target: &MetricTarget) -> Result<(Proposal, MetricValueStatus), String> {
        if let Some(share) = &target.average_value {
            let proposal = of_share(self.there, value, millis(share)?, self.tolerance);
            let average_value = Some(amount(proposal.average));
            return Ok((proposal, MetricValueStatus { average_value, ..MetricValueStatus::default() }));
        }
        let wanted = target.value.as_ref().ok_or("neither a value target nor an average value target was set")?;
        let proposal = of_value(self.current, ready(self.pods), value, millis(wanted)?, self.tolerance);
        Ok((proposal, MetricValueStatus { value: Some(amount(value)), ..MetricValueStatus::default() }))
    }
}

fn shown(proposal: Proposal, target: &MetricTarget) -> MetricValueStatus {
    let percent = target.average_utilization.and(proposal.utilization);
    MetricValueStatus {
        average_value: Some(amount(proposal.average)),
        average_utilization: percent.map(|percent| i32::try_from(percent).unwrap_or(i32::MAX)),
        value: None,
    }
}

fn amount(millis: i64) -> Text {
    Text(Quantity::from_millis(millis).to_string())
}

fn millis(text: &Text) -> Result<i64, String> {
    let value = Quantity::of(text).map_err(|error| error.to_string())?.millis();
    // Validation refuses others; what divides must not be zero.
    if value > 0 { Ok(value) } else { Err(format!("the target {} is not positive", text.0)) }
}

fn text_of(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return String::new() };
    corten_api::selector::Labels::from_selector(selector).map(|labels| labels.to_string()).unwrap_or_default()
}

/// What the containers of each pod use together. A pod of which one container is not known is not known itself.
fn resource_samples(list: &Value, about: About<'_>) -> Samples {
    let mut samples = BTreeMap::new();
    for item in list["items"].as_array().into_iter().flatten() {
        let containers = item["containers"].as_array().cloned().unwrap_or_default();
        let wanted = containers.iter().filter(|own| about.container.is_none_or(|name| own["name"] == name));
        let values: Option<Vec<i64>> =
            wanted.map(|own| Some(own["usage"][about.resource].as_str()?.parse::<Quantity>().ok()?.millis())).collect();
        let Some(values) = values.filter(|values| !values.is_empty()) else { continue };
        let value = values.into_iter().fold(0, i64::saturating_add);
        if let Some((name, sample)) = sample(item, &item["metadata"]["name"], value, duration(&item["window"])) {
            samples.insert(name, sample);
        }
    }
    samples
}

fn custom_samples(list: &Value) -> Samples {
    let items = list["items"].as_array().into_iter().flatten();
    let read = |item: &Value| {
        let value = item["value"].as_str()?.parse::<Quantity>().ok()?.millis();
        let window = Duration::from_secs(item["windowSeconds"].as_u64().unwrap_or(60));
        sample(item, &item["describedObject"]["name"], value, window)
    };
    items.filter_map(read).collect()
}

fn sample(item: &Value, name: &Value, value: i64, window: Duration) -> Option<(String, Sample)> {
    let at = item["timestamp"].as_str()?.parse().ok()?;
    Some((name.as_str()?.to_owned(), Sample { value, at, window }))
}

/// A duration in Go's words, such as `30s` or `1m0.5s`.
fn duration(text: &Value) -> Duration {
    let mut total = 0.0;
    let mut number = String::new();
    for letter in text.as_str().unwrap_or_default().chars() {
        if letter.is_ascii_digit() || letter == '.' {
            number.push(letter);
            continue;
        }
        let unit = match letter {
            'h' => 3600.0,
            'm' => 60.0,
            's' => 1.0,
            _ => 0.0,
        };
        total += number.parse::<f64>().unwrap_or(0.0) * unit;
        number.clear();
    }
    Duration::try_from_secs_f64(total).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn samples_are_read() {
        let list = json!({"items": [
            {"metadata": {"name": "a"}, "timestamp": "2026-01-01T00:00:00Z", "window": "1m30s",
                "containers": [{"name": "x", "usage": {"cpu": "100m"}}, {"name": "y", "usage": {"cpu": "250m"}}]},
            {"metadata": {"name": "b"}, "timestamp": "2026-01-01T00:00:00Z", "window": "30s",
                "containers": [{"name": "x", "usage": {"memory": "1Mi"}}]},
            {"metadata": {"name": "c"}},
        ]});
        let read = |resource, container| {
            let samples = resource_samples(&list, About { resource, container });
            samples.into_iter().map(|(pod, own)| (pod, own.value, own.window.as_secs())).collect::<Vec<_>>()
        };
        assert_eq!(read("cpu", None), [("a".to_owned(), 350, 90)]);
        assert_eq!(read("cpu", Some("y")), [("a".to_owned(), 250, 90)]);
        assert_eq!(read("memory", None), [("b".to_owned(), 1_048_576_000, 30)]);
        let custom =
            json!({"items": [{"describedObject": {"name": "a"}, "timestamp": "2026-01-01T00:00:00Z", "value": "12"}]});
        assert_eq!(custom_samples(&custom)["a"].value, 12_000);
    }
}
