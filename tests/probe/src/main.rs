//! A program that runs inside pods and prints or does what it is told.
//!
//! Its arguments are commands, separated by `;`. Each prints lines of the form `word value`, so that a test can
//! look one up; a failed system call prints the errno's name and makes that errno the exit code at the end.
//! It does not judge: what is right is known to the tests alone.

mod act;
mod look;
mod notify;
mod sys;

use std::io::Write;

/// What a command came to: `Err` is the errno that becomes the exit code unless a later `exit` says otherwise.
type Outcome = Result<(), i32>;

fn main() {
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let mut code = 0;
    let mut rest = words.as_slice();
    while !rest.is_empty() {
        // `argv` and `exec` take everything that follows, separators included.
        let greedy = matches!(rest[0].as_str(), "argv" | "exec");
        let end = if greedy { None } else { rest.iter().position(|word| word == ";") };
        let (command, next) = rest.split_at(end.unwrap_or(rest.len()));
        if let Some((name, arguments)) = command.split_first()
            && let Err(errno) = perform(name, arguments)
        {
            code = errno;
        }
        rest = next.get(1..).unwrap_or(&[]);
    }
    std::process::exit(code);
}

/// One command. A flat list.
fn perform(name: &str, arguments: &[String]) -> Outcome {
    match name {
        "ids" => look::ids(),
        "caps" => look::status(&["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(String::from)),
        "status" => look::status(arguments),
        "limits" => look::file("/proc/self/limits"),
        "env" => look::env(),
        "argv" => look::argv(arguments),
        "cwd" => look::cwd(),
        "ns" => look::namespaces(),
        "limit" => look::limit(text(arguments, 0)),
        "hostname" => look::hostname(),
        "pid" => look::pids(),
        "fds" => look::descriptors(),
        "processes" => look::processes(),
        "zombies" => look::zombies(),
        "read" => look::file(text(arguments, 0)),
        "ls" => look::list(text(arguments, 0)),
        "stat" => look::stat(text(arguments, 0)),
        "mounted" => look::mounted(text(arguments, 0)),
        "alloc" => act::alloc(number(arguments, 0), false),
        "alloc-hold" => act::alloc(number(arguments, 0), true),
        "child-alloc" => act::child_alloc(number(arguments, 0)),
        "spin" => act::spin(decimal(arguments, 0)),
        "pin" => act::pin(number(arguments, 0)),
        "read-through" => act::read_through(text(arguments, 0)),
        "read-direct" | "write-direct" => act::transfer_direct(name, text(arguments, 0), blocks(arguments)),
        "fork-bomb" => act::fork_bomb(),
        "orphans" => act::orphans(number(arguments, 0)),
        "no-zombies" => act::wait_without_zombies(decimal(arguments, 0)),
        "daemon" => act::daemon(),
        "ignore-term" => act::ignore_term(),
        "on-term" => act::on_term(arguments),
        "children" => act::children(number(arguments, 0)),
        "churn" => act::churn(number(arguments, 0)),
        "heartbeat" => act::heartbeat(number(arguments, 0), number(arguments, 1)),
        "heartbeat-until" => act::heartbeat_until(text(arguments, 0), number(arguments, 1)),
        "exit" => std::process::exit(i32::try_from(number(arguments, 0)).unwrap_or(255)),
        "kill-self" => act::kill_self(signal(arguments, 0)),
        "kill" => act::kill(i32::try_from(number(arguments, 0)).unwrap_or(0), signal(arguments, 1)),
        "write" => act::write(text(arguments, 0), text(arguments, 1)),
        "open-for-write" => act::open_for_write(arguments),
        "mkdir" => act::mkdir(text(arguments, 0)),
        "umount" => act::umount(text(arguments, 0)),
        "remount-rw" => act::remount_rw(text(arguments, 0)),
        "mknod" => mknod(arguments, libc::S_IFBLK),
        "mknod-char" => mknod(arguments, libc::S_IFCHR),
        "say" => act::print(arguments, &mut std::io::stdout()),
        "warn" => act::print(arguments, &mut std::io::stderr()),
        "flood" => act::flood(number(arguments, 0)),
        "sleep" => act::sleep(decimal(arguments, 0)),
        "pause" => act::pause(),
        "wait-file" => act::wait_file(text(arguments, 0), decimal(arguments, 1)),
        "wait-processes" => act::wait_processes(number(arguments, 0), decimal(arguments, 1)),
        "notify" => notify::lines(arguments),
        "notify-barrier" => notify::barrier(),
        "notify-store" => notify::store(text(arguments, 0), text(arguments, 1)),
        "notify-lingering" => notify::lingering(),
        "stored" => notify::stored(),
        "notify-flood" => notify::flood(number(arguments, 0)),
        "notify-beat" => notify::beat(number(arguments, 0), number(arguments, 1)),
        "answer" => act::answer(number(arguments, 0)),
        "exec" => act::exec(arguments),
        other => {
            say(&format!("unknown-command {other}"));
            Err(libc::EINVAL)
        }
    }
}

fn mknod(arguments: &[String], kind: libc::mode_t) -> Outcome {
    act::mknod(text(arguments, 0), kind, number(arguments, 1), number(arguments, 2))
}

/// One line on standard output. Nobody reads it any more: nothing is left to do here, so the error is dropped.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
}

/// Prints `word subject ERRNO` and hands the errno on.
fn failed(word: &str, subject: &str, error: &std::io::Error) -> i32 {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    say(&format!("{word} {subject} {}", errno_name(errno)));
    errno
}

/// The names that the tests ask for; a number for any other.
fn errno_name(errno: i32) -> String {
    match errno {
        libc::EPERM => "EPERM".into(),
        libc::ENOENT => "ENOENT".into(),
        libc::EAGAIN => "EAGAIN".into(),
        libc::EACCES => "EACCES".into(),
        libc::EBUSY => "EBUSY".into(),
        libc::EINVAL => "EINVAL".into(),
        libc::EROFS => "EROFS".into(),
        libc::ENOTDIR => "ENOTDIR".into(),
        libc::EISDIR => "EISDIR".into(),
        libc::EIO => "EIO".into(),
        libc::ENXIO => "ENXIO".into(),
        libc::EOPNOTSUPP => "EOPNOTSUPP".into(),
        other => other.to_string(),
    }
}

fn text(arguments: &[String], index: usize) -> &str {
    arguments.get(index).map_or("", String::as_str)
}

/// How many, and of so many bytes each.
fn blocks(arguments: &[String]) -> (u64, u64) {
    (number(arguments, 1), number(arguments, 2))
}

fn number(arguments: &[String], index: usize) -> u64 {
    text(arguments, index).parse().unwrap_or(0)
}

fn decimal(arguments: &[String], index: usize) -> f64 {
    text(arguments, index).parse().unwrap_or(0.0)
}

/// A signal by number or by one of the names that the tests use.
fn signal(arguments: &[String], index: usize) -> i32 {
    match text(arguments, index) {
        "TERM" => libc::SIGTERM,
        "KILL" => libc::SIGKILL,
        "SEGV" => libc::SIGSEGV,
        "INT" => libc::SIGINT,
        "STOP" => libc::SIGSTOP,
        "USR1" => libc::SIGUSR1,
        other => other.parse().unwrap_or(0),
    }
}
