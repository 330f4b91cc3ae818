//! `corten version`.

use std::process::ExitCode;

use serde_json::json;

use super::Output;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (corten, kubernetes) = (env!("CARGO_PKG_VERSION"), corten_apiserver::KUBERNETES_VERSION);
    match arguments.output {
        Output::Text => println!("corten {corten}, Kubernetes {kubernetes}"),
        Output::Json => println!("{}", json!({"version": corten, "kubernetesVersion": kubernetes})),
    }
    Ok(ExitCode::SUCCESS)
}
