//! [`LogReader`]: what a [`crate::output::log_file::LogFile`] has written, also while it is being written.
//!
//! The files of a stream are read in the order of their numbers. A file is left only when the next one was seen
//! *before* its end was met: its writer has begun the next one after its last byte here. So nothing is missed and
//! nothing read twice; when a reader is so slow that files were removed before it came to them, it says so.
//! Files may hold anything: lines are bounded, and what is no record is passed over.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::record::{Unreadable, open_regular};
use crate::output::log_file::{PIECE_BYTES_MAX, TIME_BYTES, numbered};

/// A longer line is no record.
const RECORD_BYTES_MAX: usize = PIECE_BYTES_MAX + TIME_BYTES + 16;

/// A piece of what an app wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// When it was read from the app.
    pub time: Timestamp,
    /// With its newline, when it is the end of a line.
    pub text: Vec<u8>,
}

impl Piece {
    /// Whether it ends a line.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.text.ends_with(b"\n")
    }
}

/// What is next in the files of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// A piece of output.
    Piece(Piece),
    /// Files were removed or emptied before they were read.
    Gap,
    /// Nothing more, for now.
    Nothing,
}

/// Reads the files of one stream of one app.
#[derive(Debug)]
pub struct LogReader {
    directory: PathBuf,
    name: String,
    number: u64,
    file: BufReader<File>,
    /// What was read of a line that has no end yet.
    line: Vec<u8>,
    /// In the middle of a line that is no record.
    skips: bool,
}

impl LogReader {
    /// At the beginning of the oldest file of `directory/name`; `None`: there is none.
    ///
    /// # Errors
    /// When the directory or the file cannot be read.
    pub fn open(directory: &Path, name: &str) -> io::Result<Option<Self>> {
        let Some((number, file)) = first_from(directory, name, 0)? else { return Ok(None) };
        let file = BufReader::with_capacity(64 * 1024, file);
        let (directory, name) = (directory.to_owned(), name.to_owned());
        Ok(Some(Self { directory, name, number, file, line: Vec::new(), skips: false }))
    }

    /// What is next.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn next_piece(&mut self) -> io::Result<Next> {
        loop {
            if let Some(piece) = self.in_this_file()? {
                return Ok(Next::Piece(piece));
            }
            if self.was_emptied()? {
                self.file.rewind()?;
                self.forget_line();
                return Ok(Next::Gap);
            }
            let Some((number, file)) = first_from(&self.directory, &self.name, self.number + 1)? else {
                return Ok(Next::Nothing);
            };
            // What was written here between the end that was met and the beginning of the next file.
            if let Some(piece) = self.in_this_file()? {
                return Ok(Next::Piece(piece));
            }
            let is_next = number == self.number + 1;
            (self.number, self.file) = (number, BufReader::with_capacity(64 * 1024, file));
            self.forget_line();
            if !is_next {
                return Ok(Next::Gap);
            }
        }
    }

    fn forget_line(&mut self) {
        self.line.clear();
        self.skips = false;
    }

    /// The writer empties a file only to begin at its beginning again.
    fn was_emptied(&mut self) -> io::Result<bool> {
        let length = self.file.get_ref().metadata()?.size();
        Ok(self.file.stream_position()? > length)
    }

    /// The next record up to the end of this file as it is.
    fn in_this_file(&mut self) -> io::Result<Option<Piece>> {
        loop {
            let room = (RECORD_BYTES_MAX + 1).saturating_sub(self.line.len()) as u64;
            let read = io::Read::take(&mut self.file, room).read_until(b'\n', &mut self.line)?;
            let has_end = self.line.ends_with(b"\n");
            if !has_end && self.line.len() > RECORD_BYTES_MAX {
                self.line.clear();
                self.skips = true;
            } else if has_end {
                let piece = parse(&self.line).filter(|_| !self.skips);
                self.forget_line();
                if piece.is_some() {
                    return Ok(piece);
                }
            } else if read == 0 {
                return Ok(None);
            }
        }
    }
}

/// The file of the lowest number that is not below `from`. One that is removed meanwhile is not there.
fn first_from(directory: &Path, name: &str, from: u64) -> io::Result<Option<(u64, File)>> {
    let stem = directory.join(name);
    loop {
        // The usual case without a look at every file.
        if let Some(file) = open(&numbered(&stem, from))? {
            return Ok(Some((from, file)));
        }
        let number_of = |entry: io::Result<std::fs::DirEntry>| {
            let entry = entry.ok()?.file_name();
            entry.to_str()?.strip_prefix(name)?.strip_prefix('.')?.parse::<u64>().ok()
        };
        let numbers = std::fs::read_dir(directory)?.filter_map(number_of);
        let Some(number) = numbers.filter(|number| *number >= from).min() else { return Ok(None) };
        if let Some(file) = open(&numbered(&stem, number))? {
            return Ok(Some((number, file)));
        }
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match open_regular(path) {
        Ok(file) => Ok(Some(file)),
        Err(Unreadable::Missing) => Ok(None),
        Err(why) => Err(io::Error::other(format!("cannot read `{}`: {why}", path.display()))),
    }
}

/// `TIME F text`, with its newline.
fn parse(line: &[u8]) -> Option<Piece> {
    let (time, rest) = line.split_at_checked(TIME_BYTES)?;
    let time = std::str::from_utf8(time).ok()?.parse().ok()?;
    let text = match rest.split_at_checked(3)? {
        (b" F ", text) => text,
        (b" P ", text) => text.strip_suffix(b"\n")?,
        _ => return None,
    };
    Some(Piece { time, text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::log_file::tests::{at, small};

    fn reader(directory: &Path) -> LogReader {
        LogReader::open(directory, "api.stdout").unwrap().unwrap()
    }

    /// Everything there is, gaps as `~`.
    fn rest(reader: &mut LogReader) -> String {
        let mut text = String::new();
        loop {
            match reader.next_piece().unwrap() {
                Next::Piece(piece) => text.push_str(&String::from_utf8(piece.text).unwrap()),
                Next::Gap => text.push('~'),
                Next::Nothing => return text,
            }
        }
    }

    #[test]
    fn what_was_written_is_read_with_its_times() {
        let directory = tempfile::tempdir().unwrap();
        assert!(LogReader::open(directory.path(), "api.stdout").unwrap().is_none());
        let mut log = small(directory.path(), 1 << 20);
        log.write(b"one\ntw", at(5));
        let mut reader = reader(directory.path());
        let one = Next::Piece(Piece { time: at(5), text: b"one\n".to_vec() });
        assert_eq!(reader.next_piece().unwrap(), one);
        assert_eq!(rest(&mut reader), "tw");
        log.write(b"o\n", at(6));
        assert_eq!(rest(&mut reader), "o\n");
    }

    /// Each line is its own file, and the reader comes by after each one, after every second, after every third.
    #[test]
    fn nothing_is_lost_or_repeated_over_rotations() {
        for pace in 1..=5_u32 {
            let directory = tempfile::tempdir().unwrap();
            let mut log = small(directory.path(), 200);
            log.write(b"0\n", at(0));
            let mut reader = reader(directory.path());
            let mut read = String::new();
            for number in 1..=60 {
                log.write(format!("{number}\n").as_bytes(), at(0));
                if number % pace == 0 {
                    read += &rest(&mut reader);
                }
            }
            read += &rest(&mut reader);
            let expected: String = (0..=60).map(|number| format!("{number}\n")).collect();
            assert_eq!(read, expected, "pace {pace}");
        }
    }

    #[test]
    fn a_reader_that_is_too_slow_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = small(directory.path(), 8);
        log.write(b"0\n", at(0));
        let mut reader = reader(directory.path());
        for number in 1..=5 {
            log.write(format!("{number}\n").as_bytes(), at(0));
        }
        // Its own file is open; the two newest are still there.
        assert_eq!(rest(&mut reader), "0\n~4\n5\n");
    }

    #[test]
    fn an_emptied_file_is_read_from_its_beginning() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = small(directory.path(), 50);
        std::fs::create_dir_all(directory.path().join("x")).unwrap();
        log.write(b"a line that fills it from end to end\n", at(0));
        let mut reader = reader(directory.path());
        assert_eq!(rest(&mut reader).lines().count(), 1);
        File::options().write(true).open(directory.path().join("api.stdout.0")).unwrap().set_len(0).unwrap();
        assert_eq!(rest(&mut reader), "~");
        log.write(b"x\n", at(0));
    }

    #[test]
    fn damage_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.stdout.3");
        let long = "y".repeat(3 * RECORD_BYTES_MAX);
        let good = "1970-01-01T00:00:00.000000Z F good\n";
        for damage in ["", "nonsense", "1970-01-01T00:00:00.000000Z X bad", "\u{0}\u{0}", long.as_str()] {
            std::fs::write(&path, format!("{damage}\n{good}{damage}\n{good}")).unwrap();
            assert_eq!(rest(&mut reader(directory.path())), "good\ngood\n", "{damage:.20}");
        }
        std::fs::write(&path, "1970-01-01T00:00:00.000000Z F cut o").unwrap();
        assert_eq!(rest(&mut reader(directory.path())), "");
    }
}
