//! Sockets that a service manager has opened and passes with the exec (sd_listen_fds(3)).

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// The first descriptor that is passed.
const FIRST: RawFd = 3;
/// More than any unit has.
const COUNT_MAX: RawFd = 4096;

/// Takes over the sockets that are meant for this process, with their names, close-on-exec from here on. Later calls
/// find none.
///
/// # Errors
/// The variables name a descriptor that is not open.
pub fn take() -> anyhow::Result<Vec<(String, OwnedFd)>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let count = match variable("LISTEN_FDS").parse() {
        Ok(count @ 1..=COUNT_MAX) if variable("LISTEN_PID").parse() == Ok(std::process::id()) => count,
        _ => return Ok(Vec::new()),
    };
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let names = names(count, std::env::var("LISTEN_FDNAMES").ok().as_deref())?;
    let take_one = |number: RawFd| {
        // SAFETY: the borrow ends with the call, which fails with EBADF where nothing is open under this number.
        let passed = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl(passed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
            .with_context(|| format!("cannot take over descriptor {number}, which LISTEN_FDS names"))?;
        // SAFETY: it is open since before the exec, so that no descriptor of ours can have got its number, and `TAKEN`
        // lets nobody come here twice: nobody else owns it.
        anyhow::Ok(unsafe { OwnedFd::from_raw_fd(number) })
    };
    names.into_iter().zip(FIRST..).map(|(name, number)| Ok((name, take_one(number)?))).collect()
}

/// As sd_listen_fds_with_names(3) has it: as many names as descriptors, or none, and then all are called `unknown`.
fn names(count: RawFd, names: Option<&str>) -> anyhow::Result<Vec<String>> {
    let count = usize::try_from(count)?;
    let Some(names) = names else { return Ok(vec!["unknown".to_owned(); count]) };
    let names: Vec<String> = names.split(':').map(str::to_owned).collect();
    if names.len() != count {
        bail!("cannot take over {count} descriptors: LISTEN_FDNAMES has {} names", names.len());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_names_as_descriptors_or_none() {
        let table = [
            (2, None, Ok(vec!["unknown", "unknown"])),
            (2, Some("web:admin"), Ok(vec!["web", "admin"])),
            (1, Some(""), Ok(vec![""])),
            (2, Some("web"), Err("cannot take over 2 descriptors: LISTEN_FDNAMES has 1 names")),
        ];
        for (count, given, wanted) in table {
            let found = names(count, given).map_err(|error| error.to_string());
            let wanted = wanted.map(|names| names.into_iter().map(str::to_owned).collect());
            assert_eq!(found, wanted.map_err(str::to_owned), "{given:?}");
        }
    }
}
