//! What the shells themselves offer when somebody presses TAB, and the manual pages as man(1) shows them.

use std::process::Command;

use crate::harness::{Lab, Running, app, bin_dir, pod, require};

const UP: &str = "on-term 0 ; say up ; pause";

/// What each shell offers for a line whose words are separated by one blank each; sorted, without explanations.
fn offered(lab: &Lab, shell: &str, line: &str) -> Vec<String> {
    let script = match shell {
        "bash" => {
            "source <(podrun completion bash); IFS=' ' read -ra COMP_WORDS <<< \"$LINE\"
            [[ $LINE == *' ' ]] && COMP_WORDS+=(''); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            _podrun; for word in \"${COMPREPLY[@]}\"; do echo \"$word\"; done"
        }
        // The functions of compsys are stood in for by ones that print what they get.
        "zsh" => {
            "compdef() { :; }; compset() { :; }; setopt nullglob
            _files() { [[ $1 == -g ]] && print -l -- ${~2} *(/) || print -l -- *; }
            _describe() { local word; for word in ${(P)3}; do print -r -- ${word%%:*}; done; }
            source <(podrun completion zsh); words=(${(s: :)LINE})
            [[ $LINE == *' ' ]] && words+=(''); CURRENT=$#words; _podrun"
        }
        _ => "source (podrun completion fish | psub); complete -C \"$LINE\"",
    };
    let path = format!("{}:{}", bin_dir().display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(shell);
    command.args(if shell == "fish" { ["--no-config", "-c"] } else { ["-f", "-c"] });
    if shell == "bash" {
        command = Command::new("bash");
        command.args(["--norc", "-c"]);
    }
    command.arg(script).env("LINE", line).env("PATH", path).env("HOME", lab.path("home"));
    command.env("PODRUN_ROOT", lab.root()).current_dir(lab.rootfs());
    let ended = Running::spawn(&mut command).wait();
    assert_eq!(ended.stderr, "", "{shell}: {line}");
    let mut words: Vec<String> =
        ended.stdout.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect();
    words.sort();
    words
}

fn every_shell_offers(lab: &Lab, line: &str, expected: &[&str]) {
    for shell in ["bash", "zsh", "fish"].into_iter().filter(|shell| require::program(shell)) {
        assert_eq!(offered(lab, shell, line), expected, "{shell}: {line}");
    }
}

#[test]
fn shells_complete_commands_flags_and_values() {
    let Some(lab) = Lab::open() else { return };
    every_shell_offers(&lab, "podrun sta", &["stats", "status"]);
    every_shell_offers(&lab, "podrun ps --no-h", &["--no-heading"]);
    every_shell_offers(&lab, "podrun ps -o js", &["json", "jsonl"]);
    every_shell_offers(&lab, "podrun no-such-command --x", &[]);
}

/// Living ones where only those make sense, ended ones too where there is something to see.
#[test]
fn shells_complete_pods_and_apps() {
    let Some(lab) = Lab::open() else { return };
    lab.run(&pod("shut", "", &[app("a", "exit 0", "")])).expect_code(0);
    let running = lab.start(&pod("shop", "", &[app("api", UP, ""), app("db", UP, "")]));
    running.wait_for("up");
    every_shell_offers(&lab, "podrun stop sh", &["shop", "shop/api", "shop/db"]);
    every_shell_offers(&lab, "podrun status sh", &["shop", "shut"]);
    every_shell_offers(&lab, "podrun stop shop/d", &["shop/db"]);
    every_shell_offers(&lab, "podrun rm shu", &["shut"]);
    every_shell_offers(&lab, "podrun logs shop -c ", &["api", "db"]);
    every_shell_offers(&lab, "podrun inspect shut --app ", &["a"]);
    running.signal(libc::SIGTERM);
    running.wait().expect_code(0);
}

#[test]
fn shells_complete_manifests_and_the_way_to_them() {
    let Some(lab) = Lab::open() else { return };
    std::fs::write(lab.rootfs().join("shop.toml"), "").unwrap();
    std::fs::write(lab.rootfs().join("notes.txt"), "").unwrap();
    for shell in ["bash", "zsh", "fish"].into_iter().filter(|shell| require::program(shell)) {
        let has = |line: &str, wanted: &str| {
            offered(&lab, shell, line).iter().any(|word| word.trim_end_matches('/') == wanted)
        };
        for line in ["podrun run ", "podrun check --strict ", "podrun graph "] {
            assert!(has(line, "etc") && has(line, "shop.toml"), "{shell}: {line}");
            assert!(!has(line, "notes.txt"), "{shell}: {line}");
        }
        assert!(has("podrun run --env-file ", "notes.txt"), "{shell}");
    }
    for file in ["shop.toml", "notes.txt"] {
        std::fs::remove_file(lab.rootfs().join(file)).unwrap();
    }
}

/// Also while the manifest is not right yet: somebody may be about to ask `check` about it.
#[test]
fn shells_complete_apps_of_the_manifest_that_is_named() {
    let Some(lab) = Lab::open() else { return };
    let text = "version = 1\n[app.api]\nexec = [\"/bin/api\", \"-v\"]\n[app.db]\n[app.dns]\nexec = 3\n";
    std::fs::write(lab.rootfs().join("shop.toml"), text).unwrap();
    every_shell_offers(&lab, "podrun run shop.toml --only ", &["api", "db", "dns"]);
    every_shell_offers(&lab, "podrun run shop.toml --exit-code-from d", &["db", "dns"]);
    every_shell_offers(&lab, "podrun plan shop.toml --app a", &["api"]);
    every_shell_offers(
        &lab,
        "podrun check shop.toml none.toml --only api --no-deps --only d",
        &["db", "dns"],
    );
    every_shell_offers(&lab, "podrun run --only ", &[]);
    std::fs::remove_file(lab.rootfs().join("shop.toml")).unwrap();
}

/// A shell must not be disturbed, whatever the state of the root is.
#[test]
fn a_root_that_cannot_be_used_completes_to_nothing() {
    let Some(lab) = Lab::open() else { return };
    std::fs::write(lab.root(), "no directory").unwrap();
    let ended = lab.call(&["complete", "--", "status", ""]).expect_code(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("words\n", ""));
    std::fs::remove_file(lab.root()).unwrap();
}

#[test]
fn manual_pages_are_written_and_groff_has_no_complaint() {
    let Some(lab) = Lab::open() else { return };
    let place = lab.path("man");
    lab.call(&["man", place.to_str().unwrap()]).expect_code(0);
    let pages: Vec<_> = std::fs::read_dir(&place).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(pages.len() > 10, "{pages:?}");
    if !require::program("groff") {
        return;
    }
    for page in pages {
        let mut command = Command::new("groff");
        command.args(["-man", "-Tutf8", "-ww", "-z"]).arg(&page);
        let ended = Running::spawn(&mut command).wait().expect_code(0);
        assert_eq!(ended.stderr, "", "{}", page.display());
    }
}
