//! The memory hog: killed at the right level, and told so.

use podrun_abi::event::{End, OomLevel};

use crate::harness::{Lab, app, pod, slowness, text, wait_until};

const KILLED: End = End::Signaled { signal: libc::SIGKILL, core: false };

/// CASES 5.
#[test]
pub fn hog_is_killed_at_its_own_limit_while_its_sibling_lives() {
    let Some(lab) = Lab::open_alone() else { return };
    let hog =
        app("hog", "sleep 0.5 ; alloc 100000000", "essential = false\nisolators.memory-max = \"40MiB\"");
    let heart = app("heart", "heartbeat 100 20", "");
    let ended = lab.run(&pod("one", "", &[hog, heart])).expect_code(0);
    let gap = ended.number("longest-gap-ms");
    assert!(gap < 1000 * u64::from(slowness()), "the sibling's heart stood still for {gap} ms");
    let outcome = lab.outcome("hog");
    assert_eq!((outcome.end, outcome.oom), (KILLED, Some(OomLevel::App)));
    let peak = outcome.memory_peak_bytes.expect("a peak");
    assert!((39 << 20..=40 << 20).contains(&peak), "peak {peak}");
    assert_eq!(lab.outcome("heart").oom, None);
    let status = lab.call(&["status", "one"]);
    assert!(status.stdout.contains("oom-killed (the app's own limit)"), "status does not say so\n{status}");
}

/// What an app lost before is told of it, and is not what it ended by.
#[test]
fn end_after_an_earlier_kill_is_told_as_what_it_is() {
    let Some(lab) = Lab::open_alone() else { return };
    let keys = "isolators = { memory-max = \"16MiB\", memory-swap-max = \"0\", memory-oom-group = false }";
    let running = lab.start(&pod("one", "", &[app("a", "child-alloc 20000000 ; say lost-it ; pause", keys)]));
    running.wait_for("lost-it");
    let json = lab.call(&["status", "-o", "json", "one"]).expect_code(0).json();
    assert_eq!(json["apps"][0]["oom_kills"], 1, "{json}");
    lab.call(&["stop", "one"]).expect_code(0);
    running.wait();
    let outcome = lab.outcome("a");
    assert_eq!((outcome.oom, outcome.oom_ended, outcome.stopped), (Some(OomLevel::App), false, true));
    let told = lab.call(&["status", "one"]).stdout;
    assert!(told.contains("stopped") && !told.contains("oom-killed"), "{told}");
}

/// CASES 4.
#[test]
fn sum_over_the_pods_limit_is_told_as_the_pods_level() {
    let Some(lab) = Lab::open_alone() else { return };
    let keys = "[pod.isolators]\nmemory-max = \"64MiB\"\nmemory-swap-max = \"0\"\n";
    let hog = |name| app(name, "alloc-hold 41943040", "isolators.memory-max = \"50MiB\"");
    lab.run(&pod("one", keys, &[hog("a"), hog("b")])).expect_code(137);
    lab.expect_oom_of_the_pod(["a", "b"]);
    let told = lab.call(&["status", "one"]).stdout;
    assert!(told.contains("oom-killed (the pod's limit)"), "{told}");
}

/// CASES 4, the other half: the kernel's own counter says that the sum was never above the limit.
#[test]
fn pod_never_exceeds_its_limit() {
    let Some(lab) = Lab::open_alone() else { return };
    let keys = "exit-policy = \"never\"\n[pod.isolators]\nmemory-max = \"64MiB\"\n";
    let hog = |name| app(name, "alloc-hold 41943040", "isolators.memory-max = \"50MiB\"");
    let running = lab.start(&pod("one", keys, &[hog("a"), hog("b")]));
    wait_until("one app is killed", || lab.events_so_far().contains("\"oom\":\"pod\""));
    let most: u64 = lab.limit("", "memory-peak").parse().unwrap();
    assert!(most <= 64 << 20, "the pod had {most} bytes");
    running.signal(libc::SIGTERM);
    running.wait();
}

#[test]
fn hog_that_is_essential_ends_the_pod_with_137_and_the_reason() {
    let Some(lab) = Lab::open_alone() else { return };
    let hog = app("hog", "alloc 100000000", "isolators.memory-max = \"32MiB\"");
    let ended = lab.run(&pod("one", "", &[hog, app("other", "on-term 0 ; pause", "")])).expect_code(137);
    let told = ended.stderr.to_lowercase();
    assert!(
        told.contains("oom") || told.contains("out of memory"),
        "the line on stderr does not say why\n{ended}"
    );
    assert_eq!(lab.outcome("hog").oom, Some(OomLevel::App));
    assert!(lab.outcome("other").stopped);
}

/// What an app writes into its own root is memory of its own.
#[test]
fn writes_into_the_overlay_are_charged_to_the_app() {
    let Some(lab) = Lab::open_alone() else { return };
    let words = "exec /bin/sh -c";
    let manifest = pod(
        "one",
        "",
        &[app("a", words, "isolators.memory-max = \"24MiB\"")
            .replace("@ROOTFS@", "/")
            .replace("\"/bin/probe\", \"exec\", ", "")
            .replace("\"-c\"]", "\"-c\", \"dd if=/dev/zero of=/tmp/fill bs=1M count=64\"]")],
    );
    let ended = lab.run(&manifest);
    assert_ne!(ended.code, 0, "64 MiB fit into an app of 24 MiB\n{ended}");
}

#[test]
fn cpu_and_memory_that_an_app_used_are_in_its_record() {
    let Some(lab) = Lab::open_alone() else { return };
    let keys = "isolators.memory-max = \"64MiB\"\nisolators.cpu-weight = 100";
    lab.run(&pod("one", "", &[app("a", "alloc 20000000 ; spin 0.3", keys)])).expect_code(0);
    let outcome = lab.outcome("a");
    let peak = outcome.memory_peak_bytes.expect("a peak");
    assert!(peak >= 20_000_000, "peak {peak}");
    let used = outcome.cpu_used_ns.expect("CPU time");
    assert!((50_000_000..2_000_000_000).contains(&used), "CPU {used} ns");
}

/// Found in the output by its prefix, so that the two are not mixed up.
#[test]
fn apps_of_one_pod_have_their_own_limits() {
    let Some(lab) = Lab::open() else { return };
    let a = app("a", "limit memory-max", "isolators.memory-max = \"25MiB\"");
    let b = app("bb", "limit memory-max", "isolators.memory-max = \"42MiB\"");
    let path = lab.manifest(&pod("one", "", &[a, b]));
    let ended = lab.call(&["run", path.to_str().unwrap()]).expect_code(0);
    assert_eq!(text::value(&text::of_app(&ended.stdout, "a"), "memory-max"), Some("26214400"), "{ended}");
    assert_eq!(text::value(&text::of_app(&ended.stdout, "bb"), "memory-max"), Some("44040192"), "{ended}");
}
