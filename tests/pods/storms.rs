//! The same a thousand times, and death at a random moment: nothing may be left, ever.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::harness::{Lab, Running, app, pod, runs, sys};

/// xorshift64*: the same seed gives the same moments again, as far as the machine's load does.
struct Random(u64);

impl Random {
    fn from_clock() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let seed = std::env::var("PODRUN_TEST_SEED").ok().and_then(|word| word.parse().ok());
        let seed = seed.unwrap_or(since.as_secs() << 20 | u64::from(since.subsec_micros()));
        sys::tell(&format!("PODRUN_TEST_SEED={seed}\n"));
        Self(seed | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % bound
    }
}

const KEYS: &str = "isolators.memory-max = \"32MiB\"\nisolators.pids-max = 20\nisolators.cpus = 1";

#[test]
fn a_thousand_pods_that_exit_at_once_leave_nothing() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("one", "", &[app("a", "exit 0", KEYS)]));
    for round in 0..runs() {
        let ended = lab.call(&["run", "--rm", "--no-log-prefix", path.to_str().unwrap()]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "round {round}\n{ended}");
    }
    assert_eq!(lab.groups_left(), Vec::<PathBuf>::new());
    assert_eq!(lab.pod_dirs(), Vec::<PathBuf>::new());
}

/// Time from the start of the launcher to the end of a pod that exits at once, on this machine, now.
fn usual_time(lab: &Lab, path: &str) -> Duration {
    let times = (0..5).map(|_| lab.call(&["run", "--rm", "--no-log-prefix", path]).expect_code(0).time);
    times.max().expect("five times")
}

#[test]
fn a_thousand_launchers_killed_at_random_leave_what_one_gc_removes() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("one", "", &[app("a", "exit 0", KEYS)]));
    let path = path.to_str().unwrap();
    let usual = usual_time(&lab, path).as_micros();
    let mut random = Random::from_clock();
    for _ in 0..runs() {
        let running = Running::spawn(&mut lab.podrun(&["run", "--no-log-prefix", path]));
        let moment = Duration::from_micros(random.below(u64::try_from(usual).unwrap() * 5 / 4));
        let pidfd = sys::pidfd(running.pid()).expect("pidfd of a child");
        if !sys::ends_within(&pidfd, moment) {
            running.signal(libc::SIGKILL);
        }
        let ended = running.wait();
        assert!(matches!(ended.code, 0 | 137) || ended.stderr.contains("one"), "{ended}");
        // The pod that lost its launcher holds the name until its ordered stop is over.
        lab.wait_until_empty();
    }
    expect_clean_after_one_gc(&lab);
}

#[test]
fn a_thousand_stage1s_killed_at_random_leave_what_one_gc_removes() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("one", "", &[app("a", "exit 0", KEYS)]));
    let path = path.to_str().unwrap();
    let usual = usual_time(&lab, path);
    let mut random = Random::from_clock();
    let mut killed = 0;
    // On a busy machine, and with few rounds, it may be too late for most.
    let enough = |round: u64, killed: u32| round >= runs() && u64::from(killed) * 10 > runs();
    for round in 0..runs() * 4 {
        if enough(round, killed) {
            break;
        }
        let running = Running::spawn(&mut lab.podrun(&["run", "--no-log-prefix", path]));
        let patience = Duration::from_micros(random.below(u64::try_from(usual.as_micros()).unwrap()));
        killed += u32::from(kill_child_after(running.pid(), patience));
        let ended = running.wait();
        assert!(matches!(ended.code, 0 | 125 | 137), "round {round}\n{ended}");
        assert_eq!(lab.processes(), Vec::<i32>::new(), "round {round}");
    }
    assert!(u64::from(killed) * 10 > runs(), "only {killed} were hit");
    expect_clean_after_one_gc(&lab);
}

/// Kills the launcher's child, which is stage1, some time after it came to life; false when it was too late.
fn kill_child_after(launcher: i32, patience: Duration) -> bool {
    let children = format!("/proc/{launcher}/task/{launcher}/children");
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(5) {
        // The launcher is not waited for yet, so that its number is still its own, and so are its children's.
        let Ok(text) = fs::read_to_string(&children) else { return false };
        let Some(stage1) = text.split_whitespace().next().and_then(|word| word.parse().ok()) else {
            if fs::read_to_string(format!("/proc/{launcher}/stat")).is_ok_and(|stat| stat.contains(") Z ")) {
                return false;
            }
            continue;
        };
        let Ok(pidfd) = sys::pidfd(stage1) else { return false };
        if sys::ends_within(&pidfd, patience.saturating_sub(begin.elapsed())) {
            return false;
        }
        return sys::kill_pidfd(&pidfd, libc::SIGKILL).is_ok();
    }
    false
}

fn expect_clean_after_one_gc(lab: &Lab) {
    lab.call(&["gc"]).expect_code(0);
    assert_eq!(lab.groups_left(), Vec::<PathBuf>::new());
    assert_eq!(lab.pod_dirs(), Vec::<PathBuf>::new());
}

#[test]
fn fifty_runs_of_one_name_have_one_winner() {
    let Some(lab) = Lab::open() else { return };
    let path = lab.manifest(&pod("any", "", &[app("a", "on-term 0 ; say up ; pause", "")]));
    let arguments = ["run", "--no-log-prefix", "--name", "x", path.to_str().unwrap()];
    let all: Vec<Running> = (0..50).map(|_| Running::spawn(&mut lab.podrun(&arguments))).collect();
    let losers = || all.iter().filter(|running| running.has_ended()).count();
    crate::harness::wait_until("49 have lost", || losers() >= 49);
    assert_eq!(losers(), 49, "nobody won");
    lab.call(&["stop", "x"]).expect_code(0);
    let ended: Vec<_> = all.into_iter().map(Running::wait).collect();
    for loser in ended.iter().filter(|ended| ended.code != 0) {
        assert_eq!(loser.code, 125, "{loser}");
        assert!(loser.stderr.contains("`x`"), "{loser}");
    }
    assert_eq!(ended.iter().filter(|ended| ended.code == 0).count(), 1);
}

/// gc at any time, any number of them: none takes away a pod that runs.
#[test]
fn gc_beside_runs_removes_no_running_pod() {
    let Some(lab) = Lab::open() else { return };
    std::thread::scope(|scope| {
        let sweeping = scope.spawn(|| (0..60).map(|_| lab.call(&["gc"])).collect::<Vec<_>>());
        for round in 0..60 {
            let text = pod(&format!("pod-{round}"), "", &[app("a", "exit 6", "")]);
            lab.run(&text).expect_code(6);
        }
        for swept in sweeping.join().expect("gc does not hang") {
            swept.expect_code(0);
        }
    });
}
