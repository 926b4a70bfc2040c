//! Processes that a test starts: their output as it comes, and an end with a deadline.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::sys;
use super::wait::far;

/// What a process left behind.
#[derive(Debug)]
pub struct Ended {
    pub stdout: String,
    pub stderr: String,
    /// The shell's code: 128 plus the signal when one killed it.
    pub code: i32,
    /// From start to end.
    pub time: Duration,
}

impl Ended {
    /// Fails the test with all of the output unless the code is this one.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code\n{self}");
        self
    }

    #[track_caller]
    pub fn expect_stderr(self, wanted: &[&str]) -> Self {
        for text in wanted {
            assert!(self.stderr.contains(text), "`{text}` is not in stderr\n{self}");
        }
        self
    }

    /// The rest of the line of standard output that begins with this word.
    #[track_caller]
    pub fn value(&self, word: &str) -> &str {
        super::text::value(&self.stdout, word)
            .unwrap_or_else(|| panic!("no line `{word} …` in stdout\n{self}"))
    }

    #[track_caller]
    pub fn number(&self, word: &str) -> u64 {
        self.value(word).parse().unwrap_or_else(|_| panic!("`{word}` has no number\n{self}"))
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON: {error}\n{self}"))
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "code {} after {} ms", self.code, self.time.as_millis())?;
        writeln!(f, "--- stdout\n{}--- stderr\n{}---", self.stdout, self.stderr)
    }
}

/// A fork between open and close of a file that is written inherits that descriptor until it executes something, and
/// the kernel executes no file that anybody may write (ETXTBSY): what makes programs takes turns with what forks.
static FORKS: RwLock<()> = RwLock::new(());

/// Starts a process whose streams are arranged already.
pub fn spawn(command: &mut Command) -> Child {
    // Shells start background jobs with SIGINT ignored, and what is ignored stays so (signal(7)).
    sys::listen_to_interrupts(command);
    // Returns when the child has executed, so that nothing is inherited any more.
    let _forking = FORKS.read().expect("no holder panics");
    command.spawn().expect("the command can be executed")
}

/// Copies a program.
pub fn copy_program(from: &Path, to: &Path) {
    let _alone = FORKS.write().expect("no holder panics");
    fs::copy(from, to).expect("a program can be copied");
}

/// A process that runs.
pub struct Running {
    child: Child,
    begin: Instant,
    stdout: Stream,
    stderr: Stream,
}

impl Running {
    pub fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let begin = Instant::now();
        let mut child = spawn(command);
        let stdout = Stream::read(child.stdout.take().expect("piped"));
        let stderr = Stream::read(child.stderr.take().expect("piped"));
        Self { child, begin, stdout, stderr }
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Without waiting for it: its number stays its own.
    pub fn has_ended(&self) -> bool {
        let pidfd = sys::pidfd(self.pid()).expect("pidfd of a child");
        sys::ends_within(&pidfd, Duration::ZERO)
    }

    pub fn signal(&self, signal: i32) {
        // The child is not waited for yet, so that the number is still its own.
        sys::kill(self.pid(), signal).expect("the process is still there");
    }

    /// Until standard output holds this text.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        self.stdout.wait_for(text, || self.stderr.text());
    }

    /// What it has written to standard output by now.
    pub fn stdout_so_far(&self) -> String {
        self.stdout.text()
    }

    #[track_caller]
    pub fn wait_for_stderr(&self, text: &str) {
        self.stderr.wait_for(text, || self.stdout.text());
    }

    /// Kills it, and does not wait for what holds its output still, as a pod does that has lost its launcher.
    pub fn kill(mut self) {
        self.child.kill().expect("the process is still there");
        self.child.wait().expect("a child can be waited for");
    }

    /// Waits for its end, far beyond what it takes.
    #[track_caller]
    pub fn wait(self) -> Ended {
        self.wait_within(far())
    }

    /// Waits for its end; fails the test when that does not come.
    #[track_caller]
    pub fn wait_within(mut self, time: Duration) -> Ended {
        let pidfd = sys::pidfd(self.pid()).expect("pidfd of a child");
        let in_time = sys::ends_within(&pidfd, time);
        if !in_time {
            // Not waited for, so that the number is still its own.
            let _ = self.child.kill();
        }
        let status = self.child.wait().expect("a child can be waited for");
        let time = self.begin.elapsed();
        let (stdout, stderr) = (self.stdout.finish(in_time), self.stderr.finish(in_time));
        let ended = Ended { stdout, stderr, code: sys::shell_code(status), time };
        assert!(in_time, "no end within its deadline\n{ended}");
        ended
    }
}

/// One output of a process, collected by a thread.
struct Stream {
    seen: Arc<(Mutex<Seen>, Condvar)>,
    reader: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    bytes: Vec<u8>,
    ended: bool,
}

impl Stream {
    fn read(mut from: impl Read + Send + 'static) -> Self {
        let seen = Arc::new((Mutex::new(Seen::default()), Condvar::new()));
        let shared = Arc::clone(&seen);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            loop {
                let count = from.read(&mut buffer).unwrap_or(0);
                let mut seen = shared.0.lock().expect("no reader panics");
                seen.bytes.extend_from_slice(&buffer[..count]);
                seen.ended |= count == 0;
                shared.1.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        Self { seen, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.0.lock().expect("no reader panics").bytes).into_owned()
    }

    #[track_caller]
    fn wait_for(&self, text: &str, other: impl Fn() -> String) {
        let begin = Instant::now();
        let mut seen = self.seen.0.lock().expect("no reader panics");
        while !String::from_utf8_lossy(&seen.bytes).contains(text) {
            let here = String::from_utf8_lossy(&seen.bytes).into_owned();
            assert!(!seen.ended, "`{text}` never came\n{here}---\n{}", other());
            let left = far().saturating_sub(begin.elapsed());
            assert!(!left.is_zero(), "`{text}` did not come\n{here}---\n{}", other());
            seen = self.seen.1.wait_timeout(seen, left).expect("no reader panics").0;
        }
    }

    /// The whole text once the last writer is gone; what is there when that cannot be waited for.
    fn finish(self, ended: bool) -> String {
        if ended {
            // A leftover process of a pod that holds the pipe must fail the test, not hang it.
            let begin = Instant::now();
            let mut seen = self.seen.0.lock().expect("no reader panics");
            while !seen.ended {
                let left = far().saturating_sub(begin.elapsed());
                assert!(!left.is_zero(), "a process still holds the output of one that has ended");
                seen = self.seen.1.wait_timeout(seen, left).expect("no reader panics").0;
            }
            drop(seen);
            self.reader.join().expect("no reader panics");
            return String::from_utf8_lossy(&self.seen.0.lock().expect("no reader panics").bytes)
                .into_owned();
        }
        self.text()
    }
}
