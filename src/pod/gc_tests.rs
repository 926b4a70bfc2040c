use std::os::fd::OwnedFd;
use std::sync::Barrier;

use super::super::dir::PodDir;
use super::super::root::tests::wait_until_dead;
use super::*;

fn root() -> (tempfile::TempDir, Root) {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::open(&directory.path().join("podrun")).unwrap();
    (directory, root)
}

/// A pod in no hierarchy at all, so that nothing of the host is touched.
fn plan(id: &str) -> String {
    format!(
        concat!(
            r#"{{"schema":1,"pod":"shop","stop_timeout_ms":5000,"cgroup":{{"pod_group":"podrun-{}","#,
            r#""hierarchies":[],"groups":[],"not_enforced":[]}},"apps":[{{"name":"a"}},{{"name":"b"}}]}}"#
        ),
        id
    )
}

const EVENTS: &str = concat!(
    r#"{"version":1,"time_ms":1000,"monotonic_ms":1,"event":"booted"}"#,
    "\n",
    r#"{"version":1,"time_ms":1001,"monotonic_ms":2,"event":{"started":{"app":"a","pid":2}}}"#,
    "\n",
    r#"{"version":1,"time_ms":1002,"monotonic_ms":3,"event":"up"}"#,
    "\n",
);
const ENDED: &str = concat!(
    r#"{"version":1,"time_ms":2000,"monotonic_ms":9,"event":"#,
    r#"{"pod-ended":{"code":5,"reason":{"app-failed":{"app":"a"}},"decided_by":"a"}}}"#,
    "\n"
);

fn make(root: &Root, name: &str, events: &str) -> (PodDir, Pod) {
    let made = root.create(name).unwrap();
    made.write_manifest("version = 1\n").unwrap();
    made.write_plan(plan(made.id.as_str()).as_bytes()).unwrap();
    File::from(made.events().unwrap()).write_all(events.as_bytes()).unwrap();
    let pod = root.find(made.id.as_str()).unwrap();
    (made, pod)
}

fn dead(root: &Root, name: &str, events: &str) -> Pod {
    let (made, pod) = make(root, name, events);
    drop(made);
    wait_until_dead(&pod);
    pod
}

/// Its launcher is a process of the same number that was started at another time.
fn orphan(root: &Root, name: &str) -> (OwnedFd, Pod) {
    let (made, pod) = make(root, name, EVENTS);
    let path = pod.path().join("pod.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(r#""start_ticks":"#, r#""start_ticks":1"#)).unwrap();
    let pod = root.find(pod.id().as_str()).unwrap();
    assert!(pod.is_alive() && !pod.has_launcher());
    (made.lock.try_clone().unwrap(), pod)
}

fn words(pod: &Pod) -> String {
    pod.status().phase.words()
}

#[test]
fn a_dead_pod_without_a_last_word_gets_one_and_keeps_its_record() {
    let (_directory, root) = root();
    let pod = dead(&root, "shop", EVENTS);
    for _ in 0..2 {
        assert!(matches!(settle(&pod, Living::Wait).unwrap(), Settled::Over(_)));
    }
    let status = root.find("shop").unwrap().status();
    assert_eq!(status.phase.words(), "lost: stage1 died without a word");
    assert!(status.ended_ms.is_some() && !status.incomplete);
    let account = std::fs::read_to_string(pod.path().join("events.jsonl")).unwrap();
    assert_eq!(account.matches("pod-lost").count(), 1, "{account}");
}

#[test]
fn a_last_word_does_not_run_into_a_line_that_was_cut_off() {
    let (_directory, root) = root();
    let pod = dead(&root, "shop", EVENTS);
    dir::open_events(pod.path()).unwrap().write_all(br#"{"version":1,"ti"#).unwrap();
    record_loss(pod.path(), "x").unwrap();
    let status = pod.status();
    assert_eq!((status.phase.words().as_str(), status.incomplete), ("lost: x", true));
}

#[test]
fn an_ended_pod_goes_with_its_name() {
    let (_directory, root) = root();
    let pod = dead(&root, "shop", &format!("{EVENTS}{ENDED}"));
    let Settled::Over(status) = remove(&root, &pod, Living::Wait).unwrap() else { panic!("not over") };
    assert_eq!(status.phase.words(), "exited 5 (app `a`)");
    assert!(root.find("shop").is_err() && root.entries().unwrap().is_empty());
    assert!(!root.path().join("names/shop").is_symlink());
    assert_eq!(remove(&root, &pod, Living::Wait).unwrap(), Settled::Gone);
}

#[test]
fn a_running_pod_is_left_alone() {
    let (_directory, root) = root();
    let (made, pod) = make(&root, "shop", EVENTS);
    for living in [Living::Wait, Living::KillOrphans] {
        assert_eq!(remove(&root, &pod, living).unwrap(), Settled::Running);
    }
    settle_name(&root, "shop").unwrap();
    assert_eq!(words(&root.find("shop").unwrap()), "running");
    drop(made);
}

#[test]
fn an_orphan_on_its_way_down_is_waited_for() {
    let (_directory, root) = root();
    let (lock, pod) = orphan(&root, "shop");
    let stage1 = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        drop(lock);
    });
    let started = Instant::now();
    assert!(matches!(remove(&root, &pod, Living::Wait).unwrap(), Settled::Over(_)));
    assert!(started.elapsed() >= Duration::from_millis(150));
    stage1.join().unwrap();
}

#[test]
fn the_next_run_of_a_name_settles_the_one_before_and_keeps_its_record() {
    let (_directory, root) = root();
    let pod = dead(&root, "shop", EVENTS);
    settle_name(&root, "shop").unwrap();
    settle_name(&root, "other").unwrap();
    let next = root.create("shop").unwrap();
    assert_eq!(words(&root.find(pod.id().as_str()).unwrap()), "lost: stage1 died without a word");
    assert_eq!(root.find("shop").unwrap().id(), &next.id);
}

#[test]
fn twenty_gcs_at_once_remove_each_dead_pod_once_and_no_living_one() {
    let (_directory, root) = root();
    let living: Vec<PodDir> = (0..5).map(|n| make(&root, &format!("living-{n}"), EVENTS).0).collect();
    let dead: Vec<Pod> = (0..30).map(|n| dead(&root, &format!("dead-{n}"), EVENTS)).collect();
    let barrier = Barrier::new(20);
    let removed: usize = std::thread::scope(|scope| {
        let collect = || {
            barrier.wait();
            let pods = root.list().unwrap();
            let is_removed =
                |pod: &Pod| matches!(remove(&root, pod, Living::Wait).unwrap(), Settled::Over(_));
            let count = pods.iter().filter(|pod| is_removed(pod)).count();
            sweep(&root).unwrap();
            count
        };
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(collect)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(removed, dead.len());
    assert_eq!(root.entries().unwrap().len(), living.len());
}

#[test]
fn what_a_dead_launcher_or_a_dead_gc_has_left_is_swept() {
    let (_directory, root) = root();
    let (made, _pod) = make(&root, "shop", EVENTS);
    for name in [".new-00000001", ".old-00000002", "kept"] {
        std::fs::create_dir(root.pods().join(name)).unwrap();
        std::fs::write(root.pods().join(name).join("lock"), "").unwrap();
    }
    assert_eq!(sweep(&root).unwrap(), 2);
    let mut left = root.entries().unwrap();
    left.sort();
    assert_eq!(left, [made.id.as_str(), "kept"]);
}

#[test]
fn names_that_lead_nowhere_are_swept() {
    let (_directory, root) = root();
    let (_made, _pod) = make(&root, "shop", EVENTS);
    let names = root.path().join("names");
    for (name, target) in
        [(".0badcafe", "../pods/0badcafe"), (".shop", "../pods"), ("old", "../pods/00000000")]
    {
        std::os::unix::fs::symlink(target, names.join(name)).unwrap();
    }
    sweep(&root).unwrap();
    let left: Vec<_> = std::fs::read_dir(&names).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["shop"]);
    let (_directory, empty) = self::root();
    assert_eq!(sweep(&empty).unwrap(), 0);
    assert!(!empty.path().exists(), "sweeping makes nothing");
}

#[test]
fn the_record_of_a_pod_may_be_cut_off_anywhere() {
    let (_directory, root) = root();
    let pod = dead(&root, "shop", &format!("{EVENTS}{ENDED}"));
    for file in ["pod.json", "plan.json", "events.jsonl", "manifest.toml"] {
        let path = pod.path().join(file);
        let whole = std::fs::read(&path).unwrap();
        for end in 0..whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            let listed = root.list().unwrap();
            assert_eq!(listed.len(), 1);
            let status = listed[0].status();
            assert!(!status.phase.words().is_empty() && listed[0].status().lines().count() > 0);
            assert!(!listed[0].is_alive());
        }
        std::fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_damaged_record_makes_no_living_pod_dead_and_a_dead_one_can_be_removed() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 7] = [
        ("none", |path| std::fs::remove_file(path).unwrap()),
        ("garbage", |path| std::fs::write(path, b"\xff\0{").unwrap()),
        ("newer", |path| std::fs::write(path, br#"{"version":9}"#).unwrap()),
        ("empty", |path| std::fs::write(path, b"").unwrap()),
        ("huge", |path| File::create(path).unwrap().set_len(1 << 30).unwrap()),
        ("directory", |path| {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
        }),
        ("fifo", |path| {
            std::fs::remove_file(path).unwrap();
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }),
    ];
    for (name, damage) in damages {
        for file in ["pod.json", "plan.json", "events.jsonl"] {
            let (_directory, root) = root();
            let (made, pod) = make(&root, "shop", &format!("{EVENTS}{ENDED}"));
            damage(&pod.path().join(file));
            let found = root.find("shop").unwrap();
            assert_eq!(remove(&root, &found, Living::Wait).unwrap(), Settled::Running, "{name} {file}");
            drop(made);
            assert!(
                matches!(remove(&root, &found, Living::Wait).unwrap(), Settled::Over(_)),
                "{name} {file}"
            );
            assert!(root.entries().unwrap().is_empty());
        }
    }
}

/// In a hierarchy that is mounted elsewhere by now.
fn with_a_hidden_group(pod: &Pod) {
    let path = pod.path().join("plan.json");
    let hierarchy = concat!(
        r#""hierarchies":[{"version":"v2","mount_point":"/nowhere","parent":"","controllers":[],"#,
        r#""view":{"name":"","fstype":"cgroup2","options":""}}]"#
    );
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(r#""hierarchies":[]"#, hierarchy)).unwrap();
}

#[test]
fn a_record_of_another_boot_is_of_a_dead_pod_without_groups() {
    let (_directory, root) = root();
    let pod = dead(&root, "shop", EVENTS);
    with_a_hidden_group(&pod);
    assert!(pod.plan().is_ok());
    let error = format!("{:#}", remove(&root, &pod, Living::Wait).unwrap_err());
    assert!(error.contains("cannot remove group `/nowhere/podrun-"), "{error}");

    let path = pod.path().join("pod.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let boot_id = super::super::record::boot_id().unwrap();
    std::fs::write(&path, text.replace(&boot_id, "00000000-0000-4000-8000-000000000000")).unwrap();
    let pod = root.find("shop").unwrap();
    assert_eq!(words(&pod), "lost: the host was restarted");
    assert!(matches!(remove(&root, &pod, Living::Wait).unwrap(), Settled::Over(_)));
}
