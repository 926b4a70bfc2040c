//! `podrun run`: from a manifest to an exit code.
//!
//! In the foreground this process stays with the pod. With `-d` a daemon does, below systemd the process of a service
//! ([`service`]), and this process waits until the pod is up or has failed, so that `run -d` tells the truth.

mod before;
pub mod service;

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::load::{self, Loaded};
use super::waiting;
use crate::cli::pods::Condition;
use crate::cli::{Driver, Globals, RunArgs, TextFormat};
use crate::error::{self, EXIT_PODRUN_FAILED, Note};
use crate::launch::{self, Launched};
use crate::monitor::intent::Signals;
use crate::monitor::journal::Journal;
use crate::monitor::journal_lines::{JournalLines, Source};
use crate::monitor::notices::Notices;
use crate::monitor::sink::{Foreground, Sink};
use crate::monitor::teller::{Report, Teller};
use crate::monitor::{self, Terms, Verdict};
use crate::output::journal;
use crate::output::log_file::{Bounds, LogFile};
use crate::output::prefix::{Outputs, Prefixer, Style};
use crate::output::{write_stderr, write_stdout};
use crate::plan::output::JOURNAL;
use crate::plan::{Output, Plan, Request};
use crate::pod::dir::PodDir;
use crate::pod::gc;
use crate::pod::root::Root;
use crate::pod::status::Status;
use crate::sockets::{self, Named};
use crate::sys::detach::{self, Side};
use crate::sys::listen;
use crate::systemd::notify::Notifier;

/// This launcher is the process of a service that was made for it.
static SERVES: AtomicBool = AtomicBool::new(false);

/// Runs a pod and returns its exit code.
///
/// # Errors
/// Whatever kept the pod from starting.
pub fn run(globals: &Globals, args: &RunArgs) -> anyhow::Result<u8> {
    let loaded = load::manifest(
        &args.manifest,
        load::overrides(&args.overrides, args.name.as_deref()),
        globals.color.stderr(),
    )?;
    write_stderr(&loaded.warnings);
    before::check_decider(args, &loaded)?;
    if args.dry_run {
        return before::dry_run(globals, args, &loaded);
    }
    if !nix::unistd::geteuid().is_root() {
        let name = args.name.as_deref().unwrap_or(&loaded.spec.pod.name);
        return Err(anyhow!("cannot start pod `{name}`: only root can make its namespaces and groups"))
            .hint("run it with sudo; `podrun check` and `podrun plan` work without root");
    }
    if let Some(caller) = service::caller() {
        SERVES.store(true, Ordering::Relaxed);
        // Whatever was typed: the caller has seen that this is the driver.
        let args = RunArgs { driver: Driver::Systemd, ..args.clone() };
        return Ok(daemon(globals, &args, &loaded, (Vec::new(), caller)));
    }
    let passed = listen::take()?;
    if args.replace {
        before::replace(globals, args, &loaded, names(&passed))?;
    }
    if !args.detach {
        return start(globals, args, &loaded, (passed, None));
    }
    let condition = args.wait.unwrap_or(Condition::Ready);
    if let Some(plan) = before::plan_of_service(globals, args, &loaded, &passed)? {
        let input = (args.manifest == Path::new("-")).then_some(loaded.source.manifest());
        let context = || format!("cannot start pod `{}`", plan.pod);
        return await_report(service::start(&plan, input).with_context(context)?, condition);
    }
    match detach::double_fork()? {
        Side::Caller(reader) => await_report(reader, condition),
        Side::Daemon(writer) => std::process::exit(daemon(globals, args, &loaded, (passed, writer)).into()),
    }
}

fn names(passed: &[Named]) -> Vec<String> {
    passed.iter().map(|(name, _)| name.clone()).collect()
}

/// The life of the process that stays behind with `-d`.
fn daemon(globals: &Globals, args: &RunArgs, loaded: &Loaded, (passed, writer): (Vec<Named>, OwnedFd)) -> u8 {
    let mut writer = File::from(writer);
    let done =
        detach::leave_terminal().and_then(|()| start(globals, args, loaded, (passed, Some(&mut writer))));
    let (code, report) = match done {
        Ok(code) => (code, Report::Ended { code }),
        Err(e) => {
            let code = error::exit_code(&e).unwrap_or(EXIT_PODRUN_FAILED);
            (code, Report::Failed { code, text: error::text(&e) })
        }
    };
    report.send(&mut writer);
    code
}

/// Waits for the daemon's word; end of file without one means that it was killed.
fn await_report(reader: OwnedFd, condition: Condition) -> anyhow::Result<u8> {
    let reports = serde_json::Deserializer::from_reader(File::from(reader)).into_iter::<Report>();
    for report in reports.map_while(Result::ok) {
        match report {
            Report::Up { id } => {
                write_stdout(&format!("{id}\n"))?;
                if condition == Condition::Ready {
                    return Ok(0);
                }
            }
            Report::Ended { code } => return Ok(code),
            Report::Failed { code, text } => {
                write_stderr(&text);
                // Who waits until it is ready has waited in vain, however well it has ended.
                let in_vain = code == 0 && condition == Condition::Ready;
                return Ok(if in_vain { EXIT_PODRUN_FAILED } else { code });
            }
        }
    }
    Err(match condition {
        Condition::Ready => anyhow!("the detached launcher died before the pod was up"),
        Condition::Exited => anyhow!("the detached launcher died before the pod had ended"),
    })
}

/// From the spec to the end of the pod.
fn start(
    globals: &Globals,
    args: &RunArgs,
    loaded: &Loaded,
    (passed, daemon): (Vec<Named>, Option<&mut File>),
) -> anyhow::Result<u8> {
    let name = args.name.as_deref().unwrap_or(&loaded.spec.pod.name);
    let root = Root::open(&globals.root)?;
    gc::settle_name(&root, name).with_context(|| format!("cannot start pod `{name}`"))?;
    let dir = root.create(name).with_context(|| format!("cannot start pod `{name}`"))?;
    // With -d it was the caller that somebody has started, unless that has had a service made for us.
    let manager =
        if daemon.is_none() || SERVES.load(Ordering::Relaxed) { Notifier::from_environment() } else { None };
    let watchdog = manager.as_ref().and_then(|manager| manager.watchdog);
    match launch_in(globals, args, loaded, (&dir, passed, watchdog)) {
        Ok((plan, launched, mut signals)) => {
            let notices = Notices::new(manager, plan.stop_timeout_ms);
            let code = watch(globals, args, (&plan, launched), &mut signals, (&dir, daemon, notices))
                .with_context(|| format!("cannot watch pod `{name}`"));
            before::remove_pid(args.pidfile.as_deref());
            let code = code?;
            if args.rm {
                dir.discard(&root)?;
            }
            Ok(code)
        }
        // Nothing has run, so there is nothing to remember.
        Err(error) => {
            before::remove_pid(args.pidfile.as_deref());
            match dir.discard(&root) {
                Ok(()) => Err(error),
                Err(left) => {
                    Err(error.context(format!("the pod's directory could not be removed ({left:#})")))
                }
            }
        }
    }
}

/// Decides and launches. The handlers for our signals come before the clone, or one in between would be lost.
fn launch_in(
    globals: &Globals,
    args: &RunArgs,
    loaded: &Loaded,
    (dir, passed, watchdog): (&PodDir, Vec<Named>, Option<Duration>),
) -> anyhow::Result<(Plan, Launched, Signals)> {
    let (id, started) = (dir.id.to_string(), before::started(args));
    let watchdog_us = watchdog.and_then(|interval| u64::try_from(interval.as_micros()).ok());
    let request = Request { id, name: args.name.clone(), started, passed: names(&passed), watchdog_us };
    let plan = load::plan(loaded, &request, args.driver, globals.color.stderr())?;
    let context = || format!("cannot start pod `{}`", plan.pod);
    let record = serde_json::to_vec(&plan).context("cannot write the plan")?;
    dir.write_plan(&record).with_context(context)?;
    if let Some(path) = &args.id_file {
        before::write_id(path, dir.id.as_str()).with_context(context)?;
    }
    let signals = Signals::new().with_context(context)?;
    if let Some(path) = &args.pidfile {
        before::write_pid(path).with_context(context)?;
    }
    let launched = launch::start(&plan, dir, &loaded.text, passed).with_context(context)?;
    Ok((plan, launched, signals))
}

/// Stays with the pod to its end.
fn watch(
    globals: &Globals,
    args: &RunArgs,
    (plan, launched): (&Plan, Launched),
    signals: &mut Signals,
    (dir, daemon, notices): (&PodDir, Option<&mut File>, Notices),
) -> anyhow::Result<u8> {
    let names: Vec<String> = plan.apps.iter().map(|app| app.name.clone()).collect();
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    let fore = daemon
        .is_none()
        .then(|| Foreground::new(prefixer(globals, args, &names), stdout.as_fd(), stderr.as_fd()));
    let mut sink = Sink::new(fore, log_files(dir, plan, &launched)?);
    if daemon.is_none() {
        sink = sink.through(journal_lines(args, plan));
    }
    let mut teller = Teller::new(dir, Status::new(names), daemon, notices).telling(Journal::of(plan));
    let terms = Terms {
        deadline: waiting::deadline(args.timeout),
        decider: args.exit_code_from.clone(),
        stop_timeout_ms: plan.stop_timeout_ms,
    };
    let verdict = monitor::run(launched, signals, &mut sink, &mut teller, &terms)?;
    plan.service.iter().for_each(|service| service.remove(&plan.cgroup));
    sockets::remove(&plan.sockets);
    conclude(&verdict, &mut sink, &mut teller);
    if !args.rm {
        teller.write_status();
    }
    Ok(verdict.code)
}

/// The last words: to the terminal, to the record, to the caller of `run -d` who still waits.
fn conclude(verdict: &Verdict, sink: &mut Sink<'_>, teller: &mut Teller<'_>) {
    if let Some(message) = &verdict.message {
        sink.note(message);
        sink.finish();
    }
    teller.conclude(verdict);
}

/// The files of those outputs that are kept in files.
fn log_files(dir: &PodDir, plan: &Plan, launched: &Launched) -> anyhow::Result<Vec<Option<LogFile>>> {
    let file = |output: &launch::Output| {
        let Some(app) = plan.apps.get(output.app) else { return Ok(None) };
        let Output::Files { max_size_bytes, files_max } = app.output else { return Ok(None) };
        let stream = output.stream.name();
        let bounds = Bounds { length_max: max_size_bytes, files_max };
        LogFile::create(&dir.log_dir()?, &format!("{}.{stream}", app.name), bounds).map(Some)
    };
    launched.outputs.iter().map(file).collect()
}

/// What goes to the journal because our standard error does: its lines and, where it is the same stream, those of standard
/// output. Who asks for another form of lines gets that.
fn journal_lines(args: &RunArgs, plan: &Plan) -> Option<JournalLines> {
    let variable = std::env::var("JOURNAL_STREAM").ok()?;
    let takes =
        [journal::is_stream(&variable, std::io::stdout()), journal::is_stream(&variable, std::io::stderr())];
    if !takes[1] || args.log_format == TextFormat::Json || args.timestamps {
        return None;
    }
    let apps = plan.apps.iter().map(|app| app.name.clone()).collect();
    let source = Source { pod: plan.pod.clone(), id: plan.id.clone(), apps, has_events: plan.has_journal };
    JournalLines::new(JOURNAL, source, takes)
}

fn prefixer(globals: &Globals, args: &RunArgs, names: &[String]) -> Prefixer {
    let style = match (args.no_log_prefix, globals.color.stdout()) {
        _ if args.log_format == TextFormat::Json => Style::Json,
        (true, _) if args.timestamps => Style::Bare,
        (true, _) => Style::Raw,
        (false, true) => Style::Colored,
        (false, false) => Style::Plain,
    };
    let prefixer = Prefixer::new(names.iter().map(String::as_str), style, outputs());
    if args.timestamps { prefixer.with_times(jiff::Timestamp::now) } else { prefixer }
}

fn outputs() -> Outputs {
    let both = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
    if both { Outputs::Together } else { Outputs::Apart }
}
