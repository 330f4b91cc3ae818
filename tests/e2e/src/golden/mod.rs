//! Sessions of a person at a shell, with what the commands must say.
//!
//! A session is a text file:
//!
//! ```text
//! # What a paragraph is about.
//! $ kubectl create namespace golden
//! namespace/golden created
//! @1.32 new                          (only these clients run the next command)
//! @pending: what has to land first   (the next command does not yet say this; an error once it does)
//! @pending new: why                  (the same for one client)
//! $ kubectl get pods -n golden
//! > a line for standard input
//! [1.20]                             (what follows is what this client says, until the next bracket)
//! No resources found.
//! [*]                                (any other client)
//! No resources found in golden namespace.
//! exit 1                             (an exit code other than 0)
//! ```
//!
//! Ages, addresses, ids, times and generated names are replaced on both sides (see [`plain`]) before they are compared.

mod parse;
mod plain;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use corten_testkit::Program;

pub use parse::{Session, Step};
pub use plain::plain;

/// As long as a command may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// What came of a session.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Commands that ran.
    pub ran: usize,
    /// Those that are marked pending and did not say what they should.
    pub pending: usize,
    /// What was wrong, a paragraph each.
    pub wrong: Vec<String>,
    /// Everything that was said, in the form of a session.
    pub transcript: String,
}

/// Runs every command of a session as `client`. `shell` makes the program of a command.
pub fn run(session: &Session, client: &str, shell: impl Fn(&str) -> Program) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for step in session.steps.iter().filter(|step| step.runs_with(client)) {
        let began = Instant::now();
        let mut program = shell(&step.command).timeout(STEP_TIMEOUT);
        if let Some(input) = &step.input {
            program = program.input(input.as_str());
        }
        let said = match program.output() {
            Ok(output) if output.code == 0 => plain(&output.all()),
            Ok(output) => plain(&format!("{}\nexit {}", output.all().trim_end(), output.code)),
            Err(error) => format!("{error:#}"),
        };
        let wanted = plain(step.wanted(client));
        let place = format!("{}:{}", session.name, step.line);
        outcome.ran += 1;
        let millis = began.elapsed().as_millis();
        let _ = write!(outcome.transcript, "# {place}, {millis} ms\n$ {}\n{said}\n\n", step.command);
        match (step.pending(client), said == wanted) {
            (None, true) => {}
            (Some(_), false) => outcome.pending += 1,
            (Some(why), true) => outcome.wrong.push(format!("{place}: no longer pending ({why}): {}", step.command)),
            (None, false) => {
                outcome.wrong.push(format!("{place}: $ {}\n--- wanted\n{wanted}\n--- said\n{said}", step.command));
            }
        }
    }
    Ok(outcome)
}
