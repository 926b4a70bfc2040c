//! `podrun graph`: in which order the apps start, and which of them wait for which.
//!
//! Edges point from an app to those that are started after it. Every name is a DNS label or `[a-z0-9-]{1,32}`, so
//! none needs to be escaped in any of the three forms.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use super::{cat, load};
use crate::cli::{Globals, GraphArgs, GraphFormat};
use crate::manifest::overrides::Overrides;
use crate::output::table::Table;
use crate::output::{terminal_width, write_stderr, write_stdout};
use crate::pod::root::Root;
use crate::spec::{AppSpec, Spec};

/// Prints the graph of a manifest or a pod.
///
/// # Errors
/// What is wrong with the manifest, or that there is no such pod.
pub fn run(globals: &Globals, args: &GraphArgs) -> Result<u8> {
    let spec = spec(globals, &args.subject)?;
    write_stdout(&match args.output {
        GraphFormat::Text => text(&spec, if args.no_trunc { None } else { terminal_width() }),
        GraphFormat::Dot => dot(&spec),
        GraphFormat::Mermaid => mermaid(&spec),
    })?;
    Ok(0)
}

/// A name of a pod has neither a dot nor a slash; a path that has neither can be given as `./shop`.
fn spec(globals: &Globals, subject: &str) -> Result<Spec> {
    if subject == "-" || subject.contains(['.', '/']) {
        let loaded = load::manifest(Path::new(subject), Overrides::default(), globals.color.stderr())?;
        write_stderr(&loaded.warnings);
        return Ok(loaded.spec);
    }
    cat::spec(&Root::open(&globals.root)?.find(subject)?)
}

/// For each app the step in which it is started: one more than that of the last app it waits for.
fn steps(spec: &Spec) -> Vec<usize> {
    let mut steps = vec![1; spec.apps.len()];
    // A chain of n apps is right after n rounds; there is no cycle in a spec.
    for _ in 0..spec.apps.len() {
        for index in 0..spec.apps.len() {
            let waits_for = |name: &String| spec.apps.iter().position(|app| app.name == *name);
            let before = spec.apps[index].depends_on.iter().filter_map(waits_for).map(|other| steps[other]);
            steps[index] = before.max().map_or(1, |last| last + 1);
        }
    }
    steps
}

fn text(spec: &Spec, width_max: Option<usize>) -> String {
    let mut table = Table::new(&["STEP", "APP", "AFTER", "ITS FAILURE"]).cut(&["APP"]).cut_each(&["AFTER"]);
    let steps = steps(spec);
    let mut order: Vec<usize> = (0..spec.apps.len()).collect();
    order.sort_by_key(|&index| steps[index]);
    for index in order {
        let app = &spec.apps[index];
        let after = app.depends_on.iter().map(|name| format!("{name}{}", condition(app, name, " (ready)")));
        let after = after.collect::<Vec<_>>().join(", ");
        let after = if after.is_empty() { "-".to_owned() } else { after };
        let failure = if app.essential { "ends the pod" } else { "is only told" };
        table.row(vec![steps[index].to_string(), app.name.clone(), after, failure.to_owned()]);
    }
    let stop = "\nApps of one step start side by side. The pod stops in the reverse order.\n";
    format!("pod {}\n\n{}{stop}", spec.pod.name, table.fit(width_max).render())
}

fn dot(spec: &Spec) -> String {
    let mut out = format!("digraph \"{}\" {{\n  rankdir=LR;\n  node [shape=box];\n", spec.pod.name);
    for app in &spec.apps {
        let style = if app.essential { "" } else { " [style=dashed]" };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  \"{}\"{style};", app.name);
    }
    for (before, after) in edges(spec) {
        let label = condition(after, before, " [label=ready]");
        let _ = writeln!(out, "  \"{before}\" -> \"{}\"{label};", after.name);
    }
    out + "}\n"
}

/// `end` and the like are words of mermaid's, so nodes are numbered and named in brackets.
fn mermaid(spec: &Spec) -> String {
    let mut out = "flowchart LR\n".to_owned();
    let number = |name: &str| spec.apps.iter().position(|app| app.name == name).unwrap_or_default();
    for (index, app) in spec.apps.iter().enumerate() {
        let (open, close) = if app.essential { ("[", "]") } else { ("([", "])") };
        let _ = writeln!(out, "  a{index}{open}\"{}\"{close}", app.name);
    }
    for (before, after) in edges(spec) {
        let label = condition(after, before, "|ready|");
        let _ = writeln!(out, "  a{} -->{label} a{}", number(before), number(&after.name));
    }
    out
}

fn edges(spec: &Spec) -> impl Iterator<Item = (&str, &AppSpec)> {
    spec.apps.iter().flat_map(|app| app.depends_on.iter().map(move |before| (before.as_str(), app)))
}

/// The word where `app` waits until `before` is ready.
fn condition<'a>(app: &AppSpec, before: &str, word: &'a str) -> &'a str {
    if app.needs_ready.iter().any(|name| name == before) { word } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> Spec {
        let app = |name: &str, keys: &str| format!("[app.{name}]\nrootfs = \"/\"\nexec = [\"x\"]\n{keys}\n");
        let text = "version = 1\n[pod]\nname = \"shop\"\n".to_owned()
            + &app("api", "depends-on = { db = \"ready\", cache = \"started\" }")
            + &app("cache", "essential = false")
            + &app("db", "ready.notify = true")
            + &app("end", "depends-on = [\"api\"]");
        crate::manifest::read(&text).spec.unwrap()
    }

    #[test]
    fn text_is_in_the_order_of_the_start() {
        let expected = "\
pod shop

STEP  APP    AFTER              ITS FAILURE
1     cache  -                  is only told
1     db     -                  ends the pod
2     api    db (ready), cache  ends the pod
3     end    api                ends the pod

Apps of one step start side by side. The pod stops in the reverse order.
";
        assert_eq!(text(&shop(), None), expected);
    }

    #[test]
    fn drawings_have_every_app_and_every_edge() {
        let expected = "\
digraph \"shop\" {
  rankdir=LR;
  node [shape=box];
  \"api\";
  \"cache\" [style=dashed];
  \"db\";
  \"end\";
  \"db\" -> \"api\" [label=ready];
  \"cache\" -> \"api\";
  \"api\" -> \"end\";
}
";
        assert_eq!(dot(&shop()), expected);
        let expected = "\
flowchart LR
  a0[\"api\"]
  a1([\"cache\"])
  a2[\"db\"]
  a3[\"end\"]
  a2 -->|ready| a0
  a1 --> a0
  a0 --> a3
";
        assert_eq!(mermaid(&shop()), expected);
    }
}
