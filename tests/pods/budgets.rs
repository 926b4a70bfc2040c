//! What podrun promises to cost: size on disk, memory, wake-ups, and how it grows with the number of apps.

use std::fs;
use std::time::Duration;

use crate::harness::{Lab, Running, app, bin_dir, pod, slowness, wait_until};

const UP: &str = "on-term 0 ; say up ; pause";

/// In a release build, which is what `PODRUN_BIN_DIR` points at.
fn is_release() -> bool {
    bin_dir().file_name().is_some_and(|name| name == "release")
}

#[test]
fn stage1_is_at_most_one_and_a_half_mib_on_disk() {
    if !is_release() {
        return;
    }
    let size = fs::metadata(bin_dir().join("podrun-stage1")).unwrap().len();
    assert!(size <= 1_572_864, "stage1 is {size} bytes; the promise in README.md is 1.5 MiB");
}

#[test]
fn binaries_need_no_library() {
    for name in ["podrun", "podrun-stage1", "podrun-probe"] {
        let bytes = fs::read(bin_dir().join(name)).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("/lib64/ld-linux"), "{name} asks for a loader");
    }
}

/// A number of kB in a file of `/proc`.
fn kilobytes(path: &str, word: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    let line =
        text.lines().find_map(|line| line.strip_prefix(word)).unwrap_or_else(|| panic!("{word} in {path}"));
    line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
}

fn wake_ups(pid: i32) -> u64 {
    let path = format!("/proc/{pid}/status");
    kilobytes(&path, "voluntary_ctxt_switches")
}

#[test]
fn idle_pod_does_nothing_and_takes_at_most_4_mib() {
    let Some(lab) = Lab::open_alone() else { return };
    let running = lab.start(&pod("one", "", &[app("a", UP, "isolators.memory-max = \"32MiB\"")]));
    running.wait_for("up");
    let pids = [running.pid(), lab.stage1_pid()];
    // Both are through with the start when nothing moves for a while.
    let mut last = pids.map(wake_ups);
    wait_until("the pod is idle", || {
        std::thread::sleep(Duration::from_millis(300));
        let now = pids.map(wake_ups);
        std::mem::replace(&mut last, now) == now
    });
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(pids.map(wake_ups), last, "wake-ups of launcher and stage1 in 5 idle seconds");
    if is_release() {
        let pss: u64 = pids.iter().map(|pid| kilobytes(&format!("/proc/{pid}/smaps_rollup"), "Pss")).sum();
        assert!(pss <= 4096, "launcher and stage1 take {pss} kB; the promise is 4 MiB");
        let resident = kilobytes(&format!("/proc/{}/status", pids[1]), "VmRSS");
        assert!(resident <= 1536, "stage1 has {resident} kB resident; the promise is 1.5 MiB");
    }
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
}

/// What stage1 holds after a storm is what it held before.
#[test]
fn stage1_does_not_grow_with_orphans() {
    let Some(lab) = Lab::open() else { return };
    let words = format!(
        "orphans 500 ; no-zombies 20 ; say first ; wait-file /tmp/go 60 ; \
         orphans {} ; no-zombies 20 ; say second ; on-term 0 ; pause",
        5000 / slowness()
    );
    let running = lab.start(&pod("one", "", &[app("a", &words, "rootfs-mode = \"writable\"")]));
    running.wait_for("first");
    let status = format!("/proc/{}/status", lab.stage1_pid());
    let before = kilobytes(&status, "VmRSS");
    fs::write(lab.rootfs().join("tmp/go"), "").unwrap();
    running.wait_for("second");
    let after = kilobytes(&status, "VmRSS");
    assert!(after <= before + 100, "{before} kB before, {after} kB after");
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
}

#[test]
fn hundred_apps_start_and_stop() {
    let Some(lab) = Lab::open() else { return };
    let apps: Vec<String> =
        (0..100).map(|n| app(&format!("app-{n}"), UP, "isolators.pids-max = 10")).collect();
    let running: Running = lab.start(&pod("one", "", &apps));
    wait_until("100 apps run", || lab.events_so_far().contains("\"up\""));
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
}
