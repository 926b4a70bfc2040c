//! Limits that change while the pod runs: what is asked for is in the kernel then, or everything is as it was.

mod interrupted;
mod walk;

use std::collections::BTreeMap;
use std::process::Command;

use podrun_abi::event::Event;

use crate::harness::{
    Lab, Running, app, below_systemd, bin_dir, driver_name, far, pod, require, sys, wait_until,
};

const UP: &str = "on-term 0 ; say up ; pause";
/// Of the pod, so that it is in the hierarchies of v1 that are needed.
const KEYS: &str = "[pod.isolators]\nmemory-max = \"256MiB\"\ncpus = 1\npids-max = 90\ncpu-weight = 100\n";
const OWN: &str = "isolators.memory-max = \"64MiB\"\nisolators.cpus = 0.5\n";

fn start(lab: &Lab) -> Running {
    let running = lab.start(&pod("one", KEYS, &[app("a", UP, OWN), app("b", UP, "")]));
    wait_until("it is up", || lab.events_so_far().contains("\"up\""));
    running
}

fn end(running: Running) {
    running.signal(libc::SIGTERM);
    running.wait_within(far()).expect_code(0);
}

/// What the kernel shows in every file that a limit of the pod is in.
fn shown(lab: &Lab) -> BTreeMap<String, String> {
    let mut inspected = lab.call(&["inspect", "one"]).expect_code(0).json();
    let limits = inspected["limits"].take();
    let files = limits.as_array().expect("limits").iter().map(|limit| {
        let text = |key: &str| limit[key].as_str().unwrap_or_default().to_owned();
        (text("file"), text("kernel"))
    });
    let slices = files.collect::<BTreeMap<_, _>>();
    let files = ["memory.max", "memory.limit_in_bytes", "cpu.max", "cpu.cfs_quota_us", "pids.max"];
    let dirs = ["memory", "cpu", "pids"].map(|controller| lab.pod_group(controller, ""));
    let above =
        dirs.iter().map(|dir| if driver_name() == "systemd" { dir.join("../..") } else { dir.clone() });
    let read = |path: std::path::PathBuf| {
        Some((path.display().to_string(), std::fs::read_to_string(&path).ok()?.trim_end().to_owned()))
    };
    let own = above.flat_map(|dir| files.map(|file| dir.join(file))).filter_map(read);
    slices.into_iter().chain(own.collect::<Vec<_>>()).collect()
}

/// The pod's own limit, where its driver has it.
#[track_caller]
fn limit_of_pod(lab: &Lab, key: &str) -> String {
    lab.limit(if driver_name() == "systemd" { "../.." } else { "" }, key)
}

/// As [`Lab::limit`] tells it of both versions.
fn quota(thousandths: u64) -> String {
    format!("{} 100000", thousandths * 100)
}

#[test]
pub fn limits_of_pod_and_app_change_and_are_recorded() {
    let Some(lab) = Lab::open() else { return };
    let running = start(&lab);
    let silent = lab.call(&["update", "one", "memory-max=128MiB", "cpus=0.5", "pids-max=70"]).expect_code(0);
    assert_eq!(silent.stdout + &silent.stderr, "");
    lab.call(&["update", "one/a", "memory-max=32MiB", "cpus=0.25", "cpu-weight=300"]).expect_code(0);
    assert_eq!(limit_of_pod(&lab, "memory-max"), (128 << 20).to_string());
    assert_eq!(limit_of_pod(&lab, "cpus"), quota(500));
    assert_eq!(limit_of_pod(&lab, "pids-max"), "70");
    assert_eq!(lab.limit("app-a", "memory-max"), (32 << 20).to_string());
    assert_eq!(lab.limit("app-a", "cpus"), quota(250));
    assert_eq!(lab.limit("app-a", "cpu-weight"), if lab.is_unified() { "300" } else { "3072" });
    // An app in the address or beside it; a value that is taken away.
    lab.call(&["update", "-c", "a", "one", "cpus=", "cpu-weight="]).expect_code(0);
    let free = if lab.is_unified() { "max 100000" } else { "-1 100000" };
    assert_eq!(lab.limit("app-a", "cpus"), free);
    assert_eq!(lab.limit("app-a", "cpu-weight"), if lab.is_unified() { "100" } else { "1024" });
    let manifest = lab.call(&["cat", "one"]).expect_code(0).stdout;
    assert!(manifest.contains("memory-max = \"32MiB\"") && !manifest.contains("cpus = 0.25"), "{manifest}");
    let inspected = lab.call(&["inspect", "one"]).expect_code(0).json();
    for limit in inspected["limits"].as_array().expect("limits") {
        assert!(limit["kernel"].is_string() || limit["by"] == "stage1", "{limit}");
    }
    let app = inspected["limits"]
        .as_array()
        .unwrap()
        .iter()
        .find(|l| l["scope"] == "app.a" && l["key"] == "memory-max");
    assert_eq!(app.expect("the limit")["asked"], "32MiB");
    // What is there already is no change, and is not told.
    lab.call(&["update", "one/a", "memory-max=32MiB"]).expect_code(0);
    let told = lab.events().into_iter().filter_map(|event| match event {
        Event::Updated { app, changes } => Some((app, changes.join(" "))),
        _ => None,
    });
    let expected = [
        (None, "memory-max=128MiB cpus=0.5 pids-max=70"),
        (Some("a".to_owned()), "memory-max=32MiB cpus=0.25 cpu-weight=300"),
        (Some("a".to_owned()), "cpus= cpu-weight="),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected.map(|(app, words)| (app, words.to_owned())));
    end(running);
}

/// As nobody means it; it is told before the pod is looked for.
#[test]
fn key_that_is_given_twice_is_refused() {
    let Some(lab) = Lab::open() else { return };
    let running = start(&lab);
    let before = shown(&lab);
    let table = [
        (["one/a", "-f"], "app `a` of pod `one`"),
        (["-c=a", "one"], "app `a` of pod `one`"),
        (["none", "-n"], "pod `none`"),
    ];
    for (pod, subject) in table {
        let refused = lab.call(&[&["update"], &pod[..], &["cpus=0.25", "pids-max=30", "cpus=0.75"]].concat());
        let told = format!("podrun: cannot update {subject}: `cpus` is given twice\n");
        assert_eq!((refused.code, &refused.stderr), (2, &told), "{refused}");
    }
    assert_eq!(shown(&lab), before);
    let disk = crate::isolators::disk().0;
    let limits = ["rbps", "wiops"].map(|word| format!("io-max.\"{disk}\".{word}=1000000"));
    let changes: Vec<&str> = limits.iter().map(String::as_str).collect();
    lab.call(&[&["update", "one/a"], &changes[..]].concat()).expect_code(0);
    end(running);
}

/// It was told at the start, and the change has nothing to do with it.
#[test]
fn refused_change_does_not_repeat_what_was_warned_of_before() {
    let Some(lab) = Lab::open() else { return };
    let above = "isolators.pids-max = 200\n";
    let running = lab.start(&pod("one", KEYS, &[app("a", UP, ""), app("b", UP, above)]));
    wait_until("it is up", || lab.events_so_far().contains("\"up\""));
    running.wait_for_stderr("pids-max (200) is above the pod's (90)");
    for change in ["cpu-burst=1h", "memory-max=1XB", "cpuset=x"] {
        let refused = lab.call(&["update", "one/a", change]).expect_code(1);
        assert!(refused.stderr.contains("error") && !refused.stderr.contains("pids-max"), "{refused}");
    }
    let refused = lab.call(&["update", "one/a", "cpu-burst=1h", "pids-max=100"]).expect_code(1);
    refused.expect_stderr(&["error", "pids-max (100) is above the pod's (90)"]);
    end(running);
}

#[test]
pub fn refused_change_leaves_every_file_as_it_was() {
    let Some(lab) = Lab::open() else { return };
    let holds = "alloc-hold 25000000 ; pause";
    let running = lab.start(&pod("one", KEYS, &[app("a", UP, OWN), app("b", holds, "")]));
    running.wait_for("allocated");
    wait_until("it is up", || lab.events_so_far().contains("\"up\""));
    let (before, manifest) = (shown(&lab), lab.call(&["cat", "one"]).stdout);
    let table: [(&[&str], i32, &str); 11] = [
        (&["one", "memory-mx=1GiB"], 1, "did you mean `memory-max`?"),
        (&["one", "memory-mx="], 1, "did you mean `memory-max`?"),
        (&["one", "cpus=0.5", "memory-max=1XB"], 1, "is not a size"),
        (&["one/a", "cpus=0.25", "cpu-burst=1h"], 1, "cpu-burst"),
        (&["one", "cpus=0.5", "memory-max=16MiB"], 1, "the pod uses "),
        (&["one/b", "memory-max=16MiB"], 1, "hint: --force"),
        (&["one", "devices=[]"], 2, "`devices` cannot be changed while the pod runs"),
        (&["one", "memory-max"], 2, "expected KEY=VALUE"),
        (&["one"], 2, "KEY=VALUE"),
        (&["one/c", "cpus=1"], 4, "cannot update app `c` of pod `one`: it has no app `c`"),
        (&["two", "cpus=1"], 4, "no such pod `two`"),
    ];
    for (arguments, code, words) in table {
        lab.call(&[&["update"], arguments].concat()).expect_code(code).expect_stderr(&[words]);
        assert_eq!(shown(&lab), before, "{arguments:?}");
    }
    if !lab.is_unified() {
        let above = lab.call(&["update", "one/a", "memory-max=32MiB", "cpus=2"]).expect_code(1);
        assert!(above.stderr.contains("2 is more than the pod's 1"), "{above}");
        let oom = lab.call(&["update", "one/a", "memory-max=32MiB", "memory-oom-group=false"]).expect_code(1);
        assert!(
            oom.stderr.contains("`memory-oom-group` of an app cannot be changed while the pod runs"),
            "{oom}"
        );
        assert_eq!(shown(&lab), before);
    }
    let dry = lab.call(&["update", "-n", "one/a", "memory-max=16MiB"]).expect_code(0).stdout;
    assert!(dry.starts_with("write 16777216 to /sys/fs/cgroup/") && dry.lines().count() == 1, "{dry}");
    assert_eq!(shown(&lab), before);
    assert_eq!(lab.call(&["cat", "one"]).stdout, manifest);
    assert!(!lab.events_so_far().contains("updated"));
    end_by_kill(&lab, running);
    lab.call(&["update", "one", "cpus=1"])
        .expect_code(3)
        .expect_stderr(&["cannot update pod `one`", "not running"]);
}

fn end_by_kill(lab: &Lab, running: Running) {
    lab.call(&["kill", "one"]).expect_code(0);
    running.wait_within(far());
}

/// The kernel itself says no, behind writes that it has taken.
#[test]
pub fn failure_in_the_middle_is_undone() {
    let Some(lab) = Lab::open() else { return };
    // What is in use cannot be taken back: there is no swap for it.
    let keys = "isolators.memory-max = \"64MiB\"\nisolators.memory-swap-max = \"0\"\nisolators.cpus = 0.5";
    let holds = "alloc-hold 40000000 ; pause";
    let running = lab.start(&pod("one", KEYS, &[app("a", holds, keys), app("b", UP, "")]));
    running.wait_for("allocated");
    wait_until("it is up", || lab.events_so_far().contains("\"up\""));
    let (before, manifest) = (shown(&lab), lab.call(&["cat", "one"]).stdout);
    let refused: &[&str] = if lab.is_unified() {
        &["unified.\"memory.swap.high\"=nonsense", "memory-max=48MiB"]
    } else {
        &["--force", "memory-max=8MiB", "pids-max=30"]
    };
    let own = lab.call(&[&["update", "one/a", "cpus=0.75"], refused].concat()).expect_code(1);
    assert!(own.stderr.contains("cannot update app `a` of pod `one`: cannot set "), "{own}");
    assert!(own.stderr.contains("cannot write `") && !own.stderr.contains("undo"), "{own}");
    assert_eq!(shown(&lab), before, "{own}");
    let refused = if lab.is_unified() { refused } else { &["--force", "memory-max=8MiB"] };
    let pods = lab.call(&[&["update", "one", "cpus=0.75", "pids-max=70"], refused].concat()).expect_code(1);
    assert!(
        pods.stderr.contains("cannot update pod `one`: cannot set ") && !pods.stderr.contains("undo"),
        "{pods}"
    );
    assert_eq!(shown(&lab), before, "{pods}");
    assert_eq!(lab.call(&["cat", "one"]).stdout, manifest);
    assert!(!lab.events_so_far().contains("updated"));
    // And nothing is in the way of one that the kernel takes.
    lab.call(&["update", "one/a", "cpus=0.75"]).expect_code(0);
    assert_eq!(lab.limit("app-a", "cpus"), quota(750));
    end_by_kill(&lab, running);
}

/// Both hold, whichever comes first.
#[test]
fn two_changes_at_once_do_not_mix() {
    let Some(lab) = Lab::open() else { return };
    let running = start(&lab);
    for round in 0..10_u64 {
        let (bytes, percent) = (100 + round, 20 + round);
        let (memory, cpus) = (format!("memory-max={bytes}MiB"), format!("cpus={percent}%"));
        let both = [["update", "one", &memory], ["update", "one/a", &cpus]]
            .map(|arguments| Running::spawn(&mut lab.podrun(&arguments)));
        both.into_iter().for_each(|one| drop(one.wait().expect_code(0)));
        let manifest = lab.call(&["cat", "one"]).stdout;
        assert!(
            manifest.contains(&format!("{bytes}MiB")) && manifest.contains(&format!("{percent}%")),
            "{manifest}"
        );
        assert_eq!(limit_of_pod(&lab, "memory-max"), (bytes << 20).to_string());
        assert_eq!(lab.limit("app-a", "cpus"), quota(percent * 10));
    }
    end(running);
}

/// stage1 lives as long as an app takes to end.
#[test]
fn pod_without_a_launcher_is_changed_too() {
    let Some(lab) = Lab::open() else { return };
    let stays = app("a", "ignore-term ; say up ; pause", "stop-timeout = \"infinity\"\nisolators.cpus = 0.5");
    let running = lab.start(&pod("one", KEYS, &[stays]));
    running.wait_for("up");
    wait_until("it is up", || lab.events_so_far().contains("\"up\""));
    running.kill();
    wait_until("it is on its way down", || lab.events_so_far().contains("pod-stopping"));
    lab.call(&["update", "one/a", "cpus=0.25"]).expect_code(0);
    assert_eq!(lab.limit("app-a", "cpus"), quota(250));
    // stage1 answers before it tells of it.
    wait_until("it is told", || lab.events_so_far().contains("updated"));
    lab.call(&["kill", "one"]).expect_code(0);
    lab.wait_until_empty();
    lab.call(&["gc"]).expect_code(0);
}

/// Controllers that every pod has.
#[test]
pub fn first_limits_of_cpu_and_processes_need_no_new_start() {
    let Some(lab) = Lab::open() else { return };
    let running = lab.start(&pod("one", "", &[app("a", UP, ""), app("b", UP, "")]));
    wait_until("it is up", || lab.events_so_far().contains("\"up\""));
    lab.call(&["update", "one/a", "cpus=0.5", "pids-max=33"]).expect_code(0);
    assert_eq!(lab.limit("app-a", "pids-max"), "33");
    assert_eq!(lab.limit("app-a", "cpus"), quota(500));
    lab.call(&["update", "one", "pids-max=44"]).expect_code(0);
    assert_eq!(limit_of_pod(&lab, "pids-max"), "44");
    end(running);
}

/// A controller that the groups have not got yet.
#[test]
pub fn controller_comes_with_the_first_limit_on_v2_and_is_refused_by_name_on_v1() {
    let Some(lab) = Lab::open() else { return };
    let running = lab.start(&pod("one", "", &[app("a", UP, ""), app("b", UP, "")]));
    wait_until("it is up", || lab.events_so_far().contains("\"up\""));
    let changes = ["update", "one/a", "cpuset=0"];
    if lab.is_unified() {
        lab.call(&changes).expect_code(0);
        assert_eq!(lab.group_file("cpuset", "app-a", "cpuset.cpus"), "0");
    } else {
        let refused = lab.call(&changes).expect_code(1);
        let whose = "cpuset: the pod's processes are not in the hierarchy of controller `cpuset`";
        assert!(refused.stderr.contains(whose) && refused.stderr.contains("start the pod anew"), "{refused}");
        let ignored = [&changes[..], &["on-missing=ignore"]].concat();
        lab.call(&ignored).expect_code(0);
        let status = lab.call(&["status", "one"]).expect_code(0).stdout;
        assert!(status.contains("app.a cpuset: the pod's processes are not in the hierarchy"), "{status}");
    }
    end(running);
}

/// Where the OOM killer takes the pod as a whole it leaves stage1 out; elsewhere stage1 is as its launcher.
#[test]
pub fn stage1_is_spared_as_long_as_the_pod_is_killed_whole() {
    if !require::unified() {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    for is_whole in [false, true] {
        let keys = format!("[pod.isolators]\nmemory-max = \"256MiB\"\nmemory-oom-group = {is_whole}\n");
        let manifest = lab.manifest(&pod("one", &keys, &[app("a", UP, "")]));
        let podrun = format!("exec {} run {}", bin_dir().join("podrun").display(), manifest.display());
        let script = format!("echo 123 > /proc/self/oom_score_adj && {podrun}");
        let running = Running::spawn(lab.command("sh").args(["-c", &script]));
        wait_until("it is up", || lab.events_so_far().contains("\"up\""));
        let path = format!("/proc/{}/oom_score_adj", lab.stage1_pid());
        let score = || std::fs::read_to_string(&path).expect("a score").trim().to_owned();
        let of = |is_whole: bool| if is_whole { "-1000" } else { "123" };
        assert_eq!(score(), of(is_whole), "at the start");
        let other = format!("memory-oom-group={}", !is_whole);
        let failing = ["update", "one", &other, "unified.\"memory.swap.high\"=nonsense"];
        lab.call(&failing).expect_code(1).expect_stderr(&["memory.swap.high"]);
        assert_eq!(score(), of(is_whole), "undone");
        for (change, expected) in [("true", "-1000"), ("", "123"), ("true", "-1000"), ("false", "123")] {
            lab.call(&["update", "one", &format!("memory-oom-group={change}")]).expect_code(0);
            assert_eq!(score(), expected, "memory-oom-group={change}");
        }
        end(running);
        lab.call(&["gc"]).expect_code(0);
    }
}

/// It has its place among the events later on.
#[test]
fn change_that_stage1_does_not_hear_of_is_made() {
    let Some(lab) = Lab::open() else { return };
    let running = start(&lab);
    let stage1 = lab.stage1_pid();
    sys::kill(stage1, libc::SIGSTOP).expect("stage1 lives");
    let changed = Running::spawn(&mut lab.podrun(&["update", "one/a", "cpus=0.25"])).wait();
    sys::kill(stage1, libc::SIGCONT).expect("stage1 lives");
    assert!(
        changed.code == 0 && changed.stderr.starts_with("warning: the limits are changed, but "),
        "{changed}"
    );
    assert!(
        changed.stderr.contains("no answer within 10 s") && changed.stderr.lines().count() == 1,
        "{changed}"
    );
    assert_eq!(lab.limit("app-a", "cpus"), quota(250));
    wait_until("stage1 tells it", || lab.events_so_far().contains("\"updated\""));
    end(running);
}

/// What was asked is in the file, and the kernel gives less.
#[test]
fn cpus_that_the_kernel_does_not_give_are_no_update() {
    if !require::unified() || !require::cpus(2) {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let running = lab.start(&pod("one", "", &[app("a", UP, "isolators.cpuset = \"0\"")]));
    wait_until("it is up", || lab.events_so_far().contains("\"up\""));
    // Somebody else's hand in the pod's own group.
    std::fs::write(lab.pod_group("cpuset", "").join("cpuset.cpus"), "0").unwrap();
    let refused = lab.call(&["update", "one/a", "cpuset=0-1", "pids-max=33"]).expect_code(1);
    refused.expect_stderr(&["cannot set cpuset of app `a`", ".effective` shows `0`, expected `0-1`"]);
    assert_eq!(lab.group_file("cpuset", "app-a", "cpuset.cpus"), "0");
    assert_eq!(lab.limit("app-a", "pids-max"), "max");
    end(running);
}

fn reload() {
    let reloaded = Command::new("systemctl").arg("daemon-reload").status().expect("systemctl");
    assert!(reloaded.success());
}

fn changed_limits_survive_a_reload_and_leave_nothing() {
    let Some(lab) = Lab::open() else { return };
    let running = start(&lab);
    lab.call(&["update", "one", "memory-max=128MiB", "cpus=0.66", "cpu-weight=50", "pids-max=70"])
        .expect_code(0);
    lab.call(&["update", "one/a", "cpus=0.123456", "memory-max=32MiB"]).expect_code(0);
    let before = shown(&lab);
    assert!(before.values().any(|text| text == &(128 << 20).to_string()), "{before:?}");
    reload();
    assert_eq!(shown(&lab), before);
    lab.call(&["update", "one", "memory-max=", "cpus=", "cpu-weight=", "pids-max="]).expect_code(0);
    let free = shown(&lab);
    reload();
    assert_eq!(shown(&lab), free);
    assert_eq!(limit_of_pod(&lab, "pids-max"), "max");
    end(running);
    let left =
        Command::new("find").args(["/run/systemd", "-name", "machine-one.slice*"]).output().expect("find");
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}

mod below {
    use super::below_systemd;

    #[test]
    fn limits_of_pod_and_app_change_and_are_recorded() {
        below_systemd(super::limits_of_pod_and_app_change_and_are_recorded);
    }

    #[test]
    fn stage1_is_spared_as_long_as_the_pod_is_killed_whole() {
        below_systemd(super::stage1_is_spared_as_long_as_the_pod_is_killed_whole);
    }

    #[test]
    fn failure_in_the_middle_is_undone() {
        below_systemd(super::failure_in_the_middle_is_undone);
    }

    #[test]
    fn first_limits_of_cpu_and_processes_need_no_new_start() {
        below_systemd(super::first_limits_of_cpu_and_processes_need_no_new_start);
    }

    #[test]
    fn controller_comes_with_the_first_limit_on_v2_and_is_refused_by_name_on_v1() {
        below_systemd(super::controller_comes_with_the_first_limit_on_v2_and_is_refused_by_name_on_v1);
    }

    #[test]
    fn changed_limits_survive_a_reload_and_leave_nothing() {
        below_systemd(super::changed_limits_survive_a_reload_and_leave_nothing);
    }
}
