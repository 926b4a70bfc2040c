//! Every example of every `--help`, run by bash as it stands there.
//!
//! A new example is run without a word here. Its manifests are `shop.toml`, `hello.toml`, `job.toml`, `ci.toml` and
//! `web.toml`;
//! where the line is not about `run`, a pod `shop` with the apps `api` and `db` runs already.

use std::process::Command;

use clap::CommandFactory;
use podrun::cli::Cli;

use crate::harness::{Ended, Lab, Running, app, bin_dir, pod, require, wait_until};

const SOCKET: &str = "[socket.http]\nlisten = \"127.0.0.1:8000\"\napp = \"web\"\n";
const UP: &str = "on-term 0 ; say up ; warn up ; pause";

/// `(command, line)`, without the explanations that stand behind two blanks.
fn examples() -> Vec<(String, String)> {
    let mut command = Cli::command();
    // The options and texts of a command are there when it is built.
    command.build();
    let mut found = Vec::new();
    for sub in std::iter::once(&command).chain(command.get_subcommands()) {
        let help = sub.get_after_long_help().map(ToString::to_string).unwrap_or_default();
        let block = help.split("Examples:\n").nth(1).unwrap_or_default();
        for line in block.lines().take_while(|line| line.starts_with("  ")) {
            let line = line.trim_start();
            let line = line.split("  ").next().unwrap_or(line);
            found.push((sub.get_name().to_owned(), line.to_owned()));
        }
    }
    found
}

fn write_manifests(lab: &Lab) {
    let short = [app("api", "say one ; sleep 1 ; exit 0", "depends-on = [\"db\"]"), app("db", "exit 0", "")];
    let limits = "labels = { tier = \"front\" }\nisolators.cpus = 2\nisolators.pids-max = 900";
    let long = [app("api", UP, "depends-on = [\"db\"]"), app("db", UP, "")];
    let tests = [app("server", UP, ""), app("tests", "exit 0", "depends-on = [\"server\"]")];
    let texts = [
        ("shop.toml", pod("shop", "", &short)),
        ("long.toml", pod("shop", limits, &long)),
        ("hello.toml", pod("hello", "", &[app("hello", "say hello", "")])),
        ("job.toml", pod("job", "", &[app("job", "sleep 0.2 ; exit 0", "")])),
        ("ci.toml", pod("ci", "", &tests)),
        ("web.toml", pod("web", "", &[app("web", UP, "")]) + SOCKET),
    ];
    for (name, text) in texts {
        std::fs::rename(lab.manifest(&text), lab.path(name)).unwrap();
    }
}

/// Places of the host that examples write to are in the lab, and what goes on until somebody ends it looks once.
fn script(line: &str) -> String {
    let once = if line.contains("--no-stream") { "podrun stats" } else { "podrun stats --no-stream" };
    let line = line.replace("podrun stats", once);
    // Without a pod it goes on until Ctrl-C.
    let soon = "--until $(date -u -d '+1 second' +%FT%TZ)";
    let line = if line == "podrun events -f" { format!("{line} {soon}") } else { line };
    // It wants a terminal, and a key to end.
    let line = if line.starts_with("podrun top") {
        format!("(sleep 0.5; printf q; sleep 5) | script -qec '{line}' /dev/null")
    } else {
        line
    };
    let line = line.replace("> /", "> fs/").replace("--id-file /tmp/", "--id-file fs/tmp/");
    format!(
        "set -o pipefail\nmkdir -p fs/tmp fs/etc/{{bash_completion.d,fish/completions,systemd/system}}\n\
             mkdir -p fs/usr/local/share/zsh/site-functions\ndot() {{ cat; }}\n{line}\n"
    )
}

fn bash(lab: &Lab, line: &str) -> Command {
    let path = format!("{}:{}", bin_dir().display(), std::env::var("PATH").unwrap_or_default());
    let mut command = lab.command("bash");
    command.args(["-c", &script(line)]).env("PATH", path);
    command
}

fn run_example(lab: &Lab, line: &str) -> Ended {
    let running = Running::spawn(&mut bash(lab, line));
    let follows = line.contains("logs -f") || line.contains("events -f -n");
    let needs_an_end = follows || line.contains("podrun wait shop") || line.contains("wait --any");
    if needs_an_end {
        wait_until("the example runs", || running.has_ended() || !lab.call(&["ps", "-q"]).stdout.is_empty());
        std::thread::sleep(std::time::Duration::from_millis(200));
        lab.call(&["stop", "-a"]).expect_code(0);
    }
    running.wait()
}

/// The pod that most examples are about; `run` makes its own, and `rm` takes one that has ended.
fn prepare(lab: &Lab, line: &str) {
    if line == "podrun rm shop" {
        lab.call(&["run", "shop.toml"]).expect_code(0);
    } else if !line.contains("podrun run ") {
        lab.call(&["run", "-d", "long.toml"]).expect_code(0);
    }
}

fn tidy_up(lab: &Lab) {
    lab.call(&["stop", "-a"]);
    lab.wait_until_empty();
    lab.call(&["gc"]).expect_code(0);
    for left in ["fs", "again.toml", "podrun.sarif", "shop.svg"] {
        let path = lab.path(left);
        let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
}

#[test]
fn every_example_of_every_help_works() {
    if !require::quick() {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    write_manifests(&lab);
    let examples = examples();
    assert!(examples.len() > 50, "the examples were not found: {examples:?}");
    let has = |line: &str, word: &str, program: &str| !line.contains(word) || require::program(program);
    let can_run = |line: &str| has(line, "| jq ", "jq") && has(line, "podrun top", "script");
    for (command, line) in examples.into_iter().filter(|(_, line)| can_run(line)) {
        prepare(&lab, &line);
        let ended = run_example(&lab, &line);
        assert_eq!(ended.code, 0, "{command}: {line}\n{ended}");
        assert!(!ended.stderr.contains("podrun: cannot"), "{command}: {line}\n{ended}");
        tidy_up(&lab);
    }
}

/// None is passed over: what looks like a command in a help as it is printed was found.
#[test]
fn every_line_of_a_help_that_is_a_command_is_run() {
    let mut command = Cli::command().term_width(200);
    command.build();
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let mut helps = vec![command.render_long_help().to_string()];
    helps.extend(names.iter().filter_map(|name| {
        command
            .find_subcommand_mut(name)
            .map(|sub| sub.clone().term_width(200).render_long_help().to_string())
    }));
    let found = examples();
    let lines = helps.iter().flat_map(|help| help.lines()).map(str::trim_start);
    let commands: Vec<&str> = lines.filter(|line| line.starts_with("podrun ")).collect();
    assert!(commands.len() > 50, "{commands:?}");
    for line in commands {
        let bare = line.split("  ").next().unwrap_or(line);
        assert!(found.iter().any(|(_, example)| example == bare), "not run: {line}");
    }
}

#[test]
fn every_command_has_examples() {
    let command = Cli::command();
    let examples = examples();
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let name = sub.get_name();
        let has_one =
            examples.iter().any(|(of, line)| of == name && line.contains(&format!("podrun {name}")));
        assert!(has_one, "`podrun {name} --help` has no example");
    }
}
