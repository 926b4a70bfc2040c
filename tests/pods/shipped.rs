//! The manifests that are shipped to start from: each runs as it stands.

use std::path::{Path, PathBuf};

use podrun_abi::event::OomLevel;

use crate::harness::{Ended, Lab, slowness};

fn run(lab: &Lab, name: &str) -> Ended {
    lab.call(&["run", shipped(name).to_str().unwrap()])
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests").join(name)
}

#[test]
fn every_shipped_manifest_passes_check() {
    let Some(lab) = Lab::open() else { return };
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        seen += 1;
        lab.call(&["check", entry.path().to_str().unwrap()]).expect_code(0);
    }
    assert!(seen >= 5, "{seen} manifests");
}

#[test]
fn hello_prints_its_limits_its_pid_and_the_hostname() {
    let Some(lab) = Lab::open() else { return };
    let ended = run(&lab, "hello.toml").expect_code(0);
    for text in ["on host hello", "memory 33554432 bytes", "16 processes", "I am pid "] {
        assert!(ended.stdout.contains(text), "`{text}`\n{ended}");
    }
}

#[test]
fn two_apps_run_in_order_and_see_each_other() {
    let Some(lab) = Lab::open() else { return };
    let ended = run(&lab, "two-apps.toml").expect_code(0);
    for text in ["clock  | clock is up", "sees the clock's process, on host pair", "not the clock's files"] {
        assert!(ended.stdout.contains(text), "`{text}`\n{ended}");
    }
}

#[test]
fn limits_kills_the_hog_while_its_sibling_lives() {
    let Some(lab) = Lab::open_alone() else { return };
    let text = std::fs::read_to_string(shipped("limits.toml")).unwrap();
    // The sibling lives longer than the hog needs to fill its memory, on slow machines too.
    let slower = text.replace("sleep 0.2", &format!("sleep {}", 0.2 * f64::from(slowness())));
    assert!(slowness() == 1 || slower != text);
    let ended = lab.run(&slower).expect_code(0);
    assert!(ended.stdout.contains("beat 10"), "{ended}");
    assert_eq!(lab.outcome("hog").oom, Some(OomLevel::App));
    let told = lab.call(&["status", "limits"]).stdout;
    assert!(told.contains("oom-killed"), "{told}\n{ended}");
}

#[test]
fn orphans_leaves_no_zombie() {
    let Some(lab) = Lab::open() else { return };
    let ended = run(&lab, "orphans.toml").expect_code(0);
    assert!(ended.stdout.contains("200 orphans have ended, 0 zombies are left"), "{ended}");
}

#[test]
fn greeter_answers_who_connects() {
    let Some(lab) = Lab::open() else { return };
    if !crate::harness::require::program("perl") {
        return;
    }
    let path = lab.path("greeter.sock");
    let text = std::fs::read_to_string(shipped("greeter.toml")).unwrap();
    let running = lab.start(&text.replace("/run/greeter.sock", path.to_str().unwrap()));
    crate::harness::wait_until("the socket is there", || path.exists());
    assert_eq!(crate::sockets::answer_of(&path), "hello from pod greeter\n");
    running.signal(libc::SIGTERM);
    running.wait();
}
