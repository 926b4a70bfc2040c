//! What may stand at the cursor of a command line that is being typed: the part of completion that needs no look
//! at pods or files.
//!
//! The definition of the commands is walked along the words, so a flag that exists is completed in every shell.
//! What the words before the cursor got wrong is not judged: the cursor may stand in the middle of a line that
//! makes sense later.

use clap::builder::ValueHint;
use clap::{Arg, ArgAction, Command};

/// What may stand at the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// What it is.
    pub kind: Kind,
    /// What has been typed of it.
    pub typed: String,
    /// Stands before every candidate, such as `--output=`, for shells that take it for one word.
    pub before: String,
    /// What `--root` said, when it was there.
    pub root: Option<String>,
    /// The command that the cursor is in.
    pub command: String,
    /// The words before the cursor that are no flags and no values of flags: manifests or pods.
    pub subjects: Vec<String>,
}

/// What a word is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// One of these, each with what it is.
    Words(Vec<(String, String)>),
    /// A pod, or one of its apps.
    PodOrApp,
    /// A pod.
    Pod,
    /// An app of the manifest or the pod that stands before it.
    App,
    /// The path of a manifest, or a directory on the way to one.
    Manifest,
    /// The path of a file or a directory.
    Path,
    /// A pod, or a path.
    PodOrPath,
    /// A key of the manifest.
    Key,
    /// Something that nobody can guess.
    Unknown,
}

/// What may stand in place of the last of `words`; the program's own name is not among them.
#[must_use]
pub fn expected(root: &Command, words: &[String]) -> Expected {
    let mut words = joined(words);
    let typed = words.pop().unwrap_or_default();
    let mut walk = Walk::new(root);
    for word in &words {
        walk.pass(word);
    }
    let (kind, before, typed) = walk.at_cursor(&typed);
    let command = walk.command.get_name().to_owned();
    Expected { kind, before, typed, root: walk.root_dir, command, subjects: walk.subjects }
}

/// bash takes `=` for a word of its own. The last two stay apart: it replaces only what stands behind the `=`.
fn joined(words: &[String]) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    let mut glue = false;
    for (index, word) in words.iter().enumerate() {
        let is_last = index + 1 == words.len();
        match joined.last_mut() {
            Some(flag) if word == "=" && flag.starts_with("--") && !is_last => glue = true,
            Some(flag) if glue && !is_last => {
                *flag = format!("{flag}={word}");
                glue = false;
            }
            _ => joined.push(if word == "=" { String::new() } else { word.clone() }),
        }
    }
    joined
}

struct Walk<'a> {
    command: &'a Command,
    /// Arguments of the commands above that hold here too.
    globals: Vec<&'a Arg>,
    /// A flag whose value comes next.
    pending: Option<&'a Arg>,
    subjects: Vec<String>,
    only_positionals: bool,
    root_dir: Option<String>,
}

impl<'a> Walk<'a> {
    fn new(command: &'a Command) -> Self {
        let globals = command.get_arguments().filter(|arg| arg.is_global_set()).collect();
        Self {
            command,
            globals,
            pending: None,
            subjects: Vec::new(),
            only_positionals: false,
            root_dir: None,
        }
    }

    fn flags(&self) -> impl Iterator<Item = &'a Arg> {
        let own = self.command.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set());
        let own: Vec<&Arg> = own.collect();
        let above = self.globals.iter().copied().filter(|arg| own.iter().all(|o| o.get_id() != arg.get_id()));
        let mut all: Vec<&Arg> = own.iter().copied().chain(above).collect();
        all.sort_by_key(|arg| rank(arg));
        all.into_iter()
    }

    fn long(&self, name: &str) -> Option<&'a Arg> {
        self.flags().find(|arg| {
            arg.get_long() == Some(name)
                || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
        })
    }

    /// Goes on behind a word that is complete.
    fn pass(&mut self, word: &str) {
        if let Some(arg) = self.pending.take() {
            self.remember(arg, word);
        } else if self.only_positionals || word == "-" {
            self.subjects.push(word.to_owned());
        } else if word == "--" {
            self.only_positionals = true;
        } else if let Some(name) = word.strip_prefix("--") {
            let (name, value) = name.split_once('=').map_or((name, None), |(n, v)| (n, Some(v)));
            match (self.long(name), value) {
                (Some(arg), Some(value)) => self.remember(arg, value),
                (Some(arg), None) => self.pending = Some(arg).filter(|arg| takes_next_word(arg)),
                (None, _) => {}
            }
        } else if let Some(shorts) = word.strip_prefix('-') {
            self.pending = self.short_that_waits(shorts);
        } else if let Some(command) = self.command.find_subcommand(word) {
            self.command = command;
            self.subjects.clear();
        } else {
            self.subjects.push(word.to_owned());
        }
    }

    fn remember(&mut self, arg: &Arg, value: &str) {
        if arg.get_long() == Some("root") {
            self.root_dir = Some(value.to_owned());
        }
    }

    /// The last of a bundle such as `-fn` may want a value.
    fn short_that_waits(&self, shorts: &str) -> Option<&'a Arg> {
        let mut rest = shorts.chars();
        while let Some(short) = rest.next() {
            let arg = self.flags().find(|arg| arg.get_short() == Some(short))?;
            if takes_next_word(arg) {
                return Some(arg).filter(|_| rest.as_str().is_empty());
            }
        }
        None
    }

    /// What may stand here, what stands before it, and what is typed of it.
    fn at_cursor(&self, typed: &str) -> (Kind, String, String) {
        let plain = |kind| (kind, String::new(), typed.to_owned());
        if let Some(arg) = self.pending {
            return plain(self.values(arg));
        }
        if let Some((flag, value)) = typed.split_once('=').filter(|_| typed.starts_with("--")) {
            let kind = self.long(&flag[2..]).map_or(Kind::Unknown, |arg| self.values(arg));
            return (kind, format!("{flag}="), value.to_owned());
        }
        if typed.starts_with('-') && !self.only_positionals {
            return plain(Kind::Words(self.flags().flat_map(flag_words).collect()));
        }
        if self.command.has_subcommands() {
            return plain(Kind::Words(command_words(self.command)));
        }
        let positionals: Vec<&Arg> = self.command.get_positionals().collect();
        let arg = positionals.get(self.subjects.len()).or_else(|| {
            positionals.last().filter(|last| {
                matches!(last.get_action(), ArgAction::Append)
                    || last.get_num_args().is_some_and(|range| range.max_values() > 1)
            })
        });
        plain(arg.map_or(Kind::Unknown, |arg| self.values(arg)))
    }

    fn values(&self, arg: &Arg) -> Kind {
        let possible = arg.get_possible_values();
        if !possible.is_empty() && !matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::SetFalse) {
            let shown = possible.iter().filter(|value| !value.is_hide_set());
            let help = |value: &clap::builder::PossibleValue| {
                value.get_help().map(ToString::to_string).unwrap_or_default()
            };
            return Kind::Words(shown.map(|value| (value.get_name().to_owned(), help(value))).collect());
        }
        let names = arg.get_value_names().unwrap_or_default();
        match names.first().map(clap::builder::Str::as_str) {
            Some("POD[/APP]") => Kind::PodOrApp,
            Some("POD") => Kind::Pod,
            Some("APP") => Kind::App,
            Some("FILE" | "MANIFEST") if arg.is_positional() => Kind::Manifest,
            Some("KEY" | "KEY|CODE" | "KEY=VAL") => Kind::Key,
            Some("MANIFEST|POD") => Kind::PodOrPath,
            Some("FILE" | "DIR" | "MANIFEST" | "DIRECTORY") => Kind::Path,
            _ => match arg.get_value_hint() {
                ValueHint::Unknown | ValueHint::Other => Kind::Unknown,
                _ => Kind::Path,
            },
        }
    }
}

/// A command's own flags come first, then those of every command, then what clap adds: the order of its definition
/// would have those of every command first, as they are there when it is made.
fn rank(arg: &Arg) -> u8 {
    match arg.get_action() {
        ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version => 2,
        _ => arg.is_global_set().into(),
    }
}

/// An optional value is typed as `--flag=value`.
fn takes_next_word(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
        && !arg.is_require_equals_set()
        && arg.get_num_args().is_none_or(|range| range.min_values() > 0)
}

fn flag_words(arg: &Arg) -> Vec<(String, String)> {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let long = arg.get_long().map(|long| format!("--{long}"));
    let short = arg.get_short().map(|short| format!("-{short}"));
    long.into_iter().chain(short).map(|word| (word, help.clone())).collect()
}

fn command_words(command: &Command) -> Vec<(String, String)> {
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    let about = |sub: &Command| sub.get_about().map(ToString::to_string).unwrap_or_default();
    shown.map(|sub| (sub.get_name().to_owned(), about(sub))).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn at(line: &str) -> Expected {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let mut command = Cli::command();
        command.build();
        expected(&command, &words)
    }

    fn words(line: &str) -> Vec<String> {
        match at(line).kind {
            Kind::Words(words) => words.into_iter().map(|(word, _)| word).collect(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn commands_and_flags_come_from_the_definition() {
        assert!(words("").contains(&"run".to_owned()));
        assert!(!words("").contains(&"complete".to_owned()), "hidden commands stay hidden");
        assert!(words("run -").contains(&"--detach".to_owned()));
        assert!(words("ps --").contains(&"--root".to_owned()), "globals hold everywhere");
        assert_eq!(words("ps --output "), ["table", "json", "jsonl"]);
        assert_eq!(words("ps -ao "), ["table", "json", "jsonl"]);
        assert_eq!(words("--color "), ["auto", "always", "never"]);
    }

    #[test]
    fn a_place_has_its_kind() {
        let table = [
            ("status ", Kind::PodOrApp),
            ("status --root /x ", Kind::PodOrApp),
            ("--root /x status -o json sh", Kind::PodOrApp),
            ("stop one ", Kind::PodOrApp),
            ("rm one tw", Kind::Pod),
            ("graph sh", Kind::PodOrPath),
            ("run ", Kind::Manifest),
            ("run --name ", Kind::Unknown),
            ("run --env-file ", Kind::Path),
            ("run a.toml --only ", Kind::App),
            ("run a.toml --exit-code-from a", Kind::App),
            ("plan -c ", Kind::App),
            ("run -- -", Kind::Manifest),
            ("check a.toml b", Kind::Manifest),
            ("--root ", Kind::Path),
            ("status one two", Kind::Unknown),
            ("nonsense x", Kind::Unknown),
        ];
        for (line, kind) in table {
            let found = at(line).kind;
            let is_wanted = found == kind || (line == "nonsense x" && matches!(found, Kind::Words(_)));
            assert!(is_wanted, "{line}: {found:?}");
        }
    }

    #[test]
    fn what_a_line_is_about_stands_before_the_cursor() {
        assert_eq!(at("run --rm --name x a.toml --only ").subjects, ["a.toml"]);
        assert_eq!(at("--root /x check a.toml b.toml --only=").subjects, ["a.toml", "b.toml"]);
        assert_eq!(at("plan -c ").subjects, [""; 0]);
    }

    #[test]
    fn a_value_behind_an_equals_sign_is_one_word_or_three() {
        let one = at("ps --output=js");
        assert_eq!((one.before.as_str(), one.typed.as_str()), ("--output=", "js"));
        for line in ["ps --output = js", "ps --output = "] {
            assert!(matches!(at(line).kind, Kind::Words(words) if words.len() == 3), "{line}");
            assert_eq!(at(line).before, "");
        }
        assert_eq!(at("--root=/x status sh").root.as_deref(), Some("/x"));
        assert_eq!(at("--root = /x status sh").root.as_deref(), Some("/x"));
        assert_eq!(at("--root /y status sh").root.as_deref(), Some("/y"));
    }
}
