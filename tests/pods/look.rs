//! `stats`, `logs`, `inspect`, `cat`, `graph`, `wait`, `doctor`, and the waiting and filtering flags of `status` and `ps`.

use crate::harness::{Lab, Running, app, pod, slowness, wait_until};

const UP: &str = "on-term 0 ; say up ; pause";

/// In the background, as most of this file needs it.
fn detached(lab: &Lab, manifest: &str) {
    let path = lab.manifest(manifest);
    lab.call(&["run", "-d", path.to_str().unwrap()]).expect_code(0);
}

fn stop(lab: &Lab, pod: &str) {
    lab.call(&["stop", pod]).expect_code(0);
    lab.wait_until_empty();
}

fn sh(name: &str, script: &str, keys: &str) -> String {
    format!("[app.{name}]\nrootfs = \"/\"\nexec = [\"/bin/sh\", \"-c\", {script:?}]\n{keys}\n")
}

#[test]
fn logs_print_every_stream_of_every_app_under_its_name() {
    let Some(lab) = Lab::open() else { return };
    let apps = [app("api", "say one ; warn two", ""), app("worker", "say three", "depends-on = [\"api\"]")];
    detached(&lab, &pod("bg", "exit-policy = \"all-exited\"", &apps));
    lab.wait_until_empty();
    let all = lab.call(&["logs", "bg"]).expect_code(0);
    let mut lines: Vec<&str> = all.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["api    | one", "api    | two", "worker | three"], "{all}");
    let one = lab.call(&["logs", "--no-log-prefix", "--stream", "stderr", "bg"]).expect_code(0);
    assert_eq!(one.stdout, "two\n");
    let one = lab.call(&["logs", "bg/worker"]).expect_code(0);
    assert_eq!(one.stdout, "worker | three\n");
    let status = lab.call(&["status", "-n", "1", "bg/worker"]).expect_code(3);
    assert!(status.stdout.ends_with("\n\nworker | three\n"), "{status}");
    let status = lab.call(&["status", "-n", "2", "bg"]).expect_code(3);
    assert_eq!(status.stdout.matches(" | ").count(), 2, "{status}");
    lab.call(&["status", "-n", "1", "-o", "json", "bg"]).expect_code(2);
    for words in [&["logs", "-c", "worker", "bg"][..], &["logs", "bg", "--app=worker"]] {
        assert_eq!(lab.call(words).expect_code(0).stdout, one.stdout);
    }
    let both = lab.call(&["logs", "-c", "worker", "-c", "api", "bg"]).expect_code(0);
    assert_eq!(both.stdout.lines().count(), 3, "{both}");
    lab.call(&["logs", "-c", "worker", "bg/api"])
        .expect_code(2)
        .expect_stderr(&["`bg/api` names an app already"]);
    lab.call(&["logs", "-c", "nobody", "bg"]).expect_code(4);
    lab.call(&["logs", "bg/nobody"]).expect_code(4);
    lab.call(&["logs", "nobody"]).expect_code(4);
}

#[test]
fn logs_cut_by_lines_and_by_time() {
    let Some(lab) = Lab::open() else { return };
    detached(&lab, &pod("bg", "", &[sh("a", "for i in 1 2 3 4 5; do echo $i; done; printf end", "")]));
    lab.wait_until_empty();
    let raw = |flags: &[&str]| {
        let arguments = [&["logs", "--no-log-prefix"], flags, &["bg"]].concat();
        lab.call(&arguments).expect_code(0).stdout
    };
    assert_eq!(raw(&["-n", "2"]), "5\nend\n");
    assert_eq!(raw(&["--tail=0"]), "");
    assert_eq!(raw(&["--since", "1h"]).lines().count(), 6);
    assert_eq!(raw(&["--since", "2100-01-01T00:00:00Z"]), "");
    assert_eq!(raw(&["--until", "2020-01-01T00:00:00Z"]), "");
    let timed = raw(&["-t", "-n", "2"]);
    let first = timed.lines().next().unwrap();
    assert!(first.len() == "2026-11-23T02:40:14.123Z 5".len() && first.ends_with("Z 5"), "{timed}");
    lab.call(&["logs", "--since", "yesterday", "bg"]).expect_code(2).expect_stderr(&["2026-11-23T02:00:00Z"]);
}

/// Each line once and in order, over many files, while they are written and removed.
#[test]
fn logs_follow_over_rotations() {
    const LINES: usize = 11_000;
    let Some(lab) = Lab::open() else { return };
    let script = format!("sleep 2; seq -f %02000.0f 1 {LINES}; sleep 1");
    let app = sh("a", &script, "");
    detached(&lab, &pod("bg", "", &[app]));
    let follower = Running::spawn(&mut lab.podrun(&["logs", "-f", "--no-log-prefix", "bg"]));
    let followed = follower.wait().expect_code(0);
    lab.wait_until_empty();
    let files = std::fs::read_dir(lab.pod_dirs()[0].join("log")).unwrap().flatten();
    let last = files.filter_map(|entry| entry.path().extension()?.to_str()?.parse::<u32>().ok()).max();
    assert!(last >= Some(2), "the files were rotated at least twice: {last:?}");
    if followed.stderr.contains("was removed before it was read") {
        // It says so, which is all that can be asked of a reader that is slower than the app.
        return;
    }
    let mut expected = 1;
    for line in followed.stdout.lines() {
        assert_eq!(line.trim_start_matches('0'), expected.to_string());
        expected += 1;
    }
    assert_eq!(expected, LINES + 1);
}

#[test]
fn logs_of_a_pod_in_the_foreground_were_not_kept() {
    let Some(lab) = Lab::open() else { return };
    lab.run(&pod("one", "", &[app("a", "exit 0", "")])).expect_code(0);
    lab.call(&["logs", "one"]).expect_code(1).expect_stderr(&["not kept", "hint:"]);
}

#[test]
fn wait_returns_the_code_of_what_it_waited_for() {
    let Some(lab) = Lab::open() else { return };
    let apps = [app("a", "sleep 0.5 ; exit 3", ""), app("b", "exit 0", "")];
    detached(&lab, &pod("bg", "", &apps));
    lab.call(&["wait", "bg/b"]).expect_code(0);
    lab.call(&["wait", "bg"]).expect_code(3);
    lab.call(&["wait", "bg/a"]).expect_code(3);
    lab.call(&["wait", "--any", "bg/b", "bg/a"]).expect_code(0);
    lab.call(&["wait", "--condition", "ready", "bg"]).expect_code(3).expect_stderr(&["was not ready"]);
    // These are 125, as for `run`: another code might be that of an app.
    lab.call(&["wait", "nobody"]).expect_code(125).expect_stderr(&["nobody"]);
    lab.call(&["wait", "--no-such-flag"]).expect_code(125);
    lab.wait_until_empty();
}

#[test]
fn an_app_is_named_by_its_own_flag_as_well() {
    let Some(lab) = Lab::open() else { return };
    detached(&lab, &pod("bg", "exit-policy = \"all-exited\"", &[app("a", UP, ""), app("b", UP, "")]));
    // Before that a signal would end them in another way.
    wait_until("both are up", || lab.call(&["logs", "bg"]).stdout.matches("| up").count() == 2);
    assert_eq!(lab.call(&["inspect", "-c", "a", "bg"]).expect_code(0).json()["name"], "a");
    lab.call(&["stop", "-c", "a", "bg"]).expect_code(0);
    lab.call(&["status", "-c", "a", "bg"]).expect_code(3);
    lab.call(&["status", "-c", "b", "bg"]).expect_code(0);
    lab.call(&["kill", "-s", "TERM", "-c", "b", "bg"]).expect_code(0);
    lab.call(&["wait", "-c", "a", "-c", "b", "bg"]).expect_code(0);
    lab.wait_until_empty();
    lab.call(&["stop", "-a", "-c", "a"]).expect_code(2);
    lab.call(&["status", "-c", "A", "bg"]).expect_code(2);
}

#[test]
fn wait_ends_with_124_when_its_time_is_over() {
    let Some(lab) = Lab::open() else { return };
    detached(&lab, &pod("bg", "", &[app("a", UP, "")]));
    lab.call(&["wait", "--condition", "ready", "bg", "bg/a"]).expect_code(0);
    lab.call(&["wait", "--timeout", "50ms", "bg"]).expect_code(124).expect_stderr(&["`bg` has not ended"]);
    lab.call(&["status", "--wait=50ms", "bg"]).expect_code(124);
    let ready = lab.call(&["status", "--wait-ready", "bg"]).expect_code(0);
    assert!(ready.stdout.contains("running"), "{ready}");
    let waiting = Running::spawn(&mut lab.podrun(&["status", "--wait", "bg"]));
    stop(&lab, "bg");
    let ended = waiting.wait().expect_code(3);
    assert!(ended.stdout.contains("stopped"), "{ended}");
}

#[test]
fn inspect_compares_what_was_asked_with_what_the_kernel_says() {
    let Some(lab) = Lab::open() else { return };
    let api = app("api", UP, "isolators.memory-max = \"25MiB\"\nisolators.pids-max = 7");
    detached(&lab, &pod("bg", "isolators.cpus = \"800m\"", &[api]));
    let json = lab.call(&["inspect", "bg"]).expect_code(0).json();
    assert_eq!((&json["schema"], &json["name"]), (&1.into(), &"bg".into()));
    let limits = json["limits"].as_array().unwrap();
    let find = |key: &str| limits.iter().find(|limit| limit["key"] == key).unwrap();
    assert_eq!((&find("memory-max")["asked"], &find("pids-max")["asked"]), (&"25MiB".into(), &7.into()));
    assert_eq!(
        (&find("memory-max")["kernel"], &find("pids-max")["kernel"]),
        (&"26214400".into(), &"7".into())
    );
    assert_eq!((&find("cpus")["scope"], &find("cpus")["asked"]), (&"pod".into(), &0.8.into()));
    for limit in limits.iter().filter(|limit| limit["by"] != "stage1") {
        let file = limit["file"].as_str().unwrap();
        let kernel = std::fs::read_to_string(file).unwrap();
        assert!(file.starts_with('/') && kernel.trim() == limit["kernel"], "{limit}");
    }
    let json = lab.call(&["inspect", "bg/api"]).expect_code(0).json();
    assert_eq!((&json["pod"], &json["state"]), (&"bg".into(), &"running".into()));
    let groups = json["cgroups"].as_array().unwrap();
    assert!(groups.iter().all(|group| group["path"].as_str().unwrap().ends_with("/app-api")), "{json}");
    assert_eq!(json["plan"]["argv"][0], "/bin/probe");
    let field = |path: &str, address: &str| lab.call(&["inspect", "-f", path, address]);
    assert_eq!(field("plan.argv[0]", "bg/api").expect_code(0).stdout, "/bin/probe\n");
    assert_eq!(field("schema", "bg").expect_code(0).stdout, "1\n");
    let path = field("cgroups[0].path", "bg").expect_code(0).stdout;
    assert!(std::path::Path::new(path.trim_end()).is_dir(), "{path}");
    field("plan.argc", "bg/api").expect_code(1).expect_stderr(&["there is no `argc` in `plan`", "argv"]);
    field("a..b", "bg").expect_code(2);
    stop(&lab, "bg");
    let json = lab.call(&["inspect", "bg"]).expect_code(0).json();
    assert!(json["limits"][0].get("kernel").is_none(), "{json}");
    lab.call(&["inspect", "bg/nobody"]).expect_code(4);
}

#[test]
fn cat_prints_the_manifest_and_what_it_leaves_out() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("one", "", &[app("a", "exit 0", "")]));
    lab.call(&["run", path.to_str().unwrap()]).expect_code(0);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(lab.call(&["cat", "one"]).expect_code(0).stdout.trim_end(), text.trim_end());
    lab.call(&["run", "--name", "other", path.to_str().unwrap()]).expect_code(0);
    let effective = lab.call(&["cat", "--effective", "other"]).expect_code(0).stdout;
    for line in ["name = \"other\"", "stop-timeout = \"10s\"", "rootfs-mode = \"overlay\"", "# cpus: not set"]
    {
        assert!(effective.lines().any(|found| found == line), "{line}\n{effective}");
    }
    let again = lab.manifest(&effective);
    lab.call(&["run", "--name", "again", again.to_str().unwrap()]).expect_code(0);
    let some = lab.manifest(&pod("some", "", &[app("api", "exit 0", ""), app("db", "exit 0", "")]));
    lab.call(&["run", "--only", "db", some.to_str().unwrap()]).expect_code(0);
    let some = lab.call(&["cat", "some"]).expect_code(0).stdout;
    assert!(some.contains("#   --only db\n") && some.contains("[app.db]") && !some.contains("api"), "{some}");
    assert!(!lab.call(&["cat", "--effective", "some"]).expect_code(0).stdout.contains("api"));
    lab.call(&["cat", "nobody"]).expect_code(4);
}

#[test]
fn graph_takes_manifests_and_pods() {
    let Some(lab) = Lab::open() else { return };
    let apps = [app("api", "exit 0", "depends-on = [\"db\"]"), app("db", "exit 0", "")];
    let path = lab.manifest(&pod("one", "", &apps));
    let of_file = lab.call(&["graph", path.to_str().unwrap()]).expect_code(0).stdout;
    assert!(of_file.contains("2     api  db     ends the pod"), "{of_file}");
    lab.call(&["run", path.to_str().unwrap()]).expect_code(0);
    assert_eq!(lab.call(&["graph", "one"]).expect_code(0).stdout, of_file);
    let dot = lab.call(&["graph", "-o", "dot", "one"]).expect_code(0).stdout;
    assert!(dot.contains("\"db\" -> \"api\";"), "{dot}");
    lab.call(&["graph", "nobody"]).expect_code(4);
}

#[test]
fn doctor_says_what_this_host_can_enforce() {
    let Some(lab) = Lab::open() else { return };
    let text = lab.call(&["doctor"]).expect_code(0).stdout;
    let is_path = |line: &&str| line.contains("/");
    assert!(text.lines().filter(|line| !is_path(line)).all(|line| line.chars().count() <= 80), "{text}");
    let json = lab.call(&["doctor", "-o", "json"]).expect_code(0).json();
    let verdict = |name: &str| {
        let findings = json["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["name"] == name).unwrap_or_else(|| panic!("{name}"))["verdict"]
            .clone()
    };
    assert_eq!(verdict("memory-max"), "ok");
    assert_eq!(verdict("memory-high"), if lab.is_unified() { "ok" } else { "limited" });
    let quiet = lab.call(&["doctor", "-q"]).expect_code(0);
    assert_eq!(quiet.stdout, "");
    std::fs::create_dir(lab.root()).unwrap();
    std::os::unix::fs::chown(lab.root(), Some(1), None).unwrap();
    std::fs::set_permissions(lab.root(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let bad = lab.call(&["doctor"]).expect_code(1);
    assert!(bad.stdout.contains("bad      directory"), "{bad}");
    std::fs::remove_dir(lab.root()).unwrap();
}

#[test]
fn ps_filters_pods_and_lists_apps() {
    let Some(lab) = Lab::open() else { return };
    lab.run(&pod("over", "labels = { tier = \"back\" }", &[app("x", "exit 3", "")])).expect_code(3);
    detached(&lab, &pod("bg", "labels = { tier = \"front\" }", &[app("a", UP, ""), app("b", UP, "")]));
    let names = |flags: &[&str]| -> Vec<String> {
        let arguments = [&["ps", "--no-heading"], flags].concat();
        let listed = lab.call(&arguments).expect_code(0).stdout;
        listed.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&["-a", "--filter", "label=tier"]), ["over", "bg"]);
    assert_eq!(names(&["-a", "--filter", "label=tier=back"]), ["over"]);
    assert_eq!(names(&["--filter", "state=ended"]), ["over"]);
    assert_eq!(names(&["--filter", "name=b", "--filter", "state=running"]), ["bg"]);
    assert_eq!(names(&["--filter", "name=b", "--filter", "state=ended"]), Vec::<String>::new());
    assert_eq!(names(&["-a", "--filter", "state=running", "--filter", "state=ended"]), ["over", "bg"]);
    assert_eq!(names(&["--apps"]), ["bg", "bg"]);
    let apps = lab.call(&["ps", "--apps", "-o", "json"]).expect_code(0).json();
    assert_eq!((&apps["apps"][1]["pod"], &apps["apps"][1]["name"]), (&"bg".into(), &"b".into()));
    let quiet = lab.call(&["ps", "--apps", "-q"]).expect_code(0).stdout;
    lab.call(&["status", quiet.lines().next().unwrap()]).expect_code(0);
    lab.call(&["ps", "--filter", "colour=red"]).expect_code(2).expect_stderr(&["label"]);
    lab.call(&["ps", "--filter", "state=red"]).expect_code(2).expect_stderr(&["boot_failed"]);
    stop(&lab, "bg");
}

/// A follower does not keep anything alive, and ends by Ctrl-C.
#[test]
fn logs_follow_shows_what_comes_and_can_be_interrupted() {
    let Some(lab) = Lab::open() else { return };
    detached(
        &lab,
        &pod(
            "bg",
            "",
            &[app(
                "a",
                "say first ; wait-file /tmp/go 60 ; say second ; on-term 0 ; pause",
                "rootfs-mode = \"writable\"",
            )],
        ),
    );
    let follower = Running::spawn(&mut lab.podrun(&["logs", "-f", "-n", "5", "bg"]));
    follower.wait_for("a      | first\n");
    std::fs::write(lab.rootfs().join("tmp/go"), "").unwrap();
    follower.wait_for("a      | second\n");
    follower.signal(libc::SIGINT);
    assert_eq!(follower.wait().code, 130);
    lab.call(&["status", "bg"]).expect_code(0);
    stop(&lab, "bg");
    wait_until("the pod has ended", || lab.call(&["status", "bg"]).code == 3);
}

#[test]
fn dry_run_prints_the_plan_and_makes_nothing() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("one", "", &[app("a", "exit 0", "")]));
    let dry = lab.call(&["run", "--dry-run", path.to_str().unwrap()]).expect_code(0);
    let plan = lab.call(&["plan", path.to_str().unwrap()]).expect_code(0).stdout;
    // On a unified host each launcher has a group of its own.
    assert_eq!(dry.stdout, plan.replace("/launcher-1/", "/launcher-0/"));
    assert!(!lab.root().exists());
}

#[test]
fn replace_stops_the_pod_that_has_the_name() {
    let Some(lab) = Lab::open() else { return };
    detached(&lab, &pod("bg", "", &[app("a", UP, "")]));
    let first = lab.call(&["ps", "-q"]).stdout;
    // What cannot be run does not cost the pod that runs.
    let bad = lab.manifest(&pod("bg", "", &[app("a", UP, "user = \"nobody-here\"")]));
    lab.call(&["run", "-d", "--replace", bad.to_str().unwrap()]).expect_code(125);
    lab.call(&["status", "bg"]).expect_code(0);
    let good = lab.manifest(&pod("bg", "", &[app("a", UP, "")]));
    let id_file = lab.path("id");
    let id_file = id_file.to_str().unwrap();
    lab.call(&["run", "-d", good.to_str().unwrap()]).expect_code(125);
    let second = lab
        .call(&["run", "-d", "--replace", "--id-file", id_file, good.to_str().unwrap()])
        .expect_code(0)
        .stdout;
    assert_ne!(first, second);
    assert_eq!(std::fs::read_to_string(id_file).unwrap(), second);
    let status = lab.call(&["status", first.trim()]).expect_code(3);
    assert!(status.stdout.contains("stopped"), "{status}");
    stop(&lab, "bg");
}

#[test]
fn timeout_stops_the_pod_with_124() {
    let Some(lab) = Lab::open() else { return };
    // Later than the app is up, on slow machines too.
    let timeout = format!("{}ms", 2000 * slowness());
    let ended = lab.start_with(&["--timeout", &timeout], &pod("one", "", &[app("a", UP, "")])).wait();
    assert_eq!(ended.code, 124, "{ended}");
    assert!(ended.stderr.contains("stopping 1 app (up to 15s): its time is over"), "{ended}");
    let in_time = lab.start_with(&["--timeout", "1h"], &pod("two", "", &[app("a", "exit 3", "")])).wait();
    assert_eq!(in_time.code, 3, "{in_time}");
    lab.start_with(&["--timeout", "5"], &pod("two", "", &[app("a", "exit 3", "")])).wait().expect_code(125);
}

#[test]
fn exit_code_from_an_app_ends_the_pod_with_it() {
    let Some(lab) = Lab::open() else { return };
    let apps = [
        app("server", UP, ""),
        app("tests", "sleep 0.2 ; exit 7", "essential = false\ndepends-on = [\"server\"]"),
    ];
    let manifest = pod("one", "", &apps);
    let ended = lab.start_with(&["--exit-code-from", "tests"], &manifest).wait().expect_code(7);
    assert!(ended.stderr.contains("stopping 1 app (up to 25s): tests has ended"), "{ended}");
    lab.start_with(&["--exit-code-from", "nobody"], &manifest)
        .wait()
        .expect_code(125)
        .expect_stderr(&["server, tests"]);
}

#[test]
fn run_detached_can_wait_for_the_end() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("bg", "", &[app("a", "sleep 0.2 ; exit 9", "")]));
    let path = path.to_str().unwrap();
    let ended = lab.call(&["run", "-d", "--wait=exited", path]).expect_code(9);
    assert_eq!(ended.stdout.trim().len(), 8, "the id: {ended}");
    lab.call(&["run", "-d", "--wait", path]).expect_code(0);
    lab.call(&["wait", "bg"]).expect_code(9);
    lab.call(&["run", "-d", "--wait=exited", "--timeout=100ms", path]).expect_code(124);
    lab.call(&["run", "--wait", path]).expect_code(125);
    lab.wait_until_empty();
}

#[test]
fn stats_show_what_pods_and_apps_use_until_they_end() {
    let Some(lab) = Lab::open() else { return };
    let apps = [
        app("busy", "say up ; spin 1000", "isolators.cpus = \"20%\"\nisolators.memory-max = \"32MiB\""),
        app("idle", "on-term 0 ; pause", ""),
    ];
    detached(&lab, &pod("bg", "", &apps));
    let once = lab.call(&["stats", "--no-stream", "-o", "json", "bg"]).expect_code(0).json();
    let of = |pointer: &str| once.pointer(pointer).unwrap_or_else(|| panic!("{pointer} in {once}"));
    assert_eq!((of("/schema"), of("/pods/0/name")), (&1.into(), &"bg".into()));
    assert_eq!((of("/pods/0/apps/0/name"), of("/pods/0/apps/1/name")), (&"busy".into(), &"idle".into()));
    let number = |pointer: &str| of(pointer).as_f64().unwrap();
    // Never more than its quota, and of a busy machine perhaps less.
    let busy = number("/pods/0/apps/0/cpu_percent");
    assert!(busy > 0.5 && busy < 30.0, "{once}");
    assert!(number("/pods/0/cpu_percent") > 0.5 && number("/pods/0/apps/1/cpu_percent") < busy, "{once}");
    assert!(number("/pods/0/apps/0/cpu_throttled_ns") > 0.0);
    assert_eq!(number("/pods/0/apps/0/memory_max_bytes"), f64::from(32 << 20));
    assert!(number("/pods/0/memory_current_bytes") >= number("/pods/0/apps/0/memory_current_bytes"));

    // Counted without a limit of its controller too.
    for key in ["pids_current", "io_read_bytes", "io_written_bytes", "cpu_throttled_ns", "memory_peak_bytes"]
    {
        for place in ["/pods/0", "/pods/0/apps/0", "/pods/0/apps/1"] {
            assert!(number(&format!("{place}/{key}")) >= 0.0, "{once}");
        }
    }
    assert_eq!(number("/pods/0/apps/1/pids_current"), 1.0);

    let all = lab.call(&["stats", "--no-stream", "-i", "100ms"]).expect_code(0).stdout;
    let lines: Vec<&str> = all.lines().collect();
    assert!(
        lines[0].starts_with("POD/APP  CPU ") && lines[1].starts_with("bg ") && lines.len() == 2,
        "{all}"
    );
    let one = lab.call(&["stats", "--no-stream", "-i", "100ms", "bg/busy"]).expect_code(0).stdout;
    assert!(one.contains("\nbg/busy ") && one.contains(" 32 MiB ") && one.lines().count() == 2, "{one}");

    let stream = Running::spawn(&mut lab.podrun(&["stats", "-i", "100ms", "--apps", "bg"]));
    stream.wait_for("bg/idle");
    stop(&lab, "bg");
    let told = stream.wait().expect_code(0).stdout;
    assert!(!told.contains('\u{1b}'), "no terminal, and so nothing is cleared: {told}");
    lab.call(&["stats", "bg"]).expect_code(3).expect_stderr(&["cannot look at pod `bg`", "not running"]);
    lab.call(&["stats", "none"]).expect_code(4);
    lab.call(&["stats", "--no-stream", "bg", "none"]).expect_code(4);
    lab.call(&["stats", "-i", "1ms"]).expect_code(2).expect_stderr(&["at least 100ms"]);
}
