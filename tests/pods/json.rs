//! The JSON that scripts read, held against `tests/golden/json`: every key, and the type and form of every value.
//!
//! A file of expectations is the JSON itself, with what differs from run to run replaced by what it is: `<id>`,
//! `<time>`, `<path>`, `<number>`. `PODRUN_TEST_BLESS=1` writes the files anew.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::harness::{Lab, app, pod};

const UP: &str = "on-term 0 ; say up ; pause";

/// Keys whose numbers differ from run to run.
const COUNTERS: [&str; 7] = [
    "memory_current_bytes",
    "memory_peak_bytes",
    "cpu_used_ns",
    "pids_current",
    "ran_ms",
    "pid",
    "stage1_abi",
];

/// Lists that are about the host.
const OF_THE_HOST: [&str; 3] = ["cgroups", "findings", "limits"];

/// The value with what differs from run to run replaced.
fn masked(key: &str, value: &Value) -> Value {
    match value {
        // What `explain` says of a rule.
        Value::Object(_) if key == "help" => type_of(value),
        Value::Object(map) => {
            let entries = map.iter().map(|(key, value)| (key.clone(), masked(key, value)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
        Value::Array(items) if OF_THE_HOST.contains(&key) => {
            // One stands for all of them.
            Value::Array(items.first().map(of_host).into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| masked(key, item)).collect()),
        Value::Number(_) if COUNTERS.contains(&key) => "<number>".into(),
        Value::String(text) => masked_text(key, text).into(),
        other => other.clone(),
    }
}

fn masked_text(key: &str, text: &str) -> String {
    match key {
        "id" | "pod_id" => "<id>".to_owned(),
        "version" => "<version>".to_owned(),
        "verdict" => "<verdict>".to_owned(),
        _ if key.ends_with("_at") => {
            text.parse::<jiff::Timestamp>().unwrap_or_else(|error| panic!("{key} `{text}`: {error}"));
            "<time>".to_owned()
        }
        _ if text.starts_with('/') => "<path>".to_owned(),
        _ => text.to_owned(),
    }
}

/// Only the types of what is about the host.
fn of_host(value: &Value) -> Value {
    let Value::Object(map) = value else { return type_of(value) };
    Value::Object(map.iter().map(|(key, value)| (key.clone(), type_of(value))).collect())
}

fn type_of(value: &Value) -> Value {
    match value {
        Value::Null => "<null>",
        Value::Bool(_) => "<boolean>",
        Value::Number(_) => "<number>",
        Value::String(_) => "<text>",
        Value::Array(_) => "<list>",
        Value::Object(_) => "<object>",
    }
    .into()
}

#[track_caller]
fn expect(lab: &Lab, name: &str, arguments: &[&str]) {
    let mut value = lab.call(arguments).json();
    // The plan is held by the tests of the plan.
    if let Some(map) = value.as_object_mut()
        && map.get("plan").is_some_and(Value::is_object)
    {
        map.insert("plan".to_owned(), "<object>".into());
    }
    let found = serde_json::to_string_pretty(&masked("", &value)).unwrap() + "\n";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/json/{name}.json"));
    if std::env::var_os("PODRUN_TEST_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{arguments:?} is not as in {}:\n{found}", path.display());
}

#[test]
fn json_of_what_apps_wrote_is_as_promised() {
    let Some(lab) = Lab::open() else { return };
    let apps = [app("api", "say one ; warn two", "depends-on = [\"db\"]"), app("db", "exit 0", "")];
    let path = lab.manifest(&pod("shop", "exit-policy = \"all-exited\"", &apps));
    lab.call(&["run", "-d", "--wait=exited", path.to_str().unwrap()]).expect_code(0);
    expect(&lab, "logs-stdout", &["logs", "-o", "json", "--stream", "stdout", "shop"]);
    expect(&lab, "logs-stderr", &["logs", "-o", "json", "--stream", "stderr", "shop"]);
    let unfinished = sh("a", "printf half");
    let path = lab.manifest(&pod("shop", "", &[unfinished]));
    let path = path.to_str().unwrap();
    expect(&lab, "run-log-format", &["run", "--log-format", "json", path]);
    lab.call(&["run", "-d", "--log-format", "json", path]).expect_code(125);
    lab.wait_until_empty();
}

fn sh(name: &str, script: &str) -> String {
    format!("[app.{name}]\nrootfs = \"/\"\nexec = [\"/bin/sh\", \"-c\", {script:?}]\n")
}

#[test]
fn json_of_problems_is_as_promised() {
    let Some(lab) = Lab::open() else { return };
    let text = "version = 1\n[pod]\nname = \"Shop\"\n[app.a]\nrootfs = \"/\"\nexec = [\"/x\"]\n\
                [app.a.isolators]\npids-max = 1\n";
    std::fs::write(lab.path("shop.toml"), text).unwrap();
    expect(&lab, "check", &["check", "-o", "json", "--set", "app.a.isolators.cpus=fast", "shop.toml"]);
    expect(&lab, "check-sarif", &["check", "-o", "sarif", "--set", "app.a.isolators.cpus=fast", "shop.toml"]);
    let right = lab.manifest(&pod("shop", "", &[app("a", "exit 0", "")]));
    expect(&lab, "check-none", &["check", "-o", "json", right.to_str().unwrap()]);
}

/// What is found is this host's; the tests of `doctor` know what has to be.
#[test]
fn json_of_what_the_host_can_do_is_as_promised() {
    let Some(lab) = Lab::open() else { return };
    expect(&lab, "doctor", &["doctor", "-o", "json"]);
}

/// Keys may be added to a plan, and what is about groups is the host's: what is expected is there, and more may be.
#[test]
fn json_of_a_plan_is_as_promised() {
    let Some(lab) = Lab::open() else { return };
    let keys = "depends-on = [\"db\"]\nrlimits = { core = \"0:1\" }\nsuccess-codes = [0, \"TERM\"]\n\
                env = { A = \"b\" }\nuser = 7\ngroups = [3]\ncapabilities = [\"CHOWN\"]";
    let apps = [app("api", "exit 0", keys), app("db", "exit 0", "")];
    let path = lab.manifest(&pod("shop", "labels = { tier = \"front\" }", &apps));
    let mut plan = lab.call(&["plan", "-o", "json", path.to_str().unwrap()]).json();
    let is_object = |value: &Value| value.is_object() || value.is_null();
    assert!(plan["cgroup"].is_object() && is_object(&plan["units"]) && plan["nofile"].is_number());
    for key in ["masked", "read_only"] {
        assert!(plan[key].as_array().is_some_and(|paths| paths.len() > 4), "{plan}");
    }
    for key in ["cgroup", "units", "nofile", "masked", "read_only", "boot_id"] {
        plan[key] = format!("<{key}>").into();
    }
    let plan = masked("", &plan);
    let expected = golden("plan", &plan);
    assert!(holds(&plan, &expected), "not all of\n{expected:#}\nis in\n{plan:#}");
    let app = lab.call(&["plan", "-o", "json", "--app", "api", path.to_str().unwrap()]).json();
    assert!(holds(&masked("", &app), &expected["apps"][1]), "{app:#}");
}

/// The expectation; written anew when that is asked for.
fn golden(name: &str, found: &Value) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/json/{name}.json"));
    if std::env::var_os("PODRUN_TEST_BLESS").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(found).unwrap() + "\n").unwrap();
    }
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap()
}

/// Whether everything that is expected is there.
fn holds(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            expected.iter().all(|(key, value)| found.get(key).is_some_and(|found| holds(found, value)))
        }
        (Value::Array(found), Value::Array(expected)) => {
            found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| holds(a, b))
        }
        _ => found == expected,
    }
}

/// Every key of the expectations is explained in docs/json.md.
#[test]
fn keys_of_the_json_are_documented() {
    let docs = include_str!("../../docs/json.md");
    let place = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/json");
    // The keys of SARIF are OASIS's.
    let is_ours = |entry: &std::fs::DirEntry| entry.file_name() != "check-sarif.json";
    for entry in std::fs::read_dir(place).unwrap().flatten().filter(is_ours) {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let mut left = vec![serde_json::from_str::<Value>(&text).unwrap()];
        while let Some(value) = left.pop() {
            match value {
                Value::Object(map) => {
                    for (key, value) in map {
                        let is_name = ["tier"].contains(&key.as_str());
                        assert!(
                            is_name || docs.contains(&format!("`{key}`")),
                            "{key} of {}",
                            entry.path().display()
                        );
                        left.push(value);
                    }
                }
                Value::Array(items) => left.extend(items),
                _ => {}
            }
        }
    }
}

#[test]
fn json_of_a_running_pod_is_as_promised() {
    let Some(lab) = Lab::open() else { return };
    let limits = "isolators.memory-max = \"32MiB\"\nisolators.pids-max = 20";
    let apps = [app("api", UP, &format!("{limits}\ndepends-on = [\"db\"]")), app("db", UP, limits)];
    let text = pod(
        "shop",
        "labels = { tier = \"front\" }\nisolators.memory-max = \"64MiB\"\nisolators.pids-max = 90",
        &apps,
    );
    let path = lab.manifest(&text);
    lab.call(&["run", "-d", path.to_str().unwrap()]).expect_code(0);
    expect(&lab, "ps", &["ps", "-o", "json"]);
    expect(&lab, "ps-apps", &["ps", "--apps", "-o", "json"]);
    expect(&lab, "status-running", &["status", "-o", "json", "shop"]);
    expect(&lab, "inspect-pod", &["inspect", "shop"]);
    expect(&lab, "inspect-app", &["inspect", "shop/api"]);
    lab.call(&["stop", "shop"]).expect_code(0);
    lab.wait_until_empty();
}

#[test]
fn json_of_an_ended_pod_is_as_promised() {
    let Some(lab) = Lab::open() else { return };
    let apps = [
        app("api", "sleep 0.5 ; exit 3", "depends-on = [\"db\", \"web\"]"),
        app("db", "kill-self TERM", "essential = false"),
        app("web", UP, ""),
    ];
    lab.run(&pod("shop", "isolators.memory-max = \"64MiB\"", &apps)).expect_code(3);
    expect(&lab, "status-ended", &["status", "-o", "json", "shop"]);
    lab.run(&pod("none", "", &["[app.a]\nrootfs = \"@ROOTFS@\"\nexec = [\"/bin/none\"]\n".to_owned()]))
        .expect_code(127);
    expect(&lab, "status-not-started", &["status", "-o", "json", "none"]);
}

#[test]
fn json_about_podrun_and_this_host_is_as_promised() {
    let Some(lab) = Lab::open() else { return };
    expect(&lab, "version", &["version", "-o", "json"]);
    expect(&lab, "ps-none", &["ps", "-o", "json"]);
    let json = lab.call(&["doctor", "-o", "json"]).json();
    let findings = json["findings"].as_array().unwrap();
    assert!(findings.len() > 15 && json["schema"] == 1, "{json}");
    for finding in findings {
        let keys: Vec<_> = finding.as_object().unwrap().keys().map(String::as_str).collect();
        let is_ok = finding["verdict"] == "ok";
        assert_eq!(keys.contains(&"fix"), !is_ok, "{finding}");
        assert!(["name", "verdict", "found"].iter().all(|key| keys.contains(key)), "{finding}");
    }
}
