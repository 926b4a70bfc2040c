//! From a file name to a spec and from a spec to a plan, with every problem shown where it stands.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use crate::error::Rendered;
use crate::host;
use crate::manifest::{self, Problem, Severity};
use crate::plan::{self, Plan, Refusal, Request};
use crate::spec::Spec;

/// No manifest is longer, in bytes.
const MANIFEST_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A manifest that was understood.
pub struct Loaded {
    /// As it was named.
    pub path: PathBuf,
    /// The whole text.
    pub text: String,
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

/// Reads and checks a manifest.
///
/// # Errors
/// [`Rendered`] when it has errors; else as [`text`].
pub fn manifest(path: &Path, color: bool) -> anyhow::Result<Loaded> {
    let text = text(path)?;
    let read = manifest::read(&text);
    let shown = render(path, &text, &read.problems, color);
    match read.spec {
        Some(spec) => Ok(Loaded { path: path.to_owned(), text, spec, warnings: shown }),
        None => Err(Rendered(shown).into()),
    }
}

/// Looks at the host and resolves the plan.
///
/// # Errors
/// [`Rendered`] for what this host cannot do.
pub fn plan(loaded: &Loaded, request: &Request, color: bool) -> anyhow::Result<Plan> {
    let host = host::probe(&loaded.spec)?;
    plan::resolve(&loaded.spec, &host, request).map_err(|refusals| {
        let problems: Vec<Problem> = refusals.into_iter().map(|r| problem(&loaded.text, r)).collect();
        anyhow!(Rendered(render(&loaded.path, &loaded.text, &problems, color)))
    })
}

/// A refusal points at the key that asked for it, where the manifest has that key.
fn problem(text: &str, refusal: Refusal) -> Problem {
    let span = manifest::locate(text, &refusal.path).unwrap_or(0..0);
    Problem {
        severity: Severity::Error,
        code: "E0900",
        message: refusal.message,
        help: refusal.hint,
        path: refusal.path,
        span,
        related: Vec::new(),
    }
}

fn render(path: &Path, text: &str, problems: &[Problem], color: bool) -> String {
    if problems.is_empty() {
        return String::new();
    }
    manifest::render(&path.display().to_string(), text, problems, color)
}
