//! Manual pages: one for each command, from its definition, and two for topics, from the tables that the program
//! itself works with.
//!
//! Pure: texts in roff come out, with their file names. Nothing here runs but in `podrun man`. Pages have no date,
//! so that the same version gives the same bytes.

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::Cli;
use crate::manifest::keys::{KEYS, Key, Kind, Support};

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Such as `podrun-run.1`.
    pub file: String,
    /// roff, for man(1).
    pub text: String,
}

const MANUAL: &str = "podrun";
const SOURCE: &str = concat!("podrun ", env!("CARGO_PKG_VERSION"));
/// The same text as in the docs.
const EXIT_CODES: &str = include_str!("../../docs/exit-codes.md");
/// What podrun.toml(5) ends with.
const EXAMPLE: &str = include_str!("../../manifests/two-apps.toml");

/// Every page.
///
/// # Errors
/// None that can be expected: memory is written to.
pub fn pages() -> std::io::Result<Vec<Page>> {
    let mut root = Cli::command().disable_help_flag(true);
    root.build();
    let mut pages = vec![command_page(&root, "podrun")?];
    for sub in root.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        pages.push(command_page(sub, &format!("podrun-{}", sub.get_name()))?);
    }
    pages.push(Page { file: "podrun.toml.5".to_owned(), text: manifest_page() });
    pages.push(Page { file: "podrun-exit-codes.7".to_owned(), text: exit_codes_page() });
    Ok(pages)
}

fn command_page(command: &Command, name: &str) -> std::io::Result<Page> {
    let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    let bin_name = name.replacen('-', " ", 1);
    let shown = command.clone().display_name(name.to_owned()).bin_name(bin_name).disable_help_flag(true);
    let man = Man::new(shown).title(name.to_uppercase()).source(SOURCE).manual(MANUAL);
    let mut bytes = Vec::new();
    man.render_title(&mut bytes)?;
    man.render_name_section(&mut bytes)?;
    man.render_synopsis_section(&mut bytes)?;
    man.render_description_section(&mut bytes)?;
    let has_subcommands = command.has_subcommands();
    if has_subcommands {
        man.render_subcommands_section(&mut bytes)?;
    }
    man.render_options_section(&mut bytes)?;
    let mut rest = Roff::new();
    after_help(&mut rest, &help);
    see_also(&mut rest, name, has_subcommands);
    rest.to_writer(&mut bytes)?;
    Ok(Page { file: format!("{name}.1"), text: String::from_utf8_lossy(&bytes).into_owned() })
}

/// Headings of `--help` become sections, indented lines stay as they are.
fn after_help(page: &mut Roff, help: &str) {
    let mut verbatim = false;
    for line in help.lines() {
        let is_indented = line.starts_with("  ");
        if verbatim && !is_indented {
            page.control("fi", []).control("RE", []);
        }
        if is_indented && !verbatim {
            page.control("RS", ["4"]).control("nf", []);
        }
        verbatim = is_indented;
        match line.strip_suffix(':').filter(|_| !is_indented) {
            Some(heading) => page.control("SH", [heading.to_uppercase().as_str()]),
            None if line.is_empty() => page.control("PP", []),
            None => page.text([roman(line.trim_start())]),
        };
    }
    if verbatim {
        page.control("fi", []).control("RE", []);
    }
}

fn see_also(page: &mut Roff, name: &str, is_root: bool) {
    let mut others = vec![("podrun", "1"), ("podrun.toml", "5"), ("podrun-exit-codes", "7")];
    others.retain(|(other, _)| *other != name || !is_root);
    page.control("SH", ["SEE ALSO"]);
    references(page, &others);
}

fn references(page: &mut Roff, pages: &[(&str, &str)]) {
    let mut words = Vec::new();
    for (index, (name, section)) in pages.iter().enumerate() {
        let end = if index + 1 == pages.len() { "" } else { ", " };
        words.extend([bold(*name), roman(format!("({section}){end}"))]);
    }
    page.text(words);
}

/// podrun.toml(5): every key that works, block by block.
fn manifest_page() -> String {
    let mut page = head("PODRUN.TOML", "5", "podrun.toml", "the manifest of a pod");
    page.control("SH", ["DESCRIPTION"]);
    page.text(prose(
        "A manifest describes one pod in TOML 1.0: the pod itself in `[pod]`, each app in a table `[app.NAME]`, and \
         limits in a table `isolators` of the pod or of an app. An unknown key is an error, and so is a key that \
         this version cannot honour. `podrun check` tells all mistakes of a manifest at once.",
    ));
    for (heading, prefix) in [
        ("AT THE TOP", ""),
        ("THE POD: [pod]", "pod."),
        ("LIMITS: [pod.isolators] AND [app.NAME.isolators]", "@.isolators."),
        ("LIMITS OF A DISK: io-max.\"PATH\"", "@.isolators.io-max.*."),
        ("LIMITS OF HUGE PAGES: hugetlb", "@.isolators.hugetlb."),
        ("AN APP: [app.NAME]", "app.*."),
        ("ITS READINESS: [app.NAME.ready]", "app.*.ready."),
        ("ITS OUTPUT: [app.NAME.log]", "app.*.log."),
        ("A SOCKET OF AN APP: [socket.NAME]", "socket.*."),
    ] {
        page.control("SH", [heading]);
        for key in KEYS.iter().filter(|key| key.support == Support::Supported) {
            let own = key.path.strip_prefix(prefix).filter(|own| !own.contains('.'));
            if let Some(own) = own {
                key_entry(&mut page, if own == "*" { "SIZE" } else { own }, key);
            }
        }
    }
    page.control("SH", ["EXAMPLE"]).control("nf", []);
    for line in EXAMPLE.lines() {
        page.text([roman(line)]);
    }
    page.control("fi", []);
    page.control("SH", ["SEE ALSO"]);
    references(&mut page, &[("podrun", "1"), ("podrun-check", "1"), ("podrun-plan", "1")]);
    page.to_roff()
}

fn key_entry(page: &mut Roff, name: &str, key: &Key) {
    page.control("TP", []);
    page.text([bold(name), roman(" = "), italic(key.example)]);
    let mut rule = key.rule.to_owned();
    if let Some(first) = rule.get(..1) {
        rule = first.to_uppercase() + &rule[1..];
    }
    let is = match key.kind {
        Kind::Choice(words) => format!("one of `{}`", words.join("`, `")),
        kind => kind.words().to_owned(),
    };
    page.text(prose(&format!("{rule}. It is {is}.")));
    let default = match key.default {
        "required" => "It must be there.".to_owned(),
        other => format!("Default: {other}."),
    };
    page.control("br", []);
    page.text([roman(default)]);
    let Some(files) = key.cgroup else { return };
    let on = |version: &str, file: &str| {
        if file.is_empty() {
            format!("none on cgroup {version}")
        } else {
            format!("{file} on cgroup {version}")
        }
    };
    let systemd = key.systemd.map(|property| format!("; systemd's {property}")).unwrap_or_default();
    page.control("br", []);
    page.text([roman(format!("File: {}, {}{systemd}.", on("v2", files.v2), on("v1", files.v1)))]);
}

/// podrun-exit-codes(7), from docs/exit-codes.md.
fn exit_codes_page() -> String {
    let mut page = head("PODRUN-EXIT-CODES", "7", "podrun-exit-codes", "what podrun's exit codes mean");
    page.control("SH", ["DESCRIPTION"]);
    let is_rule = |line: &str| line.starts_with("| ---") || line.starts_with("| code ");
    for line in EXIT_CODES.lines().filter(|line| !line.starts_with('#') && !is_rule(line)) {
        let cells = line.strip_prefix("| ").and_then(|row| row.strip_suffix(" |"));
        match cells.and_then(|row| row.split_once(" | ")) {
            Some((code, meaning)) => {
                page.control("TP", []);
                page.text([bold(code)]);
                page.text(prose(meaning));
            }
            None if line.is_empty() => {
                page.control("PP", []);
            }
            None => {
                page.text(prose(line));
            }
        }
    }
    page.control("SH", ["SEE ALSO"]);
    references(&mut page, &[("podrun", "1"), ("podrun-run", "1"), ("podrun-wait", "1")]);
    page.to_roff()
}

fn head(title: &str, section: &str, name: &str, about: &str) -> Roff {
    let mut page = Roff::new();
    page.control("TH", [title, section, "", SOURCE, MANUAL]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{name} - {about}"))]);
    page
}

/// What stands in backticks is bold.
fn prose(text: &str) -> Vec<Inline> {
    let parts = text.split('`').enumerate();
    parts.map(|(index, part)| if index % 2 == 1 { bold(part) } else { roman(part) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(file: &str) -> String {
        let pages = pages().unwrap();
        pages.into_iter().find(|page| page.file == file).unwrap_or_else(|| panic!("no {file}")).text
    }

    #[test]
    fn each_command_has_a_page_and_hidden_ones_have_none() {
        let pages = pages().unwrap();
        let files: Vec<&str> = pages.iter().map(|page| page.file.as_str()).collect();
        let command = Cli::command();
        for sub in command.get_subcommands() {
            let file = format!("podrun-{}.1", sub.get_name());
            assert_eq!(files.contains(&file.as_str()), !sub.is_hide_set(), "{file}");
        }
        for file in ["podrun.1", "podrun.toml.5", "podrun-exit-codes.7"] {
            assert!(files.contains(&file), "{file}");
        }
    }

    #[test]
    fn every_key_that_works_is_in_the_manual() {
        let text = page("podrun.toml.5");
        let supported: Vec<&Key> = KEYS.iter().filter(|key| key.support == Support::Supported).collect();
        for key in &supported {
            let name = key.path.rsplit('.').next().unwrap().replace('-', "\\-").replace('*', "SIZE");
            assert!(text.contains(&format!(".TP\n\\fB{name}\\fR = ")), "{}", key.path);
        }
        assert_eq!(text.matches(".TP\n").count(), supported.len());
    }

    #[test]
    fn examples_keep_their_lines() {
        let text = page("podrun-run.1");
        let examples = text.split(".SH EXAMPLES").nth(1).unwrap();
        assert!(examples.starts_with("\n.RS 4\n.nf\npodrun run shop.toml\n"), "{examples}");
    }

    #[test]
    fn every_exit_code_of_the_docs_is_in_the_manual() {
        let text = page("podrun-exit-codes.7");
        for code in ["125", "126", "127", "128 + n", "130", "3", "4"] {
            assert!(text.contains(&format!(".TP\n\\fB{code}\\fR\n")), "{code}:\n{text}");
        }
    }
}
