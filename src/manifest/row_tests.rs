//! Every rule and every trap of the design, with its exact answer, from one document; and what must never be in
//! an answer.

use std::fs;
use std::ops::Range;
use std::path::Path;

use super::tests::{UPDATE, repository};
use super::*;

/// One example of a row.
#[derive(Default)]
pub(crate) struct Example {
    /// The host that it is for, in lines `what: value`; empty where that does not matter.
    pub host: String,
    /// A piece of a manifest.
    pub manifest: String,
}

/// What stands before and behind a piece of a manifest to make it a whole one.
pub(crate) fn completed(piece: &str) -> (String, &'static str) {
    let version = if piece.contains("version") { "" } else { "version = 1\n" };
    let is_whole = piece.contains("[pod]") || piece.contains("version");
    let head = format!("{version}{}", if is_whole { "" } else { "[pod]\nname = \"shop\"\n" });
    let has_app = piece.contains("[app") || piece.contains("version");
    (head, if has_app { "" } else { "[app.web]\nrootfs = \"/\"\nexec = [\"/bin/true\"]\n" })
}

/// Moves problems of a whole manifest to where they are in the piece.
pub(crate) fn placed(problems: &mut [Problem], head_length: usize, piece_length: usize) {
    let shift = |span: &mut Range<usize>| {
        let at = |offset: usize| offset.saturating_sub(head_length).min(piece_length);
        *span = at(span.start)..at(span.end);
    };
    for problem in problems {
        shift(&mut problem.span);
        problem.related.iter_mut().for_each(|(span, _)| shift(span));
    }
}

fn answer(example: &Example) -> String {
    let piece = &example.manifest;
    let (head, tail) = completed(piece);
    let mut problems = read(&format!("{head}{piece}{tail}")).problems;
    placed(&mut problems, head.len(), piece.len());
    render("shop.toml", piece, &problems, false)
}

/// The document with each answer as it is: what is fenced as `text`, to what is fenced as `toml` before it on the host
/// that is fenced as `host`.
fn renewed(document: &str, answer: impl Fn(&Example) -> String) -> String {
    let mut text = String::new();
    let mut example = Example::default();
    let mut lines = document.split_inclusive('\n');
    while let Some(line) = lines.next() {
        text.push_str(line);
        if line.starts_with('#') {
            example = Example::default();
        }
        let Some(kind) = line.trim_end().strip_prefix("```") else { continue };
        let mut body: String = lines.by_ref().take_while(|line| line.trim_end() != "```").collect();
        match kind {
            "host" => example.host.clone_from(&body),
            "toml" => example.manifest.clone_from(&body),
            "text" => {
                let shown = answer(&example);
                let shown = shown.trim_end();
                body = if shown.is_empty() { String::new() } else { format!("{shown}\n") };
            }
            other => panic!("a fence of kind {other:?}"),
        }
        text.push_str(&format!("{body}```\n"));
    }
    text
}

/// Compares a document with the answers, or writes it anew.
pub(crate) fn compare(path: &Path, answer: impl Fn(&Example) -> String) {
    let document = fs::read_to_string(path).unwrap();
    let renewed = renewed(&document, answer);
    if std::env::var_os(UPDATE).is_some() {
        fs::write(path, &renewed).unwrap();
    } else if renewed != document {
        let differs = renewed.lines().zip(document.lines()).enumerate().find(|(_, (new, old))| new != old);
        panic!("{}: run again with {UPDATE}=1 and look at the difference: {differs:#?}", path.display());
    }
}

#[test]
fn every_row_has_its_exact_answer() {
    compare(&repository("tests/golden/rows.md"), answer);
}

/// A key that no example writes may be answered in any way.
#[test]
fn every_key_is_in_an_example() {
    let rows = fs::read_to_string(repository("tests/golden/rows.md")).unwrap();
    let pieces: Vec<&str> =
        rows.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let unseen: Vec<&str> = keys::KEYS
        .iter()
        .map(|key| key.path)
        // A name of the author's.
        .filter(|path| !path.ends_with(".*"))
        .filter(|path| {
            let name = path.rsplit('.').next().unwrap_or(path);
            !pieces.iter().any(|piece| piece.split(|c| !is_word(c)).any(|word| word == name))
        })
        .collect();
    assert!(unseen.is_empty(), "no example in rows.md has {unseen:#?}");
}

/// Manifests of authors who are new to this, with the answers that they get, as a document.
#[test]
fn mistakes_of_new_authors_are_answered_as_documented() {
    let mut document = "# What new authors write, and what they are told\n\n\
        Ten manifests, as somebody would write them who comes from compose, Kubernetes or systemd, each with about three\n\
        mistakes, and what `podrun check` says. A test makes this page from `tests/golden/mistakes`.\n"
        .to_owned();
    for file in super::tests::toml_files("tests/golden/mistakes") {
        let text = fs::read_to_string(&file).unwrap();
        let (title, manifest) = text.split_once('\n').unwrap();
        let name = file.file_stem().unwrap().to_str().unwrap();
        let from = match name.split('-').next().unwrap() {
            "compose" => "compose",
            "kubernetes" => "Kubernetes",
            _ => "systemd",
        };
        let problems = read(manifest).problems;
        assert!(!problems.is_empty(), "{name}");
        let shown = render("pod.toml", manifest, &problems, false);
        document.push_str(&format!(
            "\n## From {from}: {}\n\n```toml\n{manifest}```\n\n```text\n{}\n```\n",
            title.trim_start_matches("# ").to_lowercase(),
            shown.trim_end()
        ));
    }
    let path = repository("docs/first-mistakes.md");
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, &document).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap_or_default() == document, "run again with {UPDATE}=1");
}

/// Words of the language that podrun is written in, and of its libraries, say nothing to an author.
#[test]
fn no_answer_speaks_of_what_podrun_is_made_of() {
    let document = |name: &str| fs::read_to_string(repository("tests/golden").join(name)).unwrap();
    let mut answers = ["rows.md", "host-rows.md"].map(|name| (name.to_owned(), document(name))).to_vec();
    for file in super::tests::toml_files("tests/golden/manifest") {
        let text = fs::read_to_string(file.with_extension("txt")).unwrap();
        answers.push((file.display().to_string(), text));
    }
    answers.push(("docs".to_owned(), fs::read_to_string(repository("docs/first-mistakes.md")).unwrap()));
    let foreign = [
        "invalid type",
        "missing field",
        "unknown field",
        "unknown variant",
        "did not match any",
        "expected a map",
        "expected struct",
        "a sequence",
        "Some(",
        "None",
        "Ok(",
        "Err(",
        "\\u{",
        "\\'",
        "i64",
        "u32",
        "u64",
        "f64",
        "usize",
        "String",
        "Vec<",
        "&str",
        "DeValue",
        "Spanned",
        "serde",
        "enum ",
        "::",
        "newtype",
        "os error",
    ];
    for (name, text) in &answers {
        for line in text.lines() {
            let found = foreign.iter().find(|word| line.contains(**word));
            assert!(found.is_none(), "{name}: {found:?} in {line}");
        }
    }
}
