//! Apps that say by themselves that they are ready, and what else they say of themselves (sd_notify(3)).

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use podrun_abi::event::{End, Event};

use crate::harness::{Lab, Running, app, pod, wait_until};
use crate::service::{self, Unit};
use crate::systemd::systemctl;

const READY: &str = "ready.notify = true";
/// A root in which the app sees at once what the test makes there.
const SHARED: &str = "ready.notify = true\nrootfs-mode = \"read-only\"";
const PAUSE: &str = "on-term 0 ; pause";

/// A service manager that only listens.
struct Manager {
    path: PathBuf,
    heard: Arc<Mutex<String>>,
    listener: Option<JoinHandle<()>>,
}

impl Manager {
    fn listen(lab: &Lab) -> Self {
        let path = lab.path("manager");
        let (socket, heard) = (UnixDatagram::bind(&path).unwrap(), Arc::new(Mutex::new(String::new())));
        let all = Arc::clone(&heard);
        let listener = Some(thread::spawn(move || {
            let mut buffer = [0; 8192];
            // Nothing ends it.
            while let Ok(length @ 1..) = socket.recv(&mut buffer) {
                all.lock().unwrap().push_str(&(String::from_utf8_lossy(&buffer[..length]) + "\n"));
            }
        }));
        Self { path, heard, listener }
    }

    fn heard(&self) -> String {
        self.heard.lock().unwrap().clone()
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        wait_until(&format!("`{text}` is heard"), || self.heard().contains(text));
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = UnixDatagram::unbound().unwrap().send_to(&[], &self.path);
        self.listener.take().into_iter().for_each(|listener| drop(listener.join()));
    }
}

fn started_with(lab: &Lab, manifest: &str, manager: &Manager) -> Running {
    let path = lab.manifest(manifest);
    let mut command = lab.podrun(&["run", "--no-log-prefix", path.to_str().unwrap()]);
    Running::spawn(command.env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", "600000000"))
}

/// The status of one app of the pod `one`.
fn told(lab: &Lab, app: &str) -> serde_json::Value {
    lab.status(&format!("one/{app}"))["apps"][0].clone()
}

fn place(events: &[Event], what: impl Fn(&Event) -> bool) -> usize {
    events.iter().position(what).unwrap_or_else(|| panic!("{events:#?}"))
}

#[test]
fn app_says_that_it_is_ready_whoever_it_is_and_whatever_its_root() {
    let Some(lab) = Lab::open() else { return };
    let manager = Manager::listen(&lab);
    let words = format!("env ; notify STATUS=up_and_well READY=1 ; notify-barrier ; say sent ; {PAUSE}");
    let of_mode = |mode: &str| app(mode, &words, &format!("{READY}\nuser = 1000\nrootfs-mode = \"{mode}\""));
    let mut apps = ["overlay", "read-only", "writable"].map(of_mode).to_vec();
    apps.push(app("silent", &format!("say silent ; env ; stat /dev/notify ; say sent ; {PAUSE}"), ""));
    let running = started_with(&lab, &pod("one", "", &apps), &manager);
    manager.wait_for("READY=1");
    wait_until("all have said their part", || running.stdout_so_far().matches("sent\n").count() == 4);
    for mode in ["overlay", "read-only", "writable"] {
        wait_until("the status is known", || told(&lab, mode)["status_text"] == "up_and_well");
        let status = told(&lab, mode);
        assert_eq!((&status["ready"], &status["state"]), (&true.into(), &"running".into()), "{status}");
        assert_eq!(status["status"], "ready: up_and_well");
        manager.wait_for(&format!("STATUS={mode}: up_and_well\n"));
    }
    assert_eq!(told(&lab, "silent").get("ready"), None);
    let events = lab.events();
    let up = place(&events, |event| *event == Event::Up);
    let ready = events[..up].iter().filter(|event| matches!(event, Event::Ready { .. })).count();
    assert_eq!(ready, 3, "{events:#?}");
    assert_eq!(manager.heard().matches("READY=1").count(), 1, "{}", manager.heard());
    running.signal(libc::SIGTERM);
    let ended = running.wait().expect_code(0);
    let (output, silent) = (&ended.stdout, ended.stdout.matches("env NOTIFY_SOCKET=").count());
    assert_eq!(output.matches("env NOTIFY_SOCKET=\"/dev/notify\"\n").count(), 3, "{ended}");
    assert_eq!(output.matches("env WATCHDOG_USEC=\"600000000\"\n").count(), 3, "{ended}");
    assert_eq!((silent, output.matches("barrier ok\n").count()), (3, 3), "{ended}");
    assert!(output.contains("stat /dev/notify ENOENT\n"), "{ended}");
}

#[test]
fn app_that_waits_until_another_is_ready_starts_after_it_and_detached_run_returns_then() {
    let Some(lab) = Lab::open() else { return };
    let apps = [
        app("db", &format!("notify STATUS=loading ; wait-file /go 600 ; notify READY=1 ; {PAUSE}"), SHARED),
        app("web", PAUSE, "depends-on = { db = \"ready\" }"),
        app("log", PAUSE, "depends-on = { db = \"started\" }"),
    ];
    let path = lab.manifest(&pod("one", "", &apps));
    let plan = lab.call(&["plan", path.to_str().unwrap()]).expect_code(0).stdout;
    assert!(
        plan.contains("  after      db (ready)\n") && plan.contains("  ready      when it says so"),
        "{plan}"
    );
    let detached = Running::spawn(&mut lab.podrun(&["run", "-d", path.to_str().unwrap()]));
    wait_until("the log runs", || lab.events_so_far().contains("{\"started\":{\"app\":\"log\""));
    wait_until("the status is known", || told(&lab, "db")["status_text"] == "loading");
    assert_eq!(
        (told(&lab, "db")["status"].clone(), told(&lab, "db")["ready"].clone()),
        ("starting: loading".into(), false.into())
    );
    assert_eq!(
        (told(&lab, "web")["state"].clone(), lab.status("one")["state"].clone()),
        ("waiting".into(), "starting".into())
    );
    assert!(!detached.has_ended(), "it waits");
    let pending = lab.call(&["status", "--wait-ready=0s", "one/db"]);
    assert_eq!(pending.code, 124, "{pending}");
    fs::write(lab.rootfs().join("go"), "").unwrap();
    detached.wait().expect_code(0);
    let status = lab.status("one");
    assert_eq!(status["state"], "running", "{status}");
    assert_eq!(told(&lab, "db")["status"], "ready: loading");
    let events = lab.events();
    let ready = place(&events, |event| matches!(event, Event::Ready { app } if app == "db"));
    let web = place(&events, |event| matches!(event, Event::Started { app, .. } if app == "web"));
    assert!(ready < web && web < place(&events, |event| *event == Event::Up), "{events:#?}");
    lab.call(&["stop", "one"]).expect_code(0);
    lab.wait_until_empty();
    assert_eq!(lab.stop_order().last().map(String::as_str), Some("db"));
}

#[test]
fn app_that_ends_before_it_is_ready_skips_what_waits_for_it_and_fails_the_start() {
    let Some(lab) = Lab::open() else { return };
    for (words, code, told) in [("notify STATUS=broken ; exit 3", 3, "exited 3"), ("exit 0", 125, "exited 0")]
    {
        let apps = [app("db", words, READY), app("web", PAUSE, "depends-on = { db = \"ready\" }")];
        let path = lab.manifest(&pod("one", "", &apps));
        let ended = lab.call(&["run", "-d", "--replace", path.to_str().unwrap()]).expect_code(code);
        ended.expect_stderr(&[&format!("podrun: app `db` ended before it was ready: {told}")]);
        lab.wait_until_empty();
        assert_eq!(lab.status("one")["apps"][1]["state"], "skipped");
        assert_eq!(lab.status("one")["exit_code"], code);
        lab.call(&["rm", "one"]).expect_code(0);
    }
}

/// What an app says last is heard although it ends at once, and has said more than is taken at a time.
#[test]
fn app_that_is_ready_and_ends_at_once_was_ready() {
    let Some(lab) = Lab::open() else { return };
    let apps = [
        app("init", "notify-flood 70 ; notify READY=1 STATUS=done", READY),
        app("web", "say up", "depends-on = { init = \"ready\" }"),
    ];
    let ended = lab.run(&pod("one", "", &apps)).expect_code(0);
    assert!(ended.stdout.contains("up\n"), "{ended}");
    assert_eq!(told(&lab, "init")["status_text"], "done");
    assert_eq!(lab.end("web"), End::Exited { code: 0 });
}

#[test]
fn app_that_says_too_much_is_heard_in_part_and_keeps_nobody_waiting() {
    let Some(lab) = Lab::open() else { return };
    let manager = Manager::listen(&lab);
    let long = format!("notify STATUS={} READY=1 ; notify-flood", "x".repeat(4096));
    let quiet =
        format!("wait-file /go 600 ; notify MAINPID=1 STOPPING=1 FDSTORE=1 ; notify READY=1 ; {PAUSE}");
    let apps = [app("loud", &long, "ready.notify = true\nessential = false"), app("quiet", &quiet, SHARED)];
    let running = started_with(&lab, &pod("one", "", &apps), &manager);
    running.wait_for("flooding");
    fs::write(lab.rootfs().join("go"), "").unwrap();
    wait_until("quiet is ready", || told(&lab, "quiet")["ready"] == true);
    let said =
        |app: &serde_json::Value| app["status_text"].as_str().and_then(|text| text.parse::<u64>().ok());
    let before = said(&told(&lab, "loud"));
    wait_until("more is heard", || said(&told(&lab, "loud")) > before.max(Some(1000)));
    // A datagram that is too long says nothing at all.
    assert_eq!(told(&lab, "loud")["ready"], false);
    let account = lab.events_so_far();
    assert!(account.lines().count() < 10 && !account.contains("says"), "{account}");
    lab.call(&["stop", "one"]).expect_code(0);
    manager.wait_for("STOPPING=1");
    let heard = manager.heard();
    for word in ["READY=1", "MAINPID=1\n", "FDSTORE"] {
        assert!(!heard.contains(word), "{heard}");
    }
    running.wait();
}

#[test]
fn more_time_is_passed_on_and_a_missed_watchdog_is_told_at_once() {
    let Some(lab) = Lab::open() else { return };
    let manager = Manager::listen(&lab);
    let words = format!(
        "notify EXTEND_TIMEOUT_USEC=7000000 ; notify READY=1 WATCHDOG_USEC=1000 WATCHDOG=1 ; {PAUSE}"
    );
    let running = started_with(&lab, &pod("one", "", &[app("a", &words, READY)]), &manager);
    manager.wait_for("EXTEND_TIMEOUT_USEC=7000000\n");
    manager.wait_for("STATUS=a has missed its watchdog\nWATCHDOG=trigger\n");
    wait_until("it is in the account", || lab.events_so_far().contains("watchdog-missed"));
    assert_eq!(told(&lab, "a")["status"], "running, late for its watchdog");
    running.signal(libc::SIGTERM);
    let ended = running.wait().expect_code(0);
    ended.expect_stderr(&["a has missed its watchdog"]);
}

/// The last close of a descriptor may wait for as long as its maker likes; it is not stage1 that waits.
#[test]
fn descriptor_whose_close_would_wait_keeps_nobody_waiting() {
    let Some(lab) = Lab::open() else { return };
    let words = format!("notify-lingering ; notify-barrier ; notify READY=1 ; say up ; {PAUSE}");
    let running = lab.start(&pod("one", "", &[app("a", &words, READY)]));
    running.wait_for("up");
    let ended = lab.call(&["stop", "one"]).expect_code(0);
    drop(ended);
    let ended = running.wait();
    assert!(ended.stdout.contains("lingering ok\n") && ended.stdout.contains("barrier ok\n"), "{ended}");
}

/// Longer than the unit's own time for the start: the app asks for more.
#[test]
fn service_is_activating_until_its_app_says_that_it_is_ready() {
    let Some(lab) = service::open() else { return };
    let words = format!(
        "notify STATUS=loading EXTEND_TIMEOUT_USEC=900000000 ; sleep 22 ; notify READY=1 ; say up ; {PAUSE}"
    );
    let keys = format!("{}\nTimeoutStartSec=20", service::NOTIFY);
    let unit = Unit::install(&lab, &keys, &pod("one", "", &[service::app("a", &words, READY)]));
    systemctl(&["start", "--no-block", &unit.name]).expect_code(0);
    wait_until("the app is heard", || unit.property("StatusText") == "a: loading");
    assert!(unit.output().contains("up") || unit.property("ActiveState") == "activating");
    wait_until("it is not activating any more", || unit.property("ActiveState") != "activating");
    assert_eq!(
        (unit.property("ActiveState").as_str(), unit.property("StatusText").as_str()),
        ("active", "a: loading")
    );
    assert!(lab.events_so_far().contains("{\"ready\":{\"app\":\"a\"}}"));
    unit.systemctl("stop").expect_code(0);
    unit.expect_gone();
}

#[test]
fn service_fails_by_its_watchdog_when_an_app_is_silent() {
    let Some(lab) = service::open() else { return };
    let keys = format!("{}\nWatchdogSec=10\nTimeoutAbortSec=2", service::NOTIFY);
    let words = format!("notify READY=1 ; notify-beat 1000 12 ; {PAUSE}");
    let unit = Unit::install(&lab, &keys, &pod("one", "", &[service::app("a", &words, READY)]));
    unit.systemctl("start").expect_code(0);
    unit.wait_for("silent");
    // It was watched for longer than it may be silent.
    assert_eq!(unit.property("ActiveState"), "active", "{}", unit.output());
    wait_until("the service fails", || unit.property("ActiveState") == "failed");
    assert_eq!(unit.property("Result"), "watchdog", "{}", unit.output());
    assert!(unit.output().contains("a has missed its watchdog"), "{}", unit.output());
    unit.expect_no_group();
}

/// systemd keeps what the app had kept over a restart of the service, and the app gets it back by its own name.
#[test]
fn descriptors_that_an_app_has_kept_come_back_after_a_restart() {
    let Some(lab) = service::open() else { return };
    let keys = format!("{}\nFileDescriptorStoreMax=8", service::NOTIFY);
    let kept = "stored ; notify-store conn hello ; notify-store gone x ; notify FDSTOREREMOVE=1 FDNAME=gone ; \
                notify READY=1 ; say up";
    let apps = [
        service::app("a", &format!("{kept} ; {PAUSE}"), READY),
        service::app("b", &format!("stored ; notify READY=1 ; say up ; {PAUSE}"), READY),
    ];
    let unit = Unit::install(&lab, &keys, &pod("one", "", &apps));
    unit.systemctl("start").expect_code(0);
    wait_until("both are up", || unit.output().matches("up\n").count() == 2);
    wait_until("systemd keeps one", || unit.property("NFileDescriptorStore") == "1");
    assert_eq!(unit.output().matches("stored nothing\n").count(), 2, "{}", unit.output());
    unit.systemctl("restart").expect_code(0);
    wait_until("both are up again", || unit.output().matches("up\n").count() == 4);
    let output = unit.output();
    assert!(output.contains("stored conn hello\n"), "{output}");
    assert_eq!(output.matches("stored nothing\n").count(), 3, "the other app has nothing: {output}");
    unit.systemctl("stop").expect_code(0);
    unit.expect_gone();
}
