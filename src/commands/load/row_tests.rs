//! What `check --host` says on hosts of all kinds, from one document: the manifest, the host and the exact answer.
//!
//! The files are real ones below a directory of their own, which the document calls `/srv`; what no test can have on
//! every machine (hierarchies, limits, who asks) is put in place of what was seen. All the rest is the way of `check`.

use std::fs;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::errno::Errno;

use super::*;
use crate::cgroup::limits::{Facts, tests as cgroups};
use crate::host::tests::refuse_overlay;
use crate::manifest::row_tests::{Example, compare, completed, placed};
use crate::manifest::tests::repository;

/// The host of an example.
struct Scene {
    dir: tempfile::TempDir,
    cgroups: Facts,
    machine: Machine,
    asker: Asker,
    nofile: u64,
    overlay: Option<Errno>,
    passed: Vec<String>,
}

impl Scene {
    fn new(host: &str) -> Self {
        let mut scene = Self {
            dir: files(),
            cgroups: cgroups::hybrid(),
            machine: Machine { cpus: 2, nr_open: 1 << 20, oom_score_adj: 0, may_raise: true },
            asker: Asker { user: None, subuid: String::new(), credentials: None },
            nofile: 1 << 20,
            overlay: None,
            passed: Vec::new(),
        };
        for line in host.lines() {
            let (what, value) = line.split_once(": ").unwrap_or_else(|| panic!("not `what: value`: {line}"));
            scene.set(what, value);
        }
        scene
    }

    fn set(&mut self, what: &str, value: &str) {
        match (what, value) {
            ("cgroups", "v1") => self.cgroups = cgroups::legacy(),
            ("cgroups", "v2") => self.cgroups = cgroups::unified("cpuset cpu memory pids", true),
            ("cgroups", "v2 with all") => {
                self.cgroups = cgroups::unified("cpuset cpu io memory hugetlb pids", true);
            }
            ("cgroups", "v2, not delegated") => {
                self.cgroups = cgroups::unified("cpuset cpu memory pids", false);
            }
            ("cgroups", "v2, without pids") => {
                self.cgroups = cgroups::unified("cpuset cpu memory", true);
                self.cgroups.unified.as_mut().unwrap().root.controllers.retain(|name| name != "pids");
            }
            ("huge pages", sizes) => {
                self.cgroups.huge_pages = sizes.split(' ').map(|size| size.parse().unwrap()).collect();
            }
            ("no file", file) => {
                self.cgroups.absent_files.insert(file.to_owned());
            }
            ("user", name) => self.asker.user = Some([name.to_owned(), "1000".to_owned()]),
            ("/etc/subuid", line) => self.asker.subuid = format!("root:1:1\n{line}\n"),
            ("$CREDENTIALS_DIRECTORY", path) => self.asker.credentials = Some(self.there(path)),
            ("hard limit of open files", number) => self.nofile = number.parse().unwrap(),
            ("CAP_SYS_RESOURCE", "no") => self.machine.may_raise = false,
            ("overlay", "EPERM in a user namespace") => self.overlay = Some(Errno::EPERM),
            ("LISTEN_FDNAMES", names) => self.passed = names.split(':').map(str::to_owned).collect(),
            _ => panic!("no host has {what}: {value}"),
        }
    }

    fn name(&self) -> String {
        format!("{}/", self.dir.path().display())
    }

    fn there(&self, path: &str) -> PathBuf {
        path.replacen("/srv/", &self.name(), 1).into()
    }

    /// What `check --host` says about a manifest.
    fn problems(&self, manifest: &str) -> Vec<Problem> {
        let source = Source::new("shop.toml", manifest, Overrides::default());
        let read = source.read();
        let mut problems = read.problems;
        problems.extend(asked_problems(&source, &self.asker));
        if let Some(spec) = read.spec {
            let mut host = host::probe(&spec, DriverChoice::Cgroupfs).unwrap();
            host.cgroups = Facts { disks: host.cgroups.disks, ..self.cgroups.clone() };
            host.nofile = (1024, self.nofile);
            host.has_journal = false;
            if let Some(errno) = self.overlay {
                refuse_overlay(&mut host, errno);
            }
            problems.extend(problems_on((&source, &spec), &host, &self.machine, self.passed.clone()));
        }
        problems
    }
}

/// What the document calls `/srv`.
fn files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let put = |path: &str, mode: u32, content: &[u8]| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let mut own = [0; 20];
    fs::File::open("/proc/self/exe").unwrap().read_exact(&mut own).unwrap();
    // The head of a program, with one entry that names its loader (elf(5), PT_INTERP).
    let mut dynamic = vec![0; 64 + 56];
    dynamic[..20].copy_from_slice(&own);
    dynamic[32..40].copy_from_slice(&64_u64.to_le_bytes());
    dynamic[54..56].copy_from_slice(&56_u16.to_le_bytes());
    dynamic[56..58].copy_from_slice(&1_u16.to_le_bytes());
    dynamic[64..68].copy_from_slice(&3_u32.to_le_bytes());
    dynamic[72..80].copy_from_slice(&120_u64.to_le_bytes());
    dynamic[96..104].copy_from_slice(&28_u64.to_le_bytes());
    dynamic.extend_from_slice(b"/lib64/ld-linux-x86-64.so.2\0");
    let mut foreign = dynamic.clone();
    foreign[18..20].copy_from_slice(&22_u16.to_le_bytes());
    let mut fixed = dynamic.clone();
    fixed[56..58].copy_from_slice(&0_u16.to_le_bytes());
    put("images/web/etc/passwd", 0o644, b"root:x:0:0::/:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n");
    put("images/web/etc/group", 0o644, b"root:x:0:\nweb:x:1000:\n");
    put("images/web/bin/static", 0o755, &fixed);
    put("images/web/bin/dynamic", 0o755, &dynamic);
    put("images/web/bin/foreign", 0o755, &foreign);
    put("images/web/bin/script", 0o755, b"#!/usr/bin/python3\n");
    put("images/web/bin/plain", 0o644, b"#!/bin/static\n");
    put("images/web/bin/private", 0o700, b"#!/bin/static\n");
    put("shop/good.env", 0o644, b"A=1\n");
    put("shop/bad.env", 0o644, b"A=1\nexport B\n");
    put("shop/db-password", 0o644, b"x");
    put("shop/db-key", 0o600, b"x");
    put("shop/profile.json", 0o644, profile().as_bytes());
    put("credentials/db-password", 0o400, b"x");
    dir
}

/// Its fourth rule is wrong.
fn profile() -> String {
    let rule = r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW"}"#;
    let last = r#"{"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_XX"}]}"#;
    format!("{{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [{rule}, {rule}, {rule}, {last}]}}")
}

/// A place in the text with the real directory, as a place in the document's.
fn place_in(piece: &str, offset: usize, grown_by: usize) -> usize {
    let mut before = 0;
    for (at, _) in piece.match_indices("/srv/") {
        match offset.checked_sub(at + before) {
            Some(inside) if inside >= "/srv/".len() + grown_by => before += grown_by,
            Some(_) => return at,
            None => break,
        }
    }
    offset - before
}

fn answer(example: &Example) -> String {
    let scene = Scene::new(&example.host);
    let dir = scene.name();
    let (head, tail) = completed(&example.manifest);
    let piece = example.manifest.replace("/srv/", &dir);
    let mut problems = scene.problems(&format!("{head}{piece}{tail}"));
    placed(&mut problems, head.len(), piece.len());
    let grown_by = dir.len() - "/srv/".len();
    let back = |span: &mut Range<usize>| {
        *span = place_in(&example.manifest, span.start, grown_by)
            ..place_in(&example.manifest, span.end, grown_by);
    };
    for problem in &mut problems {
        back(&mut problem.span);
        problem.related.iter_mut().for_each(|(span, _)| back(span));
        problem.message = problem.message.replace(&dir, "/srv/");
        problem.help = problem.help.take().map(|help| help.replace(&dir, "/srv/"));
    }
    manifest::render("shop.toml", &example.manifest, &problems, false)
}

#[test]
fn every_row_of_the_host_has_its_exact_answer() {
    compare(&repository("tests/golden/host-rows.md"), answer);
}

/// A rule of the host that no example shows may say anything.
#[test]
fn every_rule_of_the_host_is_shown_by_an_example() {
    let rows = fs::read_to_string(repository("tests/golden/host-rows.md")).unwrap();
    let of_host = crate::manifest::rules::ALL.iter().filter(|rule| &rule.code[1..] > "0900");
    let unseen: Vec<_> = of_host.filter(|rule| !rows.contains(&format!("[{}]", rule.code))).collect();
    assert!(unseen.is_empty(), "no example shows {unseen:#?}");
}

#[test]
fn places_are_found_again_when_the_directory_is_another() {
    let piece = "a = \"/srv/x\" b = \"/srv/y\"";
    let real = piece.replace("/srv/", "/tmp/longer/");
    let grown_by = "/tmp/longer/".len() - "/srv/".len();
    for word in ["a =", "x\"", "b =", "y\""] {
        let (real_at, at) = (real.find(word).unwrap(), piece.find(word).unwrap());
        assert_eq!(place_in(piece, real_at, grown_by), at, "{word}");
    }
    assert_eq!(place_in(piece, real.len(), grown_by), piece.len());
}
