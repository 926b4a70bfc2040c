//! `podrun explain`: what the table of keys and the document of problems say, for a screen of 80 columns.

use anyhow::{Result, anyhow};

use crate::cli::ExplainArgs;
use crate::error::Note;
use crate::manifest::keys::{self, KEYS, Key, Kind, Lookup, Support};
use crate::manifest::rules::{self, Rule};
use crate::output::write_stdout;
use crate::value::nearest;

const COLUMNS: usize = 80;
/// Stands for a name of the author's choice.
const NAME: &str = "NAME";

/// Prints what is known of a key, of a table or of the code of a problem.
///
/// # Errors
/// When there is none of that name.
pub fn run(args: &ExplainArgs) -> Result<u8> {
    let text = match (&args.what, args.all) {
        (Some(what), _) => explain(what)?,
        (None, true) => everything(),
        (None, false) => overview(),
    };
    write_stdout(&text)?;
    Ok(0)
}

fn explain(what: &str) -> Result<String> {
    if let Some(rule) = Rule::find(what) {
        return Ok(of_rule(rule));
    }
    let wanted = what.trim_start_matches('[').trim_end_matches(']');
    let parts = with_name(wanted);
    let parts = strs(&parts);
    match keys::look_up(&parts) {
        Lookup::Key(key) => {
            let inner = table_below(key, &parts).map(|table| format!("\n{}", of_table(&table)));
            return Ok(of_key(key) + &inner.unwrap_or_default());
        }
        Lookup::Table => return Ok(of_table(&parts)),
        Lookup::Unknown => {}
    }
    let named: Vec<String> = KEYS.iter().filter(|key| last(key.path) == wanted).map(of_key).collect();
    if !named.is_empty() {
        return Ok(named.join("\n"));
    }
    // The same table of the pod and of apps is shown once.
    let tables: Vec<String> =
        keys::tables_with(wanted).into_iter().map(|t| format!("{t}.{wanted}")).collect();
    let mut headers: Vec<String> = tables.iter().map(|table| header(table)).collect();
    headers.sort_by_key(|header| !header.starts_with("[pod"));
    headers.dedup();
    if let Some(table) = tables.last() {
        return Ok(headers.join(", ") + "\n\n" + &keys_of(&table.split('.').collect::<Vec<_>>()));
    }
    unknown(wanted)
}

fn unknown(wanted: &str) -> Result<String> {
    let names = KEYS.iter().map(|key| last(key.path)).chain(rules::ALL.iter().map(|rule| rule.code));
    let error = Err(anyhow!("there is no key and no problem `{wanted}`"));
    match nearest(last(wanted), names) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint("`podrun explain` lists all keys"),
    }
}

/// `app.exec` stands for `app.NAME.exec`; so do other tables of the author's names.
fn with_name(path: &str) -> Vec<String> {
    let mut parts: Vec<String> = path.split('.').map(str::to_owned).collect();
    let mut named = parts.clone();
    named.insert(1, NAME.to_owned());
    if path == "app" || parts.len() > 1 && keys::look_up(&strs(&named)) != Lookup::Unknown {
        parts = named;
    }
    if let Some(at) = parts.iter().position(|part| part == "mount").filter(|at| at + 1 < parts.len()) {
        parts[at].push_str("[]");
    }
    parts
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// The table whose keys are explained with a key: its own, that of each of its entries, or of each in its list.
fn table_below(key: &Key, parts: &[&str]) -> Option<Vec<String>> {
    let own: Vec<String> = parts.iter().map(ToString::to_string).collect();
    let mut entry = own.clone();
    if key.kind == Kind::TableList {
        entry.last_mut()?.push_str("[]");
    } else {
        entry.push(NAME.to_owned());
    }
    [own, entry].into_iter().find(|table| !keys::keys_in(&strs(table)).is_empty())
}

fn strs(parts: &[String]) -> Vec<&str> {
    parts.iter().map(String::as_str).collect()
}

/// The paths that a pattern stands for, as an author writes them.
fn paths(pattern: &str) -> Vec<String> {
    let named = pattern.replace('*', NAME);
    let heads: &[&str] = match pattern.as_bytes().first() {
        Some(b'@') => &["pod", "app.NAME"],
        Some(b'%') => &["app.NAME.ready", "app.NAME.live"],
        _ => return vec![named],
    };
    heads.iter().map(|head| format!("{head}{}", &named[1..])).collect()
}

fn of_key(key: &'static Key) -> String {
    let mut out = paths(key.path).join("\n") + "\n\n";
    out.push_str(&wrap(key.about, 2, 2));
    if key.support == Support::NotYet {
        out.push_str(&wrap("Not supported yet: a manifest that has it is refused.", 2, 2));
    }
    out.push('\n');
    let mut row = |name: &str, text: &str| out.push_str(&wrap(&format!("{name:<10} {text}"), 2, 13));
    row("type", &type_of(key.kind));
    row("default", key.default);
    if !key.rule.is_empty() && !matches!(key.kind, Kind::Choice(_) | Kind::Boolean) {
        row("rule", key.rule);
    }
    if let Some(files) = key.cgroup {
        row("cgroup v1", if files.v1.is_empty() { "no such limit" } else { files.v1 });
        row("cgroup v2", if files.v2.is_empty() { "no such limit" } else { files.v2 });
    }
    if let Some(property) = key.systemd {
        row("systemd", property);
    }
    if key.kind == Kind::TableList {
        row("example", &format!("[[{}]]", paths(key.path).join("")));
    } else {
        row("example", &format!("{} = {}", last(key.path).replace('*', "\"2MB\""), key.example));
    }
    out
}

fn type_of(kind: Kind) -> String {
    match kind {
        Kind::Choice(words) => format!("a string: {}", words.join(", ")),
        Kind::Integer(min, max) if max > min => format!("an integer from {min} to {max}"),
        Kind::Path => "an absolute path in a string".to_owned(),
        Kind::PathList => "a list of absolute paths in strings".to_owned(),
        Kind::NumberSet => "a string of numbers and ranges".to_owned(),
        Kind::Identity => "an id (an integer) or a name (a string)".to_owned(),
        other => other.words().to_owned(),
    }
}

/// A table and its keys.
fn of_table<T: AsRef<str>>(parts: &[T]) -> String {
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    header(&parts.join(".")) + "\n\n" + &keys_of(&parts)
}

fn header(path: &str) -> String {
    let path = path.replace('*', NAME);
    match path.strip_suffix("[]") {
        Some(list) => format!("[[{list}]]"),
        None => format!("[{path}]"),
    }
}

/// The keys of one table, each with its sentence; those that do not work by name alone, if others do.
fn keys_of(parts: &[&str]) -> String {
    let names = keys::keys_in(parts);
    let known = |name: &str| keys::look_up(&parts.iter().copied().chain([name]).collect::<Vec<_>>());
    let is_later = |name: &&&str| matches!(known(name), Lookup::Key(key) if key.support == Support::NotYet);
    let later: Vec<&str> = names.iter().filter(is_later).copied().collect();
    let mut out = String::new();
    for name in &names {
        match known(name) {
            Lookup::Key(_) if later.len() < names.len() && later.contains(name) => {}
            Lookup::Key(key) => out.push_str(&line(name, key.about)),
            _ => out.push_str(&line(name, "A table of its own.")),
        }
    }
    if later.len() == names.len() {
        out.push_str("\n  Not supported yet.\n");
    } else if !later.is_empty() {
        out.push_str("\n  Not supported yet:\n");
        out.push_str(&wrap(&later.join(", "), 2, 2));
    }
    out
}

fn line(name: &str, text: &str) -> String {
    wrap(&format!("{name:<18} {text}"), 2, 21)
}

/// Every key that works, by its table; the others by name alone.
fn overview() -> String {
    let mut out = String::new();
    let mut table = None;
    for key in KEYS.iter().filter(|key| key.support == Support::Supported) {
        let all = paths(key.path);
        let headers: Vec<String> =
            all.iter().filter_map(|path| Some(format!("[{}]", path.rsplit_once('.')?.0))).collect();
        if table.as_ref() != Some(&headers) {
            let title =
                if headers.is_empty() { String::new() } else { format!("\n{}\n", headers.join(", ")) };
            out.push_str(&title);
        }
        table = Some(headers);
        let name = match last(key.path) {
            "*" => NAME,
            name => name,
        };
        out.push_str(&line(name, key.about));
    }
    let later: Vec<&str> = KEYS.iter().filter(|key| is_outermost_later(key)).map(|key| key.path).collect();
    out.push_str("\nNot supported yet\n");
    let later = later.join(", ").replace("@.", "").replace('*', NAME);
    out.push_str(&wrap(&later, 2, 2));
    out.push_str("\n`podrun explain KEY` says more about one, `podrun explain CODE` about a problem.\n");
    out
}

/// Whether a key does not work yet, and is not only a part of a table that does not.
fn is_outermost_later(key: &Key) -> bool {
    let outer = |other: &&Key| {
        let inner = key.path.strip_prefix(other.path).is_some_and(|rest| rest.starts_with(['.', '[']));
        inner && other.support == Support::NotYet
    };
    key.support == Support::NotYet && !key.path.starts_with('%') && !KEYS.iter().any(|other| outer(&other))
}

fn everything() -> String {
    let mut out: Vec<String> = KEYS.iter().map(of_key).collect();
    let codes = rules::ALL.iter().map(|rule| wrap(&format!("{}  {}", rule.code, rule.about), 0, 7));
    out.push(codes.collect());
    out.join("\n")
}

/// A section of the document: paragraphs wrapped, code moved in.
fn of_rule(rule: &Rule) -> String {
    let mut out = String::new();
    let mut in_code = false;
    for line in rule.section().lines() {
        if line.starts_with("```") {
            in_code = !in_code;
        } else if in_code {
            out.push_str(&format!("    {line}\n"));
        } else {
            out.push_str(&format!("{line}\n"));
        }
    }
    let paragraph = |text: &str| match text.starts_with("    ") {
        true => format!("{}\n", text.trim_end()),
        false => wrap(&text.replace('\n', " "), 0, 0),
    };
    let text = format!("{}: {out}", rule.code);
    let paragraphs: Vec<String> =
        text.split("\n\n").filter(|text| !text.trim().is_empty()).map(paragraph).collect();
    paragraphs.join("\n")
}

/// The text in lines of at most [`COLUMNS`], the first moved in by `first`, the others by `rest`. Two blanks in a
/// row are kept, so that columns stay where they are.
fn wrap(text: &str, first: usize, rest: usize) -> String {
    let mut out = String::new();
    let mut line = " ".repeat(first);
    let mut is_empty = true;
    for word in text.split(' ') {
        let needed = line.chars().count() + word.chars().count() + usize::from(!is_empty);
        if !is_empty && !word.is_empty() && needed > COLUMNS {
            out.push_str(line.trim_end());
            out.push('\n');
            line = " ".repeat(rest);
        } else if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_path_with_or_without_names() {
        for what in ["app.web.exec", "app.NAME.exec", "app.exec", "exec", "[app.web.exec]"] {
            assert!(explain(what).unwrap().starts_with("app.NAME.exec\n"), "{what}");
        }
        for what in ["memory-max", "pod.isolators.memory-max", "app.isolators.memory-max"] {
            let text = explain(what).unwrap();
            assert!(text.contains("memory.limit_in_bytes") && text.contains("MemoryMax="), "{text}");
        }
        assert!(explain("app.web.mount.source").unwrap().contains("app.NAME.mount[].source"));
    }

    #[test]
    fn a_table_lists_its_keys() {
        for (what, expected) in [
            ("app", "  rootfs "),
            ("pod", "  exit-policy "),
            ("isolators", "  cpuset-mems "),
            ("app.web.isolators", "  cpu-weight "),
            ("volume", "  size "),
            ("app.mount", "  target "),
            ("app.ready", "  notify "),
            ("app.ready", " start-period,"),
        ] {
            let text = explain(what).unwrap();
            assert!(text.contains(expected), "{what}:\n{text}");
        }
    }

    #[test]
    fn a_code_is_explained_with_its_examples() {
        let text = explain("e0312").unwrap();
        assert!(
            text.starts_with("E0312: A size has a unit that every tool reads alike.\n\nA bare letter"),
            "{text}"
        );
        assert!(text.contains("Not:\n\n    [pod.isolators]\n    memory-max = \"512M\"\n"), "{text}");
        assert!(!text.contains("```"));
    }

    #[test]
    fn what_is_unknown_is_told_with_the_nearest_name() {
        let error = explain("memmory-max").unwrap_err();
        assert_eq!(
            crate::error::text(&error),
            "podrun: there is no key and no problem `memmory-max`\nhint: did you mean `memory-max`?\n"
        );
        assert!(explain("E9999").is_err() && explain("").is_err() && explain("a.b.c").is_err());
    }

    #[test]
    fn everything_fits_into_80_columns() {
        let mut texts = vec![overview(), everything()];
        texts.extend(rules::ALL.iter().map(of_rule));
        for line in texts.iter().flat_map(|text| text.lines()) {
            assert!(line.chars().count() <= COLUMNS, "{line}");
        }
    }
}
