//! What an error carries besides its words: a hint for people and an exit code for scripts.
//!
//! Errors travel as [`anyhow::Error`]. A [`Noted`] error sits in the chain like any other and prints as the
//! error it wraps, so `{:#}` stays one line; [`hints`] and [`exit_code`] find the notes wherever they are.
//! Nothing here prints.

use std::error::Error as StdError;
use std::fmt;

/// The command line was not understood.
pub const EXIT_USAGE: u8 = 2;
/// The pod is there, but it does not run.
pub const EXIT_NOT_RUNNING: u8 = 3;
/// There is no such pod or app.
pub const EXIT_NOT_FOUND: u8 = 4;
/// A time that was given was over; timeout(1) ends so too.
pub const EXIT_TIMED_OUT: u8 = 124;
/// `run`: podrun itself failed.
pub const EXIT_PODRUN_FAILED: u8 = 125;

/// An error with a hint, an exit code, or both. It reads as the error inside.
#[derive(Debug)]
pub struct Noted {
    error: anyhow::Error,
    hint: Option<String>,
    code: Option<u8>,
}

impl fmt::Display for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl StdError for Noted {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

/// Adds notes to errors on their way up.
pub trait Note<T> {
    /// Says what the reader can do about it: an action, not a second description.
    ///
    /// # Errors
    /// The same error, with the hint.
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T>;

    /// Says with which code the process ends because of this.
    ///
    /// # Errors
    /// The same error, with the code.
    fn code(self, code: u8) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Note<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| noted(error.into(), Some(hint.into()), None))
    }

    fn code(self, code: u8) -> anyhow::Result<T> {
        self.map_err(|error| noted(error.into(), None, Some(code)))
    }
}

fn noted(error: anyhow::Error, hint: Option<String>, code: Option<u8>) -> anyhow::Error {
    // Only the outermost layer: a downcast through contexts would throw these away.
    let is_noted = error.chain().next().is_some_and(|outermost| outermost.is::<Noted>());
    let error = match if is_noted { error.downcast::<Noted>() } else { Err(error) } {
        // The first hint and the first code were given nearest to the cause.
        Ok(inner) => Noted { error: inner.error, hint: inner.hint.or(hint), code: inner.code.or(code) },
        Err(error) => Noted { error, hint, code },
    };
    error.into()
}

/// A text that is printed as it is, without `podrun:` in front: problems of a manifest, where they stand.
#[derive(Debug)]
pub struct Rendered(pub String);

impl fmt::Display for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim_end())
    }
}

impl StdError for Rendered {}

/// What is printed of an error: one line, a line for each hint, all with their newlines.
#[must_use]
pub fn text(error: &anyhow::Error) -> String {
    let rendered = error.chain().find_map(|cause| {
        let inner = cause.downcast_ref::<Noted>().and_then(|noted| noted.error.downcast_ref());
        inner.or_else(|| cause.downcast_ref::<Rendered>())
    });
    let mut text = match rendered {
        Some(rendered) => format!("{rendered}\n"),
        None => format!("podrun: {error:#}\n"),
    };
    for hint in hints(error) {
        text.push_str(&format!("hint: {hint}\n"));
    }
    text
}

/// Every hint in the chain, the outermost first.
pub fn hints(error: &anyhow::Error) -> impl Iterator<Item = &str> {
    notes(error).filter_map(|noted| noted.hint.as_deref())
}

/// The outermost exit code in the chain.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> Option<u8> {
    notes(error).find_map(|noted| noted.code)
}

fn notes(error: &anyhow::Error) -> impl Iterator<Item = &Noted> {
    error.chain().filter_map(|cause| cause.downcast_ref::<Noted>())
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn notes_do_not_show_in_the_text_and_are_found_below_contexts() {
        let inner: anyhow::Result<()> = Err(anyhow!("no such pod `x`"));
        let error = inner.hint("try `podrun ps -a`").code(4).context("cannot stop pod `x`").unwrap_err();
        assert_eq!(format!("{error:#}"), "cannot stop pod `x`: no such pod `x`");
        assert_eq!(hints(&error).collect::<Vec<_>>(), ["try `podrun ps -a`"]);
        assert_eq!(exit_code(&error), Some(4));
    }

    #[test]
    fn the_cause_of_a_noted_error_stays_in_the_chain() {
        let io = std::io::Error::from_raw_os_error(28);
        let error = Err::<(), _>(io).context("cannot write `plan.json`").hint("make room").unwrap_err();
        assert_eq!(format!("{error:#}"), "cannot write `plan.json`: No space left on device (os error 28)");
        assert_eq!(exit_code(&error), None);
    }

    #[test]
    fn what_is_rendered_is_printed_as_it_is() {
        let rendered = || Rendered("error: no such key\n --> x.toml:1\n".into());
        let plain = anyhow::Error::new(rendered());
        let noted = Err::<(), _>(rendered()).code(125).context("cannot read it").unwrap_err();
        for error in [plain, noted] {
            assert_eq!(text(&error), "error: no such key\n --> x.toml:1\n");
        }
        let error = Err::<(), _>(anyhow!("a")).hint("b").unwrap_err();
        assert_eq!(text(&error), "podrun: a\nhint: b\n");
    }

    #[test]
    fn the_note_nearest_to_the_cause_wins() {
        let error = Err::<(), _>(anyhow!("x")).code(3).code(1).hint("a").hint("b").unwrap_err();
        assert_eq!(exit_code(&error), Some(3));
        assert_eq!(hints(&error).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn a_note_on_top_of_a_context_keeps_the_context() {
        let error = Err::<(), _>(anyhow!("x")).code(3).context("cannot y").hint("z").unwrap_err();
        assert_eq!(text(&error), "podrun: cannot y: x\nhint: z\n");
        assert_eq!(exit_code(&error), Some(3));
    }
}
