//! What CONTRIBUTING.md promises about the text of this repository, so that nobody has to look for it in a review.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A function is longer than this only when it is one flat `match`, marked by `clippy::too_many_lines`.
const FUNCTION_LINES_MAX: usize = 70;
/// Without its tests.
const FILE_LINES_MAX: usize = 500;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files of the repository with this ending, without what is built or fetched.
fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![repository().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if entry.file_type().unwrap().is_dir() {
                let skipped = name == "target" || name == "corpus" || name == "artifacts" || name == ".git";
                dirs.extend((!skipped).then_some(path));
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.strip_prefix(repository()).unwrap().to_string_lossy().into_owned()
}

/// Unit tests that were given a file of their own.
fn is_tests(path: &Path) -> bool {
    let place = name(path);
    place.starts_with("tests/") || place.ends_with("tests.rs")
}

/// What comes before the unit tests at a file's end.
fn product(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

#[track_caller]
fn expect_none(found: &[String], what: &str) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn functions_are_at_most_70_lines() {
    let mut found = Vec::new();
    for path in files(".rs") {
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let words = line.trim_start();
            let indent = line.len() - words.len();
            let is_head = words.split("fn ").next().is_some_and(|before| {
                words.len() > before.len()
                    && before.split_whitespace().all(|word| {
                        matches!(word, "const" | "unsafe" | "extern" | "\"C\"") || word.starts_with("pub")
                    })
            });
            let end = format!("{}}}", " ".repeat(indent));
            if !is_head || words.ends_with(';') {
                continue;
            }
            let length = lines[start..].iter().position(|line| *line == end).map_or(0, |offset| offset + 1);
            let marked =
                start > 0 && lines[start.saturating_sub(4)..start].join(" ").contains("too_many_lines");
            if length > FUNCTION_LINES_MAX && !marked {
                found.push(format!("{}:{}: {length} lines", name(&path), start + 1));
            }
        }
    }
    expect_none(&found, "functions that are too long");
}

#[test]
fn files_are_at_most_500_lines_without_their_tests() {
    let lines = |path: &PathBuf| product(&fs::read_to_string(path).unwrap()).lines().count();
    let all = files(".rs").into_iter().map(|path| (lines(&path), path));
    let found: Vec<String> = all
        .filter(|(lines, path)| *lines > FILE_LINES_MAX && !is_tests(path))
        .map(|(lines, path)| format!("{}: {lines} lines", name(&path)))
        .collect();
    expect_none(&found, "files that are too long");
}

#[test]
fn unsafe_stands_in_sys_modules_only() {
    let mut found = Vec::new();
    for path in files(".rs") {
        let place = name(&path);
        let allowed =
            place.split('/').any(|part| part == "sys" || part == "sys.rs") || place == "tests/tidy.rs";
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate().filter(|_| !allowed) {
            let code = line.split("//").next().unwrap();
            if ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
                .iter()
                .any(|word| code.contains(word))
            {
                found.push(format!("{place}:{}", number + 1));
            }
        }
    }
    expect_none(&found, "unsafe code outside a `sys` module");
}

#[test]
fn nothing_is_marked_as_unfinished() {
    // Written apart, or this file would be found itself.
    let marks =
        [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["todo", "!("], ["unimplemented", "!("], ["#[ign", "ore"]];
    let mut found = Vec::new();
    for path in [files(".rs"), files(".md"), files(".toml"), files(".sh"), files("Makefile")].concat() {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|halves| line.contains(&halves.concat())) {
                found.push(format!("{}:{}: {}", name(&path), number + 1, line.trim()));
            }
        }
    }
    expect_none(&found, "marks of unfinished work");
}

#[test]
fn every_module_says_what_it_owns() {
    let missing =
        files(".rs").into_iter().filter(|path| !fs::read_to_string(path).unwrap().starts_with("//!"));
    let found: Vec<String> = missing.filter(|path| !is_tests(path)).map(|path| name(&path)).collect();
    expect_none(&found, "files without a head");
}

/// Links of the form `[text](path)` in the documents lead somewhere.
#[test]
fn links_in_documents_exist() {
    let mut found = Vec::new();
    for path in files(".md") {
        let text = fs::read_to_string(&path).unwrap();
        for part in text.split("](").skip(1) {
            let target = part.split(')').next().unwrap().split('#').next().unwrap();
            let elsewhere = target.contains("://") || target.starts_with("mailto:") || target.is_empty();
            if !elsewhere && !path.parent().unwrap().join(target).exists() {
                found.push(format!("{}: {target}", name(&path)));
            }
        }
    }
    expect_none(&found, "links that lead nowhere");
}

/// What stage1 links is what was agreed: a small supervisor has few dependencies.
#[test]
fn stage1_links_what_it_may() {
    let words =
        "tree --offline --locked -p podrun-stage1 --edges normal,no-proc-macro --prefix none --format {lib}";
    let output =
        Command::new(env!("CARGO")).args(words.split(' ')).current_dir(repository()).output().unwrap();
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut linked: Vec<&str> = text.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    linked.retain(|line| !line.is_empty());
    linked.sort_unstable();
    linked.dedup();
    let agreed = include_str!("stage1-dependencies.txt");
    assert_eq!(linked.join("\n"), agreed.trim(), "tests/stage1-dependencies.txt is the agreed list");
}
