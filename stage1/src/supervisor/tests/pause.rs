//! Apps that stand still, and what thaws them.

use super::*;

#[test]
fn paused_app_goes_on_before_it_is_asked_or_killed_or_what_it_left_is() {
    let all = || vec![AppIndex(0), AppIndex(1)];
    let paused = || {
        let mut bench = Bench::running(ESSENTIAL, &[plan("a", &[]), plan("b", &[0])]);
        assert_eq!(bench.on(Event::Pause(all())), ["freeze a", "paused", "freeze b", "paused"]);
        bench
    };
    let table: [(Event, &[&str]); 6] = [
        (Event::Pause(all()), &["freeze a", "freeze b"]),
        (Event::Unpause(vec![AppIndex(1)]), &["thaw b", "unpaused"]),
        (Event::Stop(vec![], None), &["pod-stopping", "thaw b", "unpaused", "stopping", "signal b 15"]),
        (Event::Kill(vec![AppIndex(0)]), &["kill a", "thaw a", "unpaused"]),
        (
            Event::Signal(all(), 9, Reach::Main),
            &["signal a 9", "thaw a", "unpaused", "signal b 9", "thaw b", "unpaused"],
        ),
        (Event::MainEnded(AppIndex(1), BY_KILL), &["thaw b", "unpaused", "empty b"]),
    ];
    for (event, expected) in table {
        assert_eq!(paused().on(event.clone()), expected, "{event:?}");
    }
    let mut bench = paused();
    assert_eq!(bench.on(Event::Signal(all(), 15, Reach::Main)), ["signal a 15", "signal b 15"]);
    bench.on(Event::Stop(vec![], None));
    let late = bench.end(1, BY_TERM);
    assert_eq!(late, ["empty b", "ended b 143 stopped", "thaw a", "unpaused", "stopping", "signal a 15"]);
    assert_eq!(bench.on(Event::Pause(all())), [""; 0], "what is to end is not paused any more");
}

#[test]
fn pause_is_refused_where_it_could_not_be_kept() {
    let pause = |apps: &[&str]| Command::Pause { apps: apps.iter().map(ToString::to_string).collect() };
    let mut bench = Bench::new(ESSENTIAL, &[plan("a", &[]), plan("b", &[0])]);
    bench.on(Event::Go);
    bench.on(Event::Started(AppIndex(0), 2));
    let refused = |bench: &Bench, apps: &[&str]| bench.table.parse_command(&pause(apps)).unwrap_err();
    assert_eq!(refused(&bench, &[]), "the pod is not up yet");
    assert_eq!(refused(&bench, &["b"]), "app `b` is not running");
    assert_eq!(refused(&bench, &["c"]), "no app `c` in this pod");
    assert_eq!(bench.table.parse_command(&pause(&["a"])), Ok(Event::Pause(vec![AppIndex(0)])));
    bench.on(Event::Started(AppIndex(1), 3));
    bench.on(Event::Stop(vec![AppIndex(1)], None));
    assert_eq!(refused(&bench, &["b"]), "app `b` is stopping");
    assert_eq!(bench.table.parse_command(&pause(&[])), Ok(Event::Pause(vec![AppIndex(0)])));
    bench.on(Event::Pause(vec![AppIndex(0)]));
    bench.on(Event::Stop(vec![], None));
    assert_eq!(refused(&bench, &[]), "the pod is stopping");
}

/// Both were sent while stage1 stood still, and are read at once.
#[test]
fn unpause_behind_a_pause_thaws_what_that_has_frozen() {
    for apps in [vec![], vec!["a".to_owned(), "b".to_owned()]] {
        let mut bench = Bench::running(ESSENTIAL, &[plan("a", &[]), plan("b", &[])]);
        bench.on(Event::MainEnded(AppIndex(1), BY_KILL));
        let commands = [Command::Pause { apps: vec![] }, Command::Unpause { apps }];
        let [pause, unpause] = commands.map(|command| bench.table.parse_command(&command).unwrap());
        assert_eq!(bench.on(pause), ["freeze a", "paused"]);
        assert_eq!(bench.on(unpause), ["thaw a", "unpaused"]);
    }
}

#[test]
fn paused_app_is_not_late_for_its_watchdog_and_has_all_its_time_afterwards() {
    let watchdog = Some(podrun_abi::notice::Watchdog::Fed);
    let mut bench = Bench::watched(&[notifying("a", &[])]);
    bench.on(Event::Go);
    bench.on(Event::Started(AppIndex(0), 2));
    bench.on(Event::Said(AppIndex(0), Notice { watchdog, ..Notice::default() }));
    bench.on(Event::Pause(vec![AppIndex(0)]));
    assert_eq!(bench.after_ms(60_000), [""; 0]);
    assert_eq!(bench.on(Event::Unpause(vec![AppIndex(0)])), ["thaw a", "unpaused"]);
    assert_eq!(bench.after_ms(1999), [""; 0]);
    assert_eq!(bench.after_ms(1), ["watchdog-missed"]);
}
