//! What the command line changes in a manifest: `--set`, `--env-file`, `-e`, `--name`, `--only`, and the changes of
//! `podrun update`.
//!
//! A change is made to the parsed tree before anything is checked, so that a value is held to the same rules
//! wherever it was written. What was typed stands behind the manifest in one text (see [`super::source`]), so a
//! problem points at the command line like at any line. Nothing here looks at files or at the environment: what
//! was found there comes with the change.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::keys::{self, Kind, Lookup};
use super::problem::Problem;
use super::rules;
use super::tree::{Report, type_words};
use crate::value::nearest;

/// Everything that was typed, in the order in which it is applied: a later change wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The changes.
    pub changes: Vec<Change>,
    /// Only these apps, if any are named.
    pub only: Vec<String>,
    /// Without the apps that those of `only` depend on.
    pub no_deps: bool,
}

/// One flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `--set PATH=VALUE`.
    Set(String),
    /// `--env-file FILE`, with its variables or why they cannot be had.
    EnvFile(String, Result<Vec<(String, String)>, String>),
    /// `-e [APP/]NAME[=VALUE]`, with the variable of podrun's own environment where no value was typed.
    Env(String, Option<String>),
    /// `--name NAME`.
    Name(String),
    /// `KEY=VALUE` of `podrun update`: an isolator of an app, or of the pod. Without a value it is taken away.
    Isolator(Option<String>, String),
}

impl Change {
    /// The flag, and what was typed behind it.
    fn typed(&self) -> (&'static str, &str) {
        match self {
            Self::Set(typed) => ("--set ", typed),
            Self::EnvFile(typed, _) => ("--env-file ", typed),
            Self::Env(typed, _) => ("-e ", typed),
            Self::Name(typed) => ("--name ", typed),
            Self::Isolator(_, typed) => ("", typed),
        }
    }
}

impl Overrides {
    /// Whether nothing was typed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.only.is_empty()
    }

    /// A line for each flag, as it was typed.
    pub(super) fn lines(&self) -> Vec<String> {
        let changes = self.changes.iter().map(|change| {
            let (flag, typed) = change.typed();
            format!("{flag}{typed}")
        });
        changes.chain(self.only.iter().map(|app| format!("--only {app}"))).collect()
    }

    /// The same for who does not see to which app they belong.
    pub(super) fn explained(&self) -> Vec<String> {
        let owner = |change: Option<&Change>| match change {
            Some(Change::Isolator(Some(app), _)) => format!("app.{app}.isolators."),
            Some(Change::Isolator(None, _)) => "pod.isolators.".to_owned(),
            _ => String::new(),
        };
        let lines = self.lines().into_iter().enumerate();
        lines.map(|(index, line)| owner(self.changes.get(index)) + &line).collect()
    }

    /// Makes the changes. `at` is where the first line begins in the report's text.
    pub(super) fn apply<'a>(&'a self, at: usize, tree: &mut DeTable<'a>, report: &mut Report<'a>) {
        let mut at = at;
        for change in &self.changes {
            let (flag, typed) = change.typed();
            let typed_at = at + flag.len();
            match change {
                Change::Set(_) => set(typed_at, typed, tree, report),
                Change::EnvFile(_, Ok(pairs)) => {
                    let span = typed_at..typed_at + typed.len();
                    for (name, value) in pairs {
                        set_variable(None, (name, span.clone()), (value, span.clone()), tree);
                    }
                }
                Change::EnvFile(_, Err(reason)) => {
                    let span = typed_at..typed_at + typed.len();
                    report.add(Problem::new(&rules::ENV_FILE_TYPED, "", span, reason));
                }
                Change::Env(_, own) => env(typed_at, (typed, own.as_deref()), tree, report),
                Change::Name(name) => set_name(typed_at, name, tree),
                Change::Isolator(app, _) => isolator(typed_at, (app.as_deref(), typed), tree, report),
            }
            at = typed_at + typed.len() + 1;
        }
    }
}

/// The parts of a dotted path with their places, and the offset behind it.
fn path_of(typed: &str) -> Option<(Vec<Range<usize>>, usize)> {
    let mut parts = Vec::new();
    let mut at = 0;
    loop {
        let rest = typed.get(at..)?;
        let length = match rest.chars().next()? {
            quote @ ('"' | '\'') => rest[1..].find(quote)? + 2,
            _ => {
                rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').unwrap_or(rest.len())
            }
        };
        if length == 0 {
            return None;
        }
        parts.push(at..at + length);
        at += length;
        match typed[at..].chars().next() {
            Some('.') => at += 1,
            _ => return Some((parts, at)),
        }
    }
}

/// The parts without the quotes that they may stand in.
fn names<'a>(typed: &'a str, parts: &[Range<usize>]) -> impl Iterator<Item = &'a str> {
    parts.iter().map(|part| typed[part.clone()].trim_matches(['"', '\'']))
}

fn set<'a>(at: usize, typed: &'a str, tree: &mut DeTable<'a>, report: &mut Report<'a>) {
    let malformed = || {
        let problem = Problem::new(&rules::SET_FORM, "", at..at + typed.len(), "`--set` needs PATH=VALUE");
        problem.help("for example: --set app.web.isolators.cpus=0.5")
    };
    let Some((ranges, end)) = path_of(typed).filter(|(_, end)| typed[*end..].starts_with('=')) else {
        report.add(malformed());
        return;
    };
    let parts: Vec<&str> = names(typed, &ranges).collect();
    let spans: Vec<Range<usize>> = ranges.iter().map(|range| at + range.start..at + range.end).collect();
    if let Some(problem) = unknown_app(&parts, &spans, tree) {
        report.add(problem);
        return;
    }
    let value = value(at + end + 1, &typed[end + 1..], &parts);
    if let Some(problem) = put(&parts, &spans, value, tree) {
        report.add(problem);
    }
}

/// Whether it is a path of keys with an `=` and maybe a value behind it.
#[must_use]
pub fn is_change(typed: &str) -> bool {
    path_of(typed).is_some_and(|(_, end)| typed[end..].starts_with('='))
}

/// The first key of changes that leaves nothing of an earlier one: the same key, or the table that the key is in. Entries of
/// one table are different keys, and a table may be taken away before entries of it are set.
#[must_use]
pub fn given_twice(changes: &[String]) -> Option<String> {
    let path = |typed: &String| -> Option<Vec<String>> {
        let (ranges, _) = path_of(typed)?;
        Some(names(typed, &ranges).map(str::to_owned).collect())
    };
    let paths: Vec<Vec<String>> = changes.iter().filter_map(path).collect();
    let is_told = |index: usize, later: &[String]| paths[..index].iter().any(|path| path.starts_with(later));
    let twice = paths.iter().enumerate().find(|(index, later)| is_told(*index, later));
    twice.map(|(_, path)| path.join("."))
}

/// What nobody has typed has the place of what was typed behind it.
fn isolator<'a>(
    at: usize,
    (app, typed): (Option<&'a str>, &'a str),
    tree: &mut DeTable<'a>,
    report: &mut Report<'a>,
) {
    let Some((ranges, end)) = path_of(typed).filter(|_| is_change(typed)) else {
        let problem = Problem::new(&rules::SET_FORM, "", at..at + typed.len(), "a change is KEY=VALUE");
        report.add(problem.help("for example: memory-max=1GiB, or memory-max= to take it away"));
        return;
    };
    let above = app.map_or_else(|| vec!["pod", "isolators"], |app| vec!["app", app, "isolators"]);
    let parts: Vec<&'a str> = above.iter().copied().chain(names(typed, &ranges)).collect();
    let unseen = above.iter().map(|_| at..at);
    let spans: Vec<Range<usize>> =
        unseen.chain(ranges.iter().map(|range| at + range.start..at + range.end)).collect();
    let text = &typed[end + 1..];
    // A key that does not exist is told, whatever was to become of it.
    if text.is_empty() && keys::look_up(&parts) != Lookup::Unknown {
        remove(&parts, tree);
        return;
    }
    if let Some(problem) = put(&parts, &spans, value(at + end + 1, text, &parts), tree) {
        report.add(problem);
    }
}

/// Takes what is at a path away, if anything is.
fn remove(parts: &[&str], tree: &mut DeTable) {
    let Some((last, way)) = parts.split_last() else { return };
    let mut table = tree;
    for part in way {
        let Some(DeValue::Table(inner)) = table.get_mut(*part).map(Spanned::get_mut) else { return };
        table = inner;
    }
    table.remove(*last);
}

/// Whole apps are not made on the command line: their name would be a slip.
fn unknown_app(parts: &[&str], spans: &[Range<usize>], tree: &DeTable) -> Option<Problem> {
    let ["app", name, _, ..] = parts else { return None };
    let apps = tree.get("app")?.get_ref().as_table()?;
    if apps.contains_key(*name) { None } else { Some(no_app(name, spans[1].clone(), apps)) }
}

fn no_app(name: &str, span: Range<usize>, apps: &DeTable) -> Problem {
    let problem =
        Problem::new(&rules::OVERRIDE_APP, "", span, format!("there is no app `{name}` in this manifest"));
    let names: Vec<&str> = apps.keys().map(|key| key.get_ref().as_ref()).collect();
    match nearest(name, names.iter().copied()) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => problem.help(format!("its apps are {}", names.join(", "))),
    }
}

/// Puts a value at a path, in place of what is there, or says why that cannot be. Tables on the way are made.
fn put<'a>(
    parts: &[&'a str],
    spans: &[Range<usize>],
    value: Spanned<DeValue<'a>>,
    tree: &mut DeTable<'a>,
) -> Option<Problem> {
    let ((last, way), last_span) = (parts.split_last()?, spans.last()?);
    let mut table = tree;
    for (index, (part, span)) in way.iter().zip(spans).enumerate() {
        if !table.contains_key(*part) {
            let inner = Spanned::new(span.clone(), DeValue::Table(DeTable::new()));
            table.insert(Spanned::new(span.clone(), DeString::Borrowed(part)), inner);
        }
        let found = table.get_mut(*part)?;
        let words = type_words(found.get_ref());
        let DeValue::Table(inner) = found.get_mut() else {
            let way = parts[..=index].join(".");
            let message = format!("cannot set `{}`: `{way}` is {words}", parts.join("."));
            return Some(Problem::new(&rules::SET_WAY, "", span.clone(), message));
        };
        table = inner;
    }
    // An entry that is there would keep its place in the manifest.
    table.remove(*last);
    table.insert(Spanned::new(last_span.clone(), DeString::Borrowed(last)), value);
    None
}

/// What was typed as a value, in the type that its key takes: a shell leaves no quotes, so what is no TOML is a
/// string, and where a string is wanted everything is.
fn value<'a>(at: usize, typed: &'a str, parts: &[&str]) -> Spanned<DeValue<'a>> {
    let span = at..at + typed.len();
    let literal = || Spanned::new(span.clone(), DeValue::String(DeString::Borrowed(typed)));
    if wants_text(parts) && !typed.starts_with(['"', '\'']) {
        return literal();
    }
    match DeValue::parse(typed) {
        Ok(value) => shifted(value, at),
        Err(_) => literal(),
    }
}

fn wants_text(parts: &[&str]) -> bool {
    let kind = |parts: &[&str]| match keys::look_up(parts) {
        Lookup::Key(key) => Some(key.kind),
        _ => None,
    };
    let inner = parts.split_last().and_then(|(_, outer)| kind(outer));
    let text = |kind| {
        use Kind::{Choice, Duration, NumberSet, Octal, Path, Signal, Text};
        matches!(kind, Text | Choice(_) | Path | Octal | Signal | Duration | NumberSet)
    };
    kind(parts).is_some_and(text) || inner == Some(Kind::TextTable)
}

/// The same value, `by` bytes further on.
fn shifted(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let span = value.span().start + by..value.span().end + by;
    let inner = match value.into_inner() {
        DeValue::Array(list) => {
            let mut moved = DeArray::new();
            for element in list {
                moved.push(shifted(element, by));
            }
            DeValue::Array(moved)
        }
        DeValue::Table(table) => {
            let entries = table.into_iter().map(|(key, value)| {
                let place = key.span().start + by..key.span().end + by;
                (Spanned::new(place, key.into_inner()), shifted(value, by))
            });
            DeValue::Table(entries.collect())
        }
        other => other,
    };
    Spanned::new(span, inner)
}

fn env<'a>(
    at: usize,
    (typed, own): (&'a str, Option<&'a str>),
    tree: &mut DeTable<'a>,
    report: &mut Report<'a>,
) {
    let (left, value) = match typed.split_once('=') {
        Some((left, value)) => (left, Some(value)),
        None => (typed, own),
    };
    let (app, name) = match left.split_once('/') {
        Some((app, name)) => (Some(app), name),
        None => (None, left),
    };
    let name_at = at + left.len() - name.len();
    let name_span = name_at..name_at + name.len();
    let Some(value) = value else {
        let message = format!("there is no variable `{name}` in podrun's own environment");
        let problem = Problem::new(&rules::ENV_TYPED, "", name_span, message);
        report.add(problem.help(format!("write -e {name}=VALUE")));
        return;
    };
    let apps = tree.get("app").and_then(|apps| apps.get_ref().as_table());
    if let (Some(app), Some(apps)) = (app, apps)
        && !apps.contains_key(app)
    {
        report.add(no_app(app, at..at + app.len(), apps));
        return;
    }
    let value_span = at + typed.find('=').map_or(0, |equals| equals + 1)..at + typed.len();
    set_variable(app, (name, name_span), (value, value_span), tree);
}

/// Sets a variable of one app or of all.
fn set_variable<'a>(
    app: Option<&str>,
    (name, name_span): (&'a str, Range<usize>),
    (value, value_span): (&'a str, Range<usize>),
    tree: &mut DeTable<'a>,
) {
    let Some(DeValue::Table(apps)) = tree.get_mut("app").map(Spanned::get_mut) else { return };
    for (key, table) in apps.iter_mut() {
        let wanted = app.is_none_or(|app| app == key.get_ref().as_ref());
        let DeValue::Table(table) = table.get_mut() else { continue };
        if !wanted {
            continue;
        }
        let value = Spanned::new(value_span.clone(), DeValue::String(DeString::Borrowed(value)));
        // An env that is no table is told by its reader.
        let _ = put(&["env", name], &[name_span.clone(), name_span.clone()], value, table);
    }
}

fn set_name<'a>(at: usize, name: &'a str, tree: &mut DeTable<'a>) {
    let span = at..at + name.len();
    let value = Spanned::new(span.clone(), DeValue::String(DeString::Borrowed(name)));
    // A pod that is no table is told by its reader.
    let _ = put(&["pod", "name"], &[span.clone(), span], value, tree);
}

/// The apps that are asked for and are not there.
pub(super) fn unknown_only(overrides: &Overrides, at: usize, tree: &DeTable, report: &mut Report) {
    const FLAG: &str = "--only ";
    let Some(apps) = tree.get("app").and_then(|apps| apps.get_ref().as_table()) else { return };
    let mut at = at;
    for change in &overrides.changes {
        let (flag, typed) = change.typed();
        at += flag.len() + typed.len() + 1;
    }
    for name in &overrides.only {
        let span = at + FLAG.len()..at + FLAG.len() + name.len();
        at = span.end + 1;
        if !apps.contains_key(name.as_str()) {
            report.add(no_app(name, span, apps));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_given_twice_when_nothing_is_left_of_an_earlier_change() {
        let table: [(&[&str], Option<&str>); 10] = [
            (&["cpus=0.25", "cpus=0.5"], Some("cpus")),
            (&["cpus=0.25", "memory-max=1GiB", "cpus="], Some("cpus")),
            (&["cpus=0.25", "\"cpus\"=0.25"], Some("cpus")),
            (&["cpus=0.25", "cpu-period=20ms", "cpuset=0"], None),
            (&["io-max.\"/a\".rbps=1MiB", "io-max.\"/b\".rbps=1MiB", "io-max.\"/a\".wbps=1MiB"], None),
            (&["io-max.\"/a\".rbps=1MiB", "io-max.'/a'.rbps=2MiB"], Some("io-max./a.rbps")),
            (&["hugetlb.2MB=4MiB", "hugetlb.1GB=1GiB"], None),
            (&["hugetlb.2MB=4MiB", "hugetlb="], Some("hugetlb")),
            (&["hugetlb=", "hugetlb.2MB=4MiB"], None),
            (&["unified.\"memory.swap.high\"=max", "unified.\"memory.high\"=max"], None),
        ];
        for (typed, expected) in table {
            let changes: Vec<String> = typed.iter().map(ToString::to_string).collect();
            assert_eq!(given_twice(&changes).as_deref(), expected, "{typed:?}");
        }
    }
}
