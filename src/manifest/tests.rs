//! Whole texts: what comes of the shipped manifests, the exact words of every message, and that no text panics.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use podrun_abi::boot::Success;

use crate::spec::{Capabilities, IdOrName, Limits, OnMissing};
use crate::value::{Ceiling, CpuAmount, CpuWeight};

/// Replaces the expected output by the actual one instead of comparing them.
pub(crate) const UPDATE: &str = "PODRUN_UPDATE_GOLDEN";

pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub(super) fn toml_files(directory: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository(directory)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(!files.is_empty(), "no manifests in {directory}");
    files
}

fn spec_of(text: &str) -> Spec {
    let read = read(text);
    read.spec.unwrap_or_else(|| panic!("{}", render("test.toml", text, &read.problems, false)))
}

#[test]
fn shipped_manifests_have_no_problem() {
    for file in toml_files("manifests") {
        let text = fs::read_to_string(&file).unwrap();
        let read = read(&text);
        assert!(
            read.problems.is_empty(),
            "{}",
            render(&file.to_string_lossy(), &text, &read.problems, false)
        );
        assert!(read.spec.is_some());
    }
}

/// Every whole manifest in the documents means what a reader will take it for.
#[test]
fn manifests_in_documents_have_no_problem() {
    for document in ["README.md", "docs/manifest.md"] {
        let text = fs::read_to_string(repository(document)).unwrap();
        let blocks = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or(rest));
        let whole: Vec<_> = blocks.filter(|block| block.starts_with("version")).collect();
        assert!(!whole.is_empty(), "{document}");
        for block in whole {
            let read = read(block);
            assert!(read.problems.is_empty(), "{}", render(document, block, &read.problems, false));
        }
    }
}

#[test]
fn reference_names_every_working_key_and_its_files() {
    let text = fs::read_to_string(repository("docs/manifest.md")).unwrap();
    for key in keys::KEYS.iter().filter(|key| key.support == keys::Support::Supported) {
        let name = key.path.rsplit('.').next().unwrap();
        if name == "*" {
            // A name of the author's.
            continue;
        }
        let row = text.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/manifest.md has no row for `{name}`"));
        let files = key.cgroup.map(|files| [files.v1, files.v2]).unwrap_or_default();
        for file in files.iter().flat_map(|files| files.split(", ")).filter(|file| !file.is_empty()) {
            assert!(row.contains(&format!("`{file}`")), "{name}: {file}");
        }
    }
}

#[test]
fn messages_are_exactly_as_recorded() {
    let mut different = Vec::new();
    for file in toml_files("tests/golden/manifest") {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let read = read(&text);
        let actual = render(&name, &text, &read.problems, false);
        assert!(!actual.is_empty(), "{name} shows no problem");
        assert_eq!(read.spec.is_some(), read.problems.iter().all(|p| p.severity == Severity::Warning));
        let golden = file.with_extension("txt");
        if std::env::var_os(UPDATE).is_some() {
            fs::write(&golden, &actual).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != actual {
            different.push(format!("{}:\n{actual}", golden.display()));
        }
    }
    assert!(
        different.is_empty(),
        "run again with {UPDATE}=1 and look at the difference:\n{}",
        different.join("\n")
    );
}

/// A rule whose message nobody has seen may be wrong in any way.
#[test]
fn every_rule_is_shown_by_a_golden_file() {
    let mut seen = Vec::new();
    for file in toml_files("tests/golden/manifest") {
        let text = fs::read_to_string(&file).unwrap();
        seen.extend(read(&text).problems.into_iter().map(|problem| problem.code.to_owned()));
    }
    let rows = fs::read_to_string(repository("tests/golden/rows.md")).unwrap();
    seen.extend(rows.split('[').filter_map(|rest| Some(rest.split_once("]:")?.0.to_owned())));
    // What is typed and what is seen of the host is not in these files: other tests show it.
    let in_files = rules::ALL.iter().filter(|rule| &rule.code[1..] < "0800");
    let unseen: Vec<_> = in_files.filter(|rule| !seen.iter().any(|code| code == rule.code)).collect();
    assert!(unseen.is_empty(), "no golden file shows {unseen:#?}");
}

const EVERYTHING: &str = r#"
version = 1
[pod]
name = "shop"
hostname = "Shop.example"
exit-policy = "all-exited"
stop-timeout = "1m30s"
labels = { tier = "front", "a/b.c" = "d" }
[pod.isolators]
memory-max = "2GiB"
memory-high = "1.5GiB"
memory-low = 1073741824
memory-min = "64MiB"
memory-swap-max = "0"
cpus = "200%"
cpu-weight = "idle"
cpuset = "0-3"
cpuset-mems = "0"
pids-max = "max"
on-missing = "ignore"
[app.web]
rootfs = "/srv/web"
rootfs-mode = "read-only"
exec = ["nginx", "-g", "daemon off; $x\n", ""]
env-file = ["/etc/a", "/etc/b"]
workdir = "/srv"
user = "1000"
group = "www-data"
groups = [5, "tape"]
capabilities = ["CAP_NET_BIND_SERVICE", "CHOWN"]
no-new-privileges = false
oom-score-adjust = -500
rlimits = { nofile = "1024:8192", core = 0, memlock = "unlimited" }
stop-signal = "SIGQUIT"
stop-timeout = "infinity"
essential = false
success-codes = [0, 143, "TERM"]
depends-on = { db = "started" }
[app.web.isolators]
memory-max = "512Mi"
cpus = 0.9
cpuset = "0,1"
pids-max = 64
[app.web.env]
PORT = "80"
[app.db]
rootfs = "/srv/db"
exec = ["/bin/db"]
"#;

#[test]
fn every_working_key_reaches_the_spec() {
    let read = read(EVERYTHING);
    let spec = read.spec.expect("warnings only");
    assert_eq!(spec.pod.hostname, "Shop.example");
    assert_eq!(spec.pod.exit_policy, ExitPolicy::AllExited);
    assert_eq!(spec.pod.stop_timeout, Grace::Limited(Duration::from_secs(90)));
    assert_eq!(spec.pod.labels["a/b.c"], "d");
    let limits = &spec.pod.limits;
    assert_eq!(limits.memory_max, Some(Ceiling::At(2 << 30)));
    assert_eq!(limits.memory_high, Some(Ceiling::At(3 << 29)));
    assert_eq!(limits.memory_low, Some(Ceiling::At(1 << 30)));
    assert_eq!(limits.memory_swap_max, Some(Ceiling::At(0)));
    assert_eq!(limits.cpus, Some(CpuAmount(2_000_000)));
    assert_eq!(limits.cpu_weight, Some(CpuWeight::Idle));
    assert_eq!(limits.pids_max, Some(Ceiling::Max));
    assert_eq!(limits.on_missing, OnMissing::Ignore);

    let names: Vec<_> = spec.apps.iter().map(|app| app.name.as_str()).collect();
    assert_eq!(names, ["web", "db"], "in the order of the text, not of the alphabet");
    let web = &spec.apps[0];
    assert_eq!(web.exec, ["nginx", "-g", "daemon off; $x\n", ""]);
    assert_eq!(web.env_files, [Path::new("/etc/a"), Path::new("/etc/b")]);
    assert_eq!(
        (web.user.clone(), web.group.clone()),
        (IdOrName::Id(1000), Some(IdOrName::Name("www-data".into())))
    );
    assert_eq!(web.groups, [IdOrName::Id(5), IdOrName::Name("tape".into())]);
    assert_eq!(web.capabilities, Capabilities::Exactly(1 << 10 | 1));
    assert!(!web.no_new_privileges && !web.essential);
    assert_eq!(web.oom_score_adjust, -500);
    assert_eq!(web.rlimits[&libc::RLIMIT_NOFILE], (1024, 8192));
    assert_eq!(web.rlimits[&libc::RLIMIT_CORE], (0, 0));
    assert_eq!((web.stop_signal, web.stop_timeout), (3, Grace::Infinite));
    assert_eq!(web.success, [Success::Code(0), Success::Code(143), Success::Signal(15)]);
    assert_eq!(web.depends_on, ["db"]);
    assert_eq!(web.limits.cpus, Some(CpuAmount(900_000)));
    assert_eq!(web.env["PORT"], "80");
}

#[test]
fn defaults_are_filled_in() {
    let spec = spec_of("version = 1\npod.name = \"a\"\napp.x = { rootfs = \"/\", exec = [\"true\"] }\n");
    assert_eq!(spec.pod.hostname, "a");
    assert_eq!(spec.pod.exit_policy, ExitPolicy::Essential);
    assert_eq!(spec.pod.stop_timeout, Grace::Limited(Duration::from_secs(15)));
    let app = &spec.apps[0];
    assert_eq!((app.workdir.as_str(), app.user.clone(), app.group.clone()), ("/", IdOrName::Id(0), None));
    assert_eq!(app.capabilities, Capabilities::Default);
    assert!(app.no_new_privileges && app.essential);
    assert_eq!((app.stop_signal, app.stop_timeout), (15, Grace::Limited(Duration::from_secs(10))));
    assert_eq!(app.success, [Success::Code(0)]);
    assert_eq!(app.limits, Limits::default());
}

/// Three apps in a row and one beside them: the row is 2 + 3 + 10 s, and 5 s are added.
#[test]
fn stop_timeout_of_the_pod_is_the_longest_path_and_a_margin() {
    let text = r#"
version = 1
pod.name = "a"
app.c = { rootfs = "/", exec = ["c"], depends-on = ["b", "b"] }
app.b = { rootfs = "/", exec = ["b"], depends-on = ["a"], stop-timeout = "3s" }
app.a = { rootfs = "/", exec = ["a"], stop-timeout = "2s" }
app.d = { rootfs = "/", exec = ["d"], depends-on = ["a"], stop-timeout = "12s" }
"#;
    let spec = spec_of(text);
    assert_eq!(spec.pod.stop_timeout, Grace::Limited(Duration::from_secs(20)));
    assert_eq!(spec.apps[0].depends_on, ["b"], "each once");
    let endless = spec_of(&text.replace("\"12s\"", "\"infinity\""));
    assert_eq!(endless.pod.stop_timeout, Grace::Infinite);
}

#[test]
fn pod_without_essential_apps_ends_when_all_have_ended() {
    let text =
        "version = 1\npod.name = \"a\"\napp.x = { rootfs = \"/\", exec = [\"x\"], essential = false }\n";
    let read = read(text);
    assert_eq!(read.problems.iter().map(|p| p.code).collect::<Vec<_>>(), ["W0205"]);
    assert_eq!(read.spec.unwrap().pod.exit_policy, ExitPolicy::AllExited);
}

#[test]
fn sets_of_capabilities_have_names() {
    let table = [
        ("\"none\"", Capabilities::Exactly(0)),
        ("[]", Capabilities::Exactly(0)),
        ("\"default\"", Capabilities::Default),
        ("\"appc\"", Capabilities::Exactly(crate::value::capability::APPC)),
        ("[\"CHECKPOINT_RESTORE\"]", Capabilities::Exactly(1 << 40)),
    ];
    for (value, expected) in table {
        let text = format!(
            "version = 1\npod.name = \"a\"\napp.x = {{ rootfs = \"/\", exec = [\"x\"], capabilities = {value} }}\n"
        );
        assert_eq!(spec_of(&text).apps[0].capabilities, expected, "{value}");
    }
}

/// Numbers as different tools print them; each is an error and never uid 0.
#[test]
fn users_that_are_almost_numbers_are_refused() {
    for user in [
        "\"\"",
        "\" 1\"",
        "\"+1\"",
        "-1",
        "\"-1\"",
        "4294967295",
        "4294967296",
        "\"0x0\"",
        "\"1:1\"",
        "1.0",
        "true",
        "\"root\\u0000\"",
        "0x80000000",
        "99999999999999999999",
    ] {
        let text = format!(
            "version = 1\npod.name = \"a\"\napp.x = {{ rootfs = \"/\", exec = [\"x\"], user = {user} }}\n"
        );
        assert!(read(&text).spec.is_none(), "{user}");
    }
}

/// Every prefix, every byte left out, every line left out or doubled, and bytes that TOML gives a meaning put
/// in at every place of the shipped manifests.
#[test]
fn no_mutation_of_a_manifest_panics() {
    let mut texts: Vec<String> =
        toml_files("manifests").iter().map(|f| fs::read_to_string(f).unwrap()).collect();
    texts.push(EVERYTHING.to_owned());
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for text in &texts {
        for _ in 0..600 {
            let mutated = mutate(text, &mut seed);
            let read = read(&mutated);
            assert_eq!(read.spec.is_some(), read.problems.iter().all(|p| p.severity == Severity::Warning));
            for problem in &read.problems {
                let within = problem.span.start <= problem.span.end && problem.span.end <= mutated.len();
                assert!(within, "{problem:?}\n{mutated}");
                let _ = line_column(&mutated, problem.span.start);
            }
            if seed.is_multiple_of(16) {
                let _ = render("mutated.toml", &mutated, &read.problems, true);
            }
        }
    }
}

fn mutate(text: &str, seed: &mut u64) -> String {
    let mut random = |below: usize| {
        // xorshift64: the same numbers on every run, so that a failure can be repeated.
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        usize::try_from(*seed >> 11).unwrap() % below.max(1)
    };
    const BITS: [&str; 22] = [
        "\"",
        "'",
        "[",
        "]",
        "{",
        "}",
        "=",
        ".",
        "\n",
        "#",
        "ü",
        "\u{1F600}",
        "\0",
        "\\",
        "app",
        "[[app]]\n",
        "[pod]\n",
        "[app.x.y]\nexec=1\n",
        "-1",
        "99999999999999999999",
        "'''",
        "true",
    ];
    let mut text = text.to_owned();
    for _ in 0..=random(3) {
        let at = problem::boundary_before(&text, random(text.len()));
        let end = problem::boundary_behind(&text, at + random(12));
        match random(5) {
            0 => text.truncate(at),
            1 => text.replace_range(at..end, ""),
            2 => text.insert_str(at, BITS[random(BITS.len())]),
            3 => text.replace_range(at..end, BITS[random(BITS.len())]),
            _ => {
                let piece = text[at..end].to_owned();
                let to = problem::boundary_before(&text, random(text.len()));
                text.insert_str(to, &piece);
            }
        }
    }
    text
}

#[test]
fn hostile_texts_end_in_time() {
    let deep = format!("a = {}", "[".repeat(20_000));
    let dotted = format!("version = 1\n{} = 1\n", "a.".repeat(20_000) + "a");
    let mut chain = "version = 1\npod.name = \"a\"\n".to_owned();
    for app in 0..2000 {
        chain.push_str(&format!(
            "[app.a{app}]\nrootfs = \"/\"\nexec = [\"x\"]\ndepends-on = [\"a{}\"]\n",
            (app + 1) % 2000
        ));
    }
    for text in [deep.as_str(), &dotted, &chain, "\u{feff}version = 1", "\r\r\r", &"\n".repeat(100_000)] {
        let read = read(text);
        assert!(read.spec.is_none());
        assert!(!render("x.toml", text, &read.problems, false).is_empty());
    }
}

/// Against the definition: a graph has no cycle when its apps can be taken away one by one, each without
/// dependencies among those that are left.
#[test]
fn cycles_are_told_exactly_where_there_are_some() {
    const APPS: u32 = 5;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let (mut cyclic, mut acyclic) = (0, 0);
    for _ in 0..400 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Two of three edges are dropped, so that both kinds of graph come up.
        let graph = u32::try_from((seed >> 39) & (seed >> 12) & 0x1ff_ffff).unwrap();
        let depends = |from: u32, to: u32| graph >> (from * APPS + to) & 1 == 1;
        let mut left: Vec<u32> = (0..APPS).collect();
        while let Some(at) = left.iter().position(|from| !left.iter().any(|to| depends(*from, *to))) {
            left.remove(at);
        }
        let mut text = "version = 1\npod.name = \"a\"\n".to_owned();
        for app in 0..APPS {
            let names: Vec<_> = (0..APPS).filter(|to| depends(app, *to)).map(|to| format!("a{to}")).collect();
            text.push_str(&format!("[app.a{app}]\nrootfs = \"/\"\nexec = [\"x\"]\ndepends-on = {names:?}\n"));
        }
        let read = read(&text);
        let told = read.problems.iter().filter(|problem| problem.code == "E0502").count();
        assert_eq!(told > 0, !left.is_empty(), "{text}\n{:#?}", read.problems);
        assert_eq!(read.spec.is_some(), told == 0);
        if told > 0 { cyclic += 1 } else { acyclic += 1 }
    }
    assert!(cyclic > 20 && acyclic > 20, "{cyclic} with cycles, {acyclic} without");
}
