//! The systemd driver against a systemd that fails on demand: an error in time that says what was asked and what came
//! back, no app executed, nothing left. CASES 31, 32, 36.

use std::time::Duration;

use podrun_fake_systemd::{Fake, Fault, PROPERTIES, Rule, Silent, Unit};

use crate::harness::{Ended, Lab, Running, app, pod, slowness, sys};

const LIMITS: &str = "[pod.isolators]\nmemory-max = \"64MiB\"\npids-max = 60\n";
const REFUSED: &str = "org.freedesktop.DBus.Error.PropertyReadOnly";

/// Starts a pod whose app would say so.
fn start(lab: &Lab, address: &str) -> Running {
    let path = lab.manifest(&pod("one", LIMITS, &[app("a", "say executed", "")]));
    let mut command = lab.podrun(&["run", "--driver", "systemd", path.to_str().unwrap()]);
    Running::spawn(command.env("DBUS_SYSTEM_BUS_ADDRESS", address))
}

#[track_caller]
fn expect_refused(lab: &Lab, ended: Ended, words: &[&str]) {
    let ended = ended.expect_code(125).expect_stderr(words);
    assert!(!ended.stdout.contains("executed"), "{ended}");
    assert_eq!(lab.processes(), Vec::<i32>::new());
    assert!(lab.pod_dirs().is_empty(), "nothing has run, and a record is left");
}

/// A fake in the lab's folder.
fn fake(lab: &Lab, rules: &[Rule]) -> Fake {
    let dir = lab.path("bus");
    std::fs::create_dir(&dir).unwrap();
    Fake::start(&dir, rules)
}

#[track_caller]
fn expect_no_unit(fake: &Fake) {
    let names: Vec<String> = fake.units().into_iter().map(|unit: Unit| unit.name).collect();
    assert!(names.is_empty(), "{names:?}");
}

#[test]
fn manager_that_says_done_and_has_done_nothing_is_found_out() {
    let Some(lab) = Lab::open() else { return };
    let fake = fake(&lab, &[]);
    let ended = start(&lab, &fake.address()).wait();
    let words = [
        "cannot create unit `podrun-",
        "systemd says that unit",
        "expected `/machine.slice/machine-one.slice/",
    ];
    // The first is a context of the start alone.
    expect_refused(&lab, ended, &words[1..]);
    expect_no_unit(&fake);
}

#[test]
fn each_result_of_the_job_but_done_is_an_error() {
    for result in ["failed", "timeout", "canceled", "dependency"] {
        let Some(lab) = Lab::open() else { return };
        let fake = fake(&lab, &[Rule::start(".scope", Fault::Ends(result))]);
        let ended = start(&lab, &fake.address()).wait();
        let told = format!("its job ended `{result}`, expected `done`");
        expect_refused(&lab, ended, &["cannot create unit `podrun-", &told]);
        expect_no_unit(&fake);
    }
}

#[test]
fn refusal_is_told_in_systemds_words() {
    let Some(lab) = Lab::open() else { return };
    let denied = Fault::Refuses("org.freedesktop.DBus.Error.AccessDenied", "Permission denied");
    let fake = fake(&lab, &[Rule::start(".scope", denied)]);
    let ended = start(&lab, &fake.address()).wait();
    expect_refused(&lab, ended, &["org.freedesktop.DBus.Error.AccessDenied`: Permission denied"]);
}

/// Neither has a way round: both end within the deadline of 30 s and the undo.
#[test]
fn job_that_never_ends_and_call_that_is_never_answered_end_in_time() {
    let labs: Vec<Lab> = std::iter::from_fn(Lab::open).take(2).collect();
    let [first, second] = labs.as_slice() else { return };
    let never = fake(first, &[Rule::start(".scope", Fault::NeverEnds)]);
    let silent = fake(second, &[Rule::start(".scope", Fault::NoReply)]);
    let running = [start(first, &never.address()), start(second, &silent.address())];
    let deadline = Duration::from_secs(60) * slowness();
    let [job, call] = running.map(|running| running.wait_within(deadline));
    expect_refused(first, job, &["its job has not ended within 30s, the unit is `activating`"]);
    expect_refused(second, call, &["cannot call StartTransientUnit: no answer came in time"]);
    expect_no_unit(&never);
}

#[test]
fn bus_that_dies_in_the_middle_is_an_error() {
    let Some(lab) = Lab::open() else { return };
    let fake = fake(&lab, &[Rule::start(".scope", Fault::BusDies)]);
    let ended = start(&lab, &fake.address()).wait();
    expect_refused(&lab, ended, &["cannot call StartTransientUnit: the connection was closed"]);
}

#[test]
fn silent_socket_is_an_error_in_time() {
    let Some(lab) = Lab::open() else { return };
    let dir = lab.path("bus");
    std::fs::create_dir(&dir).unwrap();
    let silent = Silent::start(&dir);
    let ended = start(&lab, &silent.address()).wait_within(Duration::from_secs(60) * slowness());
    expect_refused(&lab, ended, &["DBUS_SYSTEM_BUS_ADDRESS", "no answer to our authentication"]);
    let ended = start(&lab, "unix:path=/nonexistent").wait();
    expect_refused(
        &lab,
        ended,
        &["cannot use driver `systemd`", "No such file or directory", "--driver cgroupfs"],
    );
}

/// CASES 31: what has failed makes room, what lives does not.
#[test]
fn unit_that_exists_is_reset_when_it_has_failed_and_named_when_it_lives() {
    let Some(lab) = Lab::open() else { return };
    let fake = fake(&lab, &[]);
    fake.add_unit("machine-one.slice", "failed");
    // It gets as far as a manager that does nothing lets it.
    let ended = start(&lab, &fake.address()).wait();
    expect_refused(&lab, ended, &["systemd says that unit"]);
    assert!(
        fake.calls().iter().any(|call| call.method == "ResetFailedUnit" && call.unit == "machine-one.slice")
    );

    fake.add_unit("machine-one.slice", "active");
    let ended = start(&lab, &fake.address()).wait();
    expect_refused(&lab, ended, &["unit `machine-one.slice` exists already and is `active`"]);
    assert_eq!(fake.units().len(), 1, "somebody else's unit is gone");
}

/// What an old systemd does not set is left out, one by one, but for a limit.
#[test]
fn property_that_is_refused_is_left_out_unless_the_pod_depends_on_it() {
    let Some(lab) = Lab::open() else { return };
    let optional = fake(&lab, &[Rule::start(".scope", Fault::RefusesProperty("OOMPolicy", REFUSED))]);
    let ended = start(&lab, &optional.address()).wait();
    expect_refused(&lab, ended, &["systemd says that unit"]);
    let starts: Vec<bool> = optional
        .calls()
        .iter()
        .filter(|call| call.method == "StartTransientUnit")
        .map(|call| call.properties.contains_key("OOMPolicy"))
        .collect();
    assert_eq!(starts, [true, false]);
    drop(optional);

    let Some(lab) = Lab::open() else { return };
    let needed = fake(&lab, &[Rule::start(".scope", Fault::RefusesProperty("Delegate", REFUSED))]);
    let ended = start(&lab, &needed.address()).wait();
    expect_refused(&lab, ended, &["PropertyReadOnly`: Cannot set property Delegate"]);
}

#[test]
fn limits_that_systemd_does_not_know_are_planned_below_the_scope() {
    let Some(lab) = Lab::open() else { return };
    let dir = lab.path("bus");
    std::fs::create_dir(&dir).unwrap();
    let known: Vec<&'static str> = PROPERTIES.into_iter().filter(|name| *name != "TasksMax").collect();
    let fake = Fake::with_properties(&dir, &[], &known);
    let path = lab.manifest(&pod("one", LIMITS, &[app("a", "exit 0", "")]));
    let mut command = lab.podrun(&["plan", "--driver", "systemd", path.to_str().unwrap()]);
    let plan = Running::spawn(command.env("DBUS_SYSTEM_BUS_ADDRESS", fake.address())).wait().expect_code(0);
    assert!(plan.stdout.contains("property   MemoryMax=67108864"), "{plan}");
    assert!(!plan.stdout.contains("TasksMax"), "{plan}");
    assert!(plan.stdout.contains("pids.max = 60"), "{plan}");
}

/// Who needs no systemd does not look for one.
#[test]
fn other_driver_opens_no_connection() {
    let Some(lab) = Lab::open() else { return };
    let dir = lab.path("bus");
    std::fs::create_dir(&dir).unwrap();
    let silent = Silent::start(&dir);
    let path = lab.manifest(&pod("one", LIMITS, &[app("a", "say executed", "")]));
    let mut command = lab.podrun(&["run", "--driver", "cgroupfs", path.to_str().unwrap()]);
    Running::spawn(command.env("DBUS_SYSTEM_BUS_ADDRESS", silent.address())).wait().expect_code(0);
    assert_eq!(silent.finish(), 0);
}

/// Ctrl-C in the terminal is for the launcher: the placeholder is in no process group of its.
#[test]
fn launcher_that_is_killed_while_it_waits_leaves_no_process() {
    let Some(lab) = Lab::open() else { return };
    let fake = fake(&lab, &[Rule::start(".scope", Fault::NeverEnds)]);
    let running = start(&lab, &fake.address());
    crate::harness::wait_until("systemd is asked", || !fake.units().is_empty());
    assert_eq!(lab.processes().len(), 2, "the launcher and its placeholder");
    sys::kill(running.pid(), libc::SIGKILL).unwrap();
    running.wait().expect_code(137);
    lab.wait_until_empty();
    let _ = lab.call(&["gc"]);
}

/// The service of `run -d`, which is asked for before anything of the pod is. Where the namespaces of PID 1 cannot be
/// looked at, as in a container, there is none.
#[test]
fn service_of_a_detached_pod_that_does_not_start_is_an_error() {
    let Some(lab) = crate::systemd::open() else { return };
    let path = lab.manifest(&pod("one", LIMITS, &[app("a", "say executed", "")]));
    let table = [
        (Fault::Ends("failed"), "cannot start unit `podrun-one.service`: its job ended `failed`"),
        (
            Fault::Refuses("org.freedesktop.DBus.Error.AccessDenied", "not you"),
            "cannot create unit `podrun-one.service`",
        ),
        (Fault::BusDies, "cannot create unit `podrun-one.service`"),
    ];
    for (number, (fault, words)) in table.into_iter().enumerate() {
        let dir = lab.path(&format!("bus-{number}"));
        std::fs::create_dir(&dir).unwrap();
        let fake = Fake::start(&dir, &[Rule::start(".service", fault)]);
        let mut command = lab.podrun(&["run", "-d", "--driver", "systemd", path.to_str().unwrap()]);
        let ended = Running::spawn(command.env("DBUS_SYSTEM_BUS_ADDRESS", fake.address())).wait();
        expect_refused(&lab, ended, &["cannot start pod `one`", words]);
    }
}
