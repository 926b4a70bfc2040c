//! `podrun events`: what has happened, as it happens, in words and as JSON.

use serde_json::Value;

use crate::harness::{Lab, app, pod, require, slowness, wait_until};

/// What is told as JSON, a line each.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn of_kind(lines: &[Value], kind: &str) -> Vec<Value> {
    lines.iter().filter(|line| line["event"] == kind).cloned().collect()
}

#[test]
fn account_of_a_pod_is_told_in_words_and_as_json() {
    let Some(lab) = Lab::open() else { return };
    let apps = [app("a", "say up ; exit 3", "essential = false"), app("b", "exit 0", "")];
    lab.run(&pod("one", "exit-policy = \"all-exited\"\n", &apps)).expect_code(0);
    let told = lab.call(&["events", "one"]).expect_code(0).stdout;
    let words: Vec<&str> = told.lines().map(|line| line.split_once(" one ").expect("the name").1).collect();
    assert!(words[0].starts_with("started      app "), "{told}");
    assert!(words.contains(&"up           the pod is up"), "{told}");
    assert!(words.contains(&"ended        app a exited 3"), "{told}");
    assert_eq!(words.last(), Some(&"pod-ended    the pod has ended: exited 0"), "{told}");
    let json = lines(&lab.call(&["events", "-o", "json"]).expect_code(0).stdout);
    assert_eq!(json.len(), words.len(), "without a name those of all pods");
    let ended = of_kind(&json, "ended").into_iter().find(|line| line["app"] == "a").expect("its end");
    assert_eq!((&ended["pod"], &ended["exit_code"]), (&"one".into(), &3.into()), "{ended}");
    assert!(ended["time_at"].as_str().is_some_and(|time| time.ends_with('Z')), "{ended}");

    let alone = lab.call(&["events", "one/a", "-e", "ended", "-e", "up"]).expect_code(0).stdout;
    assert_eq!(alone.lines().count(), 1, "{alone}");
    let last = lab.call(&["events", "-n", "1", "one"]).expect_code(0).stdout;
    assert_eq!(last.lines().count(), 1, "{last}");
    let none = lab.call(&["events", "--until", "1h", "one"]).expect_code(0).stdout;
    assert_eq!(none, "");
    let refused = lab.call(&["events", "one/c"]).expect_code(4);
    assert!(refused.stderr.contains("pod `one` has no app `c`"), "{refused}");
    let refused = lab.call(&["events", "-e", "dance"]).expect_code(2);
    assert!(refused.stderr.contains("dance"), "{refused}");
}

/// It ends with the pod, and has said all of it.
#[test]
fn events_are_followed_to_the_end_of_the_pod() {
    let Some(lab) = Lab::open() else { return };
    let running = lab.start(&pod("one", "", &[app("a", "say up ; on-term 0 ; pause", "")]));
    running.wait_for("up");
    let following = std::process::Stdio::piped();
    let mut command = lab.command(crate::harness::bin_dir().join("podrun"));
    let mut child = command.args(["events", "-f", "-o", "json", "one"]).stdout(following).spawn().unwrap();
    // It follows from here on, and has not come when all is over.
    let mut first = String::new();
    let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut reader, &mut first).unwrap();
    lab.call(&["pause", "one"]).expect_code(0);
    lab.call(&["unpause", "one"]).expect_code(0);
    lab.call(&["stop", "one"]).expect_code(0);
    running.wait();
    std::io::Read::read_to_string(&mut reader, &mut first).unwrap();
    assert!(child.wait().unwrap().success());
    let told = lines(&first);
    let kinds: Vec<&str> = told.iter().filter_map(|line| line["event"].as_str()).collect();
    let expected = ["started", "up", "paused", "unpaused", "stopping", "ended", "pod-ended"];
    let in_order: Vec<&str> = kinds.iter().copied().filter(|kind| expected.contains(kind)).collect();
    assert_eq!(in_order, expected, "{kinds:?}");
}

/// A pod has its name before it has an account.
#[test]
fn pods_that_come_are_followed_from_their_beginning() {
    let Some(lab) = Lab::open() else { return };
    let mut command = lab.command(crate::harness::bin_dir().join("podrun"));
    let file = std::fs::File::create(lab.path("told")).unwrap();
    let mut child = command.args(["events", "-f", "-o", "json"]).stdout(file).spawn().unwrap();
    for number in 0..12 {
        let name = format!("p{number}");
        lab.run(&pod(&name, "", &[app("a", "exit 0", "")])).expect_code(0);
    }
    let wanted = lines(&lab.call(&["events", "-o", "json"]).expect_code(0).stdout);
    let told = || lines(&std::fs::read_to_string(lab.path("told")).unwrap());
    wait_until("all is told", || told().len() >= wanted.len());
    child.kill().unwrap();
    child.wait().unwrap();
    let told = told();
    let left_out: Vec<&Value> = wanted.iter().filter(|line| !told.contains(line)).collect();
    assert!(left_out.is_empty() && told.len() == wanted.len(), "not told: {left_out:?}");
}

/// Each has gone a moment later and leaves no record.
#[test]
fn short_pods_that_leave_nothing_are_followed_too() {
    let Some(lab) = Lab::open() else { return };
    let mut command = lab.command(crate::harness::bin_dir().join("podrun"));
    let file = std::fs::File::create(lab.path("told")).unwrap();
    let mut child = command.args(["events", "-f", "-o", "json"]).stdout(file).spawn().unwrap();
    lab.run(&pod("first", "", &[app("a", "exit 0", "")])).expect_code(0);
    let ended = || {
        let text = std::fs::read_to_string(lab.path("told")).unwrap();
        // The last line may be on its way.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        of_kind(&lines(whole), "ended").iter().map(|line| line["pod"].clone()).collect::<Vec<_>>()
    };
    wait_until("it follows", || !ended().is_empty());
    let mut expected = vec!["first".to_owned()];
    for number in 0..if slowness() == 1 { 20 } else { 6 } {
        let name = format!("p{number}");
        lab.start_with(&["--rm"], &pod(&name, "", &[app("a", "exit 0", "")])).wait().expect_code(0);
        expected.push(name);
    }
    // In order: with the last one all have been told.
    lab.run(&pod("last", "", &[app("a", "exit 0", "")])).expect_code(0);
    wait_until("the last one is told", || ended().contains(&"last".into()));
    expected.push("last".to_owned());
    child.kill().unwrap();
    child.wait().unwrap();
    // In their order, and nearly all: a machine that is busy may give it no CPU as long as a pod lives. A look now and
    // then finds one in five.
    let told = ended();
    let mut in_order = expected.clone();
    in_order.retain(|name| told.iter().any(|told| told == name));
    assert_eq!(told, in_order);
    assert!(2 * told.len() > expected.len(), "{told:?}");
}

/// Whoever reads no more is not written to for ever.
#[test]
fn followers_whose_reader_is_gone_end() {
    let Some(lab) = Lab::open() else { return };
    let running = lab.start(&pod("one", "", &[app("a", "say up ; on-term 0 ; pause", "")]));
    running.wait_for("up");
    let podrun = crate::harness::bin_dir().join("podrun");
    for command in ["events -f", "stats --interval 100ms"] {
        let words = format!("{} {command} one | head -n 1", podrun.display());
        // It sees that its reader is gone when it has something to say.
        let mut child = lab.command("/bin/bash").args(["-o", "pipefail", "-c", &words]).spawn().unwrap();
        wait_until("the follower has ended", || {
            lab.call(&["pause", "one"]).expect_code(0);
            lab.call(&["unpause", "one"]).expect_code(0);
            child.try_wait().unwrap().is_some()
        });
    }
    running.signal(libc::SIGTERM);
    running.wait();
}

/// While the app lives: it is told at once, and of which limit.
#[test]
fn kills_in_an_app_that_lives_are_told_at_once() {
    let Some(lab) = Lab::open() else { return };
    let limits =
        "[app.a.isolators]\nmemory-max = \"32MiB\"\nmemory-swap-max = \"0\"\nmemory-oom-group = false\n";
    let words = "child-alloc 100000000 ; child-alloc 100000000 ; say up ; on-term 0 ; pause";
    let running = lab.start(&pod("one", "", &[app("a", words, limits)]));
    running.wait_for("up");
    let ooms = || of_kind(&lines(&lab.call(&["events", "-o", "json", "one"]).stdout), "oom");
    let killed = || ooms().iter().filter_map(|line| line["oom_kills"].as_u64()).sum::<u64>();
    wait_until("both are told", || killed() >= 2);
    for oom in ooms() {
        assert_eq!((&oom["app"], &oom["oom"]), (&"a".into(), &"app".into()), "{oom}");
        assert_eq!(oom["limit"].as_u64(), Some(32 << 20), "{oom}");
        assert!(oom["memory_peak_bytes"].as_u64().is_some_and(|peak| peak > 31 << 20), "{oom}");
        assert!(oom["memory_some_total_ns"].as_u64().is_some(), "{oom}");
    }
    assert_eq!(lab.status("one")["apps"][0]["oom_kills"], 2);
    let told = lab.call(&["status", "one"]).stdout;
    assert!(told.contains("running, OOM kills: 2"), "{told}");
    running.signal(libc::SIGTERM);
    running.wait();
}

#[test]
fn processes_that_could_not_be_added_are_told() {
    let Some(lab) = Lab::open() else { return };
    let limits = "essential = false\nisolators.pids-max = 5";
    let apps = [app("a", "children 20", limits), app("calm", "exit 0", "")];
    lab.run(&pod("one", "exit-policy = \"all-exited\"\n", &apps)).expect_code(0);
    let told = of_kind(&lines(&lab.call(&["events", "-o", "json", "one"]).stdout), "pids-max");
    let [told] = &told[..] else { panic!("one of them, not {told:?}") };
    assert_eq!((&told["app"], &told["limit"]), (&"a".into(), &5.into()), "{told}");
    assert!(told["times"].as_u64().is_some_and(|times| times > 0), "{told}");
}

/// Before Linux 6.11 and on v1 it is the app's counter that moves.
#[test]
fn limit_of_processes_is_told_with_the_one_whose_it_is() {
    let Some(lab) = Lab::open() else { return };
    let keys = "exit-policy = \"all-exited\"\n[pod.isolators]\npids-max = 12\n";
    let limits = "essential = false\nisolators.pids-max = 100";
    lab.run(&pod("one", keys, &[app("a", "children 20", limits), app("calm", "exit 0", "")])).expect_code(0);
    let told = of_kind(&lines(&lab.call(&["events", "-o", "json", "one"]).stdout), "pids-max");
    let first = told.first().expect("it is told");
    assert_eq!((&first["limit"], &first["limit_of"]), (&12.into(), &"pod".into()), "{first}");
    assert!(first["message"].as_str().is_some_and(|words| words.ends_with("pids-max = 12")), "{first}");
}

#[test]
fn memory_above_high_is_told_of_the_app_and_of_the_pod() {
    if !require::unified() {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let high = "memory-high = \"16MiB\"\n";
    let of_pod = (format!("[pod.isolators]\n{high}"), String::new(), None);
    let of_app = (String::new(), format!("isolators.{high}"), Some("a"));
    for (own, of_app, who) in [of_pod, of_app] {
        // A little above, for what is far above hardly gets on.
        lab.run(&pod("one", &own, &[app("a", "alloc 17825792", &of_app)])).expect_code(0);
        let told = of_kind(&lines(&lab.call(&["events", "-o", "json", "one"]).stdout), "memory-high");
        let first = told.first().unwrap_or_else(|| panic!("nothing is told of {who:?}"));
        assert_eq!((first["app"].as_str(), first["limit"].as_u64()), (who, Some(16 << 20)), "{first}");
        lab.call(&["rm", "one"]).expect_code(0);
    }
}
