//! The parsed text with the path and the place of every value, and readers that say what is wrong with one.
//!
//! A reader that finds fault tells it and gives nothing; the caller goes on with a default, so that one run
//! finds all faults. A [`Report`] with an error never becomes a spec, so no such default is ever used.

use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::keys::{self, Kind, Lookup};
use super::problem::{Problem, Severity};
use super::rules::{self, Rule};
use crate::value::{Refusal, Why, nearest, quoted};

/// More problems than this are not taken up, so that a text of any kind is read in a time that grows with its
/// length alone.
const PROBLEMS_MAX: usize = 200;

/// The problems found so far.
pub struct Report<'a> {
    /// The whole text.
    pub text: &'a str,
    /// In the order in which they were found.
    pub problems: Vec<Problem>,
    manifest_length: usize,
}

impl<'a> Report<'a> {
    /// Nothing found yet in a text of which the manifest is the first part.
    pub(super) fn new(text: &'a str, manifest_length: usize) -> Self {
        Self { text, problems: Vec::new(), manifest_length }
    }

    /// The end of the last line that is not blank, for what is missing.
    pub(super) fn end(&self) -> Range<usize> {
        let end = self.text[..self.manifest_length].trim_end().len();
        end..end
    }

    /// Takes a problem up, unless there are more than anybody reads. The first error is always taken, since it
    /// decides.
    pub(super) fn add(&mut self, problem: Problem) {
        let decides = problem.severity == Severity::Error && !self.has_errors();
        if self.problems.len() < PROBLEMS_MAX || decides {
            self.problems.push(problem);
        }
    }

    /// Whether no further problem would be taken up.
    pub(super) fn is_full(&self) -> bool {
        self.problems.len() >= PROBLEMS_MAX && self.has_errors()
    }

    pub(super) fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }
}

/// The parts of a key's path.
#[derive(Debug, Clone, Default)]
pub struct Path(Vec<String>);

impl Path {
    pub(super) fn parts(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }

    pub(super) fn join(&self, part: &str) -> Self {
        let mut parts = self.0.clone();
        parts.push(part.to_owned());
        Self(parts)
    }

    fn element(&self, index: usize) -> Self {
        let mut parts = self.0.clone();
        if let Some(last) = parts.last_mut() {
            last.push_str(&format!("[{index}]"));
        }
        Self(parts)
    }
}

impl fmt::Display for Path {
    /// As it is written in TOML: a part that is no bare key stands in quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().enumerate() {
            let dot = if at == 0 { "" } else { "." };
            let bare =
                !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_[]".contains(&b));
            if bare { write!(f, "{dot}{part}")? } else { write!(f, "{dot}{}", quoted(part))? }
        }
        Ok(())
    }
}

/// A key as TOML takes it: bare, or in quotes.
pub(crate) fn any_key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if bare { key.to_owned() } else { quoted(key) }
}

/// A table with its path and its place.
#[derive(Clone)]
pub struct Table<'a> {
    /// Where it is in the tree.
    pub path: Path,
    /// Its header, or its braces.
    pub span: Range<usize>,
    entries: &'a DeTable<'a>,
}

impl<'a> Table<'a> {
    pub(super) fn root(entries: &'a DeTable<'a>) -> Self {
        Self { path: Path::default(), span: 0..0, entries }
    }

    /// Its entries in the order of the text.
    pub(super) fn items(&self) -> Vec<Item<'a>> {
        let mut items: Vec<_> = self.entries.iter().map(|entry| self.entry(entry)).collect();
        items.sort_by_key(|item| item.key_span.start);
        items
    }

    pub(super) fn item(&self, key: &str) -> Option<Item<'a>> {
        self.entries.get_key_value(key).map(|entry| self.entry(entry))
    }

    fn entry(&self, (key, value): (&'a Spanned<DeString<'a>>, &'a Spanned<DeValue<'a>>)) -> Item<'a> {
        Item {
            path: self.path.join(key.get_ref()),
            key: key.get_ref(),
            key_span: key.span(),
            span: value.span(),
            value: value.get_ref(),
        }
    }

    /// The table below `key`; nothing when there is none, or no table (that is told elsewhere).
    pub(super) fn table(&self, key: &str) -> Option<Table<'a>> {
        self.item(key)?.as_table()
    }

    /// The entry that must be there.
    pub(super) fn required(&self, key: &str, report: &mut Report) -> Option<Item<'a>> {
        let item = self.item(key);
        // Where another tool's word for it stands, that is told, and nothing is missing.
        let is_foreign = self.entries.keys().any(|other| super::foreign::word(other.get_ref()) == Some(key));
        if item.is_none() && !is_foreign {
            let path = self.path.join(key);
            let problem =
                Problem::new(&rules::MISSING_KEY, &path, self.span.clone(), format!("`{path}` is missing"));
            report.add(match keys::look_up(&path.parts()) {
                Lookup::Key(known) => problem.help(format!("add {key} = {}", known.example)),
                _ => problem,
            });
        }
        item
    }
}

/// A value with its key, its path and its place.
#[derive(Clone)]
pub struct Item<'a> {
    /// Where it is in the tree.
    pub path: Path,
    /// The last part of the path.
    pub key: &'a str,
    /// Where the key is; for an element of a list, where the element is.
    pub key_span: Range<usize>,
    /// Where the value is.
    pub span: Range<usize>,
    /// The value.
    pub value: &'a DeValue<'a>,
}

impl<'a> Item<'a> {
    pub(super) fn as_table(&self) -> Option<Table<'a>> {
        let entries = self.value.as_table()?;
        Some(Table { path: self.path.clone(), span: self.span.clone(), entries })
    }

    /// The elements of a list.
    pub(super) fn elements(&self, report: &mut Report) -> Vec<Item<'a>> {
        let Some(list) = self.value.as_array() else {
            self.wrong_type(report);
            return Vec::new();
        };
        list.iter()
            .enumerate()
            .map(|(index, value)| Item {
                path: self.path.element(index),
                key: self.key,
                key_span: value.span(),
                span: value.span(),
                value: value.get_ref(),
            })
            .collect()
    }

    pub(super) fn text(&self, report: &mut Report) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.wrong_type(report);
        }
        text
    }

    pub(super) fn boolean(&self, report: &mut Report) -> Option<bool> {
        let value = self.value.as_bool();
        if value.is_none() {
            self.wrong_type(report);
        }
        value
    }

    /// The number, if it is one that fits; what does not fit is out of every range.
    pub(super) fn as_integer(&self) -> Option<i64> {
        let integer = self.value.as_integer()?;
        let limit = if integer.as_str().starts_with('-') { i64::MIN } else { i64::MAX };
        Some(i64::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(limit))
    }

    pub(super) fn integer(&self, report: &mut Report) -> Option<i64> {
        let value = self.as_integer();
        if value.is_none() {
            self.wrong_type(report);
        }
        value
    }

    /// A text that a parser of values takes.
    pub(super) fn parsed<T>(
        &self,
        report: &mut Report,
        rules: ValueRules,
        parse: impl Fn(&'a str) -> Result<T, Refusal>,
    ) -> Option<T> {
        if report.is_full() {
            return None;
        }
        let result = parse(self.text(report)?);
        self.accept(report, rules, result)
    }

    /// The value, or its refusal told at this place.
    pub(super) fn accept<T>(
        &self,
        report: &mut Report,
        rules: ValueRules,
        result: Result<T, Refusal>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(refusal) => {
                let rule = match refusal.why {
                    Why::Form => rules.form,
                    Why::Range => rules.range,
                    Why::Ambiguous => rules::SIZE_AMBIGUOUS,
                };
                let problem = self.problem(&rule, refusal.message);
                report.add(match refusal.help {
                    Some(help) => problem.help(help),
                    None => problem,
                });
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, report: &mut Report, words: &[(&str, T)]) -> Option<T> {
        self.choice_of(self.key, report, words)
    }

    /// One of a few words, for a key whose name is the author's: `what` names the choice.
    pub(super) fn choice_of<T: Copy>(
        &self,
        what: &str,
        report: &mut Report,
        words: &[(&str, T)],
    ) -> Option<T> {
        let text = self.text(report)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let expected = any_of(&names);
        let message = format!("unknown {what} `{text}`; expected {expected}");
        let problem = self.problem(&rules::UNKNOWN_WORD, message);
        report.add(match nearest(text, names) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem,
        });
        None
    }

    pub(super) fn problem(&self, rule: &Rule, message: impl AsRef<str>) -> Problem {
        Problem::new(rule, &self.path, self.span.clone(), message)
    }

    /// Tells that the value has a type that its key cannot have.
    pub(super) fn wrong_type(&self, report: &mut Report) {
        let mut parts = self.path.parts();
        let is_element = parts.last().is_some_and(|last| *last != self.key);
        if let Some(last) = parts.last_mut() {
            *last = self.key;
        }
        let given = type_words(self.value);
        let problem = match keys::look_up(&parts) {
            Lookup::Key(key) if is_element => {
                let words = if matches!(key.kind, Kind::TextList | Kind::PathList | Kind::Command) {
                    "strings"
                } else {
                    "integers and strings"
                };
                self.problem(&rules::WRONG_TYPE, format!("{} holds {words}, not {given}", self.key))
            }
            Lookup::Key(key) => self
                .problem(&rules::WRONG_TYPE, format!("{} is {}, not {given}", self.key, key.kind.words()))
                .help(self.correction(key)),
            _ => self.problem(&rules::WRONG_TYPE, format!("{} cannot be {given}", self.key)),
        };
        report.add(problem);
    }

    /// How to write what was most likely meant.
    fn correction(&self, key: &keys::Key) -> String {
        let name = self.key;
        match (key.kind, self.value) {
            (Kind::Duration, DeValue::Integer(number)) => format!("it needs a unit: {name} = \"{number}s\""),
            (Kind::Command, DeValue::String(text)) => {
                let words: Vec<_> = words_of(text).into_iter().map(quoted).collect();
                format!("write it as a list: {name} = [{}]", words.join(", "))
            }
            (Kind::TextList | Kind::PathList, DeValue::String(text)) => {
                format!("write it as a list: {name} = [{}]", quoted(text))
            }
            (Kind::TableList, DeValue::Table(_)) => format!("write its header as [[{}]]", self.path),
            (Kind::Integer(..) | Kind::Boolean, DeValue::String(text))
                if matches!(toml::de::DeValue::parse(text).map(|v| v.get_ref().type_str()), Ok(t) if
                    (t == "integer") == (key.kind != Kind::Boolean) && t != "string") =>
            {
                format!("write it without quotes: {name} = {text}")
            }
            _ => format!("for example: {name} = {}", key.example),
        }
    }
}

/// The words of a command that was written as one string; where a shell would do more than part it at blanks, the
/// shell.
fn words_of(text: &str) -> Vec<&str> {
    let is_shell = |c: char| "$`\"'\\|&;<>*?(){}[]~#\n".contains(c);
    let mut words: Vec<&str> = text.split_whitespace().collect();
    if let (true, Some(at)) = (words.get(1) == Some(&"-c"), text.find(" -c ")) {
        words.truncate(2);
        words.push(text[at + 4..].trim().trim_matches(['"', '\'']));
        return words;
    }
    if words.is_empty() || text.contains(is_shell) { vec!["/bin/sh", "-c", text] } else { words }
}

/// The rules that a parser of values enforces.
#[derive(Clone, Copy)]
pub struct ValueRules {
    /// For [`Why::Form`].
    pub form: Rule,
    /// For [`Why::Range`].
    pub range: Rule,
}

impl ValueRules {
    pub(super) const fn new(form: Rule, range: Rule) -> Self {
        Self { form, range }
    }

    pub(super) const fn both(rule: Rule) -> Self {
        Self { form: rule, range: rule }
    }
}

/// What to say of a value that has to be a string, in the table `of` whose names are the author's.
pub(super) fn not_text(of: &str, entry: &Item, report: &Report) -> String {
    let text = report.text.get(entry.span.clone()).unwrap_or_default();
    match entry.value {
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
            let key = entry.path.parts().last().map(|part| any_key(part)).unwrap_or_default();
            format!("{of} values are strings: {key} = \"{text}\"")
        }
        other => format!("{of} values are strings, not {}", type_words(other)),
    }
}

/// `a`, `a or b`, `a, b or c`.
pub(super) fn any_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// The type of a value with its article.
pub(super) fn type_words(value: &DeValue) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
