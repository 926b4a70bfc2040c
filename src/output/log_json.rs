//! A line of an app's output as JSON, for `logs -o json` and `run --log-format json`.

use jiff::Timestamp;
use serde::Serialize;

use crate::pod::status::json::SCHEMA;

#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    time_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<&'a str>,
    stream: &'a str,
    text: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

/// What stream `index` of an app has written at this time, on one line; see [`super::prefix`] for how streams count.
/// Bytes that are no UTF-8 become U+FFFD: JSON has no others.
#[must_use]
pub fn line(app: &str, index: usize, text: &[u8], time: Timestamp) -> String {
    let stream = if index.is_multiple_of(2) { "stdout" } else { "stderr" };
    let (text, partial) = match text.strip_suffix(b"\n") {
        Some(text) => (text, false),
        None => (text, true),
    };
    write(&Line {
        schema: SCHEMA,
        time_at: show(time),
        app: Some(app),
        stream,
        text: String::from_utf8_lossy(text).into_owned(),
        partial,
    })
}

/// What podrun itself says.
#[must_use]
pub fn own_line(words: &str, time: Timestamp) -> String {
    let (schema, time_at, text) = (SCHEMA, show(time), words.to_owned());
    write(&Line { schema, time_at, app: None, stream: "podrun", text, partial: false })
}

fn show(time: Timestamp) -> String {
    format!("{time:.6}")
}

fn write(line: &Line) -> String {
    // Strings and numbers alone: nothing in here can fail.
    serde_json::to_string(line).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_wrote_what_and_when() {
        let time = Timestamp::UNIX_EPOCH;
        assert_eq!(
            line("api", 3, b"a \"b\" \x1b\xff\n", time),
            "{\"schema\":1,\"time_at\":\"1970-01-01T00:00:00.000000Z\",\"app\":\"api\",\"stream\":\"stderr\",\
             \"text\":\"a \\\"b\\\" \\u001b\u{fffd}\"}\n"
        );
        assert!(line("api", 0, b"half", time).ends_with("\"stdout\",\"text\":\"half\",\"partial\":true}\n"));
        assert!(own_line("x", time).ends_with("Z\",\"stream\":\"podrun\",\"text\":\"x\"}\n"));
    }
}
