//! [`Problem`]: one thing that is wrong with a manifest, with its place in the text.

use std::ops::Range;

use super::rules::Rule;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The manifest means nothing.
    Error,
    /// It means something that the author may not have wanted.
    Warning,
}

/// One thing that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The stable name of the rule, such as `E0101`.
    pub code: &'static str,
    /// The key that it is about, such as `app.web.isolators.memory-max`; empty for the text as a whole.
    pub path: String,
    /// Lower case, no full stop, no control characters.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Where, in bytes; on character boundaries and within the text.
    pub span: Range<usize>,
    /// Other places that have to do with it, each with a word on why.
    pub related: Vec<(Range<usize>, String)>,
}

impl Problem {
    pub(super) fn new(
        rule: &Rule,
        path: impl ToString,
        span: Range<usize>,
        message: impl AsRef<str>,
    ) -> Self {
        let severity = if rule.code.starts_with('W') { Severity::Warning } else { Severity::Error };
        let (path, message) = (printable(&path.to_string()), printable(message.as_ref()));
        Self { severity, code: rule.code, path, message, help: None, span, related: Vec::new() }
    }

    pub(super) fn help(mut self, help: impl AsRef<str>) -> Self {
        self.help = Some(printable(help.as_ref()));
        self
    }

    pub(super) fn related(mut self, span: Range<usize>, label: impl AsRef<str>) -> Self {
        self.related.push((span, printable(label.as_ref())));
        self
    }
}

/// The text without characters that could speak to the terminal it is printed on.
fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { format!("\\u{:04X}", u32::from(c)) } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// The last character boundary that is not behind `offset`; the end of the text for what is beyond it.
pub(super) fn boundary_before(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The first character boundary that is not before `offset`; the end of the text for what is beyond it.
pub(super) fn boundary_behind(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

/// Line and column of an offset, both from 1; the column counts characters.
#[must_use]
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..boundary_before(text, offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_column_counts_characters_from_one() {
        let text = "a = 1\nüb = 2\n";
        for (offset, place) in
            [(0, (1, 1)), (4, (1, 5)), (5, (1, 6)), (6, (2, 1)), (8, (2, 2)), (14, (3, 1)), (99, (3, 1))]
        {
            assert_eq!(line_column(text, offset), place, "{offset}");
        }
        assert_eq!(line_column("ü", 1), (1, 1), "inside of a character");
        assert_eq!(line_column("", 0), (1, 1));
    }

    #[test]
    fn messages_cannot_speak_to_the_terminal() {
        let problem = Problem::new(&super::super::rules::SYNTAX, "a\u{1b}", 0..0, "x\u{1b}[2Jy\u{9b}");
        assert_eq!(problem.message, "x\\u001B[2Jy\\u009B");
        assert_eq!(problem.path, "a\\u001B");
    }
}
