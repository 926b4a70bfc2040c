//! `run -d` below a real systemd: the launcher is the process of a transient service in the pod's slice.

use std::path::{Path, PathBuf};
use std::process::Command;

use podrun_abi::event::End;

use crate::harness::{Ended, Lab, Running, app, pod, wait_until};
use crate::systemd::{expect_nothing_left, groups, open, scope, slice, systemctl};

const APP: &str = "on-term 0 ; pause";
const LIMITS: &str = "[pod.isolators]\nmemory-max = \"64MiB\"\n";

fn service(lab: &Lab) -> String {
    format!("podrun-{}.service", lab.name())
}

/// Labs say cgroupfs, and are in a group of their own, so that `auto` would be that too.
fn command(lab: &Lab, arguments: &[&str]) -> Command {
    lab.podrun(&[&["run", "-d", "--driver", "systemd"], arguments].concat())
}

fn manifest(lab: &Lab, keys: &str, apps: &[String]) -> PathBuf {
    lab.manifest(&pod(&lab.name(), keys, apps))
}

#[track_caller]
fn run(lab: &Lab, flags: &[&str], path: &Path) -> Ended {
    Running::spawn(&mut command(lab, &[flags, &[path.to_str().unwrap()]].concat())).wait()
}

fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "--value", "-p", name, unit]).stdout.trim().to_owned()
}

/// The service is the last to go, and systemd may say it a moment after the launcher has ended.
#[track_caller]
pub fn expect_gone(lab: &Lab) {
    wait_until("systemd has forgotten the service", || property(&service(lab), "LoadState") == "not-found");
    wait_until("no group of the slice is left", || groups(&lab.name().replace('-', "\\x2d")).is_empty());
    expect_nothing_left(lab);
}

#[test]
fn launcher_is_a_service_in_the_pods_slice_and_its_stop_is_the_pods() {
    let Some(lab) = open() else { return };
    let id = run(&lab, &[], &manifest(&lab, LIMITS, &[app("a", APP, "")])).expect_code(0).stdout;
    let service = service(&lab);
    assert_eq!(property(&service, "ActiveState"), "active", "every app was started when `run -d` returned");
    assert_eq!(property(&service, "Slice"), slice(&lab));
    assert_eq!(property(&service, "StatusText"), "1 of 1 apps run");
    assert_eq!(property(&scope(&lab), "Slice"), slice(&lab));
    assert_eq!(property(&slice(&lab), "MemoryMax"), (64_u64 << 20).to_string());
    assert_eq!(scope(&lab), format!("podrun-{}.scope", id.trim()));
    let record = std::fs::read_to_string(lab.pod_dirs()[0].join("pod.json")).unwrap();
    assert!(record.contains(&format!("\"pid\":{},", property(&service, "MainPID"))), "{record}");

    systemctl(&["set-property", "--runtime", &slice(&lab), "MemoryMax=96M"]).expect_code(0);
    let shown = groups(&slice(&lab)).into_iter().find_map(|group| {
        ["memory.max", "memory.limit_in_bytes"]
            .iter()
            .find_map(|file| std::fs::read_to_string(group.join(file)).ok())
    });
    assert_eq!(shown.as_deref().map(str::trim), Some((96_u64 << 20).to_string().as_str()));

    systemctl(&["stop", &service]).expect_code(0);
    let outcome = lab.outcome("a");
    assert_eq!((outcome.end, outcome.stopped, outcome.timed_out), (End::Exited { code: 0 }, true, false));
    expect_gone(&lab);
}

/// A service inherits nothing; what the launcher has of its caller is nowhere for everybody to read.
#[test]
fn launcher_has_directory_environment_and_standard_input_of_its_caller() {
    let Some(lab) = open() else { return };
    let text = pod(&lab.name(), "", &[app("a", "env", "")]);
    let path = lab.manifest(&text);
    std::fs::create_dir(lab.path("here")).unwrap();
    std::fs::write(lab.path("here/variables"), "FILE=from the file\n").unwrap();
    let flags =
        ["-e", "SECRET", "-e", "TYPED=$HOME %h x \\n", "--env-file", "variables", "--wait=exited", "-"];
    let inner = command(&lab, &flags);
    let mut command = lab.command("sh");
    command.args(["-c", "file=$1; shift; exec \"$@\" <\"$file\"", "-", path.to_str().unwrap()]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.current_dir(lab.path("here")).env("SECRET", "not for $HOME everybody");
    // Stands in the way of nothing: each process of a service has its own.
    command.env("SYSTEMD_EXEC_PID", "1").env("NOTIFY_SOCKET", "/nowhere");
    Running::spawn(&mut command).wait().expect_code(0);
    let told = lab.call(&["logs", "--no-log-prefix", &lab.name()]).expect_code(0).stdout;
    for line in ["SECRET=\"not for $HOME everybody\"", "TYPED=\"$HOME %h x \\\\n\"", "FILE=\"from the file\""]
    {
        assert!(told.contains(line), "`{line}` in {told}");
    }
    expect_gone(&lab);
}

/// The slice of the pod before has its limits until it is gone.
#[test]
fn pod_follows_a_pod_of_its_name_at_once() {
    let Some(lab) = open() else { return };
    let path = manifest(&lab, LIMITS, &[app("a", APP, "")]);
    for _ in 0..5 {
        run(&lab, &["--replace"], &path).expect_code(0);
    }
    lab.call(&["stop", &lab.name()]).expect_code(0);
    lab.call(&["gc"]).expect_code(0);
    expect_gone(&lab);
}

#[test]
fn secrets_of_the_caller_are_not_in_the_unit() {
    let Some(lab) = open() else { return };
    let path = manifest(&lab, "", &[app("a", APP, "")]);
    let mut command = command(&lab, &["-e", "SECRET", path.to_str().unwrap()]);
    Running::spawn(command.env("SECRET", "sesame")).wait().expect_code(0);
    let unit = systemctl(&["show", &service(&lab)]).expect_code(0).stdout;
    assert!(unit.contains("podrun") && !unit.contains("sesame"), "{unit}");
    lab.call(&["stop", &lab.name()]).expect_code(0);
    expect_gone(&lab);
}

#[test]
fn pod_that_does_not_start_is_told_to_the_caller_and_leaves_no_unit() {
    let Some(lab) = open() else { return };
    let missing = format!("[app.a]\nrootfs = \"{}\"\nexec = [\"/missing\"]\n", lab.rootfs().display());
    let failed = run(&lab, &[], &lab.manifest(&pod(&lab.name(), "", &[missing])));
    failed.expect_code(127).expect_stderr(&["cannot start app `a`", "/missing"]);
    expect_gone(&lab);
    let code = run(&lab, &["--wait=exited"], &manifest(&lab, "", &[app("a", "exit 9", "")]));
    code.expect_code(9);
    expect_gone(&lab);
}

/// CASES 31.
#[test]
fn unit_of_the_services_name_is_reset_when_failed_and_else_left_alone() {
    let Some(lab) = open() else { return };
    let path = manifest(&lab, "", &[app("a", APP, "")]);
    let own = |words: &[&str]| {
        let unit = format!("--unit={}", service(&lab));
        let arguments = [&["--quiet", &unit, "--"], words].concat();
        Running::spawn(Command::new("systemd-run").args(arguments)).wait().expect_code(0)
    };
    own(&["sleep", "1000"]);
    run(&lab, &[], &path).expect_code(125).expect_stderr(&["exists already and is `active`", &service(&lab)]);
    assert_eq!(property(&service(&lab), "ActiveState"), "active", "the other is untouched");
    assert_eq!(lab.pod_dirs(), Vec::<PathBuf>::new());
    systemctl(&["stop", &service(&lab)]).expect_code(0);

    own(&["false"]);
    wait_until("it has failed", || property(&service(&lab), "ActiveState") == "failed");
    run(&lab, &[], &path).expect_code(0);
    run(&lab, &[], &path).expect_code(125).expect_stderr(&["a pod of this name is running", "podrun stop"]);
    lab.call(&["stop", &lab.name()]).expect_code(0);
    expect_gone(&lab);
}

/// CASES 21.
#[test]
fn pod_of_a_killed_launcher_ends_and_leaves_no_unit() {
    let Some(lab) = open() else { return };
    run(&lab, &[], &manifest(&lab, "", &[app("a", APP, "")])).expect_code(0);
    systemctl(&["kill", "--kill-who=main", "--signal=KILL", &service(&lab)]).expect_code(0);
    wait_until("the pod has ended", || lab.status(&lab.name())["phase"] != "running");
    lab.call(&["gc"]).expect_code(0);
    expect_gone(&lab);
}

/// It would be in systemd's network and not in the caller's.
#[test]
fn caller_in_namespaces_of_its_own_forks() {
    let Some(lab) = open() else { return };
    let path = manifest(&lab, "", &[app("a", APP, "")]);
    let inner = command(&lab, &[path.to_str().unwrap()]);
    let mut outer = lab.command("unshare");
    outer.arg("--net").arg(inner.get_program()).args(inner.get_args());
    Running::spawn(&mut outer).wait().expect_code(0);
    assert_eq!(property(&service(&lab), "LoadState"), "not-found");
    lab.call(&["stop", &lab.name()]).expect_code(0);
    lab.wait_until_empty();
    expect_gone(&lab);
}
