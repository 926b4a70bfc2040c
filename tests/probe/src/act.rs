//! The commands that do something: use memory, CPU or processes, die in a chosen way, try what must be refused.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::time::{Duration, Instant};

use crate::{Outcome, failed, look, say, sys};

/// Touches every page. Transparent huge pages make no difference: each page of 4096 bytes is written.
pub fn alloc(bytes: u64, hold: bool) -> Outcome {
    let length = usize::try_from(bytes).map_err(|_| libc::EINVAL)?;
    let mut memory: Vec<u8> = Vec::with_capacity(length);
    while memory.len() < length {
        let step = (length - memory.len()).min(1 << 20);
        memory.resize(memory.len() + step, 0x5a);
    }
    say(&format!("allocated {}", std::hint::black_box(&memory).len()));
    if hold { pause() } else { Ok(()) }
}

/// The same in a child, which is waited for.
pub fn child_alloc(bytes: u64) -> Outcome {
    match sys::fork() {
        Ok(0) => {
            let _ = alloc(bytes, false);
            sys::exit_now(0);
        }
        Ok(child) => sys::wait_for(child),
        Err(errno) => return Err(errno),
    }
    Ok(())
}

/// Burns CPU for so many seconds of wall time and prints the CPU time that it got, in thousandths of it.
pub fn spin(seconds: f64) -> Outcome {
    let (begin, end) = (Instant::now(), Duration::from_secs_f64(seconds));
    let used_before = sys::cpu_used();
    while begin.elapsed() < end {
        std::hint::black_box((0..10_000_u32).fold(0, |sum, n| std::hint::black_box(sum ^ n)));
    }
    let share = (sys::cpu_used() - used_before).as_secs_f64() / begin.elapsed().as_secs_f64();
    say(&format!("cpu-permille {:.0}", share * 1000.0));
    Ok(())
}

/// Asks to run on this CPU alone.
pub fn pin(cpu: u64) -> Outcome {
    sys::pin(usize::try_from(cpu).unwrap_or(0)).map_err(|error| failed("pin", &cpu.to_string(), &error))?;
    say(&format!("pin {cpu} ok"));
    Ok(())
}

/// Reads a file once, and leaves it in the cache.
pub fn read_through(path: &str) -> Outcome {
    let read = fs::File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut std::io::sink()));
    say(&format!("read-through {}", read.map_err(|error| failed("read-through", path, &error))?));
    Ok(())
}

/// Reads or writes so many blocks past the cache, one after the other, and prints how many bytes a second that were.
pub fn transfer_direct(name: &str, path: &str, (count, bytes): (u64, u64)) -> Outcome {
    let writes = name == "write-direct";
    let mut block = sys::Block::new(usize::try_from(bytes).map_err(|_| libc::EINVAL)?);
    let opened = OpenOptions::new().read(!writes).write(writes).custom_flags(libc::O_DIRECT).open(path);
    let mut file = opened.map_err(|error| failed(name, path, &error))?;
    let begin = Instant::now();
    for _ in 0..count {
        let one = if writes { file.write_all(block.bytes()) } else { file.read_exact(block.bytes()) };
        one.map_err(|error| failed(name, path, &error))?;
    }
    #[expect(clippy::cast_precision_loss, reason = "so many bytes are moved in no test")]
    let rate = (count * bytes) as f64 / begin.elapsed().as_secs_f64();
    say(&format!("bytes-per-second {rate:.0}"));
    Ok(())
}

/// Forks until the kernel says no; the children wait for their end.
pub fn fork_bomb() -> Outcome {
    let mut children = 0;
    let errno = loop {
        match sys::fork() {
            Ok(0) => sys::pause_for_ever(),
            Ok(_) => children += 1,
            Err(errno) => break errno,
        }
    };
    say(&format!("forks {children} {}", crate::errno_name(errno)));
    Ok(())
}

/// So many grandchildren whose parents are gone before they end; all of them end here, as PID 1's.
pub fn orphans(count: u64) -> Outcome {
    let mut made = 0;
    while made < count {
        // A parent of 100 at a time: its death makes orphans of all that live still and of those that are zombies.
        let batch = (count - made).min(100);
        match sys::fork() {
            Ok(0) => {
                for _ in 0..batch {
                    if let Ok(0) = sys::fork() {
                        sys::exit_now(0);
                    }
                }
                sys::exit_now(0);
            }
            Ok(child) => sys::wait_for(child),
            Err(errno) => return Err(errno),
        }
        made += batch;
    }
    say(&format!("orphans {made}"));
    Ok(())
}

/// Waits until `/proc` shows no zombie and prints how long that took; `zombies N` when it never came.
pub fn wait_without_zombies(seconds: f64) -> Outcome {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs_f64(seconds) {
        if look::count_zombies() == 0 {
            say(&format!("no-zombies-after-ms {}", begin.elapsed().as_millis()));
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    say(&format!("zombies {}", look::count_zombies()));
    Err(libc::EBUSY)
}

/// The classic: fork, new session, fork, and the grandchild stays.
pub fn daemon() -> Outcome {
    match sys::fork() {
        Ok(0) => {
            sys::new_session();
            match sys::fork() {
                Ok(0) => sys::pause_for_ever(),
                _ => sys::exit_now(0),
            }
        }
        Ok(child) => sys::wait_for(child),
        Err(errno) => return Err(errno),
    }
    say("daemon");
    Ok(())
}

pub fn ignore_term() -> Outcome {
    sys::ignore(libc::SIGTERM);
    Ok(())
}

/// On SIGTERM: print `got TERM`, then the given word if there is one, and exit with the given code.
pub fn on_term(arguments: &[String]) -> Outcome {
    let code = arguments.first().and_then(|word| word.parse().ok()).unwrap_or(0);
    sys::on_term(code);
    Ok(())
}

/// So many children that wait; what is ignored here is ignored there.
pub fn children(count: u64) -> Outcome {
    for _ in 0..count {
        match sys::fork() {
            Ok(0) => sys::pause_for_ever(),
            Ok(_) => (),
            Err(errno) => return Err(errno),
        }
    }
    say(&format!("children {count}"));
    Ok(())
}

/// So many chains of processes, each of which forks the next one and ends: a pid that is read somewhere is gone
/// before anybody can signal it.
pub fn churn(chains: u64) -> Outcome {
    for _ in 0..chains {
        match sys::fork() {
            Ok(0) => loop {
                // No room for another process: tried again, as a process that stays.
                if matches!(sys::fork(), Ok(child) if child != 0) {
                    sys::exit_now(0);
                }
            },
            Ok(_) => (),
            Err(errno) => return Err(errno),
        }
    }
    say(&format!("churn {chains}"));
    Ok(())
}

/// So many beats, so many milliseconds apart; prints the longest time between two of them.
pub fn heartbeat(interval_ms: u64, count: u64) -> Outcome {
    let mut left = count;
    beat(interval_ms, || {
        left = left.saturating_sub(1);
        left > 0
    })
}

/// The same until a file is there.
pub fn heartbeat_until(path: &str, interval_ms: u64) -> Outcome {
    beat(interval_ms, || fs::symlink_metadata(path).is_err())
}

fn beat(interval_ms: u64, mut goes_on: impl FnMut() -> bool) -> Outcome {
    let mut longest = Duration::ZERO;
    let mut last = Instant::now();
    loop {
        std::thread::sleep(Duration::from_millis(interval_ms));
        longest = longest.max(last.elapsed());
        last = Instant::now();
        if !goes_on() {
            break;
        }
    }
    say(&format!("longest-gap-ms {}", longest.as_millis()));
    Ok(())
}

/// The Rust runtime has handlers of its own, for SIGSEGV among others: a signal to oneself is to do what it does.
pub fn kill_self(signal: i32) -> Outcome {
    sys::set_default(signal);
    kill(std::process::id().cast_signed(), signal)
}

pub fn kill(pid: i32, signal: i32) -> Outcome {
    sys::kill(pid, signal).inspect_err(|&errno| {
        say(&format!("kill {pid} {}", crate::errno_name(errno)));
    })
}

pub fn write(path: &str, text: &str) -> Outcome {
    // No O_CREAT on what exists: a file of /proc or cgroupfs cannot be created.
    let opened = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    match opened.and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => say(&format!("write {path} ok")),
        Err(error) => return Err(failed("write", path, &error)),
    }
    Ok(())
}

/// Opens without writing a byte: enough to know, and harmless where it should have been refused.
pub fn open_for_write(paths: &[String]) -> Outcome {
    let mut outcome = Ok(());
    for path in paths {
        match OpenOptions::new().write(true).open(path) {
            Ok(_) => say(&format!("open-for-write {path} ok")),
            Err(error) => outcome = Err(failed("open-for-write", path, &error)),
        }
    }
    outcome
}

pub fn mkdir(path: &str) -> Outcome {
    fs::create_dir(path).map_err(|error| failed("mkdir", path, &error))?;
    say(&format!("mkdir {path} ok"));
    Ok(())
}

pub fn umount(path: &str) -> Outcome {
    sys::umount(path).map_err(|error| failed("umount", path, &error))?;
    say(&format!("umount {path} ok"));
    Ok(())
}

pub fn remount_rw(path: &str) -> Outcome {
    sys::remount_rw(path).map_err(|error| failed("remount-rw", path, &error))?;
    say(&format!("remount-rw {path} ok"));
    Ok(())
}

pub fn mknod(path: &str, kind: libc::mode_t, major: u64, minor: u64) -> Outcome {
    sys::mknod(path, kind, major, minor).map_err(|error| failed("mknod", path, &error))?;
    say(&format!("mknod {path} ok"));
    Ok(())
}

pub fn print(words: &[String], to: &mut dyn Write) -> Outcome {
    let line = format!("{}\n", words.join(" "));
    to.write_all(line.as_bytes())
        .and_then(|()| to.flush())
        .map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
}

/// So many bytes in lines of 64.
pub fn flood(bytes: u64) -> Outcome {
    let line = [[b'x'; 63].as_slice(), b"\n"].concat();
    let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    for _ in 0..bytes / 64 {
        out.write_all(&line).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
    }
    out.flush().map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
}

pub fn sleep(seconds: f64) -> Outcome {
    std::thread::sleep(Duration::from_secs_f64(seconds));
    Ok(())
}

pub fn pause() -> Outcome {
    sys::pause_for_ever()
}

pub fn wait_file(path: &str, seconds: f64) -> Outcome {
    wait(seconds, &format!("wait-file {path}"), || fs::symlink_metadata(path).is_ok())
}

/// Until `/proc` shows so many processes.
pub fn wait_processes(count: u64, seconds: f64) -> Outcome {
    wait(seconds, "wait-processes", || look::all_processes().len() as u64 >= count)
}

fn wait(seconds: f64, what: &str, mut done: impl FnMut() -> bool) -> Outcome {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs_f64(seconds) {
        if done() {
            say(&format!("{what} ok"));
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    say(&format!("{what} timeout"));
    Err(libc::ETIMEDOUT)
}

/// Prints what sd_listen_fds(3) looks for, then takes so many connections at any of the sockets and writes to each the
/// name of the socket.
pub fn answer(count: u64) -> Outcome {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let is_own = variable("LISTEN_PID") == std::process::id().to_string();
    let (fds, names) = (variable("LISTEN_FDS"), variable("LISTEN_FDNAMES"));
    say(&format!("listen {} {fds} {names}", if is_own { "own" } else { "other" }));
    let sockets: Vec<i32> = (3..3 + fds.parse::<i32>().unwrap_or_default()).collect();
    let names: Vec<&str> = names.split(':').collect();
    for _ in 0..count {
        let (index, mut connection) = sys::accept_any(&sockets)?;
        let name = names.get(index).unwrap_or(&"unnamed");
        // Whoever has closed meanwhile only wanted to know whether somebody listens.
        let _ = writeln!(connection, "{name}");
        say(&format!("answered {name}"));
    }
    Ok(())
}

pub fn exec(arguments: &[String]) -> Outcome {
    let Some((program, rest)) = arguments.split_first() else { return Err(libc::EINVAL) };
    Err(failed("exec", program, &std::process::Command::new(program).args(rest).exec()))
}
