//! `corten explain-scheduling`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Output, Places};
use crate::{control, instance};

const PATIENCE: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The pod
    pod: String,
    /// The pod's namespace
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    places: Places,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// A decision as the scheduler tells it.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Decision {
    time: String,
    attempt: u32,
    node: Option<String>,
    #[serde(default)]
    message: String,
    #[serde(default)]
    preempts: Vec<String>,
    cluster_nodes: usize,
    evaluated_nodes: usize,
    nodes: Vec<Verdict>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    node: String,
    rejected_by: Option<String>,
    #[serde(default)]
    reasons: Vec<String>,
    #[serde(default)]
    scores: Vec<(String, i64)>,
    score: Option<i64>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (_, run_dir) = arguments.places.absolute()?;
    if instance::find(&run_dir)?.is_none() {
        bail!("no cluster runs with --run-dir {}: start it with `corten up`", run_dir.display());
    }
    let Arguments { namespace, pod, .. } = arguments;
    for name in [namespace, pod] {
        let is_name = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
        if name.is_empty() || !is_name(name) {
            bail!("{name:?} is not a name");
        }
    }
    let path = format!("/corten/v1/scheduling/namespaces/{namespace}/pods/{pod}");
    let request = http::Request::get(path).body(Vec::new())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The client needs the runtime around it from the start.
    let ask = async {
        tokio::time::timeout(PATIENCE, async { control::client(&run_dir).request::<Value>(request).await }).await
    };
    let document = match runtime.block_on(ask).context("the cluster does not answer in time")? {
        Ok(document) => document,
        Err(kube::Error::Api(status)) if status.code == 404 => {
            eprintln!("Nothing is known of pod {namespace}/{pod}.");
            eprintln!("It is not there, was placed long ago or before the last start, or has another scheduler.");
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(error).context("cannot ask the cluster"),
    };
    match arguments.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&document)?),
        Output::Text => {
            let decision: Decision = serde_json::from_value(document).context("cannot understand the answer")?;
            print!("{}", text(&format!("{namespace}/{pod}"), &decision));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn text(pod: &str, decision: &Decision) -> String {
    let mut lines = vec![match &decision.node {
        Some(node) => format!("{pod} was given node {node} at {}, attempt {}.", decision.time, decision.attempt),
        None => {
            format!("{pod} fits nowhere: {} (at {}, attempt {})", decision.message, decision.time, decision.attempt)
        }
    }];
    if !decision.preempts.is_empty() {
        lines.push(format!("To make room, these pods are removed: {}.", decision.preempts.join(", ")));
    }
    lines.push(format!("{} of {} nodes were looked at.", decision.evaluated_nodes, decision.cluster_nodes));
    let width = decision.nodes.iter().map(|own| own.node.len()).max().unwrap_or(0).max("NODE".len());
    if !decision.nodes.is_empty() {
        lines.push(String::new());
        lines.push(format!("{:width$}  SCORE  WHY", "NODE"));
    }
    for own in &decision.nodes {
        let score = own.score.map_or("-".to_owned(), |score| score.to_string());
        let why = match &own.rejected_by {
            Some(plugin) => format!("{plugin}: {}", own.reasons.join(", ")),
            None if own.scores.is_empty() => "the only one that would do".to_owned(),
            None => {
                let scores = own.scores.iter().map(|(plugin, score)| format!("{plugin} {score}"));
                scores.collect::<Vec<_>>().join(", ")
            }
        };
        lines.push(format!("{:width$}  {score:>5}  {why}", own.node));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_and_scores_are_shown() {
        let decision = |value: Value| serde_json::from_value::<Decision>(value).expect("a decision");
        let placed = decision(serde_json::json!({
            "time": "2026-01-01T00:00:00Z", "attempt": 2, "node": "a", "clusterNodes": 3, "evaluatedNodes": 3, "nodes": [
                {"node": "a", "scores": [["NodeResourcesFit", 90], ["TaintToleration", 300]], "score": 390},
                {"node": "node-b", "rejectedBy": "NodeResourcesFit", "reasons": ["Insufficient cpu"]},
            ],
        }));
        assert_eq!(
            text("default/web", &placed),
            "default/web was given node a at 2026-01-01T00:00:00Z, attempt 2.\n3 of 3 nodes were looked at.\n\n\
             NODE    SCORE  WHY\na         390  NodeResourcesFit 90, TaintToleration 300\n\
             node-b      -  NodeResourcesFit: Insufficient cpu\n"
        );
        let unfit = decision(serde_json::json!({
            "time": "T", "attempt": 1, "message": "0/1 nodes are available: 1 Insufficient cpu.",
            "preempts": ["default/small"], "clusterNodes": 1, "evaluatedNodes": 1, "nodes": [],
        }));
        assert_eq!(
            text("default/web", &unfit),
            "default/web fits nowhere: 0/1 nodes are available: 1 Insufficient cpu. (at T, attempt 1)\n\
             To make room, these pods are removed: default/small.\n1 of 1 nodes were looked at.\n"
        );
    }
}
