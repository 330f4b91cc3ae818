//! `corten reset`.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use anyhow::Context;

use super::Places;
use crate::remove;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    places: Places,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (data_dir, run_dir) = arguments.places.absolute()?;
    if !arguments.yes
        && !confirmed(&format!(
            "This ends all containers and removes the cluster, its images and all its data in {} for good. Go on? [y/N] ",
            data_dir.display()
        ))?
    {
        println!("Nothing was changed.");
        return Ok(ExitCode::FAILURE);
    }
    let Some(remains) = remove::stop(&data_dir, &run_dir)? else {
        println!("There is no cluster in {}: nothing was removed.", data_dir.display());
        return Ok(ExitCode::SUCCESS);
    };
    if let Some(report) = remains.report() {
        println!("{report}");
    }
    let unreachable = remains.remove_pods()?;
    let foreign = remains.remove_files()?;
    println!("removed");
    if unreachable {
        say_unreachable();
    }
    if !foreign.is_empty() {
        println!("These are not corten's and were left alone: {}", foreign.join(" "));
    }
    Ok(ExitCode::SUCCESS)
}

/// Says that links and rules may be left in another network namespace.
pub(super) fn say_unreachable() {
    println!(
        "Its network links and rules, if any are left, are in another network namespace: \
         run this command there too, or remove that namespace."
    );
}

fn confirmed(question: &str) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    write!(out, "{question}").and_then(|()| out.flush()).context("cannot ask")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
