//! A pod as a service of a real systemd: its limits bind the pod, its stop is the pod's, and nothing is left.
//! CASES 29, 35.

use std::path::{Path, PathBuf};

use podrun_abi::event::End;

use crate::harness::{Lab, Running, bin_dir, pod, require, wait_until};
use crate::systemd::{groups, systemctl};

const APP: &str = "on-term 0 ; say up ; pause";
const LIMITS: &str = "[pod.isolators]\nmemory-max = \"48MiB\"\npids-max = 40\n";

pub fn open() -> Option<Lab> {
    if require::systemd() { Lab::open() } else { None }
}

/// Its output is that of the service, where the test looks.
pub fn app(name: &str, words: &str, keys: &str) -> String {
    crate::harness::app(name, words, &format!("log.driver = \"inherit\"\n{keys}"))
}

pub const NOTIFY: &str = "Type=notify\nNotifyAccess=main\nDelegate=yes";

/// A unit that is there as long as this value, and the pod of a lab is what it runs.
pub struct Unit {
    pub name: String,
    output: PathBuf,
    /// systemd takes empty groups away that it does not know, at a reload that another test asks for: those of the lab.
    keeper: Option<Running>,
}

impl Unit {
    /// `keys` are more lines below [Service].
    pub fn install(lab: &Lab, keys: &str, manifest: &str) -> Self {
        let output = lab.path("output");
        let text = format!(
            "[Service]\nEnvironment=PODRUN_ROOT={} NO_COLOR=1\nExecStart={}/podrun run --no-log-prefix {}\n\
             StandardOutput=append:{output}\nStandardError=append:{output}\nKillMode=mixed\n{keys}\n",
            lab.root().display(),
            bin_dir().display(),
            lab.manifest(manifest).display(),
            output = output.display(),
        );
        Self::write(lab, &text)
    }

    /// One with this text.
    pub fn write(lab: &Lab, text: &str) -> Self {
        let keeper = Some(Running::spawn(lab.command("sleep").arg("100000")));
        let unit = Self { name: format!("{}.service", lab.name()), output: lab.path("output"), keeper };
        // systemd looks for a unit that it has not loaded, without a reload.
        std::fs::write(unit.file(), text).unwrap();
        unit
    }

    fn file(&self) -> PathBuf {
        Path::new("/run/systemd/system").join(&self.name)
    }

    pub fn systemctl(&self, verb: &str) -> crate::harness::Ended {
        systemctl(&[verb, &self.name])
    }

    pub fn property(&self, name: &str) -> String {
        systemctl(&["show", "--value", "-p", name, &self.name]).expect_code(0).stdout.trim().to_owned()
    }

    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        wait_until(&format!("`{text}` in the output"), || self.output().contains(text));
    }

    /// A file of a group of the service, or of the pod below it, by its names on v1 and v2.
    #[track_caller]
    fn value(&self, group: &str, files: [&str; 2]) -> String {
        let all = groups(&self.name).into_iter().flat_map(|service| {
            let below = std::fs::read_dir(&service).into_iter().flatten().flatten().map(|entry| entry.path());
            let pods = below.filter(|path| path.file_name().is_some_and(|n| is_pod(&n.to_string_lossy())));
            let pods: Vec<_> = pods.map(|path| path.join(group)).collect();
            if group == ".." { vec![service] } else { pods }
        });
        let read = |dir: PathBuf| files.iter().find_map(|file| std::fs::read_to_string(dir.join(file)).ok());
        let found: Vec<String> = all.filter_map(read).map(|text| text.trim().to_owned()).collect();
        assert_eq!(found.len(), 1, "{files:?} of `{group}`: {found:?}");
        found[0].clone()
    }

    /// The pod has ended in order, and systemd has nothing to complain of.
    #[track_caller]
    pub fn expect_gone(&self) {
        wait_until("the service is inactive", || {
            ["inactive", "failed"].contains(&self.property("ActiveState").as_str())
        });
        let state = (self.property("ActiveState"), self.property("Result"));
        assert_eq!(state, ("inactive".to_owned(), "success".to_owned()), "{}", self.output());
        self.expect_no_group();
    }

    #[track_caller]
    pub fn expect_no_group(&self) {
        wait_until("no group is left", || groups(&self.name).is_empty());
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        self.systemctl("stop");
        self.systemctl("reset-failed");
        let _ = std::fs::remove_file(self.file());
        self.keeper.take().into_iter().for_each(Running::kill);
    }
}

fn is_pod(name: &str) -> bool {
    name.starts_with("podrun-") && !name.starts_with("podrun-launcher-")
}

/// What `podrun generate unit` writes is a unit that systemd has nothing to complain of, and the pod runs by it.
#[test]
fn generated_unit_is_verified_by_systemd_and_runs_the_pod() {
    let Some(lab) = open() else { return };
    let manifest = lab.manifest(&pod("one", LIMITS, &[app("a", APP, "stop-timeout = \"2s\"")]));
    let generated = lab.call(&["generate", "unit", manifest.to_str().unwrap()]).expect_code(0);
    assert_eq!(generated.stderr, "");
    let keys = format!("[Service]\nEnvironment=PODRUN_ROOT={}\n", lab.root().display());
    let unit = Unit::write(&lab, &(generated.stdout + &keys));
    let verified = Running::spawn(lab.command("systemd-analyze").arg("verify").arg(unit.file())).wait();
    assert_eq!((verified.code, verified.stderr.as_str()), (0, ""), "{verified}");
    unit.systemctl("start").expect_code(0);
    assert_eq!(unit.property("ActiveState"), "active", "every app was started when start returned");
    let security =
        Running::spawn(lab.command("systemd-analyze").args(["security", "--no-pager", &unit.name])).wait();
    assert!(security.stdout.contains("Overall exposure level"), "{security}");
    unit.systemctl("stop").expect_code(0);
    unit.expect_gone();
    assert!(lab.outcome("a").stopped);
}

/// The shipped units, with the paths of the test in place of the host's.
fn shipped(lab: &Lab, unit: &str) -> String {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd").join(unit));
    let text = text.unwrap().replace("/usr/bin/podrun", bin_dir().join("podrun").to_str().unwrap());
    let text = text.replace("/etc/podrun", lab.path("etc").to_str().unwrap());
    text.replace("/run/greeter.sock", lab.path("greeter.sock").to_str().unwrap())
}

/// Files of units that are gone at the end.
struct Files(Vec<(PathBuf, String)>);

impl Files {
    fn write(files: &[(&str, String)]) -> Self {
        let path = |name: &str| Path::new("/run/systemd/system").join(name);
        for (name, text) in files {
            std::fs::write(path(name), text).unwrap();
        }
        Self(files.iter().map(|(name, _)| (path(name), (*name).to_owned())).collect())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for (path, name) in &self.0 {
            systemctl(&["stop", name]);
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The template and the socket as they are shipped: a client's first byte starts the pod, and the template's limits are
/// changed while it runs, as rkt's manual had it.
#[test]
fn shipped_units_start_the_shipped_pod_for_its_first_client() {
    let Some(lab) = open() else { return };
    let (service, socket) = (format!("{}@greeter.service", lab.name()), format!("{}.socket", lab.name()));
    let template = format!("{}@.service", lab.name());
    let root =
        format!("[Service]\nEnvironment=PODRUN_ROOT={}\nMemoryMax=64M\nCPUWeight=50\n", lab.root().display());
    let files = [
        (template.as_str(), shipped(&lab, "podrun@.service") + &root),
        (&socket, shipped(&lab, "podrun-greeter.socket").replace("podrun@greeter.service", &service)),
    ];
    let _files = Files::write(&files);
    let _stopped_at_last = Stopped(&service);
    std::fs::create_dir(lab.path("etc")).unwrap();
    let manifest =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/greeter.toml"));
    std::fs::write(lab.path("etc/greeter.toml"), manifest.unwrap()).unwrap();
    let verified = Running::spawn(
        lab.command("systemd-analyze").arg("verify").arg(format!("/run/systemd/system/{socket}")),
    )
    .wait();
    assert_eq!(verified.stderr.lines().filter(|line| line.contains(&lab.name())).count(), 0, "{verified}");

    systemctl(&["start", &socket]).expect_code(0);
    let show = |what: &str| systemctl(&["show", "--value", "-p", what, &service]).stdout.trim().to_owned();
    assert_eq!(show("ActiveState"), "inactive");
    for _ in 0..2 {
        assert_eq!(crate::sockets::answer_of(&lab.path("greeter.sock")), "hello from pod greeter\n");
    }
    wait_until("it is active", || show("ActiveState") == "active");
    assert_eq!(show("StatusText"), "1 of 1 apps run");
    let memory = || {
        let files = groups(&service)
            .into_iter()
            .flat_map(|g| ["memory.max", "memory.limit_in_bytes"].map(|f| g.join(f)));
        files.filter_map(|file| std::fs::read_to_string(file).ok()).collect::<String>()
    };
    assert_eq!(memory().trim(), (64_u64 << 20).to_string());
    systemctl(&["set-property", "--runtime", &service, "MemoryMax=80M"]).expect_code(0);
    wait_until("the kernel has the new limit", || memory().trim() == (80_u64 << 20).to_string());
    systemctl(&["stop", &socket, &service]).expect_code(0);
    assert_eq!((show("ActiveState"), show("Result")), ("inactive".into(), "success".into()));
    wait_until("no group is left", || groups(&service).is_empty());
    assert!(!lab.path("greeter.sock").exists());
}

/// A unit that is stopped at the end, whatever that is.
struct Stopped<'a>(&'a str);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        systemctl(&["stop", self.0]);
    }
}

/// CASES 29.
#[test]
fn transient_service_is_active_when_the_apps_run_and_its_stop_is_ordered() {
    let Some(lab) = open() else { return };
    let after = "depends-on = [\"a\"]";
    let manifest = lab.manifest(&pod("one", "", &[app("a", APP, ""), app("b", APP, after)]));
    let name = format!("{}-transient.service", lab.name());
    let root = format!("PODRUN_ROOT={}", lab.root().display());
    let mut keys = vec!["--unit", &name, "--setenv", &root];
    keys.extend(["-p", "Delegate=yes", "-p", "Type=notify", "-p", "KillMode=mixed"]);
    let mut command = lab.command("systemd-run");
    command.args(keys).arg(bin_dir().join("podrun")).arg("run").arg(manifest);
    Running::spawn(&mut command).wait().expect_code(0);
    let _stopped_at_last = Stopped(&name);
    let show = |what: &str| systemctl(&["show", "--value", "-p", what, &name]).stdout.trim().to_owned();
    // systemd-run has waited for READY=1.
    assert_eq!((show("ActiveState"), show("StatusText")), ("active".into(), "2 of 2 apps run".into()));
    systemctl(&["stop", &name]).expect_code(0);
    wait_until("a unit that has not failed is gone", || show("LoadState") == "not-found");
    assert_eq!(lab.stop_order(), ["b", "a"]);
    wait_until("no group is left", || groups(&name).is_empty());
}

#[test]
fn service_without_delegation_is_told_what_to_add() {
    let Some(lab) = open() else { return };
    let unit = Unit::install(&lab, "", &pod("one", "", &[app("a", APP, "")]));
    unit.systemctl("start").expect_code(0);
    wait_until("the service fails", || unit.property("ActiveState") == "failed");
    assert_eq!(unit.property("ExecMainStatus"), "125");
    let output = unit.output();
    let error = format!("cannot run a pod as service `{}`: systemd has not delegated its group", unit.name);
    assert!(output.contains(&error) && output.contains("hint: add `Delegate=yes`"), "{output}");
    assert_eq!(lab.pod_dirs(), Vec::<PathBuf>::new());
}

/// The unit's limits are the outer ones and the manifest's stand one level below; both change while the pod runs, each by
/// the command of its own.
#[test]
fn limits_of_unit_and_manifest_both_hold_and_change_live() {
    let Some(lab) = open() else { return };
    let text = pod("one", LIMITS, &[app("a", APP, "isolators.memory-max = \"25MiB\"")]);
    let unit = Unit::install(&lab, "Delegate=yes\nCPUWeight=50\nMemoryMax=64M\nTasksMax=60", &text);
    unit.systemctl("start").expect_code(0);
    unit.wait_for("up");
    let memory = ["memory.limit_in_bytes", "memory.max"];
    let weight = ["cpu.shares", "cpu.weight"];
    for (group, megabytes) in [("..", 64_u64), ("", 48), ("app-a", 25)] {
        assert_eq!(unit.value(group, memory), (megabytes << 20).to_string(), "{group}");
    }
    assert_eq!(
        (unit.value("..", ["pids.max"; 2]), unit.value("", ["pids.max"; 2])),
        ("60".into(), "40".into())
    );
    assert!(["512", "50"].contains(&unit.value("..", weight).as_str()));
    let change = ["set-property", "--runtime", &unit.name, "MemoryMax=56M", "CPUWeight=200"];
    systemctl(&change).expect_code(0);
    wait_until("the kernel has the new limits", || {
        unit.value("..", memory) == (56_u64 << 20).to_string()
            && ["2048", "200"].contains(&unit.value("..", weight).as_str())
    });
    assert_eq!(unit.value("app-a", memory), (25_u64 << 20).to_string());
    lab.call(&["update", "one", "memory-max=40MiB", "pids-max=30"]).expect_code(0);
    lab.call(&["update", "one/a", "memory-max=20MiB"]).expect_code(0);
    systemctl(&["daemon-reload"]).expect_code(0);
    for (group, megabytes) in [("..", 56_u64), ("", 40), ("app-a", 20)] {
        assert_eq!(unit.value(group, memory), (megabytes << 20).to_string(), "{group}");
    }
    assert_eq!(
        (unit.value("..", ["pids.max"; 2]), unit.value("", ["pids.max"; 2])),
        ("60".into(), "30".into())
    );
    let inspected = lab.call(&["inspect", "one"]).expect_code(0).json();
    for limit in
        inspected["limits"].as_array().expect("limits").iter().filter(|limit| limit["by"] != "stage1")
    {
        assert!(limit["by"] == "podrun" && limit["kernel"] == limit["written"], "{limit}");
    }
    unit.systemctl("stop").expect_code(0);
    unit.expect_gone();
    assert!(lab.outcome("a").stopped);
}

/// Everything of the pod is in the service's own group, in hierarchies that systemd does not manage as well.
#[test]
fn every_group_of_the_pod_is_below_the_services() {
    let Some(lab) = open() else { return };
    let text = pod("one", "", &[app("a", APP, "isolators.cpuset = \"0\"")]);
    let unit = Unit::install(&lab, "Delegate=yes", &text);
    unit.systemctl("start").expect_code(0);
    unit.wait_for("up");
    assert_eq!(unit.value("app-a", ["cpuset.cpus", "cpuset.cpus"]), "0");
    let id = lab.pod_dirs()[0].file_name().unwrap().to_string_lossy().into_owned();
    let pods = groups(&format!("podrun-{id}"));
    assert!(!pods.is_empty() && pods.iter().all(|g| g.parent().unwrap().ends_with(&unit.name)), "{pods:#?}");
    unit.systemctl("stop").expect_code(0);
    unit.expect_gone();
}

#[test]
fn stop_and_restart_of_the_service_are_ordered_stops() {
    let Some(lab) = open() else { return };
    let apps = ["a", "b"].map(|name| {
        let after = if name == "b" { "depends-on = [\"a\"]" } else { "" };
        app(name, &format!("on-term 0 ; say {name}-up ; pause"), after)
    });
    let unit = Unit::install(&lab, "Delegate=yes", &pod("one", "", &apps));
    unit.systemctl("start").expect_code(0);
    let both = |times: usize| {
        wait_until("both apps run", || {
            ["a-up", "b-up"].iter().all(|w| unit.output().matches(w).count() == times)
        });
    };
    both(1);
    unit.systemctl("restart").expect_code(0);
    both(2);
    lab.call(&["gc"]).expect_code(0);
    unit.systemctl("stop").expect_code(0);
    unit.expect_gone();
    assert_eq!(lab.stop_order(), ["b", "a"]);
    assert_eq!([lab.end("a"), lab.end("b")], [End::Exited { code: 0 }; 2]);
}

#[test]
fn code_of_a_failed_app_is_the_services_status() {
    let Some(lab) = open() else { return };
    let unit = Unit::install(&lab, "Delegate=yes", &pod("one", "", &[app("a", "exit 5", "")]));
    unit.systemctl("start");
    wait_until("the service fails", || unit.property("ActiveState") == "failed");
    assert_eq!((unit.property("Result"), unit.property("ExecMainStatus")), ("exit-code".into(), "5".into()));
    unit.expect_no_group();
}

/// Everything dies with the launcher, and the next start is not hindered by what it has left.
#[test]
fn killed_launcher_leaves_nothing_that_the_next_start_minds() {
    let Some(lab) = open() else { return };
    let text = pod("one", "", &[app("a", APP, "isolators.cpuset = \"0\"")]);
    let unit = Unit::install(&lab, "Delegate=yes", &text);
    unit.systemctl("start").expect_code(0);
    unit.wait_for("up");
    systemctl(&["kill", "--kill-who=main", "--signal=KILL", &unit.name]).expect_code(0);
    wait_until("the service fails", || unit.property("ActiveState") == "failed");
    unit.systemctl("start").expect_code(0);
    wait_until("it is up again", || unit.output().matches("up").count() == 2);
    unit.systemctl("stop").expect_code(0);
    unit.expect_gone();
}

/// Where nothing is said of it: the app's own stream, under the service's name.
#[test]
fn output_of_an_app_is_in_the_journal_below_the_service() {
    let Some(lab) = open() else { return };
    let apps = [crate::harness::app("a", APP, "")];
    let unit = Unit::install(&lab, NOTIFY, &pod("one", "", &apps));
    unit.systemctl("start").expect_code(0);
    wait_until("podrun finds it", || lab.call(&["logs", "one"]).stdout.contains("up"));
    let found =
        Running::spawn(std::process::Command::new("journalctl").args(["-q", "-o", "cat", "-u", &unit.name]));
    assert!(found.wait().stdout.lines().any(|line| line == "up"));
    assert!(!unit.output().contains("up"), "{}", unit.output());
    unit.systemctl("stop").expect_code(0);
    unit.expect_gone();
}

/// CASES 29. `start` returns when systemd has heard that the pod is ready.
#[test]
fn service_is_active_when_every_app_was_started_and_tells_how_it_is() {
    let Some(lab) = open() else { return };
    let apps = [app("a", APP, ""), app("b", APP, "depends-on = [\"a\"]")];
    let unit = Unit::install(&lab, NOTIFY, &pod("one", "", &apps));
    unit.systemctl("start").expect_code(0);
    assert!(lab.events_so_far().contains("\"up\""));
    assert_eq!(unit.property("StatusText"), "2 of 2 apps run");
    wait_until("both apps run", || unit.output().matches("up").count() == 2);
    unit.systemctl("stop").expect_code(0);
    unit.expect_gone();
    assert_eq!(lab.stop_order(), ["b", "a"]);
}

#[test]
fn service_whose_app_cannot_be_started_never_becomes_active() {
    let Some(lab) = open() else { return };
    let apps = "[app.a]\nrootfs = \"@ROOTFS@\"\nexec = [\"/none\"]\n".to_owned();
    let unit = Unit::install(&lab, NOTIFY, &pod("one", "", &[apps]));
    assert_ne!(unit.systemctl("start").code, 0);
    let state = ["ActiveState", "Result", "ExecMainStatus"].map(|name| unit.property(name));
    assert_eq!(state, ["failed", "exit-code", "127"], "{}", unit.output());
    unit.expect_no_group();
}

/// The pod's own stop-timeout is longer than the unit's: systemd is asked for more time.
#[test]
fn stop_that_takes_longer_than_the_units_time_is_waited_for() {
    let Some(lab) = open() else { return };
    let apps = [app("a", "ignore-term ; say up ; sleep 8 ; exit 0", "stop-timeout = \"10m\"")];
    let keys = format!("{NOTIFY}\nTimeoutStopSec=1");
    let unit = Unit::install(&lab, &keys, &pod("one", "stop-timeout = \"20m\"", &apps));
    unit.systemctl("start").expect_code(0);
    unit.wait_for("up");
    unit.systemctl("stop").expect_code(0);
    unit.expect_gone();
    assert_eq!(lab.end("a"), End::Exited { code: 0 });
}

#[test]
fn reload_is_answered() {
    let Some(lab) = open() else { return };
    let version = systemctl(&["--version"]).stdout;
    let version: u32 = version.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap();
    // Type=notify-reload came with 253; before it the unit says itself how it is told.
    let keys = match version {
        253.. => NOTIFY.replace("Type=notify", "Type=notify-reload"),
        _ => format!("{NOTIFY}\nExecReload=kill -HUP $MAINPID"),
    };
    let unit = Unit::install(&lab, &keys, &pod("one", "", &[app("a", APP, "")]));
    unit.systemctl("start").expect_code(0);
    unit.wait_for("up");
    unit.systemctl("reload").expect_code(0);
    unit.wait_for("SIGHUP: no app has a reload action");
    wait_until("the service is active again", || unit.property("ActiveState") == "active");
    unit.systemctl("stop").expect_code(0);
    unit.expect_gone();
}

/// A launcher that stands still is noticed, and nothing of its pod survives it.
#[test]
fn watchdog_is_fed_until_the_launcher_stands_still() {
    let Some(lab) = open() else { return };
    let keys = format!("{NOTIFY}\nWatchdogSec=10\nTimeoutAbortSec=2");
    let unit = Unit::install(&lab, &keys, &pod("one", "", &[app("a", APP, "")]));
    unit.systemctl("start").expect_code(0);
    let fed = || unit.property("WatchdogTimestampMonotonic").parse::<u64>().unwrap();
    let first = fed();
    wait_until("it is fed", || fed() > first);
    assert_eq!(unit.property("ActiveState"), "active");
    systemctl(&["kill", "--kill-who=main", "--signal=STOP", &unit.name]).expect_code(0);
    wait_until("the service fails", || unit.property("ActiveState") == "failed");
    assert_eq!(unit.property("Result"), "watchdog");
    unit.expect_no_group();
}

#[test]
fn variables_of_the_service_do_not_reach_an_app() {
    let Some(lab) = open() else { return };
    let unit = Unit::install(
        &lab,
        &format!("{NOTIFY}\nWatchdogSec=100"),
        &pod("one", "", &[app("a", "env ; say up ; on-term 0 ; pause", "")]),
    );
    unit.systemctl("start").expect_code(0);
    unit.wait_for("up");
    let output = unit.output();
    assert!(output.contains("PODRUN_APP"), "{output}");
    for name in ["NOTIFY_SOCKET", "WATCHDOG", "LISTEN_", "SYSTEMD_EXEC_PID", "INVOCATION_ID"] {
        assert!(!output.contains(name), "{output}");
    }
    unit.systemctl("stop").expect_code(0);
}

/// CASES 35: the manifest says nothing, the unit's limit holds for the sum of the apps.
#[test]
fn sum_over_the_units_limit_is_told_as_the_pods_level() {
    if !require::systemd() {
        return;
    }
    let Some(lab) = Lab::open_alone() else { return };
    let hog = |name| app(name, "alloc-hold 41943040", "");
    let unit = Unit::install(&lab, "Delegate=yes\nMemoryMax=64M", &pod("one", "", &[hog("a"), hog("b")]));
    unit.systemctl("start");
    wait_until("the service fails", || unit.property("ActiveState") == "failed");
    assert_eq!(unit.property("ExecMainStatus"), "137", "{}", unit.output());
    lab.expect_oom_of_the_pod(["a", "b"]);
    unit.expect_no_group();
}

/// systemd 254 and later start the launcher in a leaf of the service's group.
#[test]
fn launcher_in_a_subgroup_of_the_service_finds_the_services_own() {
    let Some(lab) = open() else { return };
    let keys = "Delegate=yes\nDelegateSubgroup=launcher\nMemoryMax=64M";
    let text = pod("one", "", &[app("a", APP, "isolators.memory-max = \"25MiB\"")]);
    let unit = Unit::install(&lab, keys, &text);
    if unit.property("DelegateSubgroup").is_empty() {
        crate::harness::sys::tell("not here: this test is about systemd 254 and later\n");
        return;
    }
    unit.systemctl("start").expect_code(0);
    unit.wait_for("up");
    assert_eq!(unit.value("app-a", ["memory.limit_in_bytes", "memory.max"]), (25_u64 << 20).to_string());
    assert!(groups("launcher").iter().any(|group| group.parent().unwrap().ends_with(&unit.name)));
    unit.systemctl("stop").expect_code(0);
    unit.expect_gone();
}

/// A shell that somebody starts in a service has the variables of the service and is not it.
#[test]
fn child_of_a_service_is_no_service() {
    let Some(lab) = open() else { return };
    let path = lab.manifest(&pod(&lab.name(), "", &[app("a", "say up", "")]));
    let script = format!("{}/podrun plan {} | cat", bin_dir().display(), path.display());
    let mut command = std::process::Command::new("systemd-run");
    command.args(["--quiet", "--pipe", "--wait", "-p", "Delegate=no", "sh", "-c", &script]);
    let ended = Running::spawn(&mut command).wait().expect_code(0);
    assert!(ended.stdout.contains("driver     systemd"), "{ended}");
}
