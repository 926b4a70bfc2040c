//! The last calls of a child, with the app's identity in the app's root: working directory, search, execve.
//!
//! Invariant: neither the working directory nor the executed file nor a script's interpreter is reached through a
//! magic link such as `/proc/1/exe`, which would lead out of the root or to stage1's own file.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{execve, fchdir};
use podrun_abi::boot::App;
use podrun_abi::executable::{HEAD_BYTES, SCRIPT_DEPTH, script_interpreter};
use podrun_abi::failure::{ExecFault, StartFailure, Step};

use crate::examine::examine;
use crate::failure::{OrFail, failed};

/// Enters `workdir`.
pub fn enter_workdir(workdir: &str) -> Result<(), StartFailure> {
    let entered = open_plain(workdir, OFlag::O_PATH | OFlag::O_DIRECTORY).and_then(fchdir);
    entered.or_fail(Step::Chdir, workdir)?;
    // A directory that is not below the root has no path, which getcwd(2) says in its own way.
    std::env::current_dir().map(drop).or_fail(Step::Chdir, workdir)
}

/// Becomes the app's program. Returns the reason when that fails.
pub fn execute(app: &App) -> Result<Infallible, StartFailure> {
    let program = app.argv.first().map_or("", String::as_str);
    let argv = c_strings(app.argv.iter().map(String::clone));
    let env = c_strings(environment(app, std::process::id()));
    if program.contains('/') {
        return Err(try_file(program, &argv, &env));
    }
    Err(search(program, search_path(app), |path| try_file(path, &argv, &env)))
}

/// The app's own, and what sd_listen_fds(3) looks for where it has sockets. The pid is known to the child alone.
fn environment(app: &App, pid: u32) -> impl Iterator<Item = String> {
    const LISTEN: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];
    let values = [pid.to_string(), app.sockets.len().to_string(), app.sockets.join(":")];
    let listen = LISTEN.into_iter().zip(values).filter(|_| !app.sockets.is_empty());
    let own = app.env.iter().filter(|(key, _)| app.sockets.is_empty() || !LISTEN.contains(&key.as_str()));
    let own = own.map(|(key, value)| format!("{key}={value}"));
    own.chain(listen.map(|(key, value)| format!("{key}={value}")))
}

/// NUL bytes were refused with the boot record.
fn c_strings(texts: impl Iterator<Item = String>) -> Vec<CString> {
    texts.filter_map(|text| CString::new(text).ok()).collect()
}

/// The last one counts, as for a shell that gets two.
fn search_path(app: &App) -> &str {
    let found = app.env.iter().rev().find(|(key, _)| key == "PATH");
    found.map_or("", |(_, value)| value.as_str())
}

/// execvp(3): what is not there is passed over; the first file that may not be executed is remembered, and is
/// the reason when no other is found.
fn search(program: &str, path: &str, mut attempt: impl FnMut(&str) -> StartFailure) -> StartFailure {
    let mut denied = None;
    for directory in path.split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let failure = attempt(&format!("{directory}/{program}"));
        match (&failure.fault, Errno::from_raw(failure.errno)) {
            (Some(ExecFault::Missing), _) | (None, Errno::ENOENT | Errno::ENOTDIR) => {}
            (_, Errno::EACCES) => drop(denied.get_or_insert(failure)),
            _ => return failure,
        }
    }
    denied.unwrap_or_else(|| StartFailure {
        step: Step::Exec,
        subject: program.to_owned(),
        errno: Errno::ENOENT as i32,
        fault: Some(ExecFault::NotInPath),
    })
}

/// execve(2) of one file, or why not.
fn try_file(path: &str, argv: &[CString], env: &[CString]) -> StartFailure {
    let tried = refuse_magic(path).and_then(|()| {
        let file = CString::new(path).map_err(|_| Errno::ENOENT)?;
        execve(&file, argv, env)
    });
    match tried {
        Ok(never) => match never {},
        Err(errno) => StartFailure { fault: examine(path, errno), ..failed(Step::Exec, path, errno) },
    }
}

/// ELOOP when the file, or the interpreter of the script that it is, goes through a magic link.
fn refuse_magic(path: &str) -> Result<(), Errno> {
    let file = open_plain(path, OFlag::O_PATH)?;
    if SFlag::from_bits_truncate(fstat(&file)?.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        // execve says what it thinks of it.
        return Ok(());
    }
    let mut head = read_head(path);
    for _ in 0..SCRIPT_DEPTH {
        let Some(interpreter) = script_interpreter(&head) else { return Ok(()) };
        if open_plain(&interpreter, OFlag::O_PATH).is_err_and(|errno| errno == Errno::ELOOP) {
            return Err(Errno::ELOOP);
        }
        head = read_head(&interpreter);
    }
    Ok(())
}

/// The start of a file; empty when it may be executed but not read, since such a file is no script.
pub fn read_head(path: &str) -> Vec<u8> {
    let mut head = vec![0; HEAD_BYTES];
    let file = open_plain(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK);
    // What cannot be read is not there. A file of a disk gives all it has in one read.
    let length = file.map_or(0, |file| File::from(file).read(&mut head).unwrap_or(0));
    head.truncate(length);
    head
}

fn open_plain(path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(AT_FDCWD, path, how)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(path: &str, errno: Errno, fault: Option<ExecFault>) -> StartFailure {
        StartFailure { fault, ..failed(Step::Exec, path, errno) }
    }

    #[test]
    fn search_goes_on_until_a_file_is_found() {
        let mut seen = Vec::new();
        let result = search("x", "/a::/b", |path| {
            seen.push(path.to_owned());
            failure(path, Errno::ENOENT, Some(ExecFault::Missing))
        });
        assert_eq!(seen, ["/a/x", "./x", "/b/x"]);
        assert_eq!(result.fault, Some(ExecFault::NotInPath));
        assert_eq!((result.subject.as_str(), result.exit_code()), ("x", 127));
    }

    #[test]
    fn search_remembers_the_first_that_was_denied() {
        let result = search("x", "/a:/b:/c", |path| match path {
            "/a/x" => failure(path, Errno::ENOENT, Some(ExecFault::Missing)),
            _ => failure(path, Errno::EACCES, Some(ExecFault::NotExecutable)),
        });
        assert_eq!((result.subject.as_str(), result.exit_code()), ("/b/x", 126));
    }

    #[test]
    fn search_ends_with_a_file_that_cannot_work() {
        let interpreter = ExecFault::InterpreterMissing { interpreter: "/no".into() };
        let result = search("x", "/a:/b", |path| failure(path, Errno::ENOENT, Some(interpreter.clone())));
        assert_eq!((result.subject.as_str(), result.exit_code()), ("/a/x", 127));
    }

    #[test]
    fn magic_links_are_refused() {
        assert_eq!(refuse_magic("/proc/self/exe"), Err(Errno::ELOOP));
        assert_eq!(refuse_magic("/proc/self/status"), Ok(()));
    }
}
