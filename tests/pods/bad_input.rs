//! What nobody told the program to expect: each answer is clear, nothing starts, nothing is left. CASES 12.

use std::fs;
use std::os::unix::process::CommandExt as _;

use crate::harness::{Ended, Lab, Running, app, bin_dir, copy_program, pod, sys};

#[track_caller]
fn refused(lab: &Lab, manifest: &str, wanted: &[&str]) -> Ended {
    let ended = lab.run(manifest).expect_code(125).expect_stderr(wanted);
    assert_eq!(ended.stdout, "", "nothing started\n{ended}");
    assert_eq!(lab.groups_left(), Vec::<std::path::PathBuf>::new());
    ended
}

#[test]
fn manifest_without_apps_is_refused() {
    let Some(lab) = Lab::open() else { return };
    refused(&lab, &pod("one", "", &[]), &["app"]);
}

#[test]
fn unknown_key_is_refused_with_its_line_and_a_proposal() {
    let Some(lab) = Lab::open() else { return };
    let keys = "[pod.isolators]\nmemroy-max = \"1GiB\"\n";
    refused(&lab, &pod("one", keys, &[app("a", "say x", "")]), &[".toml:5", "memroy-max", "memory-max"]);
}

#[test]
fn wrong_type_is_refused_with_its_line() {
    let Some(lab) = Lab::open() else { return };
    let app = "[app.a]\nrootfs = \"@ROOTFS@\"\nexec = \"/bin/probe\"\n".to_owned();
    refused(&lab, &pod("one", "", &[app]), &[".toml:7", "exec", "list"]);
}

#[test]
fn cycle_is_refused_and_printed() {
    let Some(lab) = Lab::open() else { return };
    let apps = [app("one", "say x", "depends-on = [\"two\"]"), app("two", "say x", "depends-on = [\"one\"]")];
    refused(&lab, &pod("pod", "", &apps), &["cycle", "one", "two"]);
}

#[test]
fn several_problems_are_reported_at_once() {
    let Some(lab) = Lab::open() else { return };
    let keys = "[pod.isolators]\nmemory-max = \"512M\"\ncpu-weight = 0\n";
    let app = app("a", "say x", "stop-timeout = 10\nuser = -1");
    refused(&lab, &pod("Shop_1", keys, &[app]), &["Shop_1", "512MiB", "cpu-weight", "stop-timeout", "user"]);
}

#[test]
fn key_whose_function_is_not_there_yet_is_refused_not_ignored() {
    let Some(lab) = Lab::open() else { return };
    for keys in
        ["restart = \"always\"", "seccomp = \"default\"", "control = \"read\"", "secrets = [\"/etc/x\"]"]
    {
        let name = keys.split(' ').next().unwrap();
        refused(&lab, &pod("one", "", &[app("a", "say x", keys)]), &[name, "not supported yet"]);
    }
}

#[test]
fn toml_that_cannot_be_parsed_is_shown_underlined() {
    let Some(lab) = Lab::open() else { return };
    refused(&lab, "version = 1\n[pod]\nname = \"one\"\nmemory-max = 512M\n", &[".toml:4", "^"]);
}

#[test]
fn file_that_is_not_there_or_not_text_is_named() {
    let Some(lab) = Lab::open() else { return };
    let ended = lab.call(&["run", "/no/such/pod.toml"]).expect_code(125);
    ended.expect_stderr(&["/no/such/pod.toml", "No such file"]);
    fs::write(lab.path("binary.toml"), [0xff, 0xfe, 0, 1]).unwrap();
    lab.call(&["run", lab.path("binary.toml").to_str().unwrap()])
        .expect_code(125)
        .expect_stderr(&["binary.toml"]);
    lab.call(&["run", "/"]).expect_code(125);
}

#[test]
fn unknown_flag_and_unknown_driver_are_125() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("one", "", &[app("a", "say x", "")]));
    let path = path.to_str().unwrap();
    lab.call(&["run", "--no-such-flag", path]).expect_code(125).expect_stderr(&["--no-such-flag"]);
    lab.call(&["run", "--driver", "docker", path]).expect_code(125).expect_stderr(&["docker", "cgroupfs"]);
    lab.call(&["run"]).expect_code(125);
}

/// Forced to systemd on a host whose PID 1 is something else.
#[test]
fn systemd_driver_without_systemd_is_refused() {
    if std::path::Path::new("/run/systemd/system").exists() {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("one", "", &[app("a", "say x", "")]));
    let ended = lab.call(&["run", "--driver", "systemd", path.to_str().unwrap()]).expect_code(125);
    ended.expect_stderr(&["systemd"]);
}

#[test]
fn podrun_root_that_is_a_file_is_named() {
    let Some(lab) = Lab::open() else { return };
    fs::write(lab.path("file"), "").unwrap();
    let path = lab.manifest(&pod("one", "", &[app("a", "say x", "")]));
    let mut command = lab.podrun(&["run", path.to_str().unwrap()]);
    command.env("PODRUN_ROOT", lab.path("file"));
    Running::spawn(&mut command).wait().expect_code(125).expect_stderr(&[lab.path("file").to_str().unwrap()]);
}

/// No room for the pod's records: said before anything starts.
#[test]
fn full_state_directory_is_told_before_anything_starts() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("one", "", &[app("a", "say started", "")]));
    fs::create_dir(lab.root()).unwrap();
    for options in [c"mode=700,size=4k,nr_inodes=100", c"mode=700,size=64k,nr_inodes=4"] {
        let mut command = lab.podrun(&["run", "--no-log-prefix", path.to_str().unwrap()]);
        sys::over_tmpfs(&mut command, &lab.root(), options);
        let ended = Running::spawn(&mut command).wait().expect_code(125);
        assert_eq!(ended.stdout, "", "{ended}");
        ended.expect_stderr(&["No space left"]);
    }
}

#[test]
fn user_without_permission_is_told_so() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("one", "", &[app("a", "say x", "")]));
    let root = lab.path("other-root");
    fs::create_dir(&root).unwrap();
    // The binaries may lie where this user cannot reach them.
    let podrun = lab.path("podrun");
    for name in ["podrun", "podrun-stage1"] {
        copy_program(&bin_dir().join(name), &lab.path(name));
    }
    let mut command = std::process::Command::new(podrun);
    command.args(["run", path.to_str().unwrap()]).env("PODRUN_ROOT", &root).uid(65534).gid(65534);
    let ended = Running::spawn(&mut command).wait().expect_code(125);
    assert!(ended.stderr.contains("cannot start pod `one`: only root can"), "{ended}");
    assert!(ended.stderr.contains("hint: run it with sudo"), "{ended}");
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
}

/// Neither `run` nor its like need root to say what is wrong with a manifest.
#[test]
fn check_and_plan_work_without_root() {
    let Some(lab) = Lab::open() else { return };
    let good = lab.manifest(&pod("one", "", &[app("a", "say x", "")]));
    let bad = lab.manifest(&pod("one", "colour = 1", &[app("a", "say x", "")]));
    for name in ["podrun", "podrun-stage1"] {
        copy_program(&bin_dir().join(name), &lab.path(name));
    }
    let call = |arguments: &[&str]| {
        let mut command = std::process::Command::new(lab.path("podrun"));
        command.args(arguments).uid(65534).gid(65534).current_dir("/");
        Running::spawn(&mut command).wait()
    };
    call(&["check", good.to_str().unwrap()]).expect_code(0);
    let ended = call(&["check", bad.to_str().unwrap()]);
    assert_eq!(ended.code, 1, "{ended}");
    assert!(ended.stdout.contains("colour"), "{ended}");
    let plan = call(&["plan", good.to_str().unwrap(), "-o", "json"]).expect_code(0);
    assert!(plan.json().is_object(), "{plan}");
}

/// The same host without its cgroup2 mount: pure v1, where killing and joining are done the old way.
#[test]
fn host_without_cgroup2_runs_limits_and_stops_pods() {
    if !crate::harness::require::v1() {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let words = "limit memory-max ; ignore-term ; children 10 ; say ready ; pause";
    let keys = "stop-timeout = \"300ms\"\nisolators.memory-max = \"32MiB\"\nisolators.pids-max = 30";
    let path = lab.manifest(&pod("one", "", &[app("a", words, keys)]));
    let mut command = lab.podrun(&["run", "--no-log-prefix", path.to_str().unwrap()]);
    sys::without_mounts(&mut command, vec![c"/sys/fs/cgroup/unified".to_owned()]);
    let running = Running::spawn(&mut command);
    running.wait_for("ready");
    running.signal(libc::SIGTERM);
    let ended = running.wait();
    assert_eq!(ended.value("memory-max"), (32 << 20).to_string());
    assert_eq!(lab.processes(), Vec::<i32>::new());
}

/// CASES 33: the controller's hierarchy is not mounted.
#[test]
pub fn missing_controller_is_named_with_where_it_was_looked_for() {
    if !crate::harness::require::v1() {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("one", "", &[app("a", "say x", "isolators.memory-max = \"32MiB\"")]));
    let mut command = lab.podrun(&["run", "--no-log-prefix", path.to_str().unwrap()]);
    sys::without_mounts(&mut command, vec![c"/sys/fs/cgroup/memory".to_owned()]);
    let ended = Running::spawn(&mut command).wait().expect_code(125);
    assert_eq!(ended.stdout, "");
    ended.expect_stderr(&["memory", "/proc/self/mountinfo"]);
}
