//! How `top` looks: a table of rows, below it the one that is selected, larger. Pure, but for the frame.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row as Drawn, Table, TableState};

use super::model::{Model, Order, Row};
use crate::cgroup::pressure::{Pressure, Stall};
use crate::output::size;
use crate::pod::status::json::rfc3339;

/// From here on there is room for all columns.
const WIDE: u16 = 110;
/// From here on there is room for the row that is selected.
const HIGH: u16 = 16;
const DETAIL_HEIGHT: u16 = 8;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, model: &Model) {
    let detail = if frame.area().height >= HIGH { DETAIL_HEIGHT } else { 0 };
    let [head, table, below, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(detail),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(title(model), head);
    rows(frame, model, table);
    if let (Some(row), true) = (model.rows().get(model.selected()), detail > 0) {
        selected(frame, row, below);
    }
    frame.render_widget("q quit  ↑↓ select  s order  space stand still".dim(), foot);
}

fn title(model: &Model) -> Line<'static> {
    let count = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let (pods, apps) = model.counts();
    let time = rfc3339(model.time_ms / 1000 * 1000).unwrap_or_default();
    let words =
        format!("  {}, {}  by {}  {time}  ", count(pods, "pod"), count(apps, "app"), model.order.word());
    let pace = if model.stands {
        "STANDS STILL".yellow().bold()
    } else {
        Span::from(format!("every {:?}", model.interval))
    };
    Line::from(vec!["podrun top".bold(), words.into(), pace])
}

fn rows(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let is_wide = area.width >= WIDE;
    let own = if is_wide { 10 + 9 + 17 } else { 0 };
    let name = if is_wide { 24 } else { 15 };
    // What is left beside names and numbers is for the two histories.
    let numbers = name + 6 + 16 + 5 + 11 + own + if is_wide { 9 } else { 6 };
    let history = area.width.saturating_sub(numbers) / 2;
    let mut widths = vec![name, 6, history, 16, history, 5, 11];
    let mut heads = vec!["POD/APP", "CPU", "", "MEMORY", "", "PIDS", "PRESSURE"];
    if is_wide {
        widths.extend([9, 9, 17]);
        heads.extend(["THROTTLED", "SWAP", "READ / WRITTEN"]);
    }
    let all = model.rows();
    let lines = all.iter().map(|row| Drawn::new(cells(row, model.order, usize::from(history), is_wide)));
    let table = Table::new(lines, widths.into_iter().map(Constraint::Length))
        .header(Drawn::new(heads).style(Style::new().add_modifier(Modifier::BOLD)))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected((!all.is_empty()).then(|| model.selected()));
    frame.render_stateful_widget(table, area, &mut state);
    if all.is_empty() {
        let [_, rest] = Layout::vertical([Constraint::Length(2), Constraint::Min(0)]).areas(area);
        frame.render_widget(Paragraph::new("no pod runs").dim(), rest);
    }
}

fn cells(row: &Row, order: Order, width: usize, is_wide: bool) -> Vec<Cell<'static>> {
    let name = match &row.last.app {
        Some(app) if order == Order::Name => Cell::from(format!("  {app}")),
        Some(_) => Cell::from(row.name()),
        None => Cell::from(row.name().bold()),
    };
    let usage = &row.last.usage;
    let memory = usage.memory_current_bytes.map(size).unwrap_or_else(none);
    let memory = usage.memory_max_bytes.map_or(memory.clone(), |max| format!("{memory}/{}", size(max)));
    let mut cells = vec![
        name,
        Cell::from(percent(row.last.cpu)),
        Cell::from(history(&row.cpu, cpu_top(row), width)),
        Cell::from(memory),
        Cell::from(history(&row.memory, memory_top(row), width)),
        Cell::from(usage.pids_current.map(|pids| pids.to_string()).unwrap_or_else(none)),
        Cell::from(most(&row.last.counters.pressure)),
    ];
    if is_wide {
        let counters = &row.last.counters;
        let moved = counters.read_bytes.zip(counters.written_bytes);
        cells.extend([
            Cell::from(percent(row.last.throttled)),
            Cell::from(counters.swap_bytes.map(size).unwrap_or_else(none)),
            Cell::from(
                moved.map_or_else(none, |(read, written)| format!("{}/{}", size(read), size(written))),
            ),
        ]);
    }
    cells
}

fn none() -> String {
    "-".to_owned()
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(none, |share| format!("{share:.1}%"))
}

/// What is waited for most, when there is anything.
fn most(pressure: &Pressure) -> String {
    let all = [("cpu", pressure.cpu), ("memory", pressure.memory), ("io", pressure.io)];
    let shares = all.into_iter().filter_map(|(name, stall)| Some((name, stall?.some_avg10)));
    match shares.max_by(|a, b| a.1.total_cmp(&b.1)) {
        Some((name, share)) if share >= 0.05 => format!("{name} {share:.0}%"),
        _ => none(),
    }
}

/// The limit, else the most that was seen, but at least one CPU.
fn cpu_top(row: &Row) -> f64 {
    row.cpu_max().unwrap_or_else(|| row.cpu.iter().copied().fold(100.0, f64::max))
}

/// The limit, else somewhat more than was seen.
fn memory_top(row: &Row) -> f64 {
    row.memory_max().unwrap_or_else(|| row.memory.iter().copied().fold(1.0, f64::max) * 1.25)
}

/// The newest values, the last at the right, coloured by how near the last is to the top.
fn history<'a>(values: impl IntoIterator<Item = &'a f64> + Clone, top: f64, width: usize) -> Span<'static> {
    let last = values.clone().into_iter().last().copied().unwrap_or_default();
    Span::styled(bars(values, top, width), color(last, top))
}

fn color(value: f64, top: f64) -> Style {
    match value / top {
        share if share >= 0.9 => Style::new().fg(Color::Red),
        share if share >= 0.7 => Style::new().fg(Color::Yellow),
        _ => Style::new().fg(Color::Green),
    }
}

/// A character for each value, as high as its share of the top; right-aligned.
fn bars<'a>(values: impl IntoIterator<Item = &'a f64>, top: f64, width: usize) -> String {
    let values: Vec<f64> = values.into_iter().copied().collect();
    let shown = &values[values.len().saturating_sub(width)..];
    let bars: String = shown.iter().map(|value| LEVELS[level(*value, top, LEVELS.len())]).collect();
    format!("{}{bars}", " ".repeat(width.saturating_sub(shown.len())))
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "clamped"
)]
fn level(value: f64, top: f64, levels: usize) -> usize {
    let share = if top > 0.0 { (value / top).clamp(0.0, 1.0) } else { 0.0 };
    ((share * levels as f64) as usize).min(levels - 1)
}

/// The row that is selected: both histories, three characters high, and what else is known.
fn selected(frame: &mut Frame<'_>, row: &Row, area: Rect) {
    let block = Block::bordered().title(format!(" {} {} ", row.name(), row.last.state));
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let [words, picture, rest] =
        Layout::vertical([Constraint::Length(1), Constraint::Length(4), Constraint::Length(1)]).areas(inside);
    let halves = |area: Rect| {
        Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas::<2>(area)
    };
    let usage = &row.last.usage;
    let of =
        |limit: Option<String>| limit.map_or_else(|| ", no limit".to_owned(), |max| format!(" of {max}"));
    let throttled = row.last.throttled.filter(|share| *share > 0.0);
    let throttled = throttled.map(|share| format!(", throttled {share:.1}%")).unwrap_or_default();
    let cpu = format!(
        "CPU {}{}{throttled}",
        percent(row.last.cpu),
        of(row.cpu_max().map(|max| format!("{max:.1}%")))
    );
    let peak = usage.memory_peak_bytes.map(|peak| format!(", peak {}", size(peak))).unwrap_or_default();
    let memory = usage.memory_current_bytes.map(size).unwrap_or_else(none);
    let memory = format!("mem {memory}{}{peak}", of(usage.memory_max_bytes.map(size)));
    let ([left, right], [cpu_area, memory_area]) = (halves(words), halves(picture));
    frame.render_widget(cpu, left);
    frame.render_widget(memory, right);
    chart(frame, &row.cpu, cpu_top(row), cpu_area);
    chart(frame, &row.memory, memory_top(row), memory_area);
    frame.render_widget(more(row).dim(), rest);
}

/// A history that is several characters high.
fn chart<'a>(frame: &mut Frame<'_>, values: impl IntoIterator<Item = &'a f64> + Clone, top: f64, area: Rect) {
    let data: Vec<u64> = {
        let all: Vec<f64> = values.clone().into_iter().copied().collect();
        let width = usize::from(area.width);
        let shown = &all[all.len().saturating_sub(width)..];
        let missing = std::iter::repeat_n(0, width.saturating_sub(shown.len()));
        missing.chain(shown.iter().map(|value| level(*value, top, 1001) as u64)).collect()
    };
    let last = values.into_iter().last().copied().unwrap_or_default();
    let chart = ratatui::widgets::Sparkline::default().data(&data).max(1000).style(color(last, top));
    frame.render_widget(chart, area);
}

fn more(row: &Row) -> String {
    let share = |stall: Option<Stall>| percent(stall.map(|stall| stall.some_avg10));
    let Pressure { cpu, memory, io } = row.last.counters.pressure;
    let usage = &row.last.usage;
    let pids = usage.pids_current.map(|pids| pids.to_string()).unwrap_or_else(none);
    let pids = usage.pids_max.map_or(pids.clone(), |max| format!("{pids} of {max}"));
    let swap = row.last.counters.swap_bytes.map(size).unwrap_or_else(none);
    format!(
        "waited of 10 s: cpu {}, memory {}, io {}   processes {pids}   swap {swap}",
        share(cpu),
        share(memory),
        share(io)
    )
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
