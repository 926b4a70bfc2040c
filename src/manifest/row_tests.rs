//! Every rule and every trap of the design, with its exact answer, from one document; and what must never be in
//! an answer.

use std::fs;

use super::tests::{UPDATE, repository};
use super::*;

/// The answer to a piece of a manifest, with places in the piece.
fn answer(piece: &str) -> String {
    let version = if piece.contains("version") { "" } else { "version = 1\n" };
    let is_whole = piece.contains("[pod]") || piece.contains("version");
    let head = format!("{version}{}", if is_whole { "" } else { "[pod]\nname = \"shop\"\n" });
    let app = if piece.contains("[app") || piece.contains("version") {
        ""
    } else {
        "[app.web]\nrootfs = \"/\"\nexec = [\"/bin/true\"]\n"
    };
    let mut problems = read(&format!("{head}{piece}{app}")).problems;
    let piece_end = piece.len();
    let shift = |span: &mut std::ops::Range<usize>| {
        let at = |offset: usize| offset.saturating_sub(head.len()).min(piece_end);
        *span = at(span.start)..at(span.end);
    };
    for problem in &mut problems {
        shift(&mut problem.span);
        problem.related.iter_mut().for_each(|(span, _)| shift(span));
    }
    render("shop.toml", piece, &problems, false)
}

#[test]
fn every_row_has_its_exact_answer() {
    let path = repository("tests/golden/rows.md");
    let document = fs::read_to_string(&path).unwrap();
    let mut renewed = String::new();
    for section in document.split_inclusive("```\n\n## ").flat_map(|part| part.split_inclusive("```\n\n# ")) {
        let Some((before, rest)) = section.split_once("```toml\n") else {
            renewed.push_str(section);
            continue;
        };
        let (piece, rest) = rest.split_once("```\n\n```text\n").unwrap();
        let (_, after) = rest.split_once("```\n").unwrap();
        let shown = answer(piece);
        assert!(!shown.is_empty(), "nothing is said about\n{piece}");
        renewed
            .push_str(&format!("{before}```toml\n{piece}```\n\n```text\n{}\n```\n{after}", shown.trim_end()));
    }
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, &renewed).unwrap();
    } else if renewed != document {
        let differs = renewed.lines().zip(document.lines()).enumerate().find(|(_, (new, old))| new != old);
        panic!("{}: run again with {UPDATE}=1 and look at the difference: {differs:#?}", path.display());
    }
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
    let mut answers =
        vec![("rows.md".to_owned(), fs::read_to_string(repository("tests/golden/rows.md")).unwrap())];
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
    ];
    for (name, text) in &answers {
        for line in text.lines() {
            let found = foreign.iter().find(|word| line.contains(**word));
            assert!(found.is_none(), "{name}: {found:?} in {line}");
        }
    }
}
