//! The schema of manifests in the hands of those that use it: an independent validator, and the checkers of the two
//! TOML extensions that editors have. The tools are installed by `tests/tools`.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use podrun::manifest::schema::{self, schema};

/// The folder with the tools; nothing where they cannot be had, which is a failure when nothing may be skipped.
fn tools() -> Option<PathBuf> {
    let output = Command::new(repository().join("tests/tools")).output().unwrap();
    if output.status.success() {
        return Some(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).join("bin"));
    }
    let reason = format!("SKIP the tools cannot be installed: {}", String::from_utf8_lossy(&output.stderr));
    assert!(std::env::var_os("PODRUN_TEST_STRICT").is_none_or(|word| word != "1"), "{reason}");
    std::io::stderr().write_all(reason.as_bytes()).unwrap();
    None
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shipped() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(repository().join("manifests")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    assert!(files.len() >= 4);
    files
}

/// What each is to find fault with, one a manifest.
const WRONG: &[(&str, &str)] = &[
    ("unknown key", "[pod.isolators]\nmemroy-max = \"1GiB\"\n"),
    ("ambiguous size", "[pod.isolators]\nmemory-max = \"512M\"\n"),
    ("no unit", "[app.web]\nrootfs = \"/\"\nexec = [\"/bin/true\"]\nstop-timeout = 10\n"),
    ("a string for a list", "[app.web]\nrootfs = \"/\"\nexec = \"/bin/true\"\n"),
    ("a word", "[app.web]\nrootfs = \"/\"\nexec = [\"/bin/true\"]\nrootfs-mode = \"ro\"\n"),
    ("a missing key", "[app.web]\nrootfs = \"/\"\n"),
    (
        "a key that slipped",
        "[app.web]\nrootfs = \"/\"\nexec = [\"/bin/true\"]\n[app.web.env]\nuser = \"x\"\n",
    ),
    ("a key that does not work yet", "[app.web]\nrootfs = \"/\"\nexec = [\"/bin/true\"]\nrestart = \"no\"\n"),
    ("an id", "[app.web]\nrootfs = \"/\"\nexec = [\"/bin/true\"]\nuser = -1\n"),
    ("a weight", "[app.web]\nrootfs = \"/\"\nexec = [\"/bin/true\"]\n[app.web.isolators]\ncpu-weight = 0\n"),
];

fn wrong(piece: &str) -> String {
    let app =
        if piece.contains("[app.") { "" } else { "[app.web]\nrootfs = \"/\"\nexec = [\"/bin/true\"]\n" };
    format!("version = 1\n\n[pod]\nname = \"x\"\n\n{piece}{app}")
}

/// A folder with the schema, the shipped manifests that name it there, and the wrong ones.
struct Room {
    dir: tempfile::TempDir,
    right: Vec<PathBuf>,
    wrong: Vec<PathBuf>,
}

fn room() -> Room {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("schema.json");
    fs::write(&path, serde_json::to_string_pretty(&schema()).unwrap()).unwrap();
    let line = format!("#:schema file://{}\n", path.display());
    let mut right = Vec::new();
    for file in shipped() {
        let text = fs::read_to_string(&file).unwrap();
        let installed = format!("#:schema file://{}\n", schema::PATH);
        let rest = text.strip_prefix(&installed);
        let rest = rest.unwrap_or_else(|| panic!("{} does not begin with {installed}", file.display()));
        right.push(dir.path().join(file.file_name().unwrap()));
        fs::write(right.last().unwrap(), format!("{line}{rest}")).unwrap();
    }
    let mut wrong_files = Vec::new();
    for (index, (_, piece)) in WRONG.iter().enumerate() {
        wrong_files.push(dir.path().join(format!("wrong-{index}.toml")));
        fs::write(wrong_files.last().unwrap(), format!("{line}{}", wrong(piece))).unwrap();
    }
    Room { dir, right, wrong: wrong_files }
}

/// Runs a checker on one manifest: whether it was content, and what it said.
fn run(tool: &Path, arguments: &[&str], file: &Path, dir: &Path) -> (bool, String) {
    let output = Command::new(tool)
        .args(arguments)
        .arg(file)
        .current_dir(dir)
        .env("HOME", dir)
        .env_remove("XDG_CACHE_HOME")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn agrees(room: &Room, tool: &Path, arguments: &[&str]) {
    for file in &room.right {
        let (content, said) = run(tool, arguments, file, room.dir.path());
        assert!(content, "{} of {}:\n{said}", tool.display(), file.display());
    }
    for (file, (what, piece)) in room.wrong.iter().zip(WRONG) {
        let (content, said) = run(tool, arguments, file, room.dir.path());
        assert!(!content, "{} does not mind {what}:\n{piece}\n{said}", tool.display());
    }
}

#[test]
fn schema_is_one_and_tells_right_from_wrong() {
    let Some(tools) = tools() else { return };
    const SCRIPT: &str = "\
import json, sys, tomllib, jsonschema
schema = json.load(open('schema.json'))
jsonschema.Draft7Validator.check_schema(schema)
jsonschema.validate(tomllib.load(open(sys.argv[1], 'rb')), schema, jsonschema.Draft7Validator)
";
    agrees(&room(), &tools.join("python3"), &["-c", SCRIPT]);
}

#[test]
fn taplo_finds_the_schema_by_the_first_line() {
    let Some(tools) = tools() else { return };
    agrees(&room(), &tools.join("taplo"), &["lint"]);
}

#[test]
fn tombi_finds_the_schema_by_the_first_line() {
    let Some(tools) = tools() else { return };
    agrees(&room(), &tools.join("tombi"), &["lint", "--offline", "--error-on-warnings"]);
}

/// The schema knows no more and no less than the reader, as far as one value can tell.
#[test]
fn check_minds_what_the_schema_minds() {
    for (what, piece) in WRONG {
        let read = podrun::manifest::read(&wrong(piece));
        assert!(!read.problems.is_empty(), "{what}");
    }
}
