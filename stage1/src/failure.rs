//! From an errno to a [`StartFailure`]: which step, on what.
//!
//! Invariant: the words for people are in podrun-abi; here are only the three facts they are made of.

use std::io;

use nix::errno::Errno;
use podrun_abi::failure::{StartFailure, Step};

/// Adds to an errno what was being done.
pub trait OrFail<T> {
    /// The failure of `step` on `subject`.
    fn or_fail(self, step: Step, subject: &str) -> Result<T, StartFailure>;
}

impl<T> OrFail<T> for Result<T, Errno> {
    fn or_fail(self, step: Step, subject: &str) -> Result<T, StartFailure> {
        self.map_err(|errno| failed(step, subject, errno))
    }
}

impl<T> OrFail<T> for io::Result<T> {
    fn or_fail(self, step: Step, subject: &str) -> Result<T, StartFailure> {
        self.map_err(|error| StartFailure {
            step,
            subject: subject.to_owned(),
            errno: error.raw_os_error().unwrap_or(0),
            fault: None,
        })
    }
}

/// The failure of `step` on `subject`, with no closer look at it.
pub fn failed(step: Step, subject: &str, errno: Errno) -> StartFailure {
    StartFailure { step, subject: subject.to_owned(), errno: errno as i32, fault: None }
}

/// The failure of a launcher that says what stage1 does not understand, or nothing any more.
pub fn refused(why: &str) -> StartFailure {
    StartFailure { step: Step::ReadBoot, subject: why.to_owned(), errno: 0, fault: None }
}
