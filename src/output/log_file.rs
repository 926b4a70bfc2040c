//! [`LogFile`]: the output of one stream of one app, bounded on disk, for pods that nobody watches.
//!
//! A file that has reached its size is renamed to `.1`, over the one before, so a stream takes twice
//! [`FILE_BYTES_MAX`] at most. An app never waits for a disk that is full: what cannot be written is counted
//! and dropped, and how much is said in the file once there is room again.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A file this long is put aside.
pub const FILE_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// A log file that is being written.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    length: u64,
    length_max: u64,
    dropped: u64,
}

impl LogFile {
    /// Makes `directory/name`, such as `api.stdout`, empty.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn create(directory: &Path, name: &str) -> Result<Self> {
        let path = directory.join(name);
        let file = open(&path).with_context(|| format!("cannot make `{}`", path.display()))?;
        Ok(Self { path, file, length: 0, length_max: FILE_BYTES_MAX, dropped: 0 })
    }

    /// Appends; never fails, see [`LogFile::dropped`].
    pub fn write(&mut self, bytes: &[u8]) {
        if self.length >= self.length_max {
            self.rotate();
        }
        if self.dropped > 0 {
            let note = format!("[podrun: {} bytes were dropped here, the disk was full]\n", self.dropped);
            if self.append(note.as_bytes()) < note.len() {
                self.dropped += bytes.len() as u64;
                return;
            }
            self.dropped = 0;
        }
        let written = self.append(bytes);
        self.dropped += (bytes.len() - written) as u64;
    }

    /// How many bytes are missing since the file last said so.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// How many bytes were written.
    fn append(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.length += written as u64;
        written
    }

    /// A file that cannot be put aside is emptied instead: the bound holds in any case.
    fn rotate(&mut self) {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        let replaced = std::fs::rename(&self.path, &old).and_then(|()| open(&self.path));
        match replaced {
            Ok(file) => self.file = file,
            Err(_) if self.file.set_len(0).is_ok() => {}
            Err(_) => return,
        }
        self.length = 0;
    }
}

/// Appending, so that an emptied file begins at its beginning.
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC;
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(directory: &Path) -> LogFile {
        LogFile { length_max: 8, ..LogFile::create(directory, "api.stdout").unwrap() }
    }

    #[test]
    fn a_full_file_is_put_aside_and_one_old_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = small(directory.path());
        for text in ["aaaaaaaa", "bbbb", "bbbb", "cc"] {
            log.write(text.as_bytes());
        }
        let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!((read("api.stdout.1").as_str(), read("api.stdout").as_str()), ("bbbbbbbb", "cc"));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_cannot_be_put_aside_is_emptied() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = small(directory.path());
        std::fs::create_dir(directory.path().join("api.stdout.1")).unwrap();
        log.write(b"aaaaaaaaaaaa");
        log.write(b"bb");
        assert_eq!(std::fs::read(directory.path().join("api.stdout")).unwrap(), b"bb");
    }

    #[test]
    fn what_a_full_disk_does_not_take_is_counted_and_told() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = LogFile::create(directory.path(), "api.stdout").unwrap();
        let real = std::mem::replace(&mut log.file, File::options().write(true).open("/dev/full").unwrap());
        log.write(b"12345");
        log.write(b"678");
        assert_eq!(log.dropped(), 8);
        log.file = real;
        log.write(b"x");
        let text = std::fs::read_to_string(directory.path().join("api.stdout")).unwrap();
        assert_eq!(text, "[podrun: 8 bytes were dropped here, the disk was full]\nx");
        assert_eq!(log.dropped(), 0);
    }
}
