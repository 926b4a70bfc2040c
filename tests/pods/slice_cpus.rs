//! The CPUs of a pod below systemd are those of machine.slice, in which its own slice is, wherever the launcher is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Ended, Lab, Running, app, pod, require};
use crate::systemd::{expect_nothing_left, groups, systemctl};

const CPUSET: &str = "isolators.cpuset = \"@CPUS@\"";
const UP: &str = "on-term 0 ; status Cpus_allowed_list ; say up ; pause";

/// Nobody else makes a pod meanwhile.
fn open() -> Option<Lab> {
    if require::cpus(2) { Lab::open_alone() } else { None }
}

/// machine.slice with CPU 0 alone, as long as this lives.
struct Narrow;

impl Narrow {
    fn make() -> Self {
        let narrow = Self;
        systemctl(&["start", "machine.slice"]).expect_code(0);
        systemctl(&["set-property", "--runtime", "machine.slice", "AllowedCPUs=0"]).expect_code(0);
        narrow
    }

    /// Only systemd knows, since there is no such group.
    fn unseen() -> Self {
        let narrow = Self::make();
        systemctl(&["stop", "machine.slice"]).expect_code(0);
        assert!(!Path::new("/sys/fs/cgroup/machine.slice").exists());
        narrow
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        for verb in ["stop", "revert"] {
            let _ = Command::new("systemctl").args([verb, "--quiet", "machine.slice"]).status();
        }
    }
}

/// The same in v1's hierarchy, which systemd does not manage.
struct NarrowV1(PathBuf);

impl NarrowV1 {
    /// `None`: pods of somebody else's are there.
    fn make() -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup/cpuset");
        let group = root.join("machine.slice");
        fs::create_dir(&group).ok()?;
        let narrow = Self(group);
        fs::write(narrow.0.join("cpuset.cpus"), "0").unwrap();
        fs::write(narrow.0.join("cpuset.mems"), fs::read_to_string(root.join("cpuset.mems")).unwrap().trim())
            .unwrap();
        Some(narrow)
    }
}

impl Drop for NarrowV1 {
    fn drop(&mut self) {
        // The last pod in it takes it along.
        let _ = fs::remove_dir(&self.0);
    }
}

/// `run` or `plan` of a pod whose app has this cpuset; `""`: none.
fn command(lab: &Lab, verb: &[&str], cpus: &str, words: &str) -> Command {
    let keys = if cpus.is_empty() { String::new() } else { CPUSET.replace("@CPUS@", cpus) };
    let path = lab.manifest(&pod(&lab.name(), "", &[app("a", words, &keys)]));
    lab.podrun(&[verb, &["--driver", "systemd", path.to_str().unwrap()]].concat())
}

fn call(lab: &Lab, verb: &[&str], cpus: &str, words: &str) -> Ended {
    Running::spawn(&mut command(lab, verb, cpus, words)).wait()
}

const RUN: [&str; 2] = ["run", "--no-log-prefix"];
const REFUSED: &str = "`1` has CPUs that group `/machine.slice` does not have (`0`)";

/// Before anything is made.
#[track_caller]
fn expect_refusals(lab: &Lab, remedy: &str) {
    let before = lab.pod_dirs();
    for (verb, code) in [(&["plan"][..], 1), (&RUN, 125), (&["run", "-d"], 125)] {
        let ended = call(lab, verb, "1", "say started").expect_code(code);
        assert_eq!(ended.stdout, "", "nothing started");
        // A problem's lines are as long as fits.
        let words: Vec<&str> = ended.stderr.split_whitespace().collect();
        let hint = format!("choose from `0`, or let it have more: {remedy}");
        assert!(words.join(" ").contains(&hint), "no `{hint}`\n{ended}");
        ended.expect_stderr(&[REFUSED]);
        assert_eq!(lab.pod_dirs(), before);
        assert_eq!(groups(&lab.name().replace('-', "\\x2d")), Vec::<PathBuf>::new());
    }
}

/// What machine.slice has is for the pod, and an app without a cpuset has all of it.
#[track_caller]
fn expect_pods_run_on_cpu_0(lab: &Lab) {
    for cpus in ["0", ""] {
        let ended = call(lab, &RUN, cpus, "status Cpus_allowed_list").expect_code(0);
        assert_eq!(ended.value("Cpus_allowed_list"), "0", "cpuset = {cpus:?}");
    }
    expect_nothing_left(lab);
}

/// Where podrun was started says nothing: below systemd the pod is elsewhere.
#[test]
fn cpus_that_the_launcher_does_not_have_are_for_its_pod() {
    if !require::systemd() || !require::cpus(2) {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    fs::write(lab.group("cpuset").join("cpuset.cpus"), "0").unwrap();
    let ended = call(&lab, &RUN, "1", "status Cpus_allowed_list").expect_code(0);
    assert_eq!(ended.value("Cpus_allowed_list"), "1");
    expect_nothing_left(&lab);
}

#[test]
fn cpus_that_machine_slice_does_not_have_are_refused() {
    if !require::unified() || !require::systemd() || !require::throwaway() {
        return;
    }
    let Some(lab) = open() else { return };
    // Else the pods would have CPU 0 alone whatever machine.slice has.
    assert_eq!(
        call(&lab, &RUN, "1", "status Cpus_allowed_list").expect_code(0).value("Cpus_allowed_list"),
        "1"
    );
    let narrow = Narrow::make();
    expect_refusals(&lab, "systemctl set-property machine.slice AllowedCPUs=0-1");
    expect_pods_run_on_cpu_0(&lab);
    let running = Running::spawn(&mut command(&lab, &RUN, "0", UP));
    running.wait_for("up");
    let own = format!("{}/a", lab.name());
    lab.call(&["update", &own, "cpuset=1"]).expect_code(1).expect_stderr(&[REFUSED]);
    lab.call(&["update", &own, "cpuset=0"]).expect_code(0);
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
    drop(narrow);
    let shown = systemctl(&["show", "--value", "--property=AllowedCPUs", "machine.slice"]).stdout;
    assert_eq!(shown.trim(), "", "machine.slice is as it was");
}

/// What cannot be seen beforehand, since the group is not there yet, is found when it is.
#[test]
fn cpus_that_machine_slice_turns_out_not_to_have_fail_the_start() {
    if !require::unified() || !require::systemd() || !require::throwaway() {
        return;
    }
    let Some(lab) = open() else { return };
    for keys in ["[pod.isolators]\ncpuset = \"0-1\"\n", "[app.a.isolators]\ncpuset = \"0-1\"\n"] {
        let _narrow = Narrow::unseen();
        let path = lab.manifest(&pod(&lab.name(), "", &[app("a", "say started", keys)]));
        let arguments = [&RUN[..], &["--driver", "systemd", path.to_str().unwrap()]].concat();
        let ended = Running::spawn(&mut lab.podrun(&arguments)).wait().expect_code(125);
        assert_eq!(ended.stdout, "", "nothing started");
        ended.expect_stderr(&[
            "cannot set cpuset of ",
            "/cpuset.cpus.effective` shows `0`, expected `0-1`: group `/sys/fs/cgroup/machine.slice` has `0`",
            "choose from `0`",
        ]);
        expect_nothing_left(&lab);
    }
}

#[test]
fn cpus_that_machine_slice_of_v1_does_not_have_are_refused() {
    if !require::v1() || !require::systemd() {
        return;
    }
    let Some(lab) = open() else { return };
    let Some(narrow) = NarrowV1::make() else {
        return crate::harness::sys::tell("not here: other pods are in machine.slice\n");
    };
    let remedy = format!("write `0-1` to `{}`", narrow.0.join("cpuset.cpus").display());
    expect_refusals(&lab, &remedy);
    let ended = call(&lab, &RUN, "0", "status Cpus_allowed_list").expect_code(0);
    assert_eq!(ended.value("Cpus_allowed_list"), "0");
    expect_nothing_left(&lab);
}
