//! `podrun top`: a row for each app with its recent history, drawn anew after every look.
//!
//! [`model`] is what is known and what a key does, [`view`] draws it; both are pure. Here are the terminal, the clock and
//! the looks, which are those of `stats`. The terminal is left as it was, also after a panic or a SIGTERM.

mod model;
mod view;

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::looks::{Asked, Line, Look, Subject, lines, looks, subjects};
use crate::cli::TopArgs;
use crate::error::Note;
use crate::pod::record::now_ms;
use crate::pod::root::Root;
use model::{Key, Model, Sample};

/// Between two looks at whether a signal has come.
const SIGNAL_PAUSE: Duration = Duration::from_millis(250);
/// Between the two looks that the first picture needs.
const FIRST_SPAN: Duration = Duration::from_millis(100);

/// Draws until `q` is pressed, or until nothing that was named runs any more.
///
/// # Errors
/// When standard output is no terminal, there is no such pod or app, or it does not run.
pub fn run(root: &Root, args: &TopArgs) -> Result<u8> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(anyhow!("cannot draw: standard input and output are not both a terminal"))
            .hint("`podrun stats` prints the same numbers");
    }
    let asked = Asked { pods: &args.pods, apps: &args.apps, with_apps: true };
    let (first, failure) = subjects(root, &asked)?;
    if let Some(error) = failure {
        return Err(error);
    }
    let told = Arc::new(AtomicBool::new(false));
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&told)).context("cannot wait for signals")?;
    }
    let mut last = looks(&first);
    std::thread::sleep(FIRST_SPAN);
    let mut terminal = ratatui::try_init().context("cannot take the terminal")?;
    let mut model = Model::new(args.interval);
    let ended = watch(root, &asked, &mut model, (&mut terminal, &told), &mut last);
    ratatui::try_restore().context("cannot give the terminal back")?;
    ended.map(|()| 0)
}

fn watch(
    root: &Root,
    asked: &Asked<'_>,
    model: &mut Model,
    (terminal, told): (&mut ratatui::DefaultTerminal, &AtomicBool),
    last: &mut Vec<Look>,
) -> Result<()> {
    let mut look_at = Instant::now();
    while !told.load(Ordering::Relaxed) {
        if Instant::now() >= look_at {
            look_at = Instant::now() + model.interval;
            let (subjects, failure) = subjects(root, asked)?;
            if subjects.is_empty() && failure.is_some() {
                return Ok(());
            }
            let lines = lines(looks(&subjects), last);
            model.take(samples(&subjects, &lines), now_ms());
            *last = lines.into_iter().map(|line| line.look).collect();
        }
        terminal.draw(|frame| view::draw(frame, model)).context("cannot draw")?;
        let pause = look_at.saturating_duration_since(Instant::now()).min(SIGNAL_PAUSE);
        // EINTR is a signal, which is looked for above.
        if event::poll(pause).unwrap_or(false)
            && let Event::Key(pressed) = event::read().context("cannot read from the terminal")?
            && pressed.kind != KeyEventKind::Release
            && key(pressed).is_some_and(|key| model.press(key))
        {
            return Ok(());
        }
    }
    Ok(())
}

fn key(KeyEvent { code, modifiers, .. }: KeyEvent) -> Option<Key> {
    Some(match code {
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Key::Quit,
        KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
        KeyCode::Up | KeyCode::Char('k') => Key::Up,
        KeyCode::Down | KeyCode::Char('j') => Key::Down,
        KeyCode::Char('s') => Key::Order,
        KeyCode::Char(' ') => Key::Stand,
        _ => return None,
    })
}

fn samples(subjects: &[Subject], lines: &[Line]) -> Vec<Sample> {
    let states: HashMap<(String, Option<String>), String> = subjects
        .iter()
        .flat_map(|subject| {
            let (id, status) = (subject.pod.id().to_string(), subject.pod.status());
            let own = ((id.clone(), None), status.words());
            let apps: Vec<_> =
                status.apps.iter().map(|app| ((id.clone(), Some(app.name.clone())), app.words())).collect();
            std::iter::once(own).chain(apps)
        })
        .collect();
    let sample = |line: &Line| {
        let Look { pod, id, app, usage, counters, .. } = &line.look;
        Sample {
            pod: pod.clone(),
            id: id.clone(),
            app: app.clone(),
            state: states.get(&(id.clone(), app.clone())).cloned().unwrap_or_default(),
            cpu: line.percent(line.cpu_ns),
            throttled: line.percent(line.throttled_ns),
            usage: usage.clone(),
            counters: counters.clone(),
        }
    };
    lines.iter().map(sample).collect()
}
