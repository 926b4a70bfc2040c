//! Names: every key of the text is one that the table of keys knows, and works.
//!
//! A key that is known and does not work yet is refused like one that is unknown: a limit that is silently
//! ignored would be worse than none. Values are looked at only where a table is expected.

use toml::de::DeValue;

use super::keys::{self, Kind, Lookup, Support};
use super::problem::Problem;
use super::rules;
use super::tree::{Item, Report, Table, type_words};
use super::{foreign, later};
use crate::value::nearest;

/// Checks the names of all keys below `root`.
pub(super) fn check(root: &Table, report: &mut Report) {
    // With each table whether it is within one that was refused already.
    let mut tables = vec![(root.clone(), false)];
    while let Some((table, told)) = tables.pop() {
        for item in table.items() {
            if report.is_full() {
                return;
            }
            match look_up(&item) {
                Lookup::Key(key) if key.support == Support::NotYet => {
                    if !told {
                        report.add(not_yet(&item));
                    }
                    later::value(&item, key.kind, report);
                    tables
                        .extend(inner_tables(&item, key.kind, report).into_iter().map(|inner| (inner, true)));
                }
                // What it is if not a table is told by who reads it.
                Lookup::Key(key) if key.kind == Kind::Table => {
                    tables.extend(item.as_table().map(|inner| (inner, told)));
                }
                Lookup::Key(_) => {}
                Lookup::Table => match item.as_table() {
                    Some(inner) => tables.push((inner, told)),
                    None => report.add(no_table(&item)),
                },
                Lookup::Unknown => report.add(unknown(&table, &item)),
            }
        }
    }
}

/// A name with a bracket is nobody's: in the table of keys brackets stand for the tables of a list.
fn look_up(item: &Item) -> Lookup {
    if item.key.contains('[') { Lookup::Unknown } else { keys::look_up(&item.path.parts()) }
}

/// The tables below a key that does not work yet: itself, or those of its list.
fn inner_tables<'a>(item: &Item<'a>, kind: Kind, report: &mut Report) -> Vec<Table<'a>> {
    match kind {
        Kind::Table => item.as_table().into_iter().collect(),
        Kind::TableList if item.value.is_array() => {
            item.elements(report).iter().filter_map(Item::as_table).collect()
        }
        _ => Vec::new(),
    }
}

/// The table inside of an app that shows that the author wrote an app's name with a dot.
pub(super) fn dotted_app<'a>(app: &Table<'a>) -> Option<Item<'a>> {
    let unknown = |item: &Item| keys::look_up(&item.path.parts()) == Lookup::Unknown;
    let is_app = |item: &Item<'a>| {
        let inner = item.as_table();
        inner.is_some_and(|t| t.item("exec").or(t.item("rootfs")).or(t.item("isolators")).is_some())
    };
    app.items().into_iter().find(|item| unknown(item) && is_app(item))
}

fn not_yet(item: &Item) -> Problem {
    let message = format!("`{}` is not supported yet", item.path);
    Problem::new(&rules::NOT_SUPPORTED, &item.path, item.key_span.clone(), message)
        .help("remove it: podrun refuses a key that has no effect")
}

fn no_table(item: &Item) -> Problem {
    let path = item.path.to_string();
    if path == "app" && matches!(item.value, DeValue::Array(_)) {
        return Problem::new(
            &rules::APP_LIST,
            &path,
            item.span.clone(),
            "use [app.web], not [[app]]: apps are named tables",
        )
        .help("put the name of the app into the header: [app.NAME]");
    }
    let message = format!("{path} is a table, not {}", type_words(item.value));
    let problem = Problem::new(&rules::WRONG_TYPE, &path, item.span.clone(), message);
    problem.help(format!("write it as a table: [{path}]"))
}

fn unknown(table: &Table, item: &Item) -> Problem {
    let key = item.key;
    if let Some(problem) = dotted(table, item) {
        return problem;
    }
    let place =
        if table.path.parts().is_empty() { "at the top".to_owned() } else { format!("in [{}]", table.path) };
    let siblings = keys::keys_in(&table.path.parts());
    let hyphened = key.replace('_', "-");
    let mut message = format!("unknown key `{key}` {place}");
    let mut help = None;
    if hyphened != key && siblings.contains(&hyphened.as_str()) {
        help = Some(format!("keys use `-`: write `{hyphened}`"));
    } else if let Some(home) = elsewhere(table, &hyphened) {
        help = Some(format!("`{hyphened}` belongs in [{home}]"));
    } else if let Some(advice) = foreign::advice(&table.path.parts(), key) {
        help = Some(advice);
    } else if let Some(near) = nearest(&hyphened, siblings.iter().copied()) {
        message.push_str(&format!("; did you mean `{near}`?"));
    } else if !siblings.is_empty() {
        help = Some(format!("the keys {place} are {}", working(table, &siblings).join(", ")));
    }
    let problem = Problem::new(&rules::UNKNOWN_KEY, &item.path, item.key_span.clone(), message);
    match help {
        Some(help) => problem.help(help),
        None => problem,
    }
}

/// Those of the keys of a table that are worth a mention: they are tables themselves, or work. Where none does, all.
fn working(table: &Table, names: &[&'static str]) -> Vec<&'static str> {
    let works = |name: &str| match keys::look_up(&table.path.join(name).parts()) {
        Lookup::Key(key) => key.support == Support::Supported,
        Lookup::Table => true,
        Lookup::Unknown => false,
    };
    let working: Vec<&'static str> = names.iter().copied().filter(|name| works(name)).collect();
    if working.is_empty() { names.to_vec() } else { working }
}

/// `[app.my.web]`, which TOML reads as a table `web` in the app `my`.
fn dotted(table: &Table, item: &Item) -> Option<Problem> {
    let parts = table.path.parts();
    let ["app", first] = parts.as_slice() else { return None };
    dotted_app(table).filter(|found| found.key == item.key)?;
    let message =
        format!("[app.{first}.{0}]: app names have no dots; did you mean [app.{first}-{0}]?", item.key);
    Some(Problem::new(&rules::APP_DOTTED, &item.path, item.key_span.clone(), message))
}

/// The table near to this one that has a key of this name.
fn elsewhere(table: &Table, key: &str) -> Option<String> {
    let parts = table.path.parts();
    let app = match parts.as_slice() {
        ["app", name, ..] => *name,
        _ => "NAME",
    };
    let mut homes = keys::tables_with(key);
    let in_same_scope = |home: &String| parts.first().is_some_and(|scope| home.starts_with(scope));
    if homes.iter().any(in_same_scope) {
        homes.retain(in_same_scope);
    }
    homes.into_iter().min_by_key(String::len).map(|home| home.replace('*', app))
}
