//! A spinning app gets the CPU that it was given, within 3 points over 3 s. Alone on the machine, as far as the
//! tests go.

use crate::harness::{Lab, Running, app, pod, require, text};

const POINTS: u64 = 30; // of 1000

#[track_caller]
fn expect_near(permille: u64, wanted: u64) {
    assert!(permille.abs_diff(wanted) <= POINTS, "{permille} permille of a CPU, wanted {wanted}");
}

#[test]
fn app_with_a_quarter_of_a_cpu_gets_a_quarter() {
    let Some(lab) = Lab::open_alone() else { return };
    let ended = lab.run(&pod("one", "", &[app("a", "spin 3", "isolators.cpus = \"25%\"")])).expect_code(0);
    expect_near(ended.number("cpu-permille"), 250);
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
    std::fs::write(lab.rootfs().join("tmp/go"), "").unwrap();
    let ended = running.wait().expect_code(0);
    apps.map(|(name, _)| {
        let output = text::of_app(&ended.stdout, name);
        text::value(&output, "cpu-permille").expect("its share").parse().expect("a number")
    })
}

#[test]
fn two_apps_share_the_pods_quota() {
    let Some(lab) = Lab::open_alone() else { return };
    let [a, b] = shares(&lab, "[pod.isolators]\ncpus = 0.5\n", [("a", ""), ("b", "")]);
    expect_near(a + b, 500);
}

/// On one CPU, so that they have to share it.
#[test]
fn two_apps_share_a_cpu_by_their_weights() {
    let Some(lab) = Lab::open_alone() else { return };
    let apps = [("heavy", "isolators.cpu-weight = 300"), ("light", "isolators.cpu-weight = 100")];
    let [heavy, light] = shares(&lab, "[pod.isolators]\ncpuset = \"0\"\n", apps);
    // Of what both got: something else on this CPU takes from both.
    expect_near(heavy * 1000 / (heavy + light), 750);
}

#[test]
fn app_without_a_quota_gets_a_whole_cpu() {
    if !require::cpus(2) {
        return;
    }
    let Some(lab) = Lab::open_alone() else { return };
    let ended = lab.run(&pod("one", "", &[app("a", "spin 1", "")])).expect_code(0);
    assert!(ended.number("cpu-permille") > 700, "{ended}");
}
