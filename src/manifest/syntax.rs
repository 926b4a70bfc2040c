//! From text to a tree of TOML, with advice for the slips that authors make most.
//!
//! At most [`SHOWN_MAX`] faults are told, one for each line: the parser goes on after a fault, but what it then
//! finds is often a consequence.

use std::ops::Range;

use toml::de::{DeTable, Error};

use super::problem::{Problem, boundary_before, boundary_behind};
use super::tree::Report;
use super::{foreign, rules};
use crate::value::quoted;

const SHOWN_MAX: usize = 5;

/// The tree, if the text is TOML apart from keys given twice (of which one is taken).
pub(super) fn parse<'a>(text: &'a str, report: &mut Report) -> Option<DeTable<'a>> {
    let (tree, faults) = DeTable::parse_recoverable(text);
    let is_duplicate = |fault: &Error| fault.message().starts_with("duplicate key");
    if let Some(problem) = faults.first().and_then(|fault| unit_file(text, fault)) {
        report.add(problem);
        return None;
    }
    let usable = faults.iter().all(is_duplicate);
    let mut lines: Vec<Range<usize>> = Vec::new();
    let mut twice = None;
    for fault in &faults {
        let span = fault.span().unwrap_or(text.len()..text.len());
        if lines.len() == SHOWN_MAX {
            break;
        }
        if lines.iter().any(|line| line.contains(&span.start) || line.end == span.start) {
            continue;
        }
        let line = line_around(text, span.start);
        // Below a header that is there twice every key is there twice as well.
        let is_follower = is_duplicate(fault)
            && twice.as_ref().is_some_and(|table: &Range<usize>| table.contains(&span.start));
        if is_follower {
            continue;
        }
        if is_duplicate(fault) && text[line_around(text, span.start)].trim_start().starts_with('[') {
            let end = text[span.start..].find("\n[").map_or(text.len(), |at| span.start + at);
            twice = Some(span.end..end);
        }
        let is_yaml = looks_like_yaml(&text[line.clone()]);
        lines.push(line);
        report.add(if is_duplicate(fault) { duplicate(text, span) } else { fault_at(text, fault, span) });
        // In another language every line is wrong, and the first says why.
        if is_yaml {
            return None;
        }
    }
    usable.then(|| tree.into_inner())
}

/// The one thing to say of a unit file: nearly every line of it is wrong.
fn unit_file(text: &str, fault: &Error) -> Option<Problem> {
    let span = fault.span()?;
    let problem = foreign::is_unit(text).then(|| fault_at(text, fault, span))?;
    let help =
        "this looks like a systemd unit; a manifest has [pod] and [app.NAME], and strings stand in quotes";
    Some(problem.help(help))
}

fn fault_at(text: &str, fault: &Error, span: Range<usize>) -> Problem {
    let message = fault.message().trim_end_matches(", expected nothing");
    let problem = Problem::new(&rules::SYNTAX, "", span.clone(), message);
    match advice(text, fault.message(), span) {
        Some(help) => problem.help(help),
        None => problem,
    }
}

/// What the author most likely wanted to write.
fn advice(text: &str, message: &str, span: Range<usize>) -> Option<String> {
    let line = &text[line_around(text, span.start)];
    let value = line.split_once('=').map(|(_, value)| value.split('#').next().unwrap_or(value).trim());
    if looks_like_yaml(line) {
        return Some("this looks like YAML; TOML is written key = value below [table] headers".to_owned());
    }
    if message.contains("leading zero") {
        let value = value?;
        let number = value.trim_start_matches('0');
        return Some(format!("write {number}, or quote it where an octal mode is meant: \"{value}\""));
    }
    if message.contains("must be quoted") || message.contains("invalid") && is_bare_size(value?) {
        let value = value?;
        return Some(match is_bare_size(value) {
            true => format!("quote it, with its unit in full: \"{value}iB\""),
            false if value.starts_with(['[', '{']) => "put each string in quotes".to_owned(),
            false => format!("quote it: {}", quoted(value)),
        });
    }
    if message.contains("escape") {
        return Some("a backslash begins an escape in \"…\"; in '…' it is itself".to_owned());
    }
    None
}

fn looks_like_yaml(line: &str) -> bool {
    let line = line.trim_start().trim_start_matches("- ");
    if line.contains('=') {
        return false;
    }
    let Some((key, rest)) = line.split_once(':') else { return line.starts_with("---") };
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    !key.is_empty() && key.bytes().all(is_word) && (rest.is_empty() || rest.starts_with([' ', '\r']))
}

/// `512M`, without quotes.
fn is_bare_size(value: &str) -> bool {
    let number = value.trim_end_matches(|c: char| "KMGTPE".contains(c));
    number.len() + 1 == value.len()
        && !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// The line that holds an offset, without its end.
fn line_around(text: &str, offset: usize) -> Range<usize> {
    let at = boundary_before(text, offset);
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    start..end
}

fn duplicate(text: &str, span: Range<usize>) -> Problem {
    let end = boundary_behind(text, span.end);
    let key = text.get(span.start..end).unwrap_or_default();
    let problem = Problem::new(&rules::DUPLICATE_KEY, "", span.clone(), format!("`{key}` is given twice"));
    match first_place(text, &span) {
        Some(first) => problem.related(span, "again here").related(first, "first given here"),
        None => problem,
    }
}

/// Where the key at `span` was given before. The parser keeps only one of the two, so the lines before are
/// searched for one that leads to the same path; a multi-line string can mislead this, but only the label.
fn first_place(text: &str, span: &Range<usize>) -> Option<Range<usize>> {
    let mut header: Vec<&str> = Vec::new();
    let mut seen: Vec<(Vec<&str>, Range<usize>)> = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let start = offset;
        offset += line.len();
        let Some((keys, key_span, is_header)) = keys_of_line(line, start) else { continue };
        let path: Vec<_> =
            if is_header { keys.clone() } else { header.iter().copied().chain(keys).collect() };
        if (start..offset).contains(&span.start) {
            if !is_header && !key_span.contains(&span.start) {
                return same_line(text, start, span);
            }
            let wanted = path;
            let earlier = seen.into_iter().find(|(path, _)| path.starts_with(&wanted));
            return earlier.map(|(_, place)| place);
        }
        if is_header {
            header = path.clone();
        }
        seen.push((path, key_span));
    }
    None
}

/// The first place of a key that an inline table gives twice.
fn same_line(text: &str, line_start: usize, span: &Range<usize>) -> Option<Range<usize>> {
    let key = text.get(span.clone())?;
    let before = text.get(line_start..span.start)?;
    let is_key = |at: usize| {
        let behind = before[at + key.len()..].trim_start();
        let front = before[..at].trim_end();
        behind.starts_with('=') && front.ends_with(['{', ',', '.'])
    };
    let at = before.match_indices(key).map(|(at, _)| at).find(|at| is_key(*at))?;
    Some(line_start + at..line_start + at + key.len())
}

/// The dotted key that a line gives or opens, with its place.
fn keys_of_line(line: &str, start: usize) -> Option<(Vec<&str>, Range<usize>, bool)> {
    let trimmed = line.trim_start();
    let indent = line.len() - trimmed.len();
    let (body, lead, is_header) = match trimmed.strip_prefix('[') {
        Some(rest) if rest.starts_with('[') => return None,
        Some(rest) => (rest.split_once(']')?.0, 1, true),
        None => (trimmed.split_once('=')?.0, 0, false),
    };
    if body.starts_with('#') || body.trim().is_empty() {
        return None;
    }
    let keys = body.split('.').map(|part| part.trim().trim_matches(['"', '\''])).collect();
    let at = start + indent + lead;
    Some((keys, at..at + body.trim_end().len(), is_header))
}
