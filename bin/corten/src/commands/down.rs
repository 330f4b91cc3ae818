//! `corten down`.

use std::process::ExitCode;

use super::Places;
use crate::remove;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    places: Places,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (data_dir, run_dir) = arguments.places.absolute()?;
    let Some(remains) = remove::stop(&data_dir, &run_dir)? else {
        println!("no cluster was running");
        return Ok(ExitCode::SUCCESS);
    };
    if let Some(report) = remains.report() {
        println!("{report}");
    }
    let unreachable = remains.remove_pods()?;
    println!("{}", if remains.was_running || remains.pods > 0 { "stopped" } else { "no cluster was running" });
    println!("The data stays in {}: `corten up` starts the cluster again.", data_dir.display());
    if unreachable {
        super::reset::say_unreachable();
    }
    Ok(ExitCode::SUCCESS)
}
