//! Any text is either a spec or a list of problems that can be shown; it never panics. The same holds with changes
//! of a command line, which are the lines of the text that begin with `--set ` or `-e `; and what a pod's record
//! keeps of a changed manifest means what was run.
#![no_main]

use libfuzzer_sys::fuzz_target;
use podrun::manifest::overrides::{Change, Overrides};
use podrun::manifest::{self, Severity, Source};

fuzz_target!(|text: &str| {
    let change = |line: &str| {
        let set = line.strip_prefix("--set ").map(|typed| Change::Set(typed.to_owned()));
        set.or_else(|| Some(Change::Env(line.strip_prefix("-e ")?.to_owned(), None)))
    };
    let changes: Vec<Change> = text.lines().filter_map(change).collect();
    let manifest: String =
        text.split_inclusive('\n').filter(|line| change(line).is_none()).collect();
    let only = if text.len() % 16 == 0 { vec!["web".to_owned()] } else { Vec::new() };
    let overrides = Overrides { changes, only, no_deps: text.len() % 32 == 0 };
    let source = Source::new("fuzz.toml", &manifest, overrides);
    let read = source.read();
    let shown = manifest::render_source(&source, &read.problems, false);
    assert!(read.spec.is_some() || !shown.is_empty(), "refused without a word");
    let refused = read.problems.iter().any(|problem| problem.severity == Severity::Error);
    assert_eq!(read.spec.is_none(), refused);
    for problem in &read.problems {
        let _ = source.place(problem.span.start);
        let _ = source.locate(&problem.path);
    }
    for ask in source.asks() {
        let _ = source.place(ask.span.start);
    }
    if let Some(spec) = &read.spec {
        let again = manifest::read(&source.merged());
        let again = again.spec.expect("what was merged is a manifest");
        assert!(again == *spec, "what was merged means something else");
    }
});
