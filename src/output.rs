//! What podrun itself prints: whole texts, tables, sizes and ages, in colour or not.
//!
//! A command builds its text first and writes it once. A reader that goes away (`podrun ps | head`) is no
//! error: standard output is then done with, as everything that mattered was done before. Output of the apps
//! goes through [`prefix`] in the foreground and through [`log_file`] when nobody is there to read it.

pub mod journal;
pub mod log_file;
pub mod log_json;
pub mod prefix;
pub mod table;

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};
use clap::ValueEnum;

/// When to print in colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set or TERM is `dumb`.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Whether standard output gets colour.
    #[must_use]
    pub fn stdout(self) -> bool {
        self.decide(io::stdout().is_terminal(), |name| std::env::var_os(name))
    }

    /// Whether standard error gets colour.
    #[must_use]
    pub fn stderr(self) -> bool {
        self.decide(io::stderr().is_terminal(), |name| std::env::var_os(name))
    }

    /// NO_COLOR wins over CLICOLOR_FORCE, as both their descriptions want it.
    fn decide(self, is_terminal: bool, env: impl Fn(&str) -> Option<std::ffi::OsString>) -> bool {
        let set = |name| env(name).is_some_and(|value| !value.is_empty() && value != "0");
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if env("NO_COLOR").is_some_and(|value| !value.is_empty()) => false,
            Self::Auto if set("CLICOLOR_FORCE") => true,
            Self::Auto => is_terminal && env("TERM").is_none_or(|term| term != "dumb"),
        }
    }
}

/// How many columns the terminal has that standard output is; `None`: it is none, and lines may be any length.
#[must_use]
pub fn terminal_width() -> Option<usize> {
    terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0))
}

/// Writes to standard output; a reader that is gone is no error.
///
/// # Errors
/// When it cannot be written for another reason, such as a full disk.
pub fn write_stdout(text: &str) -> Result<()> {
    write_more(text).map(|_| ())
}

/// The same for whoever has more to say: whether somebody still reads it.
///
/// # Errors
/// As [`write_stdout`].
pub fn write_more(text: &str) -> Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).context("cannot write to standard output"),
    }
}

/// Writes to standard error. When that fails there is nobody left to tell.
pub fn write_stderr(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// The text without characters that speak to the terminal: what pods and their records say is not ours.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The text in a colour of ANSI (31 red, 32 green, 33 yellow), when colour is wanted.
#[must_use]
pub fn paint(text: &str, color: u8, is_wanted: bool) -> String {
    if is_wanted { format!("\x1b[{color}m{text}\x1b[0m") } else { text.to_owned() }
}

/// The words in lines of at most `width` characters; a longer word has a line of its own.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The text with lines that are longer than `width` characters broken: behind a blank, a comma or a slash, and where there
/// is none in the middle. What goes on stands below the value of a line `  name       value`.
#[must_use]
pub fn fold(text: &str, width: usize) -> String {
    const INDENT: usize = 13;
    let mut out = String::new();
    for line in text.lines() {
        let mut rest: Vec<char> = line.chars().collect();
        let mut room = width.max(2 * INDENT);
        while rest.len() > room {
            let breaks = |at: &usize| matches!(rest[*at - 1], ' ' | ',' | '/');
            let at = (room / 2..=room).rev().find(breaks).unwrap_or(room);
            let tail = rest.split_off(at);
            out.push_str(rest.iter().collect::<String>().trim_end());
            out.push('\n');
            out.push_str(&" ".repeat(INDENT));
            rest = tail;
            room = width.max(2 * INDENT) - INDENT;
        }
        out.extend(rest);
        out.push('\n');
    }
    out
}

/// One JSON text on one line, with its newline.
///
/// # Errors
/// None that can be expected.
pub fn json_line<T: serde::Serialize>(value: &T) -> Result<String> {
    Ok(serde_json::to_string(value).context("cannot write JSON")? + "\n")
}

/// Writes one JSON text on one line.
///
/// # Errors
/// As [`write_stdout`].
pub fn write_json<T: serde::Serialize>(value: &T) -> Result<()> {
    write_stdout(&json_line(value)?)
}

/// Writes one JSON text that people read too, on several lines.
///
/// # Errors
/// As [`write_stdout`].
pub fn write_json_pretty<T: serde::Serialize>(value: &T) -> Result<()> {
    write_stdout(&(serde_json::to_string_pretty(value).context("cannot write JSON")? + "\n"))
}

/// `1.5 MiB`: three digits at most, binary units.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let exponent = bytes.ilog2() / 10;
    let unit = UNITS[(exponent as usize).clamp(1, UNITS.len()) - 1];
    let tenths = (u128::from(bytes) * 10) >> (10 * exponent);
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} {unit}"),
        (whole, _) if whole >= 100 => format!("{whole} {unit}"),
        (whole, tenth) => format!("{whole}.{tenth} {unit}"),
    }
}

/// A span of time with its one or two largest units: `90ms`, `4s`, `2m 5s`, `3h 20m`, `12d`.
#[must_use]
pub fn span(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match () {
        () if milliseconds < 1000 => format!("{milliseconds}ms"),
        () if milliseconds < 10_000 && milliseconds % 1000 >= 100 => {
            format!("{seconds}.{}s", milliseconds % 1000 / 100)
        }
        () if seconds < 60 => format!("{seconds}s"),
        () if minutes < 60 => pair(minutes, "m", seconds % 60, "s"),
        () if hours < 48 => pair(hours, "h", minutes % 60, "m"),
        () => format!("{days}d"),
    }
}

fn pair(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit} {small}{small_unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_go_on_below_their_value() {
        let long = format!("  exec       [\"/{}\", \"{}\"]\n", "some-directory/".repeat(6), "x".repeat(90));
        let folded = fold(&long, 80);
        assert!(folded.lines().count() > 2 && folded.lines().all(|line| line.len() <= 80), "{folded}");
        assert!(folded.lines().skip(1).all(|line| line.starts_with(&" ".repeat(13))), "{folded}");
        let joined: String = folded.lines().map(str::trim_start).collect();
        assert_eq!(joined.replace(' ', ""), long.trim().replace(' ', ""));
        assert!(folded.lines().next().unwrap().ends_with('/'), "{folded}");
        assert_eq!(fold("short\n\nx\n", 80), "short\n\nx\n");
    }

    #[test]
    fn sizes_have_three_digits_and_the_unit_that_fits() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (26_214_400, "25 MiB"),
            (67_108_863, "63.9 MiB"),
            (1 << 30, "1 GiB"),
            (u64::MAX, "15.9 EiB"),
        ];
        for (bytes, text) in table {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn spans_show_what_matters() {
        let table = [
            (0, "0ms"),
            (90, "90ms"),
            (1200, "1.2s"),
            (4000, "4s"),
            (59_999, "59s"),
            (60_000, "1m"),
            (125_000, "2m 5s"),
            (12_000_000, "3h 20m"),
            (86_400_000 * 12, "12d"),
        ];
        for (milliseconds, text) in table {
            assert_eq!(span(milliseconds), text);
        }
    }

    #[test]
    fn the_environment_decides_on_colour_as_its_authors_wrote() {
        type Environment = &'static [(&'static str, &'static str)];
        let table: [(Color, bool, Environment, bool); 8] = [
            (Color::Auto, true, &[], true),
            (Color::Auto, false, &[], false),
            (Color::Auto, true, &[("NO_COLOR", "1")], false),
            (Color::Auto, true, &[("NO_COLOR", "")], true),
            (Color::Auto, false, &[("CLICOLOR_FORCE", "1")], true),
            (Color::Auto, true, &[("TERM", "dumb")], false),
            (Color::Always, false, &[("NO_COLOR", "1")], true),
            (Color::Never, true, &[("CLICOLOR_FORCE", "1")], false),
        ];
        for (color, is_terminal, environment, expected) in table {
            let env = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).into());
            assert_eq!(color.decide(is_terminal, env), expected, "{color:?} {is_terminal} {environment:?}");
        }
    }
}
