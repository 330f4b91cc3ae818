//! Reading a session.

use anyhow::{Context, Result, bail};

/// A file of commands.
#[derive(Debug)]
pub struct Session {
    /// Name of the file.
    pub name: String,
    /// Its commands in order.
    pub steps: Vec<Step>,
}

/// A command and what it must say.
#[derive(Debug, Default)]
pub struct Step {
    /// Line of the file.
    pub line: usize,
    /// What the shell is given.
    pub command: String,
    /// Standard input.
    pub input: Option<String>,
    clients: Vec<String>,
    pending: Vec<Pending>,
    /// Clients (none: all) and what they say.
    wanted: Vec<(Vec<String>, String)>,
}

#[derive(Clone, Debug)]
struct Pending {
    clients: Vec<String>,
    why: String,
}

fn among(clients: &[String], client: &str) -> bool {
    clients.is_empty() || clients.iter().any(|one| one == client || one == "*")
}

impl Step {
    /// Whether this client runs it.
    #[must_use]
    pub fn runs_with(&self, client: &str) -> bool {
        among(&self.clients, client)
    }

    /// Why the command does not yet say what it should.
    #[must_use]
    pub fn pending(&self, client: &str) -> Option<&str> {
        self.pending.iter().find(|pending| among(&pending.clients, client)).map(|pending| pending.why.as_str())
    }

    /// What it must say to this client.
    #[must_use]
    pub fn wanted(&self, client: &str) -> &str {
        self.wanted.iter().find(|(clients, _)| among(clients, client)).map_or("", |(_, text)| text.as_str())
    }
}

impl Session {
    /// Reads a session; an error names the line.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let mut reader = Reader::default();
        for (number, line) in text.lines().enumerate() {
            reader.line(number + 1, line).with_context(|| format!("{name}:{}: {line}", number + 1))?;
        }
        if reader.next.is_some() {
            bail!("{name}: it ends with marks but no command");
        }
        Ok(Self { name: name.to_owned(), steps: reader.steps })
    }
}

#[derive(Default)]
struct Reader {
    steps: Vec<Step>,
    /// Marks for the next command.
    next: Option<Step>,
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) -> Result<()> {
        if let Some(mark) = line.strip_prefix('@') {
            return self.mark(mark);
        }
        if let Some(command) = line.strip_prefix("$ ") {
            let mut step = self.next.take().unwrap_or_default();
            (step.line, step.command) = (number, command.to_owned());
            self.steps.push(step);
            return Ok(());
        }
        if line.starts_with("# ") {
            return Ok(());
        }
        let Some(step) = self.steps.last_mut() else {
            if line.is_empty() { return Ok(()) } else { bail!("it belongs to no command") }
        };
        if let Some(words) =
            line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|words| are_names(words))
        {
            step.wanted.push((names(words), String::new()));
        } else if let (Some(input), true) = (line.strip_prefix('>'), step.wanted.is_empty()) {
            let all = step.input.get_or_insert_default();
            all.push_str(input.strip_prefix(' ').unwrap_or(input));
            all.push('\n');
        } else {
            if step.wanted.is_empty() {
                step.wanted.push((Vec::new(), String::new()));
            }
            if let Some((_, text)) = step.wanted.last_mut() {
                text.push_str(line);
                text.push('\n');
            }
        }
        Ok(())
    }

    fn mark(&mut self, mark: &str) -> Result<()> {
        let step = self.next.get_or_insert_default();
        match mark.strip_prefix("pending") {
            Some(rest) => {
                let (clients, why) =
                    rest.split_once(": ").context("a pending command needs a reason: @pending: why")?;
                step.pending.push(Pending { clients: names(clients), why: why.trim().to_owned() });
            }
            None => step.clients = names(mark),
        }
        Ok(())
    }
}

/// Whether a bracket names clients, and is no list that a command printed.
fn are_names(words: &str) -> bool {
    let letter = |letter: char| letter.is_ascii_alphanumeric() || "*. ".contains(letter);
    !words.is_empty() && words.chars().all(letter)
}

fn names(words: &str) -> Vec<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn sessions_hold_commands_inputs_and_answers() {
    let text = "# About.\n@old new\n@pending new: not yet\n$ cat\n> a\n>\n> b\n[old]\nx\nexit 1\n[*]\ny\n\n$ true\n";
    let session = Session::parse("s", text).expect("a session");
    let [cat, last] = session.steps.as_slice() else { panic!("{session:?}") };
    assert_eq!((cat.command.as_str(), cat.input.as_deref(), cat.line), ("cat", Some("a\n\nb\n"), 4));
    assert_eq!((cat.wanted("old"), cat.wanted("new")), ("x\nexit 1\n", "y\n\n"));
    assert_eq!((cat.pending("old"), cat.pending("new")), (None, Some("not yet")));
    assert!(cat.runs_with("old") && !cat.runs_with("other") && last.runs_with("other"));
    assert_eq!(last.wanted("old"), "");
    for bad in ["output\n", "@pending\n$ x\n", "@old\n"] {
        assert!(Session::parse("s", bad).is_err(), "{bad}");
    }
}
