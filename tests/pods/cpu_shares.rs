//! A spinning app gets the CPU that it was given, within 3 points over 3 s. Alone on the machine, as far as the
//! tests go.

use crate::harness::{Lab, Running, app, pod, require, text};

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
    let text = pod("one", "", &[app("a", "spin 3", "isolators.cpus = \"25%\"")]);
    expect_near(250, || lab.run(&text).expect_code(0).number("cpu-permille"));
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

/// On one CPU, so that they have to share it.
#[test]
fn two_apps_share_a_cpu_by_their_weights() {
    let Some(lab) = Lab::open_alone() else { return };
    let apps = [("heavy", "isolators.cpu-weight = 300"), ("light", "isolators.cpu-weight = 100")];
    // Of what both got: something else on this CPU takes from both.
    expect_near(750, || {
        let [heavy, light] = shares(&lab, "[pod.isolators]\ncpuset = \"0\"\n", apps);
        heavy * 1000 / (heavy + light)
    });
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
