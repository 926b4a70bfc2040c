//! A spinning app gets the CPU that it was given, within 3 points over 3 s. Alone on the machine, as far as the
//! tests go.

use std::time::Duration;

use crate::harness::{Lab, Running, app, pod, require, text, wait_until};

const POINTS: u64 = 30; // of 1000

/// Measured thrice at most: others may take the machine from us for a while, but a wrong limit is wrong each time.
#[track_caller]
fn expect_near(wanted: u64, mut measure: impl FnMut() -> u64) {
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.push(measure());
        if seen.last().is_some_and(|permille| permille.abs_diff(wanted) <= POINTS) {
            return;
        }
    }
    panic!("{seen:?} permille of a CPU, wanted {wanted}");
}

#[test]
fn app_with_a_quarter_of_a_cpu_gets_a_quarter() {
    let Some(lab) = Lab::open_alone() else { return };
    let words = "on-term 0 ; spin 3 ; say spun ; pause";
    let text = pod("one", "", &[app("a", words, "isolators.cpus = \"25%\"")]);
    expect_near(250, || {
        let running = lab.start(&text);
        running.wait_for("spun");
        let counted = lab.group_file("cpu", "app-a", "cpu.stat");
        let throttled = text::value(&counted, "nr_throttled").expect("a count");
        // It used up its quota in each of 30 periods.
        assert!(throttled.parse::<u32>().expect("a number") > 5, "{counted}");
        running.signal(libc::SIGTERM);
        running.wait().expect_code(0).number("cpu-permille")
    });
}

/// What two apps got of a CPU, in thousandths: both spin over the same time, whoever was started first.
fn shares(lab: &Lab, keys: &str, apps: [(&str, &str); 2]) -> [u64; 2] {
    let words = "say up ; wait-file /tmp/go 60 ; spin 3";
    let texts = apps.map(|(name, keys)| app(name, words, &format!("rootfs-mode = \"writable\"\n{keys}")));
    let path = lab.manifest(&pod("one", keys, &texts));
    let running = Running::spawn(&mut lab.podrun(&["run", path.to_str().unwrap()]));
    for (name, _) in apps {
        running.wait_for(&format!("{name:6} | up"));
    }
    let go = lab.rootfs().join("tmp/go");
    std::fs::write(&go, "").unwrap();
    let ended = running.wait().expect_code(0);
    std::fs::remove_file(go).unwrap();
    apps.map(|(name, _)| {
        let output = text::of_app(&ended.stdout, name);
        text::value(&output, "cpu-permille").expect("its share").parse().expect("a number")
    })
}

#[test]
fn two_apps_share_the_pods_quota() {
    let Some(lab) = Lab::open_alone() else { return };
    expect_near(500, || {
        let [a, b] = shares(&lab, "[pod.isolators]\ncpus = 0.5\n", [("a", ""), ("b", "")]);
        a + b
    });
}

/// Of the CPU time that two apps use on one CPU, the first one's part, in thousandths. Measured from outside while both
/// spin: what else runs on that CPU takes from both alike.
fn part_of_first(lab: &Lab, apps: [(&str, &str); 2]) -> u64 {
    // The first one spins before the other begins: with little to get it would be long on its way.
    let words = ["on-term 0 ; say up ; spin 3600", "on-term 0 ; say up ; wait-file /tmp/go 600 ; spin 3600"];
    let texts: Vec<String> = std::iter::zip(apps, words)
        .map(|((name, keys), words)| app(name, words, &format!("rootfs-mode = \"writable\"\n{keys}")))
        .collect();
    let path = lab.manifest(&pod("one", "[pod.isolators]\ncpuset = \"0\"\n", &texts));
    let running = Running::spawn(&mut lab.podrun(&["run", path.to_str().unwrap()]));
    for (name, _) in apps {
        running.wait_for(&format!("{name:6} | up"));
    }
    let go = lab.rootfs().join("tmp/go");
    std::fs::write(&go, "").unwrap();
    let used = || apps.map(|(name, _)| lab.cpu_used(&format!("app-{name}")));
    let since = |before: [Duration; 2]| std::array::from_fn(|i| used()[i].saturating_sub(before[i]));
    let before = used();
    wait_until("the second one spins", || since(before)[1] > Duration::from_millis(100));
    let (before, mut got) = (used(), [Duration::ZERO; 2]);
    wait_until("both have used three seconds", || {
        got = since(before);
        got[0] + got[1] > Duration::from_secs(3)
    });
    std::fs::remove_file(go).unwrap();
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
    u64::try_from(got[0].as_micros() * 1000 / (got[0] + got[1]).as_micros()).unwrap()
}

/// Three to one within a tenth.
#[test]
fn two_apps_share_a_cpu_by_their_weights() {
    let Some(lab) = Lab::open_alone() else { return };
    let apps = [("heavy", "isolators.cpu-weight = 300"), ("light", "isolators.cpu-weight = 100")];
    let heavy = part_of_first(&lab, apps);
    assert!((730..=767).contains(&heavy), "{heavy} permille for three quarters of the weight");
}

#[test]
fn idle_app_gets_next_to_nothing_beside_a_busy_one() {
    let Some(lab) = Lab::open_alone() else { return };
    let apps = [("idler", "isolators.cpu-weight = \"idle\""), ("busy", "isolators.cpu-weight = 100")];
    let idle = part_of_first(&lab, apps);
    assert!(idle < 30, "{idle} permille for the idle one");
}

#[test]
fn app_without_a_quota_gets_a_whole_cpu() {
    if !require::cpus(2) {
        return;
    }
    let Some(lab) = Lab::open_alone() else { return };
    let text = pod("one", "", &[app("a", "spin 1", "")]);
    let shares = std::iter::repeat_with(|| lab.run(&text).expect_code(0).number("cpu-permille"));
    assert!(shares.take(3).any(|permille| permille > 700), "no whole CPU in three times");
}
