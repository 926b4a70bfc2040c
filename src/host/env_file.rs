//! Files of environment variables: `NAME=value` lines, `#` comments, blank lines.
//!
//! Nothing is expanded and no quote is taken away: the value is every byte behind the first `=` up to the end of
//! the line. A line that is none of these is an error with its number, since a variable that is silently missing
//! shows itself much later.

use std::path::Path;

use nix::errno::Errno;

use super::{open_nonblocking, read_regular};

/// The variables of a file, in order; a name may stand there twice.
pub(super) fn read(path: &Path) -> Result<Vec<(String, String)>, String> {
    let shown = path.display();
    let file = open_nonblocking(path).map_err(|error| {
        let cause = error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw).desc();
        format!("cannot open `{shown}`: {cause}")
    })?;
    let bytes = read_regular(file).map_err(|reason| format!("`{shown}` {reason}"))?;
    parse(&bytes).map_err(|(line, reason)| format!("{shown}:{line}: {reason}"))
}

fn parse(bytes: &[u8]) -> Result<Vec<(String, String)>, (usize, &'static str)> {
    let mut pairs = Vec::new();
    for (index, line) in bytes.split(|b| *b == b'\n').enumerate() {
        if let Some(pair) = parse_line(line).map_err(|reason| (index + 1, reason))? {
            pairs.push(pair);
        }
    }
    Ok(pairs)
}

fn parse_line(line: &[u8]) -> Result<Option<(String, String)>, &'static str> {
    let line = std::str::from_utf8(line).map_err(|_| "not UTF-8")?;
    if line.trim().is_empty() || line.trim_start().starts_with('#') {
        return Ok(None);
    }
    if line.contains(['\0', '\r']) {
        return Err("holds a NUL or a carriage return");
    }
    let (name, value) = line.split_once('=').ok_or("not `NAME=value`, a `#` comment or a blank line")?;
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err("the name before `=` is empty or has a blank in it");
    }
    Ok(Some((name.to_owned(), value.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_as_they_are() {
        let text = b"# comment\n\nA=1\n  # indented\nB=\"x y\" # z\nC=\nD=a=b\n \nE=$HOME\nA=2";
        let pairs = parse(text).unwrap();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let expected =
            [("A", "1"), ("B", "\"x y\" # z"), ("C", ""), ("D", "a=b"), ("E", "$HOME"), ("A", "2")];
        assert_eq!(pairs, expected);
        assert_eq!(parse(b"").unwrap(), []);
    }

    #[test]
    fn lines_of_no_known_kind_are_errors_with_their_number() {
        let cases: [(&[u8], usize); 6] = [
            (b"A=1\nB", 2),
            (b"=x", 1),
            (b"\n\nexport A=1", 3),
            (b" A=1", 1),
            (b"A=1\r\n", 1),
            (b"A=\xff", 1),
        ];
        for (text, line) in cases {
            assert_eq!(parse(text).unwrap_err().0, line, "{text:?}");
        }
        assert_eq!(parse(b"A=\0").unwrap_err(), (1, "holds a NUL or a carriage return"));
    }

    #[test]
    fn errors_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("api.env");
        std::fs::write(&file, "A=1\nnonsense\n").unwrap();
        let text = read(&file).unwrap_err();
        let expected = format!("{}:2: not `NAME=value`, a `#` comment or a blank line", file.display());
        assert_eq!(text, expected);
        assert!(read(dir.path()).unwrap_err().contains("is not a regular file"));
        assert!(read(&dir.path().join("none")).unwrap_err().starts_with("cannot open `"));
        nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read(&dir.path().join("fifo")).unwrap_err().contains("is not a regular file"));
    }
}
