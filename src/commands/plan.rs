//! `podrun plan`: what `run` would do on this host, without doing it and without root.

use anyhow::{Result, anyhow};

use super::load;
use crate::cli::{Globals, PlanArgs, TextFormat};
use crate::error::{EXIT_USAGE, Note};
use crate::output::{fold, terminal_width, write_json, write_stderr, write_stdout};
use crate::plan::{Plan, Request, render};

/// Prints the plan.
///
/// # Errors
/// What is wrong with the manifest, or cannot be done on this host.
pub fn run(globals: &Globals, args: &PlanArgs) -> Result<u8> {
    let color = globals.color.stderr();
    let loaded =
        load::manifest(&args.manifest, load::overrides(&args.overrides, args.name.as_deref()), color)?;
    write_stderr(&loaded.warnings);
    let request = Request {
        id: load::NO_ID.to_owned(),
        name: args.name.clone(),
        started: crate::plan::Started::Foreground,
        passed: Vec::new(),
        watchdog_us: None,
    };
    let plan = load::plan(&loaded, &request, args.driver, color)?;
    let only = args.app.as_deref();
    match (args.output, only) {
        (_, Some(app)) if plan.apps.iter().all(|a| a.name != app) => no_such_app(&plan, app)?,
        (TextFormat::Text, _) => write_stdout(&text(&plan, only))?,
        (TextFormat::Json, None) => write_json(&plan)?,
        (TextFormat::Json, Some(app)) => write_json(&plan.apps.iter().find(|a| a.name == app))?,
    }
    Ok(0)
}

/// On a terminal its lines are as long as that is wide.
#[must_use]
pub fn text(plan: &Plan, only: Option<&str>) -> String {
    let text = render(plan, only);
    match terminal_width() {
        Some(width) => fold(&text, width),
        None => text,
    }
}

fn no_such_app(plan: &Plan, app: &str) -> Result<()> {
    let names: Vec<&str> = plan.apps.iter().map(|a| a.name.as_str()).collect();
    Err(anyhow!("pod `{}` has no app `{app}`", plan.pod))
        .hint(format!("its apps are {}", names.join(", ")))
        .code(EXIT_USAGE)
}
