//! [`JournalReader`]: what the apps of a pod have written to the host's journal, told by `journalctl`.
//!
//! It is asked and not the files: their format has compression, indexes and namespaces, changes with systemd, and who
//! reads them while they are written must do it in systemd's way. The arguments are fixed but for names and numbers of
//! our own. Each time it is asked anew it goes on behind the last entry that was read, so that nothing is missed and
//! nothing read twice. What an entry says is the app's; which app's it is, the journal itself says.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde::Deserialize;

use super::log::Piece;
use crate::launch::Stream;
use crate::plan::output::{FACILITY_STDERR, FACILITY_STDOUT};

/// Where an app's entries are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The app's name, its entries' SYSLOG_IDENTIFIER.
    pub app: String,
    /// The unit of those whose process ended too soon.
    pub unit: String,
    /// The group of all others.
    pub cgroup: String,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose.
    pub app: String,
    /// Of which stream.
    pub stream: Stream,
    /// When, and what.
    pub piece: Piece,
}

/// Reads the entries of some apps of one pod.
#[derive(Debug)]
pub struct JournalReader {
    origins: Vec<Origin>,
    /// Seconds since 1970: nothing of the pod is older.
    since_s: u64,
    /// Of the last entry.
    cursor: Option<String>,
    child: Option<(Child, BufReader<ChildStdout>)>,
    /// What was read of an entry that is not whole yet.
    line: Vec<u8>,
}

/// How far is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    Now,
    Forever,
}

impl JournalReader {
    /// Everything that was written since then and until now.
    ///
    /// # Errors
    /// When there is no `journalctl`.
    pub fn open(origins: Vec<Origin>, since_s: u64) -> Result<Self> {
        let mut reader = Self { origins, since_s, cursor: None, child: None, line: Vec::new() };
        reader.catch_up()?;
        Ok(reader)
    }

    /// Goes on with everything that is written until now. What was written before is there when this is called: the
    /// journal takes what waits in its sockets before it answers.
    ///
    /// # Errors
    /// As [`JournalReader::open`].
    pub fn catch_up(&mut self) -> Result<()> {
        // One that cannot do it leaves us with what it has.
        let _ = Command::new("journalctl").args(["--sync", "--quiet"]).stdin(Stdio::null()).status();
        self.ask(Until::Now)
    }

    /// Goes on with what is written from now on; [`JournalReader::next_entry`] no longer waits.
    ///
    /// # Errors
    /// As [`JournalReader::open`].
    pub fn follow(&mut self) -> Result<()> {
        self.ask(Until::Forever)
    }

    fn ask(&mut self, until: Until) -> Result<()> {
        self.end_child();
        let mut command = Command::new("journalctl");
        command.args(self.arguments(until)).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start `journalctl`")?;
        let Some(output) = child.stdout.take() else { bail!("cannot read from `journalctl`") };
        if until == Until::Forever {
            fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
                .context("cannot make a pipe non-blocking")?;
        }
        self.child = Some((child, BufReader::with_capacity(64 * 1024, output)));
        Ok(())
    }

    fn arguments(&self, until: Until) -> Vec<String> {
        const FIELDS: &str = "MESSAGE,SYSLOG_IDENTIFIER,SYSLOG_FACILITY,_LINE_BREAK";
        let mut arguments =
            vec!["--quiet".to_owned(), "--no-pager".into(), "--output=json".into(), "--all".into()];
        arguments.push(format!("--output-fields={FIELDS}"));
        arguments.push(match &self.cursor {
            Some(cursor) => format!("--after-cursor={cursor}"),
            None => format!("--since=@{}", self.since_s),
        });
        if until == Until::Forever {
            arguments.extend(["--follow".to_owned(), "--no-tail".into()]);
        }
        for origin in &self.origins {
            for place in
                [format!("_SYSTEMD_UNIT={}", origin.unit), format!("_SYSTEMD_CGROUP={}", origin.cgroup)]
            {
                arguments.extend(["+".to_owned(), "_TRANSPORT=stdout".into()]);
                arguments.extend([format!("SYSLOG_IDENTIFIER={}", origin.app), place]);
            }
        }
        // A `+` stands between two groups of matches.
        if let Some(first) = arguments.iter().position(|word| word == "+") {
            arguments.remove(first);
        }
        arguments
    }

    /// The next entry; `None`: there is no more, or with [`JournalReader::follow`] none yet.
    ///
    /// # Errors
    /// When `journalctl` fails.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        loop {
            let Some((child, output)) = &mut self.child else { return Ok(None) };
            match output.read_until(b'\n', &mut self.line) {
                Ok(_) if self.line.ends_with(b"\n") => {
                    let parsed = parse(&self.line);
                    self.line.clear();
                    if let Some((entry, cursor)) = parsed {
                        self.cursor = Some(cursor);
                        return Ok(Some(entry));
                    }
                }
                Ok(_) => {
                    let status = child.wait().context("cannot wait for `journalctl`")?;
                    self.end_child();
                    if !status.success() {
                        bail!("cannot read the journal: `journalctl` ended with {status}");
                    }
                    return Ok(None);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error).context("cannot read from `journalctl`"),
            }
        }
    }

    fn end_child(&mut self) {
        self.line.clear();
        if let Some((mut child, _)) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for JournalReader {
    fn drop(&mut self) {
        self.end_child();
    }
}

/// An entry as `journalctl -o json` prints it.
#[derive(Deserialize)]
struct Printed {
    #[serde(rename = "__CURSOR")]
    cursor: String,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    time_us: String,
    #[serde(rename = "SYSLOG_IDENTIFIER")]
    app: String,
    #[serde(rename = "SYSLOG_FACILITY", default)]
    facility: String,
    /// Why a line ended that has no newline.
    #[serde(rename = "_LINE_BREAK", default)]
    line_break: Option<String>,
    #[serde(rename = "MESSAGE", default)]
    message: Option<Message>,
}

/// What is no UTF-8, or holds control characters, is a list of numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Message {
    Text(String),
    Bytes(Vec<u8>),
}

/// An entry with its cursor. One that is of neither stream was not written by an app of ours.
fn parse(line: &[u8]) -> Option<(Entry, String)> {
    let printed: Printed = serde_json::from_slice(line).ok()?;
    let stream = match printed.facility.parse() {
        Ok(FACILITY_STDOUT) => Stream::Stdout,
        Ok(FACILITY_STDERR) => Stream::Stderr,
        _ => return None,
    };
    let mut text = match printed.message? {
        Message::Text(text) => text.into_bytes(),
        Message::Bytes(bytes) => bytes,
    };
    // A long line goes on in the next entry, and so does one that two processes write.
    if !matches!(printed.line_break.as_deref(), Some("line-max" | "pid-change")) {
        text.push(b'\n');
    }
    let time = Timestamp::from_microsecond(printed.time_us.parse().ok()?).ok()?;
    Some((Entry { app: printed.app, stream, piece: Piece { time, text } }, printed.cursor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(fields: &str) -> String {
        let fixed =
            r#""__CURSOR":"s=1;i=2","__REALTIME_TIMESTAMP":"1795413141946079","SYSLOG_IDENTIFIER":"api""#;
        format!("{{{fixed},{fields}}}\n")
    }

    #[test]
    fn entries_of_the_two_streams_are_told_by_their_facility() {
        let table = [
            (r#""SYSLOG_FACILITY":"3","MESSAGE":"up""#, Some((Stream::Stdout, "up\n"))),
            (r#""SYSLOG_FACILITY":"1","MESSAGE":"oh""#, Some((Stream::Stderr, "oh\n"))),
            (r#""SYSLOG_FACILITY":"3","MESSAGE":[27,91,49]"#, Some((Stream::Stdout, "\x1b[1\n"))),
            (
                r#""SYSLOG_FACILITY":"3","_LINE_BREAK":"line-max","MESSAGE":"xx""#,
                Some((Stream::Stdout, "xx")),
            ),
            (r#""SYSLOG_FACILITY":"3","_LINE_BREAK":"eof","MESSAGE":"x""#, Some((Stream::Stdout, "x\n"))),
            (r#""SYSLOG_FACILITY":"3","MESSAGE":null"#, None),
            (r#""SYSLOG_FACILITY":"10","MESSAGE":"x""#, None),
            (r#""MESSAGE":"x""#, None),
        ];
        for (fields, expected) in table {
            let parsed = parse(line(fields).as_bytes());
            let shown = parsed.as_ref().map(|(entry, _)| (entry.stream, entry.piece.text.as_slice()));
            assert_eq!(shown, expected.map(|(stream, text)| (stream, text.as_bytes())), "{fields}");
            if let Some((entry, cursor)) = parsed {
                assert_eq!((entry.app.as_str(), cursor.as_str()), ("api", "s=1;i=2"));
                assert_eq!(entry.piece.time.as_microsecond(), 1_795_413_141_946_079);
            }
        }
        assert_eq!(parse(b"no json\n"), None);
    }

    #[test]
    fn arguments_name_every_app_by_group_and_by_unit() {
        let origin =
            |app: &str| Origin { app: app.into(), unit: "u.scope".into(), cgroup: format!("/g/app-{app}") };
        let mut reader = JournalReader {
            origins: vec![origin("a"), origin("b")],
            since_s: 7,
            cursor: None,
            child: None,
            line: Vec::new(),
        };
        let words = reader.arguments(Until::Now).join(" ");
        assert!(
            words.contains("--since=@7 _TRANSPORT=stdout SYSLOG_IDENTIFIER=a _SYSTEMD_UNIT=u.scope + "),
            "{words}"
        );
        assert!(words.ends_with("SYSLOG_IDENTIFIER=b _SYSTEMD_CGROUP=/g/app-b"), "{words}");
        reader.cursor = Some("c".into());
        let words = reader.arguments(Until::Forever).join(" ");
        assert!(words.contains("--after-cursor=c --follow --no-tail _TRANSPORT"), "{words}");
    }
}
