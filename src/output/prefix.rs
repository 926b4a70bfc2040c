//! [`Prefixer`]: the output of several apps on one terminal, each line under the name of its app.
//!
//! A line is written whole. What stands without a newline for [`PARTIAL_DELAY`] is written as it is, so that a
//! prompt or a dot of progress shows; the rest of that line follows it without a second name, unless another
//! app has written in between. A line is kept in at most [`LINE_BYTES_MAX`] bytes of memory.
//!
//! Pure but for the clock that it is given: bytes and the time go in, bytes come out. Stream `2n` is standard output of app n, `2n + 1` its
//! standard error.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::log_json;

/// How long an unfinished line may wait for its end.
pub const PARTIAL_DELAY: Duration = Duration::from_millis(200);
/// A longer line is written in pieces.
pub const LINE_BYTES_MAX: usize = 16 * 1024;
/// The name under which podrun's own lines stand.
const OWN_NAME: &str = "podrun";

/// How lines are marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Not at all: bytes pass as they come.
    Raw,
    /// With the app's name.
    Plain,
    /// With the app's name in a colour of its own.
    Colored,
    /// Line by line, without a name.
    Bare,
    /// Each line as JSON.
    Json,
}

/// Two outputs that may be the same terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outputs {
    /// Standard output and standard error go to different places.
    Apart,
    /// Both go to the same terminal: a line begun on one is in the way on the other.
    Together,
}

/// The output of several apps on its way out.
#[derive(Debug)]
pub struct Prefixer {
    style: Style,
    outputs: Outputs,
    names: Vec<String>,
    prefixes: Vec<Vec<u8>>,
    own_prefix: String,
    /// What time it is, where lines say it.
    clock: Option<fn() -> Timestamp>,
    streams: Vec<Stream>,
    /// Per output: whose unfinished line stands there.
    open: [Option<usize>; 2],
}

#[derive(Debug, Default)]
struct Stream {
    line: Vec<u8>,
    waiting_since: Option<Instant>,
}

impl Prefixer {
    /// For apps of these names, in the order of their streams.
    #[must_use]
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>, style: Style, outputs: Outputs) -> Self {
        let names: Vec<&str> = names.into_iter().collect();
        let width = names.iter().map(|name| name.len()).max().unwrap_or(0).max(OWN_NAME.len());
        let prefixes: Vec<Vec<u8>> =
            names.iter().map(|name| prefix(name, width, style).into_bytes()).collect();
        let own_prefix = prefix(OWN_NAME, width, if style == Style::Colored { Style::Plain } else { style });
        let streams = std::iter::repeat_with(Stream::default).take(2 * prefixes.len()).collect();
        let names = names.into_iter().map(str::to_owned).collect();
        Self { style, outputs, names, prefixes, own_prefix, clock: None, streams, open: [None; 2] }
    }

    /// Each line says when it was written, by this clock.
    #[must_use]
    pub fn with_times(self, clock: fn() -> Timestamp) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Before the text of a line.
    fn stamp(&self) -> String {
        self.clock.map(|clock| format!("{:.3} ", clock())).unwrap_or_default()
    }

    fn now(&self) -> Timestamp {
        self.clock.map_or_else(Timestamp::now, |clock| clock())
    }

    /// Takes what stream `index` has brought and gives on what can be shown of it, in one piece.
    pub fn write(&mut self, index: usize, bytes: &[u8], now: Instant, mut emit: impl FnMut(&[u8])) {
        if self.style == Style::Raw || index >= self.streams.len() {
            return emit(bytes);
        }
        let mut out = Vec::with_capacity(bytes.len() + 64);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.take_piece(index, piece, &mut out);
        }
        let stream = &mut self.streams[index];
        match stream.line.is_empty() {
            true => stream.waiting_since = None,
            false => stream.waiting_since = stream.waiting_since.filter(|_| out.is_empty()).or(Some(now)),
        }
        if !out.is_empty() {
            emit(&out);
        }
    }

    /// `piece` holds a newline at its end or nowhere.
    fn take_piece(&mut self, index: usize, piece: &[u8], out: &mut Vec<u8>) {
        let mut rest = piece;
        while self.streams[index].line.len() + rest.len() > LINE_BYTES_MAX {
            let (fits, later) = rest.split_at(LINE_BYTES_MAX - self.streams[index].line.len());
            self.streams[index].line.extend_from_slice(fits);
            self.let_go(index, out);
            rest = later;
        }
        self.streams[index].line.extend_from_slice(rest);
        if rest.ends_with(b"\n") {
            self.let_go(index, out);
        }
    }

    /// Writes what the stream has, and remembers whether the line is finished.
    fn let_go(&mut self, index: usize, out: &mut Vec<u8>) {
        if self.streams[index].line.is_empty() {
            return;
        }
        let output = index % 2;
        if self.style == Style::Json {
            let name = self.names.get(index / 2).map_or("", String::as_str);
            let line = log_json::line(name, index, &self.streams[index].line, self.now());
            out.extend_from_slice(line.as_bytes());
            self.streams[index] = Stream::default();
            return;
        }
        if !self.continues(output, index) {
            if self.end_open_line(output) {
                out.push(b'\n');
            }
            out.extend_from_slice(&self.prefixes[index / 2]);
            out.extend_from_slice(self.stamp().as_bytes());
        }
        let stream = &mut self.streams[index];
        out.extend_from_slice(&stream.line);
        self.open[output] = (!stream.line.ends_with(b"\n")).then_some(index);
        stream.line.clear();
        stream.waiting_since = None;
    }

    fn continues(&self, output: usize, index: usize) -> bool {
        self.open[output] == Some(index)
            && (self.outputs == Outputs::Apart || self.open[1 - output].is_none())
    }

    /// Whether an unfinished line stands where the next one is to begin; it is then taken as finished.
    fn end_open_line(&mut self, output: usize) -> bool {
        let here = self.open[output].take().is_some();
        let beside = self.outputs == Outputs::Together && self.open[1 - output].take().is_some();
        here || beside
    }

    /// The stream has ended: what stands without a newline is written as it is.
    pub fn end(&mut self, index: usize, mut emit: impl FnMut(&[u8])) {
        if index < self.streams.len() {
            let mut out = Vec::new();
            self.let_go(index, &mut out);
            if !out.is_empty() {
                emit(&out);
            }
        }
    }

    /// A line of podrun's own, for standard error, with its newline.
    pub fn own_line(&mut self, words: &str) -> String {
        let newline = if self.style != Style::Raw && self.end_open_line(1) { "\n" } else { "" };
        match self.style {
            Style::Raw => format!("podrun: {words}\n"),
            Style::Bare => format!("{newline}podrun: {}{words}\n", self.stamp()),
            Style::Json => log_json::own_line(words, self.now()),
            Style::Plain | Style::Colored => format!("{newline}{}{}{words}\n", self.own_prefix, self.stamp()),
        }
    }

    /// When [`Prefixer::tick`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.streams.iter().filter_map(|stream| stream.waiting_since).min().map(|since| since + PARTIAL_DELAY)
    }

    /// Lets unfinished lines go that have waited long enough.
    pub fn tick(&mut self, now: Instant, mut emit: impl FnMut(usize, &[u8])) {
        for index in 0..self.streams.len() {
            let due = self.streams[index].waiting_since.is_some_and(|since| since + PARTIAL_DELAY <= now);
            if due {
                self.end(index, |bytes| emit(index, bytes));
            }
        }
    }
}

fn prefix(name: &str, width: usize, style: Style) -> String {
    match style {
        Style::Raw | Style::Bare | Style::Json => String::new(),
        Style::Plain => format!("{name:width$} | "),
        Style::Colored => format!("\x1b[{}m{name:width$} |\x1b[0m ", color(name)),
    }
}

/// The same name has the same colour in every run: FNV-1a over it. Red and white are left to what the apps
/// say themselves.
fn color(name: &str) -> u8 {
    const COLORS: [u8; 10] = [32, 33, 34, 35, 36, 92, 93, 94, 95, 96];
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    COLORS[hash as usize % COLORS.len()]
}

#[cfg(test)]
#[path = "prefix_tests.rs"]
mod tests;
