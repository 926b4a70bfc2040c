//! Who keeps what apps write: the journal, files, or nobody; and `podrun logs` over each.

use std::process::Command;

use crate::harness::{Ended, Lab, Running, app, bin_dir, pod, wait_until};
use crate::systemd::{expect_nothing_left, open, scope, slice};

fn sh(name: &str, script: &str, keys: &str) -> String {
    format!("[app.{name}]\nrootfs = \"/\"\nexec = [\"/bin/sh\", \"-c\", {script:?}]\n{keys}\n")
}

/// A process stays: the journal can look where it is, however late that comes.
const STAY: &str = "trap 'exit 0' TERM; while :; do sleep 0.05; done";

/// `run` of this manifest under systemd, with these flags.
fn run(lab: &Lab, flags: &[&str], manifest: &str) -> Command {
    let path = lab.manifest(manifest);
    lab.podrun(&[&["run", "--driver", "systemd"], flags, &[path.to_str().unwrap()]].concat())
}

/// What the journal has under these matches, as `journalctl` tells it.
fn entries(matches: &[String]) -> Vec<serde_json::Value> {
    Running::spawn(Command::new("journalctl").arg("--sync")).wait().expect_code(0);
    let mut command = Command::new("journalctl");
    command.args(["--quiet", "--no-pager", "--output=json", "--all"]).args(matches);
    let told = Running::spawn(&mut command).wait().expect_code(0).stdout;
    told.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn messages(entries: &[serde_json::Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["MESSAGE"].as_str().unwrap_or_default()).collect()
}

/// The match for the entries of one app of the lab's only pod.
fn group(lab: &Lab, app: &str) -> String {
    format!("_SYSTEMD_CGROUP=/machine.slice/{}/{}/payload/app-{app}", slice(lab), scope(lab))
}

/// The same in a mount namespace without journald.
fn without_journald(lab: &Lab, inner: &Command) -> Ended {
    let script = "mkdir -p /run/systemd/journal && mount -t tmpfs none /run/systemd/journal && exec \"$@\"";
    let mut command = lab.command("unshare");
    command.args(["-m", "sh", "-c", script, "-"]).arg(inner.get_program()).args(inner.get_args());
    Running::spawn(&mut command).wait()
}

/// Also of an app that ends at once, and of one that is not root.
#[test]
fn output_of_a_detached_pod_is_in_the_journal_under_the_apps_own_groups() {
    let Some(lab) = open() else { return };
    let apps = [
        sh("web", &format!("echo out; echo err >&2; echo '<4>warned'; {STAY}"), "user = 1000"),
        sh("fast", "exec echo gone", "depends-on = [\"web\"]"),
    ];
    let text = pod(&lab.name(), "exit-policy = \"all-exited\"", &apps);
    Running::spawn(&mut run(&lab, &["-d"], &text)).wait().expect_code(0);
    let by_unit = [format!("_SYSTEMD_UNIT={}", scope(&lab)), "SYSLOG_IDENTIFIER=fast".to_owned()];
    wait_until("the journal has it all", || {
        entries(&[group(&lab, "web")]).len() == 3 && messages(&entries(&by_unit)) == ["gone"]
    });
    lab.call(&["stop", &lab.name()]).expect_code(0);
    crate::detached::expect_gone(&lab);
    assert!(!lab.pod_dirs()[0].join("log").exists(), "no byte of it passes through podrun");

    let web = entries(&[group(&lab, "web")]);
    let mut told = messages(&web);
    told.sort_unstable();
    assert_eq!(told, ["err", "out", "warned"]);
    for entry in &web {
        assert_eq!(entry["SYSLOG_IDENTIFIER"], "web");
        assert_eq!(entry["_SYSTEMD_UNIT"], scope(&lab).as_str());
    }
    let priority =
        |message: &str| web.iter().find(|entry| entry["MESSAGE"] == message).unwrap()["PRIORITY"].clone();
    assert_eq!((priority("out"), priority("warned")), ("6".into(), "4".into()));

    let name = lab.name();
    let logs = |arguments: &[&str]| lab.call(&[&["logs"], arguments].concat()).expect_code(0).stdout;
    let all = logs(&[&name]);
    let mut lines: Vec<&str> = all.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["fast   | gone", "web    | err", "web    | out", "web    | warned"]);
    assert_eq!(logs(&["--no-log-prefix", "--stream", "stderr", &name]), "err\n");
    assert_eq!(logs(&["--no-log-prefix", &format!("{name}/fast")]), "gone\n");
    assert_eq!(logs(&["--no-log-prefix", "-n", "1", &name]).lines().count(), 1);
    assert_eq!(logs(&["--since", "2031-01-01T00:00:00Z", &name]), "");
    assert_eq!(logs(&["--until", "2021-01-01T00:00:00Z", &name]), "");
}

#[test]
fn logs_follow_the_journal_to_the_pods_end_and_miss_nothing() {
    let Some(lab) = open() else { return };
    let script = "trap 'echo bye; exit 0' TERM; i=0; while :; do i=$((i+1)); echo line-$i; sleep 0.02; done";
    let text = pod(&lab.name(), "", &[sh("web", script, "")]);
    Running::spawn(&mut run(&lab, &["-d"], &text)).wait().expect_code(0);
    let name = lab.name();
    let follower = Running::spawn(&mut lab.podrun(&["logs", "-f", "--no-log-prefix", &name]));
    follower.wait_for("line-20");
    lab.call(&["stop", &name]).expect_code(0);
    let told = follower.wait().expect_code(0).stdout;
    let lines: Vec<&str> = told.lines().collect();
    let (last, counted) = lines.split_last().unwrap();
    let expected: Vec<String> = (1..=counted.len()).map(|number| format!("line-{number}")).collect();
    assert_eq!((counted, *last), (expected.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), "bye"));
    crate::detached::expect_gone(&lab);
}

/// A launcher that stands still holds up nobody.
#[test]
fn journal_of_a_pod_in_the_foreground_does_not_pass_through_the_launcher() {
    let Some(lab) = open() else { return };
    let script = "trap 'exit 0' TERM; while :; do echo tick; sleep 0.05; done";
    let text = pod(&lab.name(), "", &[sh("web", script, "log.driver = \"journald\"")]);
    let running = Running::spawn(&mut run(&lab, &[], &text));
    let has = |count: usize| lab.pod_dirs().len() == 1 && entries(&[group(&lab, "web")]).len() >= count;
    wait_until("the app writes", || has(1));
    running.signal(libc::SIGSTOP);
    let before = entries(&[group(&lab, "web")]).len();
    // A pipe would hold these too, but they would not be in the journal.
    wait_until("the app goes on writing", || has(before + 5));
    running.signal(libc::SIGCONT);
    running.signal(libc::SIGTERM);
    assert_eq!(running.wait().expect_code(0).stdout, "");
    expect_nothing_left(&lab);
}

/// A shell of a service starts it: podrun is no service, but its streams are.
#[test]
fn lines_of_a_pod_in_the_foreground_below_a_journal_stream_are_entries_of_their_apps() {
    let Some(lab) = open() else { return };
    let name = lab.name();
    let apps = [
        sh("web", "echo out; echo '<4>careful' >&2; printf half; exit 3", "depends-on = [\"long-name\"]"),
        sh("long-name", STAY, ""),
    ];
    let path = lab.manifest(&pod(&name, "", &apps));
    let run = |script: &str| {
        let mut command = Command::new("systemd-run");
        command.args([
            "--wait",
            "--quiet",
            "--collect",
            &format!("--setenv=PODRUN_ROOT={}", lab.root().display()),
        ]);
        command.args(["/bin/sh", "-c", script, "-"]).arg(bin_dir().join("podrun"));
        Running::spawn(command.args(["run", "--driver", "systemd"]).arg(&path)).wait().expect_code(3)
    };
    run("\"$@\"; exit $?");
    let of = |more: &str| entries(&[format!("PODRUN_POD={name}"), more.to_owned()]);
    let web = of("PODRUN_APP=web");
    let told: Vec<_> = web
        .iter()
        .filter(|entry| entry["PODRUN_EVENT"].is_null())
        .map(|entry| {
            ["MESSAGE", "PODRUN_STREAM", "PRIORITY", "SYSLOG_IDENTIFIER"]
                .map(|key| entry[key].as_str().unwrap())
        })
        .collect();
    let mut sorted = told.clone();
    sorted.sort_unstable();
    let expected =
        [["careful", "stderr", "4", "web"], ["half", "stdout", "6", "web"], ["out", "stdout", "6", "web"]];
    assert_eq!(sorted, expected);
    assert_eq!(messages(&of("PODRUN_EVENT=ended")).len(), 2, "each app's end is told once: {web:#?}");
    let all = entries(&[format!("PODRUN_POD={name}")]);
    let unit = all[0]["_SYSTEMD_UNIT"].as_str().unwrap().to_owned();
    let raw = entries(&[format!("_SYSTEMD_UNIT={unit}"), "_TRANSPORT=stdout".to_owned()]);
    assert_eq!(messages(&raw), Vec::<&str>::new(), "nothing is told twice");

    // Standard output goes elsewhere, where a name is needed.
    let file = lab.path("stdout");
    run(&format!("\"$@\" >{}; exit $?", file.display()));
    let mut printed: Vec<_> = std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect();
    printed.sort_unstable();
    assert_eq!(printed, ["web       | half", "web       | out"]);
    assert_eq!(messages(&of("PODRUN_STREAM=stderr")), ["careful", "careful"]);
    expect_nothing_left(&lab);
}

#[test]
fn journal_that_is_not_there_is_refused_by_name_before_anything_starts() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("bg", "", &[app("web", "say up", "log.driver = \"journald\"")]));
    let refused = without_journald(&lab, &lab.podrun(&["run", path.to_str().unwrap()])).expect_code(125);
    refused.expect_stderr(&[
        "error[E0908]",
        "driver = \"journald\"",
        "systemd-journald does not run here",
        "\"file\"",
    ]);
    assert_eq!(lab.pod_dirs().len(), 0);
}

#[test]
fn detached_pod_without_journald_is_kept_in_files() {
    let Some(lab) = open() else { return };
    let text = pod(&lab.name(), "", &[app("web", "say kept", "")]);
    without_journald(&lab, &run(&lab, &["-d", "--wait=exited"], &text)).expect_code(0);
    // The launcher reports the end, and then ends itself.
    lab.wait_until_empty();
    assert!(lab.pod_dirs()[0].join("log/web.stdout.0").exists());
    assert_eq!(lab.call(&["logs", "--no-log-prefix", &lab.name()]).expect_code(0).stdout, "kept\n");
    expect_nothing_left(&lab);
}

/// Each app's own word, in one pod.
#[test]
fn files_and_nobody_keep_output_in_the_foreground_too() {
    let Some(lab) = Lab::open() else { return };
    let apps = [
        app("filed", "say one ; warn two", "log.driver = \"file\""),
        app("lost", "say three", "log.driver = \"none\""),
        app("shown", "say four", ""),
    ];
    let path = lab.manifest(&pod("fg", "exit-policy = \"all-exited\"", &apps));
    let ended = lab.call(&["run", path.to_str().unwrap()]).expect_code(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("shown  | four\n", ""));
    assert_eq!(lab.call(&["logs", "fg"]).expect_code(0).stdout, "filed  | one\nfiled  | two\n");
    lab.call(&["logs", "fg/lost"]).expect_code(1).expect_stderr(&["not kept"]);
}

#[test]
fn size_and_number_of_files_are_the_manifests() {
    let Some(lab) = Lab::open() else { return };
    let keys = "log = { driver = \"file\", max-size = \"64KiB\", max-files = 4 }";
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo a-line-of-this-number-$i; done";
    let path = lab.manifest(&pod("fg", "", &[sh("web", script, keys)]));
    lab.call(&["run", path.to_str().unwrap()]).expect_code(0);
    let files = std::fs::read_dir(lab.pod_dirs()[0].join("log")).unwrap().flatten();
    let sizes: Vec<u64> = files
        .filter(|file| file.file_name().to_string_lossy().starts_with("web.stdout."))
        .map(|file| file.metadata().unwrap().len())
        .collect();
    assert_eq!(sizes.len(), 4, "{sizes:?}");
    // One batch may stand over the bound.
    assert!(sizes.iter().all(|size| *size <= 3 * 64 * 1024), "{sizes:?}");
    let told = lab.call(&["logs", "--no-log-prefix", "-n", "1", "fg"]).expect_code(0).stdout;
    assert_eq!(told, "a-line-of-this-number-20000\n");
}

#[test]
fn detached_pod_has_nothing_to_inherit() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("bg", "", &[app("web", "say up", "log.driver = \"inherit\"")]));
    let refused = lab.call(&["run", "-d", path.to_str().unwrap()]).expect_code(125);
    refused.expect_stderr(&["error[E0908]", "a pod in the background has no output to inherit"]);
    // The launcher in the background tells before it ends.
    lab.wait_until_empty();
}

/// Of its whole life, in order; and under the pod's unit, where `journalctl -u` looks.
#[test]
fn events_of_a_pod_are_entries_with_its_name() {
    let Some(lab) = open() else { return };
    let text = pod(&lab.name(), "", &[app("web", "exit 3", "")]);
    Running::spawn(&mut run(&lab, &[], &text)).wait().expect_code(3);
    let own = || entries(&[format!("PODRUN_POD={}", lab.name())]);
    wait_until("the journal has the pod's end", || {
        own().iter().any(|entry| entry["PODRUN_EVENT"] == "pod-ended")
    });
    let told = own();
    let events: Vec<&str> = told.iter().filter_map(|entry| entry["PODRUN_EVENT"].as_str()).collect();
    assert_eq!(events, ["started", "up", "ended", "pod-ended"], "{told:#?}");
    let ended = told.iter().find(|entry| entry["PODRUN_EVENT"] == "ended").unwrap();
    assert_eq!((&ended["PODRUN_APP"], &ended["PRIORITY"]), (&"web".into(), &"4".into()));
    assert!(ended["MESSAGE"].as_str().unwrap().contains("app web exited 3"), "{ended}");
    let by_unit = entries(&[format!("OBJECT_SYSTEMD_UNIT={}", scope(&lab))]);
    assert_eq!(by_unit.len(), events.len());
    expect_nothing_left(&lab);
}
