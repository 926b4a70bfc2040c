//! Storms of OOM kills: each is told with the app, the level, the limit and the peak, and nobody else feels it.

use std::path::Path;

use podrun_abi::event::{End, OomLevel};
use serde_json::Value;

use crate::enforcement::Holes;
use crate::harness::{Ended, Lab, Running, app, pod, runs, slowness, text, wait_until};

const MIB: u64 = 1 << 20;
const KILLED: End = End::Signaled { signal: libc::SIGKILL, core: false };
/// Beats ten times a second until the file is there.
const HEART: &str = "say up ; heartbeat-until /tmp/done 100";
const WRITABLE: &str = "rootfs-mode = \"writable\"\nessential = false";
/// Of a group that is killed as a whole v2 counts the first one twice, more often than not (oom_kill_process).
const ONE_BY_ONE: &str = "memory-swap-max = \"0\"\nmemory-oom-group = false\n";

/// What was told of OOM kills.
fn told(lab: &Lab) -> Vec<Value> {
    let text = lab.call(&["events", "-o", "json", "-e", "oom", "one"]).expect_code(0).stdout;
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn kills(told: &[Value], name: &str) -> u64 {
    told.iter().filter(|line| line["app"] == name).filter_map(|line| line["oom_kills"].as_u64()).sum()
}

/// By its own limit, so many bytes, and near it.
#[track_caller]
fn expect_own_limit(line: &Value, limit: u64) {
    assert_eq!((&line["oom"], line["limit"].as_u64()), (&"app".into(), Some(limit)), "{line}");
    let peak = line["memory_peak_bytes"].as_u64().expect("a peak");
    assert!((limit - MIB..=limit).contains(&peak), "{line}");
}

#[track_caller]
fn expect_steady(ended: &Ended) {
    let heart = text::of_app(&ended.stdout, "heart");
    let gap: u64 = text::value(&heart, "longest-gap-ms").expect("a gap").parse().expect("a number");
    assert!(gap < 1000 * u64::from(slowness()), "the sibling's heart stood still for {gap} ms");
}

fn run(lab: &Lab, apps: &[String]) -> Running {
    let path = lab.manifest(&pod("one", "exit-policy = \"all-exited\"\n", apps));
    Running::spawn(&mut lab.podrun(&["run", path.to_str().unwrap()]))
}

/// In one app, whose main process lives on.
#[test]
fn a_hundred_kills_in_a_row_are_all_told() {
    let Some(lab) = Lab::open_alone() else { return };
    let (count, limit) = (100, 16 * MIB);
    let hogs = format!("child-alloc {} ; ", limit + 4 * MIB).repeat(usize::try_from(count).unwrap());
    let keys = format!("[app.hog.isolators]\nmemory-max = \"16MiB\"\n{ONE_BY_ONE}");
    // Not before the heart beats, and the heart stops behind the last.
    let hog = app(
        "hog",
        &format!("{hogs} write /tmp/done x"),
        &format!("{WRITABLE}\ndepends-on = [\"heart\"]\n{keys}"),
    );
    let ended = run(&lab, &[app("heart", HEART, WRITABLE), hog]).wait().expect_code(0);
    let told = told(&lab);
    assert_eq!(kills(&told, "hog"), count, "{told:?}");
    assert_eq!(kills(&told, "heart"), 0, "{told:?}");
    told.iter().for_each(|line| expect_own_limit(line, limit));
    assert_eq!(lab.outcome("hog").oom, Some(OomLevel::App));
    expect_steady(&ended);
}

/// The app has met its own limit before, with files that the kernel could drop from the cache: that was no reason to kill.
#[test]
fn limit_that_was_met_before_is_not_the_one_that_kills() {
    let Some(lab) = Lab::open_alone() else { return };
    let holes = Holes::create(&lab, &[("file", 80 * MIB)]);
    let victim = format!("read-through /file ; say read ; wait-file /go 600 ; alloc {}", 40 * MIB);
    let keys = "rootfs-mode = \"writable\"\noom-score-adjust = 900\n\
                isolators = { memory-max = \"64MiB\", memory-swap-max = \"0\" }";
    let apps = [
        app("victim", &victim, keys).replace("@ROOTFS@", holes.root()),
        app(
            "hog",
            &format!("wait-file /tmp/go 600 ; alloc-hold {} ; pause", 100 * MIB),
            "rootfs-mode = \"writable\"",
        ),
    ];
    let limits = "[pod.isolators]\nmemory-max = \"128MiB\"\nmemory-swap-max = \"0\"\n";
    let running = lab.start(&pod("one", limits, &apps));
    running.wait_for("read");
    std::fs::write(lab.rootfs().join("tmp/go"), "").unwrap();
    running.wait_for("allocated");
    std::fs::write(Path::new(holes.root()).join("go"), "").unwrap();
    running.wait().expect_code(137);
    let told = told(&lab);
    // Where the victim is slow to go the kernel takes the other one as well.
    let is_victims = |line: &Value| line["app"] == "victim";
    assert!(told.iter().any(is_victims) && told.iter().all(|line| line["oom"] == "pod"), "{told:?}");
    assert_eq!(lab.outcome("victim").oom, Some(OomLevel::Pod));
}

/// Each app with a limit of its own; a group is gone as soon as its only process is.
#[test]
fn twenty_kills_at_once_are_all_told() {
    let Some(lab) = Lab::open_alone() else { return };
    let limit = |number: u64| (8 + number) * MIB;
    let hog = |number: u64| {
        let words = format!("say up ; wait-file /tmp/go 600 ; alloc {}", limit(number) + 4 * MIB);
        let max = limit(number) / MIB;
        let keys =
            format!("{WRITABLE}\n[app.hog-{number}.isolators]\nmemory-max = \"{max}MiB\"\n{ONE_BY_ONE}");
        app(&format!("hog-{number}"), &words, &keys)
    };
    let apps: Vec<String> = (0..20).map(hog).chain([app("heart", HEART, WRITABLE)]).collect();
    let running = run(&lab, &apps);
    wait_until("all are up", || running.stdout_so_far().matches("| up").count() == 21);
    std::fs::write(lab.rootfs().join("tmp/go"), "").unwrap();
    wait_until("all have ended", || lab.events_so_far().matches("\"ended\"").count() == 20);
    std::fs::write(lab.rootfs().join("tmp/done"), "").unwrap();
    let ended = running.wait();
    let told = told(&lab);
    for number in 0..20 {
        let name = format!("hog-{number}");
        assert_eq!(kills(&told, &name), 1, "{name}: {told:?}");
        let outcome = lab.outcome(&name);
        assert_eq!((outcome.end, outcome.oom), (KILLED, Some(OomLevel::App)), "{name}");
        told.iter()
            .filter(|line| line["app"] == *name)
            .for_each(|line| expect_own_limit(line, limit(number)));
    }
    assert_eq!(kills(&told, "heart"), 0, "{told:?}");
    expect_steady(&ended);
}

/// The pod ends with the kill, and its groups go at once.
#[test]
fn kills_that_end_their_pods_are_all_told() {
    let Some(lab) = Lab::open_alone() else { return };
    let keys = "isolators.memory-max = \"16MiB\"\nisolators.memory-swap-max = \"0\"";
    let path = lab.manifest(&pod("one", "", &[app("hog", &format!("alloc {}", 20 * MIB), keys)]));
    for round in 0..runs().clamp(5, 50) / 2 {
        lab.call(&["run", path.to_str().unwrap()]).expect_code(137);
        let told = told(&lab);
        assert!(kills(&told, "hog") > 0, "round {round}: {told:?}");
        told.iter().for_each(|line| expect_own_limit(line, 16 * MIB));
        assert_eq!(lab.outcome("hog").oom, Some(OomLevel::App), "round {round}");
        lab.call(&["rm", "one"]).expect_code(0);
    }
}
