//! The calls against a systemd that fails on demand: each failure is an error that says what was asked and what came.

use podrun_fake_systemd::{Fake, Fault, PROPERTIES as KNOWN, Rule, Silent};

use super::*;

const SCOPE: &str = "podrun-1a2b3c4d.scope";
const SLICE: &str = "machine-shop.slice";
/// Beyond what an answer takes; what never comes is waited for so long.
const SHORT: Duration = Duration::from_millis(400);

fn manager_at(address: &str, patience: Duration) -> anyhow::Result<Manager> {
    let connection = Connection::open_listed(address, Instant::now() + patience)?;
    Ok(Manager { connection, patience, until: None, stopping: false })
}

/// A fake and a manager that waits far longer than any answer takes, or [`SHORT`] where none comes.
fn with_fake<T>(rules: &[Rule], body: impl FnOnce(&Fake, &mut Manager) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path(), rules);
    let hangs = |rule: &Rule| matches!(rule.fault, Fault::NeverEnds | Fault::SignalLost | Fault::NoReply);
    let patience = if rules.iter().any(hangs) { SHORT } else { DEADLINE };
    let mut manager = manager_at(&fake.address(), patience).unwrap();
    body(&fake, &mut manager)
}

fn start(manager: &mut Manager, settled: bool) -> anyhow::Result<()> {
    let properties = vec![("Delegate", true.into()), ("Slice", SLICE.into())];
    let others = [(SLICE, vec![("StopWhenUnneeded", true.into())])];
    manager.start(&(SCOPE, properties), &others, &|| settled)
}

#[test]
fn scope_and_slice_are_started_by_one_call() {
    with_fake(&[], |fake, manager| {
        start(manager, false).unwrap();
        let calls: Vec<String> = fake.calls().into_iter().map(|call| call.method).collect();
        assert_eq!(calls, ["StartTransientUnit"]);
        let units: Vec<String> = fake.units().into_iter().map(|unit| unit.name).collect();
        assert_eq!(units, [SLICE, SCOPE]);
        let group = manager.scope_property(SCOPE, "ControlGroup").unwrap();
        assert_eq!(group, format!("/machine.slice/{SLICE}/{SCOPE}"));
        assert_eq!(manager.unit_state(SCOPE).unwrap().unwrap().active, "active");
    });
}

#[test]
fn order_of_reply_and_signals_does_not_matter() {
    for fault in [Fault::OtherJobFirst, Fault::ReplyAfterSignal] {
        let started = with_fake(&[Rule::start(".scope", fault.clone())], |_, manager| start(manager, false));
        assert!(started.is_ok(), "{fault:?}: {started:?}");
    }
}

#[test]
fn lost_signal_is_made_up_for_by_looking() {
    with_fake(&[Rule::start(".scope", Fault::SignalLost)], |_, manager| start(manager, true).unwrap());
    let error = with_fake(&[Rule::start(".scope", Fault::SignalLost)], |_, manager| {
        start(manager, false).unwrap_err().to_string()
    });
    assert_eq!(error, "its job has not ended within 400ms, the unit is `active`");
}

#[test]
fn each_failure_says_what_was_asked_and_what_came() {
    let table = [
        (Fault::NeverEnds, "its job has not ended within 400ms, the unit is `activating`"),
        (Fault::Ends("failed"), "its job ended `failed`, expected `done` (the unit's result is `failed`)"),
        (Fault::Ends("timeout"), "its job ended `timeout`, expected `done` (the unit's result is `timeout`)"),
        (
            Fault::Ends("canceled"),
            "its job ended `canceled`, expected `done` (the unit's result is `canceled`)",
        ),
        (
            Fault::Ends("dependency"),
            "its job ended `dependency`, expected `done` (the unit's result is `dependency`)",
        ),
        (Fault::NoReply, "cannot call StartTransientUnit: no answer came in time"),
        (Fault::BusDies, "cannot call StartTransientUnit: the connection was closed"),
        (
            Fault::Refuses("org.freedesktop.DBus.Error.AccessDenied", "Permission denied"),
            "systemd answered `org.freedesktop.DBus.Error.AccessDenied`: Permission denied",
        ),
    ];
    for (fault, expected) in table {
        let error = with_fake(&[Rule::start(".scope", fault.clone())], |_, manager| {
            format!("{:#}", start(manager, true).unwrap_err())
        });
        assert_eq!(error, expected, "{fault:?}");
    }
}

#[test]
fn refusals_are_told_apart_by_their_names() {
    let exists = "org.freedesktop.systemd1.UnitExists";
    with_fake(&[], |fake, manager| {
        fake.add_unit(SCOPE, "failed");
        assert!(is_refusal(&start(manager, true).unwrap_err(), exists));
        assert_eq!(manager.unit_state(SCOPE).unwrap().unwrap().active, "failed");
        manager.reset_failed(SCOPE).unwrap();
        assert_eq!(manager.unit_state(SCOPE).unwrap(), None);
        start(manager, true).unwrap();
        manager.stop(SCOPE).unwrap();
        // What is gone already is fine.
        manager.stop(SCOPE).unwrap();
        manager.reset_failed(SCOPE).unwrap();
    });
}

#[test]
fn what_systemd_knows_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::with_properties(dir.path(), &[], &KNOWN[..4]);
    let mut manager = manager_at(&fake.address(), DEADLINE).unwrap();
    let known = manager.scope_properties().unwrap();
    assert!(known.contains("AllowedCPUs") && !known.contains("MemoryMax"), "{known:?}");
    assert_eq!(manager.version_and_root().unwrap(), ("252.39-fake".to_owned(), String::new()));
}

#[test]
fn request_to_stop_and_the_end_of_the_bus_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path(), &[]);
    let mut manager = manager_at(&fake.address(), DEADLINE).unwrap();
    let own = manager.unique_name().unwrap().to_owned();
    manager.start(&(SCOPE, vec![("Controller", own.into())]), &[], &|| false).unwrap();
    assert_eq!(manager.told(), None);
    fake.request_stop(SCOPE);
    // A call's answer comes behind the signal, which is kept.
    manager.unit_state(SCOPE).unwrap();
    assert_eq!(manager.told(), Some(Told::RequestStop));
    assert_eq!(manager.told(), None);
    fake.kill_bus();
    assert_eq!(manager.told(), Some(Told::Gone));
}

#[test]
fn listener_that_systemd_knows_already_listens() {
    let refusal =
        Fault::Refuses("org.freedesktop.systemd1.AlreadySubscribed", "Client is already subscribed.");
    with_fake(&[Rule { method: "Subscribe", unit: "", fault: refusal }], |fake, manager| {
        fake.add_unit(SCOPE, "active");
        manager.watch(SCOPE).unwrap();
        assert_eq!(manager.told(), None);
    });
}

#[test]
fn socket_that_is_silent_or_absent_is_an_error_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let silent = Silent::start(dir.path());
    let error = manager_at(&silent.address(), SHORT).unwrap_err();
    assert_eq!(format!("{error:#}"), "no answer to our authentication: no answer came in time");
    assert_eq!(silent.finish(), 1);
    let error = manager_at("unix:path=/nonexistent/bus", SHORT).unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error:#}");
    let error = manager_at("tcp:host=localhost,port=1", SHORT).unwrap_err();
    assert_eq!(error.to_string(), "it names no unix socket");
}
