//! `ps`, `status`, `stop`, `kill`, `rm`, `gc`, `version`, and names: what they print and the codes they end with.

use std::path::PathBuf;

use crate::harness::{Lab, Running, app, pod, slowness, wait_until};

const UP: &str = "on-term 0 ; say up ; pause";

fn detached(lab: &Lab, manifest: &str) {
    let path = lab.manifest(manifest);
    lab.call(&["run", "-d", path.to_str().unwrap()]).expect_code(0);
}

#[test]
fn version_is_printed_as_text_and_json() {
    let Some(lab) = Lab::open() else { return };
    let text = lab.call(&["version"]).expect_code(0).stdout;
    assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    let json = lab.call(&["version", "-o", "json"]).expect_code(0).json();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn detached_pod_runs_until_it_is_stopped() {
    let Some(lab) = Lab::open() else { return };
    detached(&lab, &pod("bg", "", &[app("a", UP, "")]));
    lab.call(&["status", "bg"]).expect_code(0);
    let listed = lab.call(&["ps"]).expect_code(0);
    assert!(listed.stdout.contains("bg") && listed.stdout.contains("running"), "{listed}");
    lab.call(&["stop", "bg"]).expect_code(0);
    lab.wait_until_empty();
    lab.call(&["status", "bg"]).expect_code(3);
}

#[test]
fn detached_output_goes_to_a_file_per_app_and_stream() {
    let Some(lab) = Lab::open() else { return };
    detached(&lab, &pod("bg", "", &[app("a", "say to-stdout ; warn to-stderr ; exit 0", "")]));
    lab.wait_until_empty();
    let logs = lab.pod_dirs()[0].join("log");
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(&logs).unwrap().flatten().map(|entry| entry.path()).collect();
    found.sort();
    let texts: Vec<String> = found.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let holding = |text: &str| texts.iter().filter(|content| content.contains(text)).count();
    assert_eq!((holding("to-stdout"), holding("to-stderr"), found.len()), (1, 1, 2), "{found:?} {texts:?}");
}

/// A flood does not fill the file system of the pod directory.
#[test]
fn log_files_are_bounded() {
    let Some(lab) = Lab::open() else { return };
    let mib = if slowness() == 1 { 100 } else { 50 };
    detached(&lab, &pod("bg", "", &[app("a", &format!("flood {} ; exit 0", mib << 20), "")]));
    lab.wait_until_empty();
    let sizes = std::fs::read_dir(lab.pod_dirs()[0].join("log")).unwrap().flatten();
    let total: u64 = sizes.map(|entry| entry.metadata().unwrap().len()).sum();
    assert!(total < 40 << 20, "{mib} MiB of output became {total} bytes of logs");
}

#[test]
fn run_detached_reports_a_pod_that_cannot_start() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("bg", "", &[app("a", "say x", "user = \"nobody-here\"")]));
    lab.call(&["run", "-d", path.to_str().unwrap()]).expect_code(125).expect_stderr(&["nobody-here"]);
    // The launcher tells before it ends.
    lab.wait_until_empty();
}

/// The launcher of a detached pod holds nothing of who started it.
#[test]
fn detached_launcher_lets_go_of_its_callers_streams() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("bg", "", &[app("a", UP, "")]));
    // `wait` also waits for the end of both pipes.
    let ended = Running::spawn(&mut lab.podrun(&["run", "-d", path.to_str().unwrap()])).wait().expect_code(0);
    assert!(ended.time < std::time::Duration::from_secs(10) * slowness(), "{ended}");
    lab.call(&["stop", "bg"]).expect_code(0);
    lab.wait_until_empty();
}

#[test]
fn status_tells_each_app_in_json() {
    let Some(lab) = Lab::open() else { return };
    detached(&lab, &pod("bg", "", &[app("a", UP, ""), app("b", "exit 0", "")]));
    wait_until("b has ended", || lab.status("bg").to_string().contains("exited"));
    let status = lab.status("bg");
    assert_eq!(status["schema"], 1, "{status}");
    assert_eq!(status["name"], "bg", "{status}");
    assert_eq!(status["state"], "running", "{status}");
    let apps = status["apps"].as_array().expect("apps").clone();
    let names: Vec<_> = apps.iter().map(|app| app["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"], "{status}");
    lab.call(&["stop", "bg"]).expect_code(0);
    lab.wait_until_empty();
}

#[test]
fn ps_lists_as_json_and_lines() {
    let Some(lab) = Lab::open() else { return };
    let pods =
        || lab.call(&["ps", "-o", "json"]).expect_code(0).json()["pods"].as_array().cloned().expect("pods");
    assert_eq!(pods().len(), 0);
    detached(&lab, &pod("bg", "", &[app("a", UP, "")]));
    let listed = pods();
    assert_eq!((listed.len(), &listed[0]["name"]), (1, &"bg".into()), "{listed:?}");
    let lines = lab.call(&["ps", "-o", "jsonl"]).expect_code(0);
    assert_eq!(lines.stdout.lines().count(), 1, "{lines}");
    lab.call(&["stop", "bg"]).expect_code(0);
    lab.wait_until_empty();
}

#[test]
fn ended_pods_are_listed_with_a() {
    let Some(lab) = Lab::open() else { return };
    lab.run(&pod("one", "", &[app("a", "exit 3", "")])).expect_code(3);
    assert!(!lab.call(&["ps"]).expect_code(0).stdout.contains("one"));
    assert!(lab.call(&["ps", "-a"]).expect_code(0).stdout.contains("one"));
    lab.call(&["rm", "one"]).expect_code(0);
    assert!(!lab.call(&["ps", "-a"]).expect_code(0).stdout.contains("one"));
}

#[test]
fn unknown_pod_is_4_everywhere() {
    let Some(lab) = Lab::open() else { return };
    for verb in ["status", "stop", "kill", "rm"] {
        lab.call(&[verb, "nobody"]).expect_code(4).expect_stderr(&["nobody"]);
    }
}

#[test]
fn ended_pod_is_3_where_a_running_one_is_needed() {
    let Some(lab) = Lab::open() else { return };
    lab.run(&pod("one", "", &[app("a", "exit 0", "")])).expect_code(0);
    for verb in ["status", "stop", "kill"] {
        lab.call(&[verb, "one"]).expect_code(3);
    }
}

#[test]
fn wrong_usage_of_other_verbs_is_2() {
    let Some(lab) = Lab::open() else { return };
    for arguments in [&["status"][..], &["ps", "--no-such-flag"], &["nonsense"]] {
        lab.call(arguments).expect_code(2);
    }
}

#[test]
fn pod_is_found_by_its_id_and_a_prefix_of_it() {
    let Some(lab) = Lab::open() else { return };
    lab.run(&pod("one", "", &[app("a", "exit 0", "")])).expect_code(0);
    let dirs = lab.pod_dirs();
    let id = dirs[0].file_name().unwrap().to_str().unwrap();
    lab.call(&["status", id]).expect_code(3);
    lab.call(&["status", &id[..6]]).expect_code(3);
}

#[test]
fn running_pod_is_not_removed_by_rm_and_gc() {
    let Some(lab) = Lab::open() else { return };
    let running = lab.start(&pod("one", "", &[app("a", UP, "")]));
    running.wait_for("up");
    let refused = lab.call(&["rm", "one"]);
    assert_eq!(refused.code, 1, "{refused}");
    lab.call(&["gc"]).expect_code(0);
    lab.call(&["status", "one"]).expect_code(0);
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
}

#[test]
fn name_of_a_running_pod_is_refused() {
    let Some(lab) = Lab::open() else { return };
    let running = lab.start(&pod("one", "", &[app("a", UP, "")]));
    running.wait_for("up");
    lab.run(&pod("one", "", &[app("a", "say second", "")])).expect_code(125).expect_stderr(&["`one`"]);
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
}

#[test]
fn name_flag_wins_over_the_manifests() {
    let Some(lab) = Lab::open() else { return };
    let manifest = pod("one", "", &[app("a", "hostname", "")]);
    lab.start_with(&["--name", "other"], &manifest).wait().expect_code(0);
    lab.call(&["status", "other"]).expect_code(3);
    lab.call(&["status", "one"]).expect_code(4);
}

/// The name of a pod that has ended is free; its record stays.
#[test]
fn name_of_an_ended_pod_is_free_and_its_record_stays() {
    let Some(lab) = Lab::open() else { return };
    for code in [1, 2] {
        lab.run(&pod("one", "", &[app("a", &format!("exit {code}"), "")])).expect_code(code);
    }
    assert_eq!(lab.pod_dirs().len(), 2);
    assert!(lab.status("one").to_string().contains('2'));
}

#[test]
fn rm_flag_leaves_no_record() {
    let Some(lab) = Lab::open() else { return };
    lab.start_with(&["--rm"], &pod("one", "", &[app("a", "exit 5", "")])).wait().expect_code(5);
    assert_eq!(lab.pod_dirs(), Vec::<PathBuf>::new());
    lab.call(&["status", "one"]).expect_code(4);
}

#[test]
fn pod_directory_is_closed_to_others() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(lab) = Lab::open() else { return };
    lab.run(&pod("one", "", &[app("a", "exit 0", "")])).expect_code(0);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&lab.pod_dirs()[0]), 0o700);
}

/// Whatever stands in the files of a pod directory, the commands answer and end.
#[test]
fn corrupt_state_files_are_survived() {
    let Some(lab) = Lab::open() else { return };
    lab.run(&pod("one", "", &[app("a", "exit 0", "")])).expect_code(0);
    let dir = lab.pod_dirs()[0].clone();
    let files = std::fs::read_dir(&dir).unwrap().flatten().map(|entry| entry.path());
    let files: Vec<_> = files
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    assert!(files.len() >= 5, "{files:?}");
    for garbage in [&b""[..], b"{", b"{\"schema\":99}", b"\xff\xfe\0", b"[1,2,3]\n{}"] {
        for (file, _) in &files {
            std::fs::create_dir_all(&dir).unwrap();
            for (path, content) in &files {
                std::fs::write(path, content).unwrap();
            }
            std::fs::write(file, garbage).unwrap();
            for arguments in [&["ps", "-a"][..], &["status", "one"], &["gc"]] {
                let ended = lab.call(arguments);
                assert!(
                    ended.code <= 4 && !ended.stderr.contains("panicked"),
                    "{file:?} {garbage:?}\n{ended}"
                );
            }
        }
    }
}
