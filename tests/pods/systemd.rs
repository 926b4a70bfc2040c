//! The systemd driver below a real systemd: the pod is in systemd's tree, and everything of systemd's works on it.
//! CASES 1, 2, 4, 17, 21, 30, 31, 33, 34, 36.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use podrun_abi::event::End;

use crate::harness::{Ended, Lab, Running, app, far, pod, require, runs, slowness, wait_until};

const APP: &str = "on-term 0 ; limit memory-max ; say up ; pause";
const LIMITS: &str =
    "[pod.isolators]\nmemory-max = \"64MiB\"\npids-max = 60\ncpus = \"50%\"\ncpu-weight = 200\n";
const OWN: &str = "isolators.memory-max = \"25MiB\"\nisolators.pids-max = 20\nisolators.cpus = 0.123456";

/// A lab whose pods have its name, so that their slices are the test's own.
pub fn open() -> Option<Lab> {
    if require::systemd() { Lab::open() } else { None }
}

fn manifest(lab: &Lab, keys: &str, apps: &[String]) -> String {
    pod(&lab.name(), keys, apps)
}

fn launcher(lab: &Lab, flags: &[&str], manifest: &str) -> Command {
    let path = lab.manifest(manifest);
    let path = path.to_str().unwrap();
    lab.podrun(&[&["run", "--driver", "systemd", "--no-log-prefix"], flags, &[path]].concat())
}

fn start(lab: &Lab, manifest: &str) -> Running {
    Running::spawn(&mut launcher(lab, &[], manifest))
}

/// The pod's slice.
pub fn slice(lab: &Lab) -> String {
    format!("machine-{}.slice", lab.name().replace('-', "\\x2d"))
}

/// The scope of the one pod that has a directory.
pub fn scope(lab: &Lab) -> String {
    let dirs = lab.pod_dirs();
    assert_eq!(dirs.len(), 1, "one pod has a directory");
    format!("podrun-{}.scope", dirs[0].file_name().unwrap().to_string_lossy())
}

#[track_caller]
pub(crate) fn systemctl(arguments: &[&str]) -> Ended {
    Running::spawn(Command::new("systemctl").args(arguments)).wait()
}

/// Every group whose name holds this, in all hierarchies.
pub(crate) fn groups(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = dirs.pop() {
        let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        for entry in below {
            if entry.file_name().to_string_lossy().contains(name) {
                found.push(entry.path());
            }
            dirs.push(entry.path());
        }
    }
    found.sort();
    found
}

/// No unit, whatever its state, and no group.
#[track_caller]
pub fn expect_nothing_left(lab: &Lab) {
    let name = lab.name().replace('-', "\\x2d");
    assert_eq!(groups(&name), Vec::<PathBuf>::new());
    for unit in [slice(lab), "podrun-*.scope".to_owned()] {
        let listed =
            systemctl(&["list-units", "--all", "--no-legend", "--plain", &unit.replace('\\', "\\\\")]);
        let own = listed.stdout.lines().filter(|line| line.contains(&name)).collect::<Vec<_>>();
        assert!(own.is_empty(), "{own:?}");
    }
}

#[track_caller]
fn end(lab: &Lab, running: Running) -> Ended {
    running.signal(libc::SIGTERM);
    let ended = running.wait().expect_code(0);
    expect_nothing_left(lab);
    ended
}

/// Every file of limits of slice, scope, payload and apps, with what is in it.
fn values(lab: &Lab) -> Vec<String> {
    const FILES: [&str; 16] = [
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "memory.max",
        "memory.high",
        "memory.swap.max",
        "memory.oom.group",
        "cpu.shares",
        "cpu.weight",
        "cpu.max",
        "cpu.cfs_quota_us",
        "cpu.cfs_period_us",
        "pids.max",
        "cpuset.cpus",
        "cpuset.mems",
        "cgroup.subtree_control",
        "cgroup.type",
    ];
    let slice = lab.name().replace('-', "\\x2d");
    let all = groups("").into_iter().filter(|path| path.to_string_lossy().contains(&slice));
    let read = |path: &Path, file: &str| {
        let text = std::fs::read_to_string(path.join(file)).ok()?;
        Some(format!("{}/{file} = {}", path.display(), text.trim_end()))
    };
    all.flat_map(|path| FILES.iter().filter_map(move |file| read(&path, file)).collect::<Vec<_>>()).collect()
}

/// A value of one group: the last part of its path and the files of v1 and v2.
#[track_caller]
fn value(lab: &Lab, group: &str, files: [&str; 2]) -> String {
    let all = values(lab);
    let wanted = |line: &&String| files.iter().any(|file| line.contains(&format!("{group}/{file} = ")));
    let line = all.iter().find(wanted).unwrap_or_else(|| panic!("no {files:?} of {group} in {all:#?}"));
    line.split_once(" = ").unwrap().1.to_owned()
}

#[test]
fn limits_of_the_pod_are_on_the_slice_and_those_of_apps_below_the_scope() {
    let Some(lab) = open() else { return };
    let running = start(&lab, &manifest(&lab, LIMITS, &[app("a", APP, OWN)]));
    running.wait_for("up");
    let bytes = |mebibytes: u64| (mebibytes << 20).to_string();
    let memory = ["memory.limit_in_bytes", "memory.max"];
    assert_eq!(value(&lab, ".slice", memory), bytes(64));
    assert_eq!(value(&lab, ".slice", ["pids.max"; 2]), "60");
    let quota = value(&lab, ".slice", ["cpu.cfs_quota_us", "cpu.max"]);
    assert_eq!(quota.split(' ').next(), Some("50000"));
    let weight = value(&lab, ".slice", ["cpu.shares", "cpu.weight"]);
    assert!(["2048", "200"].contains(&weight.as_str()), "{weight}");
    assert_eq!(value(&lab, "payload/app-a", memory), bytes(25));
    let properties = systemctl(&["show", &slice(&lab), "-p", "MemoryMax,TasksMax,CPUWeight"]).stdout;
    assert!(properties.contains(&format!("MemoryMax={}", bytes(64))), "{properties}");
    let told = end(&lab, running);
    assert_eq!(told.value("memory-max"), bytes(25));
}

/// CASES 34: what an app has does not depend on who made the groups.
#[test]
fn both_drivers_write_the_same_values_for_apps() {
    let Some(lab) = open() else { return };
    let text = manifest(&lab, LIMITS, &[app("a", APP, OWN)]);
    let of = |driver: &str| {
        let path = lab.manifest(&text);
        let plan = lab.call(&["plan", "--driver", driver, "-o", "json", path.to_str().unwrap()]).json();
        let groups = plan["cgroup"]["groups"].as_array().unwrap().clone();
        let app = groups.into_iter().find(|group| group["name"] == "app-a").unwrap();
        let settings = app["settings"].as_array().unwrap().clone();
        settings.iter().map(|s| format!("{} = {}", s["file"], s["value"])).collect::<Vec<_>>()
    };
    assert_eq!(of("systemd"), of("cgroupfs"));
}

/// A quota that systemd would round at its next reload is exact below the scope.
#[test]
fn fine_quota_of_the_pod_is_exact_in_the_payload() {
    let Some(lab) = open() else { return };
    let keys = "[pod.isolators]\ncpus = 0.123456\n";
    let running = start(&lab, &manifest(&lab, keys, &[app("a", APP, "")]));
    running.wait_for("up");
    let quota = |group: &str| value(&lab, group, ["cpu.cfs_quota_us", "cpu.max"]);
    assert_eq!(quota(".slice").split(' ').next(), Some("13000"));
    assert_eq!(quota("payload").split(' ').next(), Some("123456"));
    end(&lab, running);
}

/// CASES 30.
#[test]
fn reload_and_reexec_of_systemd_change_no_value() {
    if !require::systemd() {
        return;
    }
    // Who talks to systemd while it executes itself anew gets no answer.
    let Some(lab) = Lab::open_alone() else { return };
    let running = start(&lab, &manifest(&lab, LIMITS, &[app("a", APP, OWN)]));
    running.wait_for("up");
    let before = values(&lab);
    assert!(before.len() > 4, "{before:?}");
    for verb in ["daemon-reload", "daemon-reexec"] {
        systemctl(&[verb]).expect_code(0);
        assert_eq!(values(&lab), before, "after {verb}");
    }
    end(&lab, running);
}

/// CASES 30.
#[test]
fn property_set_on_the_slice_takes_effect_and_survives_a_reload() {
    let Some(lab) = open() else { return };
    let running = start(&lab, &manifest(&lab, LIMITS, &[app("a", APP, OWN)]));
    running.wait_for("up");
    systemctl(&["set-property", "--runtime", &slice(&lab), "MemoryMax=48M", "TasksMax=40"]).expect_code(0);
    let limits = || {
        let memory = value(&lab, ".slice", ["memory.limit_in_bytes", "memory.max"]);
        (memory, value(&lab, ".slice", ["pids.max"; 2]))
    };
    let wanted = ((48 << 20).to_string(), "40".to_owned());
    wait_until("systemd writes what it was told", || limits() == wanted);
    systemctl(&["daemon-reload"]).expect_code(0);
    assert_eq!(limits(), wanted);
    end(&lab, running);
}

/// systemd standing still as long as this value. PID 1 ignores SIGSTOP; the freezer asks nobody.
struct Frozen(PathBuf);

impl Frozen {
    fn systemd() -> Self {
        let own = std::fs::read_to_string("/proc/1/cgroup").unwrap();
        let group = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
        let mounts = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
        let found =
            mounts.iter().map(|mount| mount.join(group)).find(|dir| dir.join("cgroup.freeze").exists());
        let frozen = Self(found.expect("systemd has a group of cgroup2 to itself"));
        frozen.freeze("1");
        wait_until("systemd stands still", || {
            std::fs::read_to_string(frozen.0.join("cgroup.events")).unwrap().contains("frozen 1")
        });
        frozen
    }

    fn freeze(&self, state: &str) {
        std::fs::write(self.0.join("cgroup.freeze"), state).unwrap();
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.freeze("0");
    }
}

pub fn version() -> u32 {
    let shown = systemctl(&["show", "--value", "-p", "Version"]).expect_code(0).stdout;
    let digits: String = shown.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// CASES 36. Two pods: one has asked systemd 30 s ago when it goes on, the other 5.
#[test]
fn systemd_that_stands_still_for_5_s_is_waited_for_and_for_longer_is_an_error() {
    if !require::systemd() {
        return;
    }
    let Some(lab) = Lab::open_alone() else { return };
    let frozen = Frozen::systemd();
    let early = pod(&format!("{}-early", lab.name()), LIMITS, &[app("a", APP, OWN)]);
    let early = start(&lab, &early);
    std::thread::sleep(Duration::from_secs(25));
    let late = start(&lab, &manifest(&lab, LIMITS, &[app("a", APP, OWN)]));
    let early = early.wait().expect_code(125).expect_stderr(&["no answer came in time"]);
    assert!(early.time < Duration::from_secs(60) * slowness(), "{early}");
    assert!(!late.has_ended());
    drop(frozen);
    late.wait_for("up");
    assert_eq!(lab.pod_dirs().len(), 1, "of the early one nothing is recorded");
    // Its calls came before those of the late one, which have been answered.
    end(&lab, late);
}

/// CASES 33: a kernel without the memory controller, as the launcher's own mount namespace shows it.
#[test]
fn controller_that_cgroup2_does_not_have_is_named_with_where_it_was_looked_for() {
    if !require::unified() {
        return;
    }
    let Some(lab) = open() else { return };
    std::fs::write(lab.path("controllers"), "cpuset cpu io pids\n").unwrap();
    let inner = launcher(&lab, &[], &manifest(&lab, "", &[app("a", "say started", OWN)]));
    let mut command = lab.command("unshare");
    command.args([
        "-m",
        "sh",
        "-c",
        "mount --bind controllers /sys/fs/cgroup/cgroup.controllers && exec \"$@\"",
        "-",
    ]);
    let ended =
        Running::spawn(command.arg(inner.get_program()).args(inner.get_args())).wait().expect_code(125);
    assert_eq!(ended.stdout, "", "nothing started");
    let words = ["memory-max: controller `memory`", "`/sys/fs/cgroup/cgroup.controllers`", "help: enable it"];
    ended.expect_stderr(&words);
    assert_eq!(lab.pod_dirs(), Vec::<PathBuf>::new());
}

/// CASES 17, from systemd's side.
#[test]
fn stop_of_scope_or_slice_is_the_ordered_stop() {
    for unit in [scope as fn(&Lab) -> String, slice] {
        let Some(lab) = open() else { return };
        let after = "depends-on = [\"a\"]";
        let words = |name: &str| format!("on-term 0 ; say {name}-up ; pause");
        let apps = [app("a", &words("a"), OWN), app("b", &words("b"), after)];
        let running = start(&lab, &manifest(&lab, LIMITS, &apps));
        // Each has set its trap.
        running.wait_for("a-up");
        running.wait_for("b-up");
        systemctl(&["stop", &unit(&lab)]).expect_code(0);
        running.wait().expect_code(0).expect_stderr(&["systemd stops its scope"]);
        for name in ["a", "b"] {
            let outcome = lab.outcome(name);
            assert_eq!((outcome.end, outcome.stopped), (End::Exited { code: 0 }, true));
        }
        assert_eq!(lab.stop_order(), ["b", "a"]);
        expect_nothing_left(&lab);
    }
}

/// CASES 4: the limit is the slice's, two levels above the apps' parent.
#[test]
fn sum_over_the_slices_limit_is_told_as_the_pods_level() {
    if !require::systemd() {
        return;
    }
    let Some(lab) = Lab::open_alone() else { return };
    let keys = "[pod.isolators]\nmemory-max = \"64MiB\"\n";
    let hog = |name| app(name, "alloc-hold 41943040", "isolators.memory-max = \"50MiB\"");
    start(&lab, &manifest(&lab, keys, &[hog("a"), hog("b")])).wait().expect_code(137);
    lab.expect_oom_of_the_pod(["a", "b"]);
    expect_nothing_left(&lab);
}

/// CASES 21. The slice goes by itself, whoever dies.
#[test]
fn killed_launcher_leaves_no_unit() {
    let Some(lab) = open() else { return };
    let running = start(&lab, &manifest(&lab, LIMITS, &[app("a", APP, OWN)]));
    running.wait_for("up");
    running.signal(libc::SIGKILL);
    running.wait().expect_code(137);
    lab.call(&["gc"]).expect_code(0);
    expect_nothing_left(&lab);
}

/// CASES 31.
#[test]
fn unit_of_the_same_name_that_lives_is_left_alone() {
    let Some(lab) = open() else { return };
    let other = format!("{}-other.scope", lab.name());
    let mut command = Command::new("systemd-run");
    command.args(["--quiet", "--scope", "--unit", &other, &format!("--slice={}", slice(&lab))]);
    let running = Running::spawn(command.args(["sh", "-c", "echo up; exec sleep 1000"]));
    running.wait_for("up");
    let refused = start(&lab, &manifest(&lab, LIMITS, &[app("a", APP, OWN)])).wait().expect_code(125);
    refused.expect_stderr(&[&slice(&lab), "exists already and is `active`", "systemctl stop"]);
    assert_eq!(systemctl(&["is-active", &other]).stdout.trim(), "active");
    systemctl(&["stop", &slice(&lab)]).expect_code(0);
    running.wait();
    expect_nothing_left(&lab);
}

/// With v1 systemd removes what is empty in a hierarchy, from its root on, when none of its units needs the controller any
/// longer. The group of an app that waits for another one is empty.
#[test]
fn group_of_an_app_that_waits_stays_when_systemd_tidies_up() {
    let Some(lab) = open() else { return };
    let limit =
        format!("isolators.io-max = {{ \"{}\" = {{ wbps = \"64MiB\" }} }}", crate::isolators::disk().0);
    let first = "on-term 0 ; say up ; wait-file /tmp/go 600 ; notify READY=1 ; pause";
    let apps = [
        app("first", first, "rootfs-mode = \"writable\"\nready.notify = true"),
        app("second", "say runs", &format!("depends-on = [\"first\"]\n{limit}")),
    ];
    let running = start(&lab, &manifest(&lab, "", &apps));
    running.wait_for("up");
    let own = |words: &[&str]| {
        let words = [&["--quiet", "--wait"], words].concat();
        Running::spawn(Command::new("systemd-run").args(words)).wait().expect_code(0);
    };
    own(&["--property=IOWeight=50", "true"]);
    systemctl(&["daemon-reload"]).expect_code(0);
    own(&["--property=IOAccounting=yes", "true"]);
    std::fs::write(lab.rootfs().join("tmp/go"), "").unwrap();
    running.wait_for("runs");
    end(&lab, running);
}

/// The pod that had the name leaves its record; to remove that must not touch the one that has the name now.
#[test]
fn gc_of_an_ended_pod_leaves_a_later_one_of_its_name_alone() {
    let Some(lab) = open() else { return };
    let text = manifest(&lab, LIMITS, &[app("a", "exit 0", "")]);
    start(&lab, &text).wait().expect_code(0);
    let running = start(&lab, &manifest(&lab, LIMITS, &[app("a", APP, OWN)]));
    running.wait_for("up");
    lab.call(&["gc"]).expect_code(0);
    assert_eq!(systemctl(&["is-active", &slice(&lab)]).stdout.trim(), "active");
    end(&lab, running);
}

#[test]
fn restarted_bus_hurts_nothing_and_a_stop_after_it_is_ordered() {
    if !require::systemd() {
        return;
    }
    // Nobody else may use the bus meanwhile.
    let Some(lab) = Lab::open_alone() else { return };
    let running = start(&lab, &manifest(&lab, LIMITS, &[app("a", APP, OWN)]));
    running.wait_for("up");
    let before = values(&lab);
    systemctl(&["restart", "dbus"]).expect_code(0);
    assert_eq!(values(&lab), before);
    assert!(!running.has_ended());
    // systemd does not know its controller any more: everything in the scope gets SIGTERM.
    systemctl(&["stop", &scope(&lab)]).expect_code(0);
    running.wait().expect_code(0);
    assert_eq!(lab.outcome("a").end, End::Exited { code: 0 });
    expect_nothing_left(&lab);
}

/// Without a bus root has systemd's own socket.
#[test]
fn host_without_a_bus_is_enough() {
    let Some(lab) = open() else { return };
    let text = manifest(&lab, LIMITS, &[app("a", "say up", OWN)]);
    let inner = launcher(&lab, &[], &text);
    let script = "mount -t tmpfs none /run/dbus && exec \"$@\"";
    let mut command = lab.command("unshare");
    command.args(["-m", "sh", "-c", script, "-"]);
    command.arg(inner.get_program()).args(inner.get_args());
    Running::spawn(&mut command).wait().expect_code(0);
    expect_nothing_left(&lab);
}

/// The driver that nobody names is systemd, unless the launcher was given a group of its own.
#[test]
fn systemd_is_the_driver_of_its_own_host() {
    let Some(lab) = open() else { return };
    let path = lab.manifest(&manifest(&lab, "", &[app("a", "say up", "")]));
    let command = |scope: &[&str]| {
        let mut command = Command::new("systemd-run");
        command
            .args(["--quiet", "--scope"])
            .args(scope)
            .arg("--")
            .arg(crate::harness::bin_dir().join("podrun"));
        command.args(["plan", path.to_str().unwrap()]);
        Running::spawn(&mut command).wait().expect_code(0).stdout
    };
    assert!(command(&[]).contains("driver     systemd"));
    assert!(command(&["--property=Delegate=yes"]).contains("driver     cgroupfs"));
}

#[test]
fn pods_in_a_row_and_at_once_leave_no_unit() {
    let Some(lab) = open() else { return };
    let runs = runs().min(200);
    for run in 0..runs {
        let text = manifest(&lab, LIMITS, &[app("a", "exit 0", OWN)]);
        let ended = Running::spawn(&mut launcher(&lab, &["--rm"], &text)).wait();
        assert_eq!(ended.code, 0, "run {run}\n{ended}");
    }
    let at_once: Vec<Running> = (0..20.min(runs))
        .map(|number| {
            let text = pod(&format!("{}-{number}", lab.name()), LIMITS, &[app("a", "exit 0", OWN)]);
            Running::spawn(&mut launcher(&lab, &["--rm"], &text))
        })
        .collect();
    let late = far();
    for running in at_once {
        running.wait_within(late).expect_code(0);
    }
    expect_nothing_left(&lab);
}
