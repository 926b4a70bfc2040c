//! `podrun doctor`: what this host can do for pods, and how to mend what it cannot.
//!
//! What was seen comes from [`crate::host`]; the verdicts are decided here, without a look at anything. Isolators
//! are not judged by a list of their own: each one is resolved like that of a manifest, of the pod and of an app, with
//! the driver that `run` would have, so doctor and `run` cannot disagree.

use anyhow::Result;
use serde::Serialize;

use crate::cli::{DoctorArgs, Globals, TextFormat};
use crate::commands::load;
use crate::host::abilities::{self, Abilities};
use crate::host::isolators::{Isolator, Refused};
use crate::output::{paint, wrap, write_json, write_stdout};
use crate::plan::Driver;
use crate::pod::root::Root;
use crate::pod::status::json::SCHEMA;

/// Linux, as stage1.md says: clone3, openat2, close_range, mount_setattr.
const KERNEL_MIN: [u32; 2] = [5, 12];
/// Below this a pod of a hundred apps cannot be run.
const NOFILE_MIN: u64 = 4096;
/// CAP_SYS_ADMIN, SETUID, SETGID, SETPCAP, CHOWN, KILL: without one of them no pod is made.
const CAPABILITIES: [(u32, &str); 6] =
    [(21, "SYS_ADMIN"), (7, "SETUID"), (6, "SETGID"), (8, "SETPCAP"), (0, "CHOWN"), (5, "KILL")];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// As it should be.
    Ok,
    /// Pods run, but not with everything.
    Limited,
    /// No pod runs.
    Bad,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Limited => "limited",
            Self::Bad => "bad",
        }
    }

    /// ANSI: green, yellow, red.
    fn color(self) -> u8 {
        match self {
            Self::Ok => 32,
            Self::Limited => 33,
            Self::Bad => 31,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    name: String,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Serialize)]
struct DoctorJson<'a> {
    schema: u32,
    version: &'static str,
    verdict: Verdict,
    findings: &'a [Finding],
}

/// Says what this host can do; 1 when it cannot run pods at all.
///
/// # Errors
/// When `/proc` is not there, or standard output cannot be written.
pub fn run(globals: &Globals, args: &DoctorArgs) -> Result<u8> {
    let root = Root::open(&globals.root).map(|root| root.path().to_owned());
    let findings = findings(&abilities::look(&globals.root, load::choice(args.driver))?, root.err());
    let verdict = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
    match args.output {
        _ if args.quiet => {}
        TextFormat::Json => {
            let version = env!("CARGO_PKG_VERSION");
            write_json(&DoctorJson { schema: SCHEMA, version, verdict, findings: &findings })?;
        }
        TextFormat::Text => write_stdout(&text(&findings, verdict, globals.color.stdout()))?,
    }
    Ok(u8::from(verdict == Verdict::Bad))
}

fn findings(host: &Abilities, root_error: Option<anyhow::Error>) -> Vec<Finding> {
    let mut findings = vec![user(host), kernel(host), stage1(host), namespaces(host), overlay(host)];
    findings.push(directory(host, root_error));
    findings.push(descriptors(host));
    findings.push(systemd(host));
    findings.push(cgroups(host));
    findings.push(kill(host));
    findings.extend(host.isolators.iter().map(isolator));
    findings
}

/// An isolator of which the pod and an app are not told the same says whose it is.
fn isolator(isolator: &Isolator) -> Finding {
    let (name, fix) = (row(isolator), |refused: &Refused| fix(refused));
    let limited = |found: String, fix| Finding { name: name.clone(), verdict: Verdict::Limited, found, fix };
    match (&isolator.of_app, &isolator.of_pod) {
        (Some(app), Some(pod)) if app.reason == pod.reason => limited(app.reason.clone(), fix(app)),
        (Some(app), Some(pod)) => {
            let found = format!("of an app refused: {}; of the pod refused: {}", app.reason, pod.reason);
            limited(found, fix(app))
        }
        (Some(app), None) => limited(format!("of the pod; of an app refused: {}", app.reason), fix(app)),
        (None, Some(pod)) => limited(format!("of an app; of the pod refused: {}", pod.reason), fix(pod)),
        (None, None) => match &isolator.idle {
            Some(idle) => limited(idle.reason.clone(), fix(idle)),
            None => ok(&name, "can be enforced"),
        },
    }
}

fn row(isolator: &Isolator) -> String {
    isolator.key.to_owned() + &isolator.value.map(|value| format!(" {value}")).unwrap_or_default()
}

/// The hint of a refusal is for the author of a manifest; where the host can be changed, that is said instead.
fn fix(refused: &Refused) -> Option<String> {
    const UNIFIED: &str = "boot with cgroup2 alone (systemd.unified_cgroup_hierarchy=1); or in a manifest: on-missing = \"ignore\"";
    if refused.reason.starts_with("cgroup v1 has no") {
        return Some(UNIFIED.to_owned());
    }
    refused.hint.clone()
}

fn ok(name: &str, found: impl Into<String>) -> Finding {
    Finding { name: name.to_owned(), verdict: Verdict::Ok, found: found.into(), fix: None }
}

fn not_ok(name: &str, verdict: Verdict, found: impl Into<String>, fix: &str) -> Finding {
    Finding { name: name.to_owned(), verdict, found: found.into(), fix: Some(fix.to_owned()) }
}

fn user(host: &Abilities) -> Finding {
    if host.euid != 0 {
        let fix = "run it with sudo; check, plan, explain and graph work without root";
        return not_ok("root", Verdict::Bad, format!("this is uid {}", host.euid), fix);
    }
    let missing: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(number, _)| host.capabilities >> number & 1 == 0)
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() {
        return ok("root", "uid 0 with the capabilities that pods need");
    }
    let fix = "let whoever started this shell leave it these capabilities";
    not_ok("root", Verdict::Bad, format!("uid 0 without {}", missing.join(", ")), fix)
}

fn kernel(host: &Abilities) -> Finding {
    let [major, minor] = KERNEL_MIN;
    if abilities::release(&host.kernel) >= KERNEL_MIN {
        return ok("kernel", format!("Linux {}", host.kernel));
    }
    not_ok(
        "kernel",
        Verdict::Bad,
        format!("Linux {}", host.kernel),
        &format!("boot Linux {major}.{minor} or later"),
    )
}

fn stage1(host: &Abilities) -> Finding {
    match &host.stage1 {
        Ok(path) => ok("stage1", path.display().to_string()),
        Err(why) => {
            not_ok("stage1", Verdict::Bad, why, "install podrun-stage1 with podrun, or put it beside it")
        }
    }
}

fn namespaces(host: &Abilities) -> Finding {
    if host.namespaces_missing.is_empty() {
        return ok("namespaces", "pid, mnt, uts, ipc, cgroup");
    }
    let missing = host.namespaces_missing.join(", ");
    let fix = "boot a kernel with them (CONFIG_NAMESPACES), and set /proc/sys/user/max_*_namespaces above 0";
    not_ok("namespaces", Verdict::Bad, format!("there are none of {missing}"), fix)
}

fn overlay(host: &Abilities) -> Finding {
    if host.overlay {
        return ok("overlay", "rootfs-mode = \"overlay\", the default, works");
    }
    let fix = "modprobe overlay, or set rootfs-mode to \"read-only\" or \"writable\" in each app";
    not_ok("overlay", Verdict::Limited, "the kernel has not loaded the overlay file system", fix)
}

fn directory(host: &Abilities, error: Option<anyhow::Error>) -> Finding {
    let shown = host.directory.display();
    match error {
        Some(error) => {
            let fix = "give another directory with --root or PODRUN_ROOT";
            not_ok("directory", Verdict::Bad, format!("{error:#}"), fix)
        }
        None if !host.directory_writable => {
            let fix = "make it, or give another one with --root or PODRUN_ROOT";
            not_ok("directory", Verdict::Bad, format!("`{shown}` cannot be written"), fix)
        }
        None => ok("directory", format!("pods are recorded in {shown}")),
    }
}

fn descriptors(host: &Abilities) -> Finding {
    let found = format!("at most {} at once", host.nofile);
    if host.nofile >= NOFILE_MIN {
        return ok("descriptors", found);
    }
    let fix = "raise the hard limit: ulimit -Hn, or LimitNOFILE= of the service";
    not_ok("descriptors", Verdict::Limited, format!("{found}; a pod needs about 20 for each app"), fix)
}

fn systemd(host: &Abilities) -> Finding {
    let made_by = match &host.driver {
        Ok(made_by) => made_by,
        Err(refused) => {
            let fix = refused.hint.as_deref().unwrap_or("--driver cgroupfs goes without systemd");
            return not_ok("systemd", Verdict::Bad, refused.reason.clone(), fix);
        }
    };
    let found = match made_by {
        Driver::Systemd => "is PID 1, and makes the groups of pods",
        Driver::Service => "is PID 1; the groups of a pod are made in the service that podrun is in",
        Driver::Cgroupfs if host.systemd => "is PID 1; the groups of pods are made by podrun here",
        Driver::Cgroupfs => "is not PID 1; podrun needs none",
    };
    ok("systemd", found)
}

fn cgroups(host: &Abilities) -> Finding {
    if host.hierarchies.is_empty() {
        let fix = "mount -t cgroup2 none /sys/fs/cgroup";
        return not_ok("cgroups", Verdict::Bad, "no hierarchy is mounted", fix);
    }
    ok("cgroups", host.hierarchies.join("; "))
}

fn kill(host: &Abilities) -> Finding {
    if host.cgroup_kill {
        return ok("cgroup.kill", "kills a group at once, whatever forks in it");
    }
    let fix = "boot Linux 5.14 or later with cgroup2 mounted, also beside v1";
    not_ok("cgroup.kill", Verdict::Limited, "is not there: groups are frozen and killed one by one", fix)
}

fn text(findings: &[Finding], verdict: Verdict, color: bool) -> String {
    const WIDTH: usize = 80;
    let names = findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    let indent = 9 + names + 2;
    let mut text = String::new();
    for (number, finding) in findings.iter().enumerate() {
        let word = format!("{:<7}", finding.verdict.word());
        text += &paint(&word, finding.verdict.color(), color);
        let name = format!("  {:<names$}  ", finding.name);
        // What mends several in a row is said behind the last of them.
        let is_said_below = findings.get(number + 1).is_some_and(|next| next.fix == finding.fix);
        let fix = finding.fix.iter().filter(|_| !is_said_below).map(|fix| format!("fix: {fix}"));
        let paragraphs: Vec<String> = std::iter::once(finding.found.clone()).chain(fix).collect();
        let body: Vec<String> = paragraphs.iter().flat_map(|words| wrap(words, WIDTH - indent)).collect();
        text += &name;
        text += &body.join(&format!("\n{}", " ".repeat(indent)));
        text.push('\n');
    }
    let limited = findings.iter().filter(|finding| finding.verdict == Verdict::Limited).count();
    text += match verdict {
        Verdict::Ok => "\nPods run here, with everything.\n",
        Verdict::Limited => "\nPods run here. ",
        Verdict::Bad => "\nPods do not run here: mend what is bad first.\n",
    };
    if verdict == Verdict::Limited {
        let things = if limited == 1 {
            "One thing is limited.".to_owned()
        } else {
            format!("{limited} things are limited.")
        };
        text += &format!("{things}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn limit(key: &'static str) -> Isolator {
        Isolator { key, value: None, of_pod: None, of_app: None, idle: None }
    }

    fn refused(reason: &str) -> Option<Refused> {
        Some(Refused { reason: reason.to_owned(), hint: Some("leave it out".to_owned()) })
    }

    fn good() -> Abilities {
        Abilities {
            euid: 0,
            capabilities: u64::MAX,
            kernel: "6.1.0-13-amd64".into(),
            stage1: Ok(PathBuf::from("/usr/libexec/podrun/podrun-stage1")),
            namespaces_missing: Vec::new(),
            overlay: true,
            directory: PathBuf::from("/run/podrun"),
            directory_writable: true,
            nofile: 524_288,
            systemd: true,
            hierarchies: vec!["cgroup2 at /sys/fs/cgroup (cpu memory pids)".into()],
            cgroup_kill: true,
            driver: Ok(Driver::Systemd),
            isolators: vec![limit("memory-max")],
        }
    }

    fn verdict(host: &Abilities) -> Verdict {
        findings(host, None).iter().map(|finding| finding.verdict).max().unwrap()
    }

    #[test]
    fn each_lack_has_its_verdict_and_a_fix() {
        assert_eq!(verdict(&good()), Verdict::Ok);
        let silent = Refused { reason: "systemd does not answer".to_owned(), hint: None };
        let none = || refused("cgroup v1 has no such limit");
        let low = Isolator { of_pod: none(), of_app: none(), ..limit("memory-low") };
        let table = [
            (Abilities { euid: 1000, ..good() }, "root", Verdict::Bad),
            (Abilities { capabilities: !(1 << 21), ..good() }, "root", Verdict::Bad),
            (Abilities { kernel: "5.10.0-9".into(), ..good() }, "kernel", Verdict::Bad),
            (Abilities { kernel: "4.19".into(), ..good() }, "kernel", Verdict::Bad),
            (Abilities { stage1: Err("nowhere".into()), ..good() }, "stage1", Verdict::Bad),
            (Abilities { namespaces_missing: vec!["pid"], ..good() }, "namespaces", Verdict::Bad),
            (Abilities { overlay: false, ..good() }, "overlay", Verdict::Limited),
            (Abilities { directory_writable: false, ..good() }, "directory", Verdict::Bad),
            (Abilities { nofile: 1024, ..good() }, "descriptors", Verdict::Limited),
            (Abilities { hierarchies: Vec::new(), ..good() }, "cgroups", Verdict::Bad),
            (Abilities { cgroup_kill: false, ..good() }, "cgroup.kill", Verdict::Limited),
            (Abilities { driver: Err(silent), ..good() }, "systemd", Verdict::Bad),
            (Abilities { isolators: vec![low], ..good() }, "memory-low", Verdict::Limited),
        ];
        for (host, name, expected) in table {
            let findings = findings(&host, None);
            let lacking: Vec<_> = findings.iter().filter(|finding| finding.verdict != Verdict::Ok).collect();
            assert_eq!(lacking.len(), 1, "{name}: {lacking:?}");
            assert_eq!((lacking[0].name.as_str(), lacking[0].verdict), (name, expected));
            assert!(lacking[0].fix.is_some(), "{name}");
        }
    }

    #[test]
    fn isolator_that_only_the_pod_or_an_app_can_have_says_so() {
        let (no, pods) = (|| refused("there is none"), || refused("cgroup v1 has no such limit"));
        let table = [
            (limit("io-max"), "can be enforced"),
            (Isolator { of_pod: no(), of_app: no(), ..limit("io-max") }, "there is none"),
            (Isolator { of_pod: no(), ..limit("io-max") }, "of an app; of the pod refused: there is none"),
            (Isolator { of_app: no(), ..limit("io-max") }, "of the pod; of an app refused: there is none"),
            (
                Isolator { of_pod: pods(), of_app: no(), ..limit("io-max") },
                "of an app refused: there is none; of the pod refused: cgroup v1 has no such limit",
            ),
            (Isolator { idle: refused("does nothing"), ..limit("io-weight") }, "does nothing"),
        ];
        for (asked, expected) in table {
            assert_eq!(isolator(&asked).found, expected);
        }
        let idle = Isolator { value: Some("idle"), ..limit("cpu-weight") };
        assert_eq!(isolator(&idle).name, "cpu-weight idle");
    }

    #[test]
    fn newer_kernels_are_new_enough() {
        for kernel in ["5.12.0", "5.15.0-generic", "6.0", "10.0.1"] {
            assert_eq!(verdict(&Abilities { kernel: kernel.into(), ..good() }), Verdict::Ok, "{kernel}");
        }
    }

    #[test]
    fn text_fits_80_columns_and_says_the_fix_below() {
        let host = Abilities { overlay: false, ..good() };
        let text = text(&findings(&host, None), verdict(&host), false);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let fix = text.lines().find(|line| line.contains("fix:")).unwrap();
        assert!(fix.starts_with("                      fix: modprobe overlay"), "{text}");
        assert!(text.ends_with("\nPods run here. One thing is limited.\n"), "{text}");
    }
}
