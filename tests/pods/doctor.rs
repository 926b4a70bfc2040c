//! `doctor` says of every isolator what `plan` and `run` say, of the pod and of an app, with either driver.

use serde_json::Value;

use crate::harness::{Ended, Lab, app, pod, require};

/// The rows of `doctor`, and what each asks for; below `isolators` but for the last.
fn asked() -> Vec<(&'static str, String)> {
    let disks = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut nodes = disks.map(|disk| std::path::Path::new("/dev").join(disk.file_name()));
    let disk = nodes.find(|node| node.exists()).unwrap_or_else(|| "/".into());
    let rows = [
        ("memory-max", "memory-max = \"64MiB\""),
        ("memory-high", "memory-high = \"64MiB\""),
        ("memory-low", "memory-low = \"64MiB\""),
        ("memory-min", "memory-min = \"64MiB\""),
        ("memory-swap-max", "memory-max = \"64MiB\"\nmemory-swap-max = \"64MiB\""),
        ("memory-zswap-max", "memory-zswap-max = \"64MiB\""),
        ("memory-oom-group", "memory-oom-group = true"),
        ("cpus", "cpus = 1"),
        ("cpu-period", "cpus = 1\ncpu-period = \"1ms\""),
        ("cpu-burst", "cpus = 1\ncpu-burst = \"1ms\""),
        ("cpu-weight", "cpu-weight = 100"),
        ("cpu-weight idle", "cpu-weight = \"idle\""),
        ("cpuset", "cpuset = \"0\""),
        ("cpuset-mems", "cpuset-mems = \"0\""),
        ("pids-max", "pids-max = 64"),
        ("io-weight", "io-weight = 100"),
        ("hugetlb", "hugetlb = { \"2MB\" = 0 }"),
        ("unified", "unified = { \"memory.swap.high\" = \"max\" }"),
    ];
    let mut all: Vec<_> = rows.into_iter().map(|(row, text)| (row, text.to_owned())).collect();
    all.push(("io-max", format!("io-max = {{ {disk:?} = {{ rbps = \"1GiB\" }} }}")));
    all.push(("devices", "devices = [\"/dev/null\"]".to_owned()));
    all
}

/// Why an app and the pod cannot have it, as the row says.
fn refusals(found: &str) -> [Option<&str>; 2] {
    const OF_POD: &str = "of the pod refused: ";
    if found == "can be enforced" || found.starts_with("is set and does nothing") {
        return [None, None];
    }
    if let Some(reason) = found.strip_prefix("of an app; ").and_then(|rest| rest.strip_prefix(OF_POD)) {
        return [None, Some(reason)];
    }
    if let Some(reason) = found.strip_prefix("of the pod; of an app refused: ") {
        return [Some(reason), None];
    }
    match found.strip_prefix("of an app refused: ").and_then(|rest| rest.split_once(&format!("; {OF_POD}"))) {
        Some((app, pod)) => [Some(app), Some(pod)],
        None => [Some(found), Some(found)],
    }
}

fn said(doctor: &Value, row: &str) -> String {
    let findings = doctor["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["name"] == row).unwrap_or_else(|| panic!("{row}"));
    let found = finding["found"].as_str().unwrap().to_owned();
    assert_eq!(finding["verdict"] == "ok", found == "can be enforced", "{finding}");
    found
}

/// What `plan` refuses it with is what `doctor` has said; `None`: it does not refuse it.
fn compare(row: &str, whose: &str, reason: Option<&str>, plan: &Ended) {
    let Some(reason) = reason else {
        assert_eq!(plan.code, 0, "{row} of {whose} can be had: {plan}");
        return;
    };
    assert_eq!(plan.code, 1, "{row} of {whose} is refused: {reason}: {plan}");
    // What follows names the group, which is that of each launcher or has the pod's id in it.
    let words = reason.split("cgroup2's group").next().unwrap();
    assert!(plan.stderr.contains(words), "{row} of {whose}: {reason}: {plan}");
}

fn agrees(driver: &str) {
    let Some(lab) = Lab::open() else { return };
    let doctor = lab.call(&["doctor", "--driver", driver, "-o", "json"]).expect_code(0).json();
    let plan = |manifest: &str| {
        let path = lab.manifest(manifest);
        lab.call(&["plan", "--driver", driver, path.to_str().unwrap()])
    };
    // What an app can have is asked for at once, an app for each.
    let (mut fine, mut refused) = (Vec::new(), 0);
    for (number, (row, text)) in asked().into_iter().enumerate() {
        let found = said(&doctor, row);
        let [of_app, of_pod] = refusals(&found);
        let keys_of = |scope: &str| match row {
            "devices" => text.clone(),
            _ => format!("[{scope}.isolators]\n{text}\n"),
        };
        compare(row, "the pod", of_pod, &plan(&pod("doctor", &keys_of("pod"), &[app("x", "exit 0", "")])));
        let name = format!("a{number}");
        let own = app(&name, "exit 0", &keys_of(&format!("app.{name}")));
        if of_app.is_some() {
            compare(row, "an app", of_app, &plan(&pod("doctor", "", &[own])));
        } else {
            fine.push(own);
        }
        refused += [of_app, of_pod].into_iter().flatten().count();
    }
    compare("what is ok", "apps", None, &plan(&pod("doctor", "", &fine)));
    // On v1 there is none of memory-high, on cgroup2 systemd gives nobody hugetlb.
    assert!(driver == "cgroupfs" || refused > 0, "{doctor}");
}

#[test]
fn doctor_says_of_each_isolator_what_plan_says() {
    agrees("cgroupfs");
}

#[test]
fn doctor_says_of_each_isolator_what_plan_says_below_systemd() {
    if require::systemd() {
        agrees("systemd");
    }
}
