//! `podrun check`.

mod sarif;

use anyhow::Result;
use serde::Serialize;

use super::load;
use crate::cli::{CheckArgs, CheckFormat, Globals};
use crate::error;
use crate::host::asked::Asker;
use crate::manifest::{self, Problem, Severity, Source};
use crate::output::{write_json, write_stderr, write_stdout};
use crate::pod::status::json::SCHEMA;

#[derive(Serialize)]
struct CheckJson {
    schema: u32,
    problems: Vec<ProblemJson>,
}

#[derive(Serialize)]
struct ProblemJson {
    file: String,
    path: String,
    line: usize,
    col: usize,
    severity: &'static str,
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
}

/// Says what is wrong with manifests. Problems are the output, so they go to standard output.
///
/// # Errors
/// When standard output cannot be written; a file that cannot be read is told and counted.
pub fn run(globals: &Globals, args: &CheckArgs) -> Result<u8> {
    let mut checked = Vec::new();
    let mut passed = true;
    let overrides = load::overrides(&args.overrides, None);
    for file in &args.files {
        let source = match load::source(file, overrides.clone()) {
            Ok(source) => source,
            Err(error) => {
                write_stderr(&error::text(&error));
                passed = false;
                continue;
            }
        };
        let read = source.read();
        let mut found = read.problems;
        if args.host {
            found.extend(load::asked_problems(&source, &Asker::look()));
            if let Some(spec) = read.spec {
                found.extend(load::host_problems(&source, &spec)?);
            }
            found.sort_by_key(|problem| (problem.span.start, problem.severity));
        }
        passed &= !found.iter().any(|problem| args.strict || problem.severity == Severity::Error);
        if !args.quiet && args.output == CheckFormat::Text && !found.is_empty() {
            write_stdout(&manifest::render_source(&source, &found, globals.color.stdout()))?;
        }
        checked.push((source, found));
    }
    match args.output {
        CheckFormat::Json if !args.quiet => {
            let problems = checked.iter().flat_map(|(source, found)| {
                found.iter().map(move |problem| to_json(source, problem.clone()))
            });
            write_json(&CheckJson { schema: SCHEMA, problems: problems.collect() })?;
        }
        CheckFormat::Sarif if !args.quiet => write_json(&sarif::report(&checked))?,
        _ => {}
    }
    Ok(u8::from(!passed))
}

fn to_json(source: &Source, problem: Problem) -> ProblemJson {
    let (file, line, col) = source.place(problem.span.start);
    ProblemJson {
        file: file.to_owned(),
        path: problem.path,
        line,
        col,
        severity: match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        code: problem.code,
        message: problem.message,
        help: problem.help,
    }
}
