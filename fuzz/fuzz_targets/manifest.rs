//! Any text is either a spec or a list of problems that can be shown; it never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use podrun::manifest;

fuzz_target!(|text: &str| {
    let read = manifest::read(text);
    let shown = manifest::render("fuzz.toml", text, &read.problems, false);
    assert!(read.spec.is_some() || !shown.is_empty(), "refused without a word");
});
