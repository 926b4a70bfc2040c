//! Manifests as text, short enough to stand in a test; and what the apps printed, taken apart.

/// A manifest: the pod's name, further keys of `[pod]`, and the apps.
pub fn pod(name: &str, keys: &str, apps: &[String]) -> String {
    format!("version = 1\n[pod]\nname = \"{name}\"\n{keys}\n{}", apps.concat())
}

/// An app in the lab's root that runs the probe with these words, separated by blanks; and its further keys.
pub fn app(name: &str, words: &str, keys: &str) -> String {
    let words: Vec<String> = words.split_whitespace().map(|word| format!(", \"{word}\"")).collect();
    format!("[app.{name}]\nrootfs = \"@ROOTFS@\"\nexec = [\"/bin/probe\"{}]\n{keys}\n", words.concat())
}

/// The rest of the first line that begins with this word and a blank.
pub fn value<'a>(output: &'a str, word: &str) -> Option<&'a str> {
    output.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '))
}

/// The lines of one app in prefixed output, without the prefix.
pub fn of_app(output: &str, app: &str) -> String {
    let lines = output.lines().filter_map(|line| {
        let (name, text) = line.split_once(" | ")?;
        (name.trim_end() == app).then_some(text)
    });
    lines.map(|line| format!("{line}\n")).collect()
}
