//! Problems as people read them: each with the source line that it is about, underlined.

use std::fmt::Write;
use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::overrides::Overrides;
use super::problem::{Problem, Severity, boundary_before, boundary_behind, line_column};
use super::source::{Part, Source};

/// More problems than this are counted and not shown.
const SHOWN_MAX: usize = 50;
/// A source line that is longer is not shown; nobody wrote it by hand.
const LINE_BYTES_MAX: usize = 2000;

/// All problems in the order of their places, for a text that was read from the file `name`.
#[must_use]
pub fn render(name: &str, text: &str, problems: &[Problem], color: bool) -> String {
    render_source(&Source::new(name, text, Overrides::default()), problems, color)
}

/// All problems in the order of their places.
#[must_use]
pub fn render_source(source: &Source, problems: &[Problem], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut sorted: Vec<_> = problems.iter().collect();
    sorted.sort_by_key(|problem| (problem.span.start, problem.severity));
    let mut out = String::new();
    for problem in sorted.iter().take(SHOWN_MAX) {
        out.push_str(&renderer.render(&[group(source, problem)]));
        out.push_str("\n\n");
    }
    if sorted.len() > SHOWN_MAX {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "… and {} more problems\n", sorted.len() - SHOWN_MAX);
    }
    out
}

fn group<'a>(source: &'a Source, problem: &'a Problem) -> Group<'a> {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(title(problem)).id(problem.code));
    for places in places(source, problem) {
        group = match window(&places) {
            Some(window) => group.element(snippet(&places, window)),
            None => {
                let (name, line, column) =
                    source.place(places.all.first().map_or(0, |place| place.span.start));
                group.element(Origin::path(name).line(line).char_column(column))
            }
        };
    }
    match &problem.help {
        Some(help) => group.element(Level::HELP.message(wrapped(help))),
        None => group,
    }
}

/// The places of a problem that are in one text.
struct Places<'a> {
    part: Part<'a>,
    all: Vec<Place<'a>>,
}

/// One place, as it is in the source.
struct Place<'a> {
    span: Range<usize>,
    label: Option<&'a str>,
    kind: AnnotationKind,
}

/// The places of a problem by the text that they are in, first that of the problem itself.
fn places<'a>(source: &'a Source, problem: &'a Problem) -> Vec<Places<'a>> {
    let within = |span: &Range<usize>| within(source.text(), span);
    let same = problem.related.iter().find(|(span, _)| *span == problem.span);
    let own = Place {
        span: within(&problem.span),
        label: same.map(|(_, label)| label.as_str()),
        kind: AnnotationKind::Primary,
    };
    let others = problem.related.iter().filter(|(span, _)| *span != problem.span).map(|(span, label)| {
        Place { span: within(span), label: Some(label.as_str()), kind: AnnotationKind::Context }
    });
    let mut found: Vec<Places> = Vec::new();
    for place in std::iter::once(own).chain(others) {
        let part = source.part(place.span.start);
        // A place ends where its text does.
        let end = place.span.end.min(part.start + part.text.len());
        let place = Place { span: place.span.start.min(end)..end, ..place };
        match found.iter_mut().find(|places| places.part.start == part.start) {
            Some(places) => places.all.push(place),
            None => found.push(Places { part, all: vec![place] }),
        }
    }
    found
}

/// In lines that fit below a snippet on a screen of 80 columns. What stands between quotes stays whole: it is meant to
/// be copied.
fn wrapped(help: &str) -> String {
    const COLUMNS: usize = 68;
    let mut out = String::new();
    let mut column = 0;
    let mut in_quotes = false;
    for word in help.split(' ') {
        let width = word.chars().count();
        if column > 0 && !in_quotes && column + 1 + width > COLUMNS {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
        in_quotes ^= word.matches('"').count() % 2 == 1;
    }
    out
}

/// The whole lines from the first to the last place in one text; nothing when they are too long to be shown.
fn window(places: &Places) -> Option<Range<usize>> {
    let (text, base) = (places.part.text, places.part.start);
    let first = places.all.iter().map(|place| place.span.start).min()? - base;
    let last = places.all.iter().map(|place| place.span.end).max()? - base;
    let start = text[..first].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[last..].find('\n').map_or(text.len(), |newline| last + newline);
    let longest = text[start..end].split('\n').map(str::len).max().unwrap_or(0);
    (longest <= LINE_BYTES_MAX).then_some(start..end)
}

fn snippet<'a>(places: &Places<'a>, window: Range<usize>) -> Snippet<'a, Annotation<'a>> {
    let part = places.part;
    let (line, _) = line_column(part.text, window.start);
    let shift = part.start + window.start;
    let annotations = places
        .all
        .iter()
        .map(|place| place.kind.span(place.span.start - shift..place.span.end - shift).label(place.label));
    Snippet::source(&part.text[window]).path(part.name).line_start(line).annotations(annotations)
}

/// The message, with the key before it unless it names the key itself.
fn title(problem: &Problem) -> String {
    let last = problem.path.rsplit('.').next().unwrap_or_default().trim_matches('"');
    if last.is_empty() || problem.message.contains(last) {
        return problem.message.clone();
    }
    format!("{}: {}", problem.path, problem.message)
}

/// The span on character boundaries and within the text, as the renderer wants it.
fn within(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = boundary_before(text, span.start);
    start..boundary_behind(text, span.end).max(start)
}

#[cfg(test)]
mod tests {
    use super::super::rules;
    use super::*;

    #[test]
    fn render_takes_any_span() {
        let text = "a = \"ü\"\nb = 2\n";
        for start in 0..20 {
            for end in 0..20 {
                let problem = Problem::new(&rules::SYNTAX, "a.b", start..end, "wrong")
                    .related(end..start, "here")
                    .help("mend it");
                let out = render("x.toml", text, &[problem], start % 2 == 0);
                assert!(out.contains("wrong") && out.contains("mend it"), "{out}");
            }
        }
    }

    #[test]
    fn render_sorts_by_place_and_counts_what_it_leaves_out() {
        let problem = |at: usize| Problem::new(&rules::SYNTAX, "", at..at, format!("at {at}"));
        let out = render("x.toml", "a\nb\nc\n", &[problem(4), problem(0), problem(2)], false);
        let place = |what: &str| out.find(what).unwrap();
        assert!(place("at 0") < place("at 2") && place("at 2") < place("at 4"));
        let many: Vec<_> = (0..60).map(|_| problem(0)).collect();
        assert!(render("x.toml", "a", &many, false).contains("and 10 more problems"));
    }
}
