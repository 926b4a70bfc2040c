//! `podrun completion`, which prints a script for a shell, and `podrun complete`, which the script asks.
//!
//! The scripts know nothing of podrun's commands: each press of TAB asks the podrun that is installed, so they
//! never grow old. The answer's first line says what may stand at the cursor: `words`, or `files` when paths may stand
//! there as well; every other line is a candidate, a tab and what it is. A question that cannot be answered is answered with nothing: a
//! shell must not be disturbed while somebody types.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::CommandFactory;

use crate::cli::words::{Expected, Kind, expected};
use crate::cli::{Cli, CompleteArgs, CompletionArgs, Globals, Shell};
use crate::manifest::keys::{KEYS, Support};
use crate::output::write_stdout;
use crate::pod::Pod;
use crate::pod::root::Root;

/// Prints the script for one shell.
///
/// # Errors
/// When standard output cannot be written.
pub fn script(args: &CompletionArgs) -> Result<u8> {
    write_stdout(match args.shell {
        Shell::Bash => include_str!("completion/podrun.bash"),
        Shell::Zsh => include_str!("completion/podrun.zsh"),
        Shell::Fish => include_str!("completion/podrun.fish"),
    })?;
    Ok(0)
}

/// Says what may stand at the cursor.
///
/// # Errors
/// When standard output cannot be written.
pub fn complete(globals: &Globals, args: &CompleteArgs) -> Result<u8> {
    let mut command = Cli::command();
    command.build();
    let expected = expected(&command, &args.words);
    let root = expected.root.as_ref().map_or_else(|| globals.root.clone(), PathBuf::from);
    let candidates = match &expected.kind {
        Kind::Path | Kind::Unknown => Vec::new(),
        Kind::Words(words) => words.clone(),
        Kind::PodOrApp => pods(&root, &expected, Apps::Too),
        Kind::Pod | Kind::PodOrPath => pods(&root, &expected, Apps::No),
        Kind::Key => keys(),
    };
    let takes_paths = matches!(expected.kind, Kind::Path | Kind::PodOrPath);
    let mut answer = if takes_paths { "files\n" } else { "words\n" }.to_owned();
    for (word, what) in candidates.iter().filter(|(word, _)| word.starts_with(&expected.typed)) {
        // Writing to a String cannot fail.
        let _ = writeln!(answer, "{}{word}\t{}", expected.before, what.lines().next().unwrap_or_default());
    }
    write_stdout(&answer)?;
    Ok(0)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Apps {
    Too,
    No,
}

/// These have something to say of pods that have ended; all others act on living ones.
const OF_ENDED: [&str; 7] = ["status", "logs", "inspect", "cat", "graph", "rm", "wait"];

fn pods(root: &std::path::Path, expected: &Expected, apps: Apps) -> Vec<(String, String)> {
    let all = Root::open(root).and_then(|root| root.list()).unwrap_or_default();
    let with_ended = OF_ENDED.contains(&expected.command.as_str());
    let typed_pod = expected.typed.split('/').next().unwrap_or_default();
    let fits = |pod: &Pod| pod.name().starts_with(typed_pod) || pod.id().as_str().starts_with(typed_pod);
    // Of several pods that had a name the latest is meant.
    let mut fitting: Vec<Pod> = Vec::new();
    for pod in all.into_iter().rev().filter(|pod| fits(pod) && (with_ended || pod.is_alive())) {
        if fitting.iter().all(|other| other.name() != pod.name()) {
            fitting.push(pod);
        }
    }
    let mut words = Vec::new();
    let has_slash = expected.typed.contains('/');
    for pod in &fitting {
        let name = if pod.name().starts_with(typed_pod) { pod.name() } else { pod.id().as_str() };
        let status = pod.status();
        if !has_slash {
            words.push((name.to_owned(), status.phase.words()));
        }
        if apps == Apps::Too && (has_slash || fitting.len() == 1) {
            let of_pod = status.apps.iter();
            words.extend(of_pod.map(|app| (format!("{name}/{}", app.name), app.words())));
        }
    }
    words
}

fn keys() -> Vec<(String, String)> {
    let supported = KEYS.iter().filter(|key| key.support == Support::Supported);
    let of_scope = |key: &str| key.replacen("@.", "pod.", 1).replace(".*.", ".NAME.");
    supported.map(|key| (of_scope(key.path), key.rule.to_owned())).collect()
}
