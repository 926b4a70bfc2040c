//! A pod in a terminal: whose line is whose, which stream is which, and what happens when the reader goes.

use std::process::Stdio;

use crate::harness::{Lab, app, pod, slowness, spawn, sys};

/// As wide as the longest name, podrun's own among them.
#[test]
fn lines_carry_the_name_of_their_app() {
    let Some(lab) = Lab::open() else { return };
    let apps = [app("api", "say one", ""), app("worker", "say two ; warn three", "")];
    let path = lab.manifest(&pod("one", "", &apps));
    let ended = lab.call(&["run", path.to_str().unwrap()]).expect_code(0);
    let mut lines: Vec<&str> = ended.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["api    | one", "worker | two"], "{ended}");
    assert!(ended.stderr.contains("worker | three"), "{ended}");
}

#[test]
fn no_log_prefix_passes_bytes_through() {
    let Some(lab) = Lab::open() else { return };
    let ended = lab.run(&pod("one", "", &[app("a", "say one ; warn two", "")])).expect_code(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("one\n", "two\n"));
}

/// The last line of an app that does not end it is not lost.
#[test]
fn lines_carry_their_time_if_asked() {
    let Some(lab) = Lab::open() else { return };
    let text = pod("p", "", &[app("a", "say one", "")]);
    let is_time = |word: &str| word.ends_with('Z') && word.parse::<jiff::Timestamp>().is_ok();
    let path = lab.manifest(&text);
    let ended = lab.call(&["run", "-t", path.to_str().unwrap()]).expect_code(0);
    let rest = ended.stdout.strip_prefix("a      | ").unwrap_or_else(|| panic!("{ended}"));
    assert!(rest.split_once(' ').is_some_and(|(time, text)| is_time(time) && text == "one\n"), "{ended}");
    let ended = lab.start_with(&["-t"], &text).wait().expect_code(0);
    assert!(ended.stdout.split_once(' ').is_some_and(|(time, text)| is_time(time) && text == "one\n"));
}

/// As long as the launcher lives, and no longer.
#[test]
fn pidfile_holds_the_pid_of_the_launcher() {
    let Some(lab) = Lab::open() else { return };
    let file = lab.path("pid");
    let running = lab.start_with(
        &["--pidfile", file.to_str().unwrap()],
        &pod("p", "", &[app("a", "on-term 0 ; say up ; pause", "")]),
    );
    running.wait_for("up");
    let pid = std::fs::read_to_string(&file).unwrap();
    let name = std::fs::read_to_string(format!("/proc/{}/comm", pid.trim())).unwrap();
    assert_eq!(name, "podrun\n");
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
    assert!(!file.exists());
}

#[test]
fn line_without_an_end_is_printed() {
    let Some(lab) = Lab::open() else { return };
    let app = "[app.a]\nrootfs = \"/\"\nexec = [\"/usr/bin/printf\", \"no end\"]\n".to_owned();
    let path = lab.manifest(&pod("one", "", &[app]));
    let ended = lab.call(&["run", path.to_str().unwrap()]).expect_code(0);
    assert_eq!(ended.stdout.trim_end(), "a      | no end", "{ended}");
}

#[test]
fn every_byte_of_a_flood_arrives() {
    let Some(lab) = Lab::open() else { return };
    let ended = lab.run(&pod("one", "", &[app("a", "flood 6400000 ; exit 0", "")])).expect_code(0);
    assert_eq!(ended.stdout.len(), 6_400_000);
}

/// `podrun run … | head`: the reader goes, the pod stops in order.
#[test]
fn closed_stdout_is_an_ordered_stop() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("one", "", &[app("a", "flood 1000000000 ; on-term 0 ; pause", "")]));
    let mut command = lab.podrun(&["run", path.to_str().unwrap()]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    std::io::Read::read_exact(&mut stdout, &mut [0; 4096]).unwrap();
    drop(stdout);
    let pidfd = sys::pidfd(child.id().cast_signed()).unwrap();
    let ended = sys::ends_within(&pidfd, std::time::Duration::from_secs(60) * slowness());
    if !ended {
        child.kill().unwrap();
    }
    child.wait().unwrap();
    assert!(ended, "the pod writes to nobody for ever");
}

#[test]
fn commands_into_a_closed_pipe_do_not_panic() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("one", "", &[app("a", "exit 0", "")]));
    for arguments in [&["ps"][..], &["version"], &["plan", path.to_str().unwrap()], &["--help"]] {
        let mut command = lab.podrun(arguments);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
        let output = spawn(&mut command).wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    }
}

/// podrun's own words are on stderr, and say what failed.
#[test]
fn failed_app_is_named_on_stderr() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("one", "", &[app("api", "exit 3", "")]));
    let ended = lab.call(&["run", path.to_str().unwrap()]).expect_code(3);
    ended.expect_stderr(&["api", "3"]);
}

/// A terminal that goes away: the ordered stop.
#[test]
fn sighup_from_a_closed_terminal_is_an_ordered_stop() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("one", "", &[app("a", "on-term 0 ; say up ; pause", "")]));
    let mut command = lab.podrun(&["run", "--no-log-prefix", path.to_str().unwrap()]);
    let (terminal, child_side) = sys::open_terminal();
    sys::lead_session_on(&mut command, child_side);
    let mut child = spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
    drop(command);
    crate::harness::wait_until("the app runs", || {
        lab.pod_dirs().len() == 1 && lab.events_so_far().contains("started")
    });
    drop(terminal);
    let pidfd = sys::pidfd(child.id().cast_signed()).unwrap();
    let ended = sys::ends_within(&pidfd, std::time::Duration::from_secs(60) * slowness());
    if !ended {
        child.kill().unwrap();
    }
    child.wait().unwrap();
    assert!(ended, "nobody can reach this pod any more, and it runs");
    assert!(lab.outcome("a").stopped);
}
