//! `podrun logs`: what the apps of a pod have written, from the pod's files and from the host's journal.
//!
//! The streams are merged by the times of their lines, and go through the same [`Prefixer`] as in the foreground.
//! Everything goes to standard output: this is a reading of a record, not the apps' own output.

use std::collections::VecDeque;
use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;

use super::addresses;
use super::window::Window;
use crate::cli::records::StreamName;
use crate::cli::{Globals, LogsArgs, TextFormat};
use crate::error::{EXIT_NOT_FOUND, EXIT_USAGE, Note};
use crate::launch::Stream;
use crate::output::prefix::{LINE_BYTES_MAX, Outputs, Prefixer, Style};
use crate::output::{log_json, write_stderr, write_stdout};
use crate::plan::Output;
use crate::pod::Pod;
use crate::pod::journal::{JournalReader, Origin};
use crate::pod::log::{LogReader, Next, Piece};
use crate::pod::root::Root;

/// How long `--follow` waits before it looks for more: shortly while there is something, longer when there is not.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// Prints what was written, and with `--follow` what is being written.
///
/// # Errors
/// When there is no such pod or app, or its output was not kept.
pub fn run(globals: &Globals, args: &LogsArgs) -> Result<u8> {
    let root = Root::open(&globals.root)?;
    let (pod, apps) = subject(&root, args)?;
    let sources = sources(&pod, &apps, args.stream)?;
    if sources.is_empty() {
        return Err(anyhow!("the output of pod `{}` was not kept", pod.name())).hint(
            "`run -d` keeps it, and log.driver in the manifest; else it goes to where podrun was started",
        );
    }
    let style = match (args.no_log_prefix, globals.color.stdout()) {
        _ if args.output == TextFormat::Json => Style::Json,
        (true, _) => Style::Raw,
        (false, true) => Style::Colored,
        (false, false) => Style::Plain,
    };
    let window = Window::of(args.since, args.until);
    let prefixer = Prefixer::new(apps.iter().map(String::as_str), style, Outputs::Together);
    let form = match (args.output, args.timestamps) {
        (TextFormat::Json, _) => Form::Json(apps.clone()),
        (TextFormat::Text, with_times) => Form::Text { with_times },
    };
    let page = Page::new(prefixer, form, 2 * apps.len());
    match print(&pod, args, sources, (window, page)) {
        Err(error) if is_closed(&error) => Ok(0),
        other => other.map(|()| 0),
    }
}

/// Prints the last lines of these apps, as many as there are of them together.
///
/// # Errors
/// When what was kept cannot be read, or standard output cannot be written.
pub(super) fn tail(pod: &Pod, apps: &[String], lines: usize, color: bool) -> Result<()> {
    let mut sources = sources(pod, apps, None)?;
    if sources.is_empty() {
        return write_stdout("\nits output was not kept\n");
    }
    write_stdout("\n")?;
    let style = if color { Style::Colored } else { Style::Plain };
    let prefixer = Prefixer::new(apps.iter().map(String::as_str), style, Outputs::Together);
    let mut page = Page::new(prefixer, Form::Text { with_times: false }, 2 * apps.len());
    let window = Window::of(None, None);
    let printed = print_so_far(&mut sources, Some(lines), window, &mut page);
    match printed.and_then(|()| Ok(page.finish()?)) {
        Err(error) if is_closed(&error) => Ok(()),
        other => other,
    }
}

/// The reader of standard output is gone, and has seen what it wanted.
fn is_closed(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The pod, and those of its apps that are asked for.
fn subject(root: &Root, args: &LogsArgs) -> Result<(Pod, Vec<String>)> {
    let addresses = addresses(&args.pods, &args.apps)?;
    let Some(first) = addresses.first() else { return Err(anyhow!("no pod was named")) };
    let pod = root.find(&first.pod)?;
    let status = pod.status();
    let mut wanted = Vec::new();
    let mut all = false;
    for address in &addresses {
        if root.find(&address.pod)?.id() != pod.id() {
            return Err(anyhow!("cannot print the output of several pods at once")).code(EXIT_USAGE);
        }
        match &address.app {
            None => all = true,
            Some(app) if status.app(app).is_none() => {
                return Err(anyhow!("pod `{}` has no app `{app}`", pod.name())).code(EXIT_NOT_FOUND);
            }
            Some(app) => wanted.push(app.clone()),
        }
    }
    let names = status.apps.into_iter().map(|app| app.name);
    Ok((pod, names.filter(|name| all || wanted.contains(name)).collect()))
}

/// Where lines come from.
struct Source {
    reader: Reader,
    /// What comes next, and of which stream, as the prefixer counts.
    next: Option<(usize, Piece)>,
}

enum Reader {
    /// One stream of one app.
    Files { index: usize, name: String, reader: LogReader },
    /// Those apps whose output is in the journal, with the stream that is asked for.
    Journal { apps: Vec<String>, only: Option<StreamName>, reader: JournalReader },
}

/// Everything that is kept of these apps.
fn sources(pod: &Pod, apps: &[String], only: Option<StreamName>) -> Result<Vec<Source>> {
    let directory = pod.log_dir();
    // A record that cannot be read says nothing against the files.
    let plans = pod.plan().map(|plan| plan.apps).unwrap_or_default();
    let (mut sources, mut origins) = (Vec::new(), Vec::new());
    for (number, app) in apps.iter().enumerate() {
        let plan = plans.iter().find(|plan| plan.name == *app);
        if let Some(Output::Journal { unit, cgroup }) = plan.map(|plan| &plan.output) {
            origins.push(Origin { app: app.clone(), unit: unit.clone(), cgroup: cgroup.clone() });
        }
        for (slot, (stream, word)) in STREAMS.into_iter().enumerate() {
            let name = format!("{app}.{word}");
            if only.is_none_or(|only| only == stream) && directory.is_dir() {
                let reader = LogReader::open(&directory, &name)
                    .with_context(|| format!("cannot read the output in `{}`", directory.display()))?;
                let index = 2 * number + slot;
                let source = |reader| Source { reader: Reader::Files { index, name, reader }, next: None };
                sources.extend(reader.map(source));
            }
        }
    }
    if !origins.is_empty() {
        // The journal's clock is the same; a second covers what is between two readings of it.
        let since_s = (pod.created_ms().unwrap_or_default() / 1000).saturating_sub(1);
        let reader =
            JournalReader::open(origins, since_s).hint("the output of its apps is in the journal")?;
        sources.push(Source { reader: Reader::Journal { apps: apps.to_vec(), only, reader }, next: None });
    }
    Ok(sources)
}

const STREAMS: [(StreamName, &str); 2] = [(StreamName::Stdout, "stdout"), (StreamName::Stderr, "stderr")];

impl Source {
    /// Looks at what comes next.
    fn peek(&mut self) -> Result<Option<&(usize, Piece)>> {
        while self.next.is_none() {
            match &mut self.reader {
                Reader::Files { index, name, reader } => {
                    match reader.next_piece().with_context(|| format!("cannot read `{name}`"))? {
                        Next::Piece(piece) => self.next = Some((*index, piece)),
                        Next::Gap => {
                            write_stderr(&format!("podrun: some of {name} was removed before it was read\n"));
                        }
                        Next::Nothing => break,
                    }
                }
                Reader::Journal { apps, only, reader } => {
                    let Some(entry) = reader.next_entry()? else { break };
                    let slot =
                        STREAMS.iter().position(|(stream, _)| *stream == StreamName::from(entry.stream));
                    let wanted = slot.filter(|slot| only.is_none_or(|only| STREAMS[*slot].0 == only));
                    let number = apps.iter().position(|app| *app == entry.app);
                    self.next = number.zip(wanted).map(|(number, slot)| (2 * number + slot, entry.piece));
                }
            }
        }
        Ok(self.next.as_ref())
    }

    /// The next line up to its end, or as far as it is there; one that is very long in pieces.
    fn take_line(&mut self) -> Result<Option<(usize, Piece)>> {
        let Some((index, mut line)) = self.peek()?.cloned() else { return Ok(None) };
        self.next = None;
        let is_one_stream = matches!(self.reader, Reader::Files { .. });
        while is_one_stream && !line.is_end() && line.text.len() < LINE_BYTES_MAX && self.peek()?.is_some() {
            line.text.extend(self.next.take().map(|(_, piece)| piece.text).unwrap_or_default());
        }
        Ok(Some((index, line)))
    }

    /// From here on what comes is wanted when it comes.
    fn follow(&mut self) -> Result<()> {
        match &mut self.reader {
            Reader::Files { .. } => Ok(()),
            Reader::Journal { reader, .. } => reader.follow(),
        }
    }

    /// Nothing more is written: what there is can be read to its end.
    fn catch_up(&mut self) -> Result<()> {
        match &mut self.reader {
            Reader::Files { .. } => Ok(()),
            Reader::Journal { reader, .. } => reader.catch_up(),
        }
    }
}

impl From<Stream> for StreamName {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Stdout => Self::Stdout,
            Stream::Stderr => Self::Stderr,
        }
    }
}

/// The source whose next piece is the oldest.
fn oldest(sources: &mut [Source]) -> Result<Option<(Timestamp, usize)>> {
    let mut oldest: Option<(Timestamp, usize)> = None;
    for (position, source) in sources.iter_mut().enumerate() {
        if let Some((_, piece)) = source.peek()?
            && oldest.is_none_or(|(time, _)| piece.time < time)
        {
            oldest = Some((piece.time, position));
        }
    }
    Ok(oldest)
}

/// The output as it goes out.
struct Page {
    prefixer: Prefixer,
    out: BufWriter<io::Stdout>,
    form: Form,
    /// Per stream: what comes next begins a line.
    at_start: Vec<bool>,
}

/// How lines are printed.
enum Form {
    Text {
        with_times: bool,
    },
    /// With the names of the apps.
    Json(Vec<String>),
}

impl Page {
    fn new(prefixer: Prefixer, form: Form, streams: usize) -> Self {
        let out = BufWriter::with_capacity(64 * 1024, io::stdout());
        Self { prefixer, out, form, at_start: vec![true; streams] }
    }

    fn put(&mut self, index: usize, piece: &Piece) -> io::Result<()> {
        let Some(at_start) = self.at_start.get_mut(index) else { return Ok(()) };
        let with_times = match &self.form {
            Form::Json(names) => {
                let name = names.get(index / 2).map_or("", String::as_str);
                return self.out.write_all(log_json::line(name, index, &piece.text, piece.time).as_bytes());
            }
            Form::Text { with_times } => *with_times,
        };
        let mut text = Vec::new();
        if with_times && *at_start {
            text = format!("{:.3} ", piece.time).into_bytes();
        }
        *at_start = piece.is_end();
        text.extend_from_slice(&piece.text);
        let (out, mut written) = (&mut self.out, Ok(()));
        self.prefixer.write(index, &text, Instant::now(), |bytes| written = out.write_all(bytes));
        written
    }

    /// Unfinished lines whose time has come, and everything that waits.
    fn flush(&mut self) -> io::Result<()> {
        let (out, mut written) = (&mut self.out, Ok(()));
        self.prefixer.tick(Instant::now(), |_, bytes| written = out.write_all(bytes));
        written.and_then(|()| self.out.flush())
    }

    fn finish(&mut self) -> io::Result<()> {
        for index in 0..self.at_start.len() {
            let (out, mut written) = (&mut self.out, Ok(()));
            self.prefixer.end(index, |bytes| written = out.write_all(bytes));
            written?;
            if !std::mem::replace(&mut self.at_start[index], true) {
                self.out.write_all(b"\n")?;
            }
        }
        self.out.flush()
    }
}

fn print(
    pod: &Pod,
    args: &LogsArgs,
    mut sources: Vec<Source>,
    (window, mut page): (Window, Page),
) -> Result<()> {
    print_so_far(&mut sources, args.tail, window, &mut page)?;
    if args.follow {
        follow(pod, &mut sources, window, &mut page)?;
    }
    Ok(page.finish()?)
}

/// Until the pod is over, or what comes is too late to be wanted.
fn follow(pod: &Pod, sources: &mut [Source], window: Window, page: &mut Page) -> Result<()> {
    let mut pause = PAUSES.0;
    sources.iter_mut().try_for_each(Source::follow)?;
    loop {
        // Life first: what a pod that is over has written is all there.
        let is_over = !pod.is_alive() || window.is_past();
        if is_over {
            sources.iter_mut().try_for_each(Source::catch_up)?;
        }
        while let Some((_, position)) = oldest(sources)? {
            let source = &mut sources[position];
            pause = PAUSES.0;
            if let Some((index, piece)) = source.next.take().filter(|(_, piece)| window.holds(piece.time)) {
                page.put(index, &piece)?;
            }
        }
        page.flush()?;
        if is_over {
            return Ok(());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// What was there when it was asked for; a pod that writes without pause does not make this last for ever.
fn print_so_far(sources: &mut [Source], tail: Option<usize>, window: Window, page: &mut Page) -> Result<()> {
    let asked = Timestamp::now();
    let mut last: VecDeque<(usize, Piece)> = VecDeque::new();
    while let Some((_, position)) = oldest(sources)?.filter(|(time, _)| *time <= asked) {
        let source = &mut sources[position];
        let wanted = source.take_line()?.filter(|(_, line)| window.holds(line.time));
        let Some((index, line)) = wanted else { continue };
        match tail {
            None => page.put(index, &line)?,
            Some(count) => {
                last.push_back((index, line));
                last.drain(..last.len().saturating_sub(count));
            }
        }
    }
    last.iter().try_for_each(|(index, line)| page.put(*index, line))?;
    Ok(())
}
