//! Whose turn it is: tests that measure time run alone, all others side by side.
//!
//! flock(2) on files in /tmp, so that it holds between two test runs at once and ends with a killed one. Who wants to
//! be alone holds the turnstile while waiting, or a stream of others would keep it waiting for ever.

use std::fs::{File, OpenOptions, create_dir_all};
use std::path::{Path, PathBuf};

/// Held as long as the test runs.
pub struct Turn {
    _files: Vec<File>,
}

/// The place of all test runs on this machine.
pub fn place() -> PathBuf {
    let place = std::env::temp_dir().join("podrun-tests");
    create_dir_all(&place).expect("a writable folder for temporary files");
    place
}

impl Turn {
    /// Side by side with the others.
    pub fn shared() -> Self {
        let turnstile = open(&place().join("turnstile"));
        turnstile.lock().expect("flock");
        let turn = open(&place().join("turn"));
        turn.lock_shared().expect("flock");
        Self { _files: vec![turn] }
    }

    /// Nobody else meanwhile.
    pub fn alone() -> Self {
        let turnstile = open(&place().join("turnstile"));
        turnstile.lock().expect("flock");
        let turn = open(&place().join("turn"));
        turn.lock().expect("flock");
        Self { _files: vec![turn, turnstile] }
    }
}

fn open(path: &Path) -> File {
    OpenOptions::new().create(true).truncate(false).write(true).open(path).expect("a lock file in /tmp")
}
