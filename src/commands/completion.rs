//! `podrun completion`, which prints a script for a shell, and `podrun complete`, which the script asks.
//!
//! The scripts know nothing of podrun's commands: each press of TAB asks the podrun that is installed, so they
//! never grow old. The answer's first line says what may stand at the cursor: `words`; `files` when paths may stand
//! there as well, and `manifests` when only those that end in `.toml`, or lead to one. Every other line is a candidate, a
//! tab and what it is. A question that cannot be answered is answered with nothing: a shell must not be disturbed while
//! somebody types.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::CommandFactory;

use super::load;
use crate::cli::words::{Expected, Kind, expected};
use crate::cli::{Cli, CompleteArgs, CompletionArgs, Globals, Shell};
use crate::manifest::keys::{KEYS, Support};
use crate::manifest::overrides::Overrides;
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
        Kind::Path | Kind::Manifest | Kind::Unknown => Vec::new(),
        Kind::Words(words) => words.clone(),
        Kind::PodOrApp => pods(&root, &expected, Apps::Too),
        Kind::Pod | Kind::PodOrPath => pods(&root, &expected, Apps::No),
        Kind::App if OF_PODS.contains(&expected.command.as_str()) => apps_of_pods(&root, &expected.subjects),
        Kind::App => apps(&expected.subjects),
        Kind::Key => keys(),
    };
    let mut answer = match expected.kind {
        Kind::Path => "files\n",
        Kind::Manifest | Kind::PodOrPath => "manifests\n",
        _ => "words\n",
    }
    .to_owned();
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

/// `-c` names an app of a pod in these, and of a manifest in all others.
const OF_PODS: [&str; 6] = ["status", "logs", "inspect", "wait", "stop", "kill"];
/// These have something to say of pods that have ended; all others act on living ones.
const OF_ENDED: [&str; 7] = ["status", "logs", "inspect", "cat", "graph", "rm", "wait"];

fn pods(root: &Path, expected: &Expected, apps: Apps) -> Vec<(String, String)> {
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

/// The apps of these manifests, also of one that is not right yet.
fn apps(manifests: &[String]) -> Vec<(String, String)> {
    let mut words: Vec<(String, String)> = Vec::new();
    // Standard input is the shell's.
    for path in manifests.iter().filter(|path| *path != "-") {
        let Ok(source) = load::source(Path::new(path), Overrides::default()) else { continue };
        for (name, command) in source.app_names() {
            if words.iter().all(|(known, _)| *known != name) {
                words.push((name, command));
            }
        }
    }
    words
}

/// The apps of these pods.
fn apps_of_pods(root: &Path, pods: &[String]) -> Vec<(String, String)> {
    let Ok(root) = Root::open(root) else { return Vec::new() };
    let found = pods.iter().filter_map(|word| root.find(word).ok());
    found.flat_map(|pod| pod.status().apps).map(|app| (app.name.clone(), app.words())).collect()
}

fn keys() -> Vec<(String, String)> {
    let supported = KEYS.iter().filter(|key| key.support == Support::Supported);
    let of_scope = |key: &str| key.replacen("@.", "pod.", 1).replace(".*.", ".NAME.");
    supported.map(|key| (of_scope(key.path), key.rule.to_owned())).collect()
}
