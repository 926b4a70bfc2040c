//! `podrun events`: what has happened to pods and apps, out of the accounts of the pods, and what is happening.
//!
//! The account is a file that stage1 appends to; it is read again while the pod lives, and kept open, so that it can be
//! read to its end when it has been removed. Events of several pods are put
//! in order by their times, as far as they are there at the same moment.

mod json;

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Result, anyhow};
use jiff::Timestamp;
use podrun_abi::event::{Event, Record};

use super::addresses;
use super::window::Window;
use crate::cli::{EventsArgs, Globals, TextFormat};
use crate::error::{EXIT_NOT_FOUND, Note};
use crate::output::journal::priority::{ERROR, WARNING};
use crate::output::{json_line, printable, write_more};
use crate::pod::Pod;
use crate::pod::arrivals::Arrivals;
use crate::pod::dir::EVENTS;
use crate::pod::events::{Tail, stamp};
use crate::pod::record::Unreadable;
use crate::pod::root::Root;
use crate::pod::status::{Phase, Status};
use crate::pod::told::{Told, told};

/// How long `--follow` waits before it looks for more: shortly while there is something, longer when there is not.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// Prints what has happened, and with `--follow` what is happening.
///
/// # Errors
/// When there is no such pod or app, or standard output cannot be written.
pub fn run(globals: &Globals, args: &EventsArgs) -> Result<u8> {
    let root = Root::open(&globals.root)?;
    let form = match args.output {
        TextFormat::Json => Form::Json,
        TextFormat::Text => Form::Text { color: globals.color.stdout() },
    };
    let wanted = Wanted { window: Window::of(args.since, args.until), kinds: &args.events };
    let mut arrivals = (args.follow && args.pods.is_empty()).then(|| Arrivals::new(&root));
    let mut watched = watched(&root, args)?;
    let mut history = look(&mut watched, &wanted, form)?;
    if let Some(count) = args.tail {
        history.drain(..history.len().saturating_sub(count));
    }
    let mut more = !history.is_empty();
    if !print(&history)? || !args.follow {
        return Ok(0);
    }
    let mut pause = PAUSES.0;
    loop {
        if wanted.window.is_past() || (!args.pods.is_empty() && watched.iter().all(|known| known.is_over)) {
            return Ok(0);
        }
        pause = if more { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
        let has_come = match &mut arrivals {
            Some(arrivals) => arrivals.wait(pause) && meet(&root, &mut watched)?,
            None => {
                std::thread::sleep(pause);
                false
            }
        };
        let lines = look(&mut watched, &wanted, form)?;
        more = has_come || !lines.is_empty();
        if !print(&lines)? {
            return Ok(0);
        }
    }
}

/// Which events are wanted.
struct Wanted<'a> {
    window: Window,
    /// Empty: of every kind.
    kinds: &'a [String],
}

#[derive(Clone, Copy)]
enum Form {
    Text { color: bool },
    Json,
}

/// A pod whose account is read.
struct Watched {
    pod: Pod,
    /// `None`: those of the pod and of all its apps.
    apps: Option<HashSet<String>>,
    /// `None`: it was not there yet, or was read to its end.
    tail: Option<Tail>,
    /// Nothing more is to come.
    is_over: bool,
    status: Status,
    /// Of the last record, in milliseconds since 1970.
    last_ms: u64,
}

impl Watched {
    fn new(pod: Pod, apps: Option<HashSet<String>>) -> Self {
        let last_ms = pod.created_ms().unwrap_or_default();
        Self { pod, apps, tail: None, is_over: false, status: Status::new(Vec::new()), last_ms }
    }

    /// What is new. Only those that live are kept open.
    fn read(&mut self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        // Life first: what a pod that is over has written is all there.
        let lives = self.pod.is_alive();
        if self.tail.is_none() {
            let path = self.pod.path().join(EVENTS);
            self.tail = match Tail::open(&path) {
                Ok(tail) => Some(tail),
                Err(Unreadable::Missing) => None,
                Err(why) => return Err(anyhow!("cannot read `{}`: {why}", path.display())),
            };
            let names = self.pod.plan().map(|plan| plan.apps.into_iter().map(|app| app.name).collect());
            self.status = Status::new(names.unwrap_or_default());
        }
        if let Some(tail) = &mut self.tail {
            tail.each(|record| records.push(record));
        }
        if !lives {
            (self.tail, self.is_over) = (None, true);
        }
        Ok(records)
    }

    /// How it ended, when its account does not say so: behind what is known of it.
    fn loss(&self) -> Option<Record> {
        let Phase::Lost { cause } = self.pod.status().phase else { return None };
        let time_ms = self.last_ms;
        Some(Record { time_ms, ..stamp(Event::PodLost { cause }) })
    }

    /// Takes a record, and says it when it is wanted.
    fn line(&mut self, record: &Record, wanted: &Wanted<'_>, form: Form) -> Result<Option<Line>> {
        self.status.apply(record);
        self.last_ms = record.time_ms;
        let Some(told) = told(&record.event, &self.status) else { return Ok(None) };
        let time = i64::try_from(record.time_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let time = time.unwrap_or_default();
        let of_app = self.apps.as_ref().is_none_or(|apps| told.app.is_some_and(|app| apps.contains(app)));
        let of_kind = wanted.kinds.is_empty() || wanted.kinds.iter().any(|kind| kind == told.event);
        if !of_app || !of_kind || !wanted.window.holds(time) {
            return Ok(None);
        }
        let text = match form {
            Form::Json => json_line(&json::event(&self.pod, time, &told, &record.event))?,
            Form::Text { color } => text(self.pod.name(), time, &told, color),
        };
        Ok(Some((record.time_ms, text)))
    }
}

/// `2026-11-23T18:40:01.123Z shop oom        app api lost a process to the OOM killer …`
fn text(pod: &str, time: Timestamp, told: &Told<'_>, color: bool) -> String {
    let whose = if told.app.is_some() { "" } else { "the pod " };
    let (on, off) = match told.priority {
        _ if !color => ("", ""),
        ..=ERROR => ("\x1b[31m", "\x1b[0m"),
        WARNING => ("\x1b[33m", "\x1b[0m"),
        _ => ("", ""),
    };
    format!("{time:.3} {pod} {on}{:<12}{off} {whose}{}\n", told.event, printable(&told.words))
}

/// The pods that are named, with those of their apps that are; or all.
fn watched(root: &Root, args: &EventsArgs) -> Result<Vec<Watched>> {
    let mut watched: Vec<Watched> = Vec::new();
    if args.pods.is_empty() {
        meet(root, &mut watched)?;
    }
    for address in addresses(&args.pods, &args.apps)? {
        let pod = root.find(&address.pod)?;
        if let Some(app) = address.app.as_ref().filter(|app| pod.status().app(app).is_none()) {
            return Err(anyhow!("pod `{}` has no app `{app}`", pod.name())).code(EXIT_NOT_FOUND);
        }
        let apps = address.app.map(|app| HashSet::from([app]));
        match watched.iter_mut().find(|known| known.pod.id() == pod.id()) {
            None => watched.push(Watched::new(pod, apps)),
            Some(known) => match (&mut known.apps, apps) {
                (Some(known), Some(apps)) => known.extend(apps),
                (all, None) => *all = None,
                (None, _) => {}
            },
        }
    }
    Ok(watched)
}

/// Takes in those that have come since, and says whether there are any.
fn meet(root: &Root, watched: &mut Vec<Watched>) -> Result<bool> {
    let pods = root.list()?;
    // Those that were removed can be forgotten; one that has ended stays known, or it would be told again.
    watched.retain(|known| !known.is_over || pods.iter().any(|pod| pod.id() == known.pod.id()));
    let known = watched.len();
    for pod in pods {
        if !watched.iter().any(|known| known.pod.id() == pod.id()) {
            watched.push(Watched::new(pod, None));
        }
    }
    Ok(watched.len() > known)
}

/// A line, and when what it says has happened.
type Line = (u64, String);

/// What is new, in order.
fn look(watched: &mut [Watched], wanted: &Wanted<'_>, form: Form) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for known in watched.iter_mut().filter(|known| !known.is_over) {
        for record in known.read()? {
            lines.extend(known.line(&record, wanted, form)?);
        }
        if let Some(loss) =
            Some(&*known).filter(|k| k.is_over && !k.status.phase.is_over()).and_then(Watched::loss)
        {
            lines.extend(known.line(&loss, wanted, form)?);
        }
    }
    lines.sort_by_key(|(time, _)| *time);
    Ok(lines)
}

/// Whether somebody still reads it.
fn print(lines: &[Line]) -> Result<bool> {
    let text: String = lines.iter().map(|(_, text)| text.as_str()).collect();
    write_more(&text)
}
