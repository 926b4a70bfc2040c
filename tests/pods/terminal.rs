//! A pod on a pseudo-terminal, as somebody sees it who types `podrun run`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::harness::{Lab, pod, spawn, sys, wait_until};

/// A podrun whose standard streams are a terminal that leads its session.
struct Terminal {
    child: Child,
    window: File,
    seen: String,
    bytes: Receiver<Vec<u8>>,
}

impl Terminal {
    fn run(lab: &Lab, manifest: &str) -> Self {
        let path = lab.manifest(manifest);
        Self::open(lab.podrun(&["run", path.to_str().unwrap()]))
    }

    /// One with 80 columns and 24 rows.
    fn sized(lab: &Lab, arguments: &[&str]) -> Self {
        let mut command = lab.command("sh");
        command.args(["-c", "stty cols 80 rows 24; exec \"$@\"", "sh"]);
        command.arg(crate::harness::bin_dir().join("podrun")).args(arguments);
        Self::open(command)
    }

    fn open(mut command: Command) -> Self {
        let (window, inside) = sys::open_terminal();
        command.env_remove("NO_COLOR").env("TERM", "xterm");
        let copy = |fd: &OwnedFd| fd.try_clone().unwrap();
        command.stdout(copy(&inside)).stderr(copy(&inside));
        sys::lead_session_on(&mut command, inside);
        let child = spawn(&mut command);
        drop(command);
        let window = File::from(window);
        let mut reader = window.try_clone().unwrap();
        let (sender, bytes) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO: nobody has the other side open any more.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, window, seen: String::new(), bytes }
    }

    /// Until the window shows this text.
    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        self.wait_for_each(text, 1);
    }

    /// Until it has shown this text so often.
    #[track_caller]
    fn wait_for_each(&mut self, text: &str, count: usize) {
        let begin = Instant::now();
        while self.seen.matches(text).count() < count {
            let left = crate::harness::far().saturating_sub(begin.elapsed());
            match self.bytes.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => panic!("`{text}` never came ({error}):\n{}", self.seen),
            }
        }
    }

    /// Whether it has shown this text, or does so in a moment.
    fn shows(&mut self, text: &str) -> bool {
        while let Ok(bytes) = self.bytes.recv_timeout(Duration::from_millis(200)) {
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        self.seen.contains(text)
    }

    fn press(&mut self, key: &[u8]) {
        self.window.write_all(key).unwrap();
    }

    fn press_ctrl_c(&mut self) {
        self.press(b"\x03");
    }

    /// The code, and everything that was shown.
    #[track_caller]
    fn finish(mut self) -> (i32, String) {
        let pidfd = sys::pidfd(self.child.id().cast_signed()).unwrap();
        let ended = sys::ends_within(&pidfd, crate::harness::far());
        if !ended {
            self.child.kill().unwrap();
        }
        let status = self.child.wait().unwrap();
        assert!(ended, "no end:\n{}", self.seen);
        while let Ok(bytes) = self.bytes.recv_timeout(Duration::from_millis(200)) {
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        (sys::shell_code(status), self.seen)
    }
}

fn sh(name: &str, script: &str, keys: &str) -> String {
    format!("[app.{name}]\nrootfs = \"/\"\nexec = [\"/bin/sh\", \"-c\", {script:?}]\n{keys}\n")
}

/// Sleeps in pieces, so that the shell sees a signal soon.
const FOR_EVER: &str = "while :; do sleep 0.1; done";

/// Whatever is long goes on below, as far as the window is wide; in a pipe a line is a line.
#[test]
fn plan_fits_a_window_of_80_columns() {
    let Some(lab) = Lab::open() else { return };
    if !crate::harness::require::program("script") {
        return;
    }
    let long = "a-directory-with-a-long-name/".repeat(7);
    std::fs::create_dir_all(lab.path(&long)).unwrap();
    let text = format!(
        "version = 1\n[pod]\nname = \"p\"\n[app.a]\nrootfs = {:?}\nexec = [\"/x\", \"{}\"]\nenv = {{ A = {long:?} }}\n",
        lab.path(&long),
        "x".repeat(200)
    );
    let path = lab.manifest(&text);
    let piped = lab.call(&["plan", path.to_str().unwrap()]).expect_code(0).stdout;
    assert!(piped.contains(&format!("A={long}\n")), "{piped}");
    let shown = in_window_of_80_columns(&lab, &format!("plan {}", path.display()));
    assert!(shown.lines().count() > piped.lines().count(), "{shown}");
    expect_80_columns(&shown);
    std::fs::remove_dir_all(lab.path("a-directory-with-a-long-name")).unwrap();
}

/// Names of the greatest length are cut, and whole again with `--no-trunc` and in a pipe.
#[test]
fn tables_fit_a_window_of_80_columns() {
    let Some(lab) = Lab::open() else { return };
    if !crate::harness::require::program("script") {
        return;
    }
    let (name, long, other) = ("p".repeat(63), "a".repeat(32), "b".repeat(32));
    let app = |name: &str, keys: &str| {
        crate::harness::app(name, "on-term 0 ; pause", &format!("{keys}isolators.memory-max = \"64MiB\""))
    };
    let text = pod(&name, "", &[app(&long, ""), app(&other, &format!("depends-on = [{long:?}]\n"))]);
    let path = lab.manifest(&text);
    lab.call(&["run", "-d", path.to_str().unwrap()]).expect_code(0);
    for (command, names) in [
        ("ps".to_owned(), vec![&name]),
        ("ps --apps".to_owned(), vec![&name, &long, &other]),
        (format!("status {name}"), vec![&long, &other]),
        (format!("graph {}", path.display()), vec![&long, &other]),
        (format!("stats --no-stream -i 100ms {name}"), vec![&long, &other]),
    ] {
        let shown = in_window_of_80_columns(&lab, &command);
        expect_80_columns(&shown);
        assert!(shown.contains('…'), "{shown}");
        let full = in_window_of_80_columns(&lab, &format!("{command} --no-trunc"));
        let words: Vec<&str> = command.split(' ').collect();
        let piped = lab.call(&words).expect_code(0).stdout;
        for text in [full, piped] {
            assert!(names.iter().all(|name| text.contains(name.as_str())) && !text.contains('…'), "{text}");
        }
    }
    lab.call(&["stop", &name]).expect_code(0);
    lab.wait_until_empty();
}

/// What podrun shows on a terminal of this width.
fn in_window_of_80_columns(lab: &Lab, arguments: &str) -> String {
    let line =
        format!("stty cols 80 rows 24; exec {}/podrun {arguments}", crate::harness::bin_dir().display());
    let mut command = lab.command("script");
    command.args(["-qec", &line, "/dev/null"]).env("PODRUN_DRIVER", "cgroupfs");
    crate::harness::Running::spawn(&mut command).wait().expect_code(0).stdout
}

#[track_caller]
fn expect_80_columns(shown: &str) {
    // The record of the pod is a path, which nobody can break.
    let mut lines = shown.lines().filter(|line| !line.starts_with("record "));
    let too_long = lines.find(|line| line.trim_end().chars().count() > 80);
    assert_eq!(too_long, None, "{shown}");
}

#[test]
fn names_have_a_colour_that_stays_theirs() {
    let Some(lab) = Lab::open() else { return };
    let mut shown = Vec::new();
    // Beside another app, and in another run: the same name has the same colour.
    for apps in [vec![sh("api", "echo one", "")], vec![sh("api", "echo one", ""), sh("db", "echo two", "")]] {
        let (code, seen) = Terminal::run(&lab, &pod("one", "", &apps)).finish();
        assert_eq!(code, 0, "{seen}");
        let line = seen.lines().find(|line| line.contains("one")).unwrap().to_owned();
        assert!(line.starts_with("\x1b[") && line.contains("mapi    |\x1b[0m one"), "{line:?}");
        shown.push(line);
    }
    assert_eq!(shown[0], shown[1]);
}

/// A prompt shows before its line has an end, and no newline is made up for it.
#[test]
fn partial_line_shows_after_a_moment_and_goes_on() {
    let Some(lab) = Lab::open() else { return };
    let script = "printf 'name? '; sleep 3; echo thanks";
    let mut terminal = Terminal::run(&lab, &pod("one", "", &[sh("api", script, "")]));
    terminal.wait_for("|\x1b[0m name? ");
    assert!(!terminal.seen.contains("thanks"), "it was shown only with the end of its line");
    let (code, seen) = terminal.finish();
    assert_eq!(code, 0, "{seen}");
    assert!(seen.contains("name? thanks\r\n"), "{seen:?}");
}

/// The terminal sends SIGINT to podrun alone: apps are in sessions of their own and get their stop signal, once.
#[test]
fn first_ctrl_c_stops_in_order_and_says_what_it_does() {
    let Some(lab) = Lab::open() else { return };
    let script = format!("trap 'echo interrupted' INT; trap 'echo told; exit 0' TERM; echo up; {FOR_EVER}");
    let apps = [sh("api", &script, ""), sh("db", &script, "stop-timeout = \"20s\"")];
    let mut terminal = Terminal::run(&lab, &pod("one", "", &apps));
    // Both have set their traps, and stage1 has said that both run.
    terminal.wait_for_each("up\r\n", 2);
    wait_until("both are known to run", || lab.events_so_far().contains("\"up\""));
    terminal.press_ctrl_c();
    let (code, seen) = terminal.finish();
    assert_eq!(code, 130, "{seen}");
    assert!(
        seen.contains("podrun | stopping 2 apps (up to 25s); press Ctrl-C again to kill now\r\n"),
        "{seen}"
    );
    assert_eq!((seen.matches("told").count(), seen.matches("interrupted").count()), (2, 0), "{seen}");
}

#[test]
fn second_ctrl_c_kills_at_once() {
    let Some(lab) = Lab::open() else { return };
    let script = format!("trap '' TERM INT; echo up; {FOR_EVER}");
    let mut terminal = Terminal::run(&lab, &pod("one", "", &[sh("api", &script, "stop-timeout = \"1h\"")]));
    terminal.wait_for("up");
    terminal.press_ctrl_c();
    terminal.wait_for("press Ctrl-C again");
    let begin = Instant::now();
    terminal.press_ctrl_c();
    let (code, seen) = terminal.finish();
    assert_eq!(code, 137, "{seen}");
    assert!(begin.elapsed() < Duration::from_secs(30) * crate::harness::slowness(), "{seen}");
}

/// What podrun says stands under its own name, on the same terminal.
#[test]
fn sigusr1_shows_how_the_pod_is() {
    let Some(lab) = Lab::open() else { return };
    let script = format!("trap 'exit 0' TERM; echo up; {FOR_EVER}");
    let mut terminal = Terminal::run(&lab, &pod("one", "", &[sh("api", &script, "")]));
    terminal.wait_for("up");
    crate::harness::wait_until("it runs", || lab.events_so_far().contains("\"up\""));
    // The launcher is told a moment after the account: until then the pod is starting.
    crate::harness::wait_until("it says that it runs", || {
        sys::kill(terminal.child.id().cast_signed(), libc::SIGUSR1).unwrap();
        terminal.shows("podrun | the pod is running")
    });
    terminal.wait_for("podrun | app `api`: running");
    terminal.press_ctrl_c();
    assert_eq!(terminal.finish().0, 130);
}

/// It shows rows, hears keys, and leaves the terminal as it was, however it ends.
#[test]
fn top_takes_the_terminal_and_gives_it_back() {
    const TAKEN: &str = "\x1b[?1049h";
    const GIVEN_BACK: &str = "\x1b[?1049l";
    let Some(lab) = Lab::open() else { return };
    let running = lab.start(&pod("one", "", &[crate::harness::app("a", "say up ; on-term 0 ; pause", "")]));
    running.wait_for("up");
    for end in ["q", "\x03", "SIGTERM"] {
        let mut terminal = Terminal::sized(&lab, &["top", "--interval", "100ms", "one"]);
        terminal.wait_for(TAKEN);
        terminal.wait_for("podrun top");
        terminal.press(b"s");
        // Only what has changed is drawn: of `one` the rest of `one/a`.
        terminal.wait_for("/a");
        if end == "SIGTERM" {
            sys::kill(terminal.child.id().cast_signed(), libc::SIGTERM).unwrap();
        } else {
            terminal.press(end.as_bytes());
        }
        let (code, seen) = terminal.finish();
        assert_eq!(code, 0, "{end:?}: {seen:?}");
        assert!(seen.contains(GIVEN_BACK), "{end:?}: {seen:?}");
    }
    // With the pod it ends by itself.
    let mut terminal = Terminal::sized(&lab, &["top", "--interval", "100ms", "one"]);
    terminal.wait_for("podrun top");
    running.signal(libc::SIGTERM);
    running.wait();
    let (code, seen) = terminal.finish();
    assert_eq!((code, seen.contains(GIVEN_BACK)), (0, true), "{seen:?}");
    let refused = lab.call(&["top"]).expect_code(1);
    assert!(refused.stderr.contains("podrun stats"), "{refused}");
}
