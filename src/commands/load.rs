//! From a file name to a spec and from a spec to a plan, with every problem shown where it stands.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use crate::cli::{Driver, OverrideArgs};
use crate::error::Rendered;
use crate::host::asked::Asker;
use crate::host::check::Machine;
use crate::host::{self, DriverChoice, Host};
use crate::manifest::asks::Ask;
use crate::manifest::overrides::{Change, Overrides};
use crate::manifest::rules::Rule;
use crate::manifest::{self, Problem, Severity, Source};
use crate::plan::{self, Plan, Refusal, Request};
use crate::spec::Spec;

/// Stands for the id that a pod gets when it is made.
pub const NO_ID: &str = "ID";
/// No manifest is longer, in bytes.
const MANIFEST_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A manifest that was understood.
pub struct Loaded {
    /// As it was named.
    pub path: PathBuf,
    /// The whole text as it is run, with what the command line has changed.
    pub text: String,
    /// Where its keys are.
    pub source: Source,
    /// What it means.
    pub spec: Spec,
    /// Its warnings, rendered; empty when there are none.
    pub warnings: String,
}

/// The text of a manifest; `-` is standard input.
///
/// # Errors
/// When there is no such file, it is too long, or is not UTF-8.
pub fn text(path: &Path) -> anyhow::Result<String> {
    let reader: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(
            std::fs::File::open(path)
                .with_context(|| format!("cannot open manifest `{}`", path.display()))?,
        )
    };
    let mut text = String::new();
    let length = reader
        .take(MANIFEST_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read manifest `{}`", path.display()))?;
    anyhow::ensure!(
        length as u64 <= MANIFEST_BYTES_MAX,
        "cannot read manifest `{}`: it is longer than 4 MiB",
        path.display()
    );
    Ok(text)
}

/// What was typed to change a manifest, with what it needs of files and of our environment.
#[must_use]
pub fn overrides(args: &OverrideArgs, name: Option<&str>) -> Overrides {
    let sets = args.set.iter().cloned().map(Change::Set);
    let files =
        args.env_file.iter().map(|file| Change::EnvFile(file.clone(), host::read_env_file(Path::new(file))));
    let variables = args.env.iter().map(|typed| {
        let name = typed.rsplit('/').next().unwrap_or(typed);
        let own = if typed.contains('=') { None } else { std::env::var(name).ok() };
        Change::Env(typed.clone(), own)
    });
    let name = name.map(|name| Change::Name(name.to_owned()));
    Overrides {
        changes: sets.chain(files).chain(variables).chain(name).collect(),
        only: args.only.clone(),
        no_deps: args.no_deps,
    }
}

/// A manifest with its name and what is changed in it.
///
/// # Errors
/// As [`text`].
pub fn source(path: &Path, overrides: Overrides) -> anyhow::Result<Source> {
    Ok(Source::new(&path.display().to_string(), &text(path)?, overrides))
}

/// Reads and checks a manifest.
///
/// # Errors
/// [`Rendered`] when it has errors; else as [`text`].
pub fn manifest(path: &Path, overrides: Overrides, color: bool) -> anyhow::Result<Loaded> {
    let source = source(path, overrides)?;
    let read = source.read();
    let shown = render(&source, &read.problems, color);
    match read.spec {
        Some(spec) => {
            Ok(Loaded { path: path.to_owned(), text: source.merged(), source, spec, warnings: shown })
        }
        None => Err(Rendered(shown).into()),
    }
}

/// Looks at the host and resolves the plan.
///
/// # Errors
/// [`Rendered`] for what this host cannot do.
pub fn plan(loaded: &Loaded, request: &Request, driver: Driver, color: bool) -> anyhow::Result<Plan> {
    let host = host::probe(&loaded.spec, choice(driver))?;
    plan::resolve(&loaded.spec, &host, request).map_err(|refusals| refused(&loaded.source, refusals, color))
}

/// What this host cannot do, where it was asked for.
#[must_use]
pub fn refused(source: &Source, refusals: Vec<Refusal>, color: bool) -> anyhow::Error {
    let problems: Vec<Problem> = refusals.into_iter().map(|refusal| problem(source, refusal)).collect();
    anyhow!(Rendered(render(source, &problems, color)))
}

/// What the flag means to who looks at the host.
#[must_use]
pub fn choice(driver: Driver) -> DriverChoice {
    match driver {
        Driver::Auto => DriverChoice::Auto,
        Driver::Systemd => DriverChoice::Systemd,
        Driver::Cgroupfs => DriverChoice::Cgroupfs,
    }
}

/// A refusal points at the key that asked for it, where the manifest has that key.
fn problem(source: &Source, refusal: Refusal) -> Problem {
    found(source, refusal.rule, refusal.path, (refusal.message, refusal.hint))
}

fn found(source: &Source, rule: &Rule, path: String, (message, help): (String, Option<String>)) -> Problem {
    let span = source.locate(&path).unwrap_or(0..0);
    let severity = if rule.code.starts_with('W') { Severity::Warning } else { Severity::Error };
    Problem { severity, code: rule.code, message, help, path, span, related: Vec::new() }
}

/// What this host does not have of what keys that do not work yet ask of it.
#[must_use]
pub fn asked_problems(source: &Source, asker: &Asker) -> Vec<Problem> {
    let asks = source.asks();
    let problem = |ask: Ask| {
        let finding = host::asked::check(&ask, asker)?;
        let words = (finding.message, finding.hint);
        Some(Problem { span: ask.span, ..found(source, finding.rule, finding.path, words) })
    };
    asks.into_iter().filter_map(problem).collect()
}

/// Everything of a spec that will not work on this host, sorted by place.
///
/// # Errors
/// When this host cannot be looked at.
pub fn host_problems(source: &Source, spec: &Spec) -> anyhow::Result<Vec<Problem>> {
    let host = host::probe(spec, DriverChoice::Auto)?;
    Ok(problems_on((source, spec), &host, &Machine::look(), Vec::new()))
}

/// Everything of a spec that will not work on a host that was looked at, where sockets of these names are passed, sorted
/// by place.
fn problems_on(
    (source, spec): (&Source, &Spec),
    host: &Host,
    machine: &Machine,
    passed: Vec<String>,
) -> Vec<Problem> {
    let request = Request {
        id: NO_ID.to_owned(),
        name: None,
        started: plan::Started::Foreground,
        passed,
        watchdog_us: None,
    };
    let refusals = plan::resolve(spec, host, &request).err().unwrap_or_default();
    let findings = host::check::check(spec, &plan::resolve_apps(spec, host, &request), machine);
    let findings = findings.into_iter().map(|f| found(source, f.rule, f.path, (f.message, f.hint)));
    let mut problems: Vec<Problem> =
        refusals.into_iter().map(|refusal| problem(source, refusal)).chain(findings).collect();
    problems.sort_by_key(|problem| (problem.span.start, problem.severity));
    problems
}

/// Problems as people read them; empty when there are none.
pub fn render(source: &Source, problems: &[Problem], color: bool) -> String {
    if problems.is_empty() { String::new() } else { manifest::render_source(source, problems, color) }
}

#[cfg(test)]
mod row_tests;
