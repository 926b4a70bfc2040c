//! [`Source`]: the text of a manifest and what the command line changes in it.
//!
//! Both stand in one text, the lines of the command line behind the manifest, so that a place is one number
//! everywhere. Only here it is known which is which.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::asks::{self, Ask};
use super::overrides::{self, Overrides};
use super::problem::line_column;
use super::tree::{Item, Report, Table, any_key};
use super::{Read, drop_what_is_told, locate, read_tree, syntax};
use crate::spec::Spec;
use crate::value::quoted;

/// What problems of the command line are shown to be in.
const COMMAND_LINE: &str = "command line";

/// A manifest with its name, and what the command line changes in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    name: String,
    text: String,
    manifest_length: usize,
    overrides: Overrides,
}

/// One of the texts that a source is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    /// What it is called.
    pub name: &'a str,
    /// The whole of it.
    pub text: &'a str,
    /// Where it begins in the source's text.
    pub start: usize,
}

impl Source {
    /// A manifest that was read from the file `name`.
    #[must_use]
    pub fn new(name: &str, manifest: &str, overrides: Overrides) -> Self {
        let mut text = manifest.to_owned();
        for line in overrides.lines() {
            text.push('\n');
            text.push_str(&line);
        }
        Self { name: name.to_owned(), text, manifest_length: manifest.len(), overrides }
    }

    /// The manifest as it is in its file.
    #[must_use]
    pub fn manifest(&self) -> &str {
        &self.text[..self.manifest_length]
    }

    /// The text that places count in.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn lines_start(&self) -> usize {
        self.manifest_length + 1
    }

    /// Reads it.
    #[must_use]
    pub fn read(&self) -> Read {
        let mut report = self.report();
        let tree = self.tree(&mut report);
        if let Some(tree) = &tree {
            overrides::unknown_only(&self.overrides, self.lines_start(), tree, &mut report);
        }
        let spec = tree.as_ref().and_then(|tree| read_tree(tree, &mut report));
        let spec = spec.filter(|_| !report.has_errors()).and_then(|spec| self.select(spec));
        let mut problems = report.problems;
        drop_what_is_told(&mut problems);
        problems.sort_by_key(|problem| (problem.span.start, problem.severity));
        // A variable that is given to every app is wrong once.
        problems.dedup_by(|a, b| {
            a.span == b.span
                && a.message == b.message
                && a.code == b.code
                && a.span.start > self.manifest_length
        });
        Read { spec, problems }
    }

    fn report(&self) -> Report<'_> {
        Report::new(&self.text, self.manifest_length)
    }

    /// The tree with the changes made; nothing when the manifest is not TOML.
    fn tree<'a>(&'a self, report: &mut Report<'a>) -> Option<DeTable<'a>> {
        let mut tree = syntax::parse(self.manifest(), report)?;
        self.overrides.apply(self.lines_start(), &mut tree, report);
        Some(tree)
    }

    /// The place of a key, for problems that only a look at the host can find.
    #[must_use]
    pub fn locate(&self, path: &str) -> Option<Range<usize>> {
        locate::in_tree(&self.tree(&mut self.report())?, path)
    }

    /// The apps of the text, each with its command as far as there is one; also where the text is no manifest yet.
    #[must_use]
    pub fn app_names(&self) -> Vec<(String, String)> {
        let tree = self.tree(&mut self.report());
        let apps = tree.as_ref().and_then(|tree| Table::root(tree).table("app"));
        let command = |app: &Item| {
            let exec = app.as_table().and_then(|app| app.item("exec"));
            let words = exec.as_ref().and_then(|exec| exec.value.as_array());
            let words = words.into_iter().flatten().filter_map(|word| word.get_ref().as_str());
            words.collect::<Vec<_>>().join(" ")
        };
        apps.map(|apps| apps.items())
            .unwrap_or_default()
            .iter()
            .map(|app| (app.key.to_owned(), command(app)))
            .collect()
    }

    /// What keys that do not work yet ask of the host.
    #[must_use]
    pub fn asks(&self) -> Vec<Ask> {
        let tree = self.tree(&mut self.report());
        tree.map(|tree| asks::gather(&Table::root(&tree))).unwrap_or_default()
    }

    /// The name of the text that an offset is in, with line and column from 1.
    #[must_use]
    pub fn place(&self, offset: usize) -> (&str, usize, usize) {
        let part = self.part(offset);
        let (line, column) = line_column(part.text, offset - part.start);
        (part.name, line, column)
    }

    /// Whether an offset is in the manifest, and not in what was typed.
    #[must_use]
    pub fn is_in_file(&self, offset: usize) -> bool {
        offset <= self.manifest_length
    }

    pub(super) fn part(&self, offset: usize) -> Part<'_> {
        if self.is_in_file(offset) {
            return Part { name: &self.name, text: self.manifest(), start: 0 };
        }
        let start = self.lines_start();
        Part { name: COMMAND_LINE, text: self.text.get(start..).unwrap_or_default(), start }
    }

    /// What is left of the whole when only some apps are run: what a manifest means that has no others, so that the
    /// record of a pod means what was run.
    fn select(&self, whole: Spec) -> Option<Spec> {
        if self.overrides.only.is_empty() { Some(whole) } else { super::read(&self.merged()).spec }
    }

    /// The apps that were asked for, with those that they depend on.
    fn wanted(&self, whole: &Spec) -> Vec<String> {
        let mut wanted = self.overrides.only.clone();
        let mut next = 0;
        while let Some(name) = wanted.get(next).filter(|_| !self.overrides.no_deps) {
            let app = whole.apps.iter().find(|app| app.name == *name);
            let more = app.map(|app| app.depends_on.clone()).unwrap_or_default();
            wanted.extend(more.into_iter().filter(|name| !wanted.contains(name)).collect::<Vec<_>>());
            next += 1;
        }
        wanted
    }

    /// Takes apps that are not run out of the tree, and out of what others depend on, with their sockets.
    fn prune(&self, tree: &mut DeTable) {
        let whole = if self.overrides.only.is_empty() { None } else { read_tree(tree, &mut self.report()) };
        let Some(wanted) = whole.map(|whole| self.wanted(&whole)) else { return };
        let is_wanted = |name: &str| wanted.iter().any(|wanted| wanted == name);
        if let Some(DeValue::Table(sockets)) = tree.get_mut("socket").map(Spanned::get_mut) {
            let app =
                |socket: &DeValue<'_>| Some(is_wanted(socket.as_table()?.get("app")?.get_ref().as_str()?));
            let old = std::mem::replace(sockets, DeTable::new()).into_iter();
            *sockets = old.filter(|(_, socket)| app(socket.get_ref()) == Some(true)).collect();
        }
        let Some(DeValue::Table(apps)) = tree.get_mut("app").map(Spanned::get_mut) else { return };
        let keep = |table: &mut DeTable<'_>| {
            let old = std::mem::replace(table, DeTable::new()).into_iter();
            *table = old.filter(|(name, _)| is_wanted(name.get_ref())).collect();
        };
        keep(apps);
        for (_, app) in apps.iter_mut() {
            let DeValue::Table(app) = app.get_mut() else { continue };
            match app.get_mut("depends-on").map(Spanned::get_mut) {
                Some(DeValue::Table(names)) => keep(names),
                Some(DeValue::Array(names)) => {
                    let old = std::mem::replace(names, DeArray::new()).into_iter();
                    *names = old.filter(|name| name.get_ref().as_str().is_some_and(is_wanted)).collect();
                }
                _ => {}
            }
        }
    }

    /// The manifest as it is run: with what the command line has changed, and without apps that are not run. Without
    /// changes it is the text of the file; with some, a text of the same meaning without its comments.
    #[must_use]
    pub fn merged(&self) -> String {
        if self.overrides.is_empty() {
            return self.manifest().to_owned();
        }
        let mut out = format!("# {} with what the command line has changed:\n", self.name.escape_debug());
        for line in self.overrides.explained() {
            out.push_str(&format!("#   {}\n", line.escape_debug()));
        }
        if let Some(mut tree) = self.tree(&mut self.report()) {
            self.prune(&mut tree);
            write_table(&Table::root(&tree), &mut out);
        }
        out
    }
}

/// A table: first what stands below its own header, then the tables in it. Every chain of tables ends.
fn write_table(table: &Table, out: &mut String) {
    let items = table.items();
    let is_tables = |value: &DeValue| {
        value
            .as_array()
            .is_some_and(|list| !list.is_empty() && list.iter().all(|each| each.get_ref().is_table()))
    };
    let (deep, flat): (Vec<_>, Vec<_>) =
        items.iter().partition(|item| item.value.is_table() || is_tables(item.value));
    for item in &flat {
        out.push_str(&format!("{} = {}\n", any_key(item.key), inline(item.value)));
    }
    let mut quiet = Report::new("", 0);
    for item in deep {
        match item.as_table() {
            Some(inner) => {
                // A table of tables needs no header of its own.
                if inner.items().is_empty() || inner.items().iter().any(|item| !item.value.is_table()) {
                    out.push_str(&format!("\n[{}]\n", item.path));
                }
                write_table(&inner, out);
            }
            None => {
                for inner in item.elements(&mut quiet).iter().filter_map(super::tree::Item::as_table) {
                    out.push_str(&format!("\n[[{}]]\n", item.path));
                    let entries = inner.items();
                    for entry in entries {
                        out.push_str(&format!("{} = {}\n", any_key(entry.key), inline(entry.value)));
                    }
                }
            }
        }
    }
}

fn inline(value: &DeValue) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(list) => {
            let elements: Vec<_> = list.iter().map(|each| inline(each.get_ref())).collect();
            format!("[{}]", elements.join(", "))
        }
        DeValue::Table(table) => {
            let entries = table
                .iter()
                .map(|(key, each)| format!("{} = {}", any_key(key.get_ref()), inline(each.get_ref())));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::overrides::Change;
    use super::super::render_source;
    use super::*;
    use crate::spec::{Grace, IdOrName};
    use crate::value::{Ceiling, CpuAmount};
    use podrun_abi::boot::ExitPolicy;

    const MANIFEST: &str = r#"version = 1
[pod]
name = "shop"
[pod.isolators]
memory-max = "1GiB"
[app.api]
rootfs = "/"
exec = ["/bin/api"]
depends-on = ["db"]
[app.api.env]
PORT = "80"
MODE = "test"
[app.db]
rootfs = "/"
exec = ["/bin/db"]
[app.job]
rootfs = "/"
exec = ["/bin/job"]
essential = false
"#;

    fn set(typed: &str) -> Change {
        Change::Set(typed.to_owned())
    }

    fn env(typed: &str) -> Change {
        Change::Env(typed.to_owned(), None)
    }

    fn source(changes: Vec<Change>) -> Source {
        Source::new("shop.toml", MANIFEST, Overrides { changes, ..Overrides::default() })
    }

    fn spec(changes: Vec<Change>) -> Spec {
        let source = source(changes);
        let read = source.read();
        read.spec.unwrap_or_else(|| panic!("{}", render_source(&source, &read.problems, false)))
    }

    #[test]
    fn values_take_the_type_of_their_key() {
        let spec = spec(vec![
            set("app.api.isolators.cpus=0.5"),
            set("app.api.isolators.memory-max=512MiB"),
            set("app.api.isolators.cpuset=0"),
            set("app.api.user=postgres"),
            set("app.db.user=999"),
            set("app.api.stop-timeout=3s"),
            set("app.api.essential=false"),
            set(r#"app.db.exec=["/bin/db", "-v"]"#),
            set("app.api.env.PORT=8080"),
            set(r#"pod.labels."a/b"=true"#),
            set("app.api.workdir=\"/srv\""),
        ]);
        let api = &spec.apps[0];
        assert_eq!(api.limits.cpus, Some(CpuAmount(500_000)));
        assert_eq!(api.limits.memory_max, Some(Ceiling::At(512 << 20)));
        assert_eq!(api.limits.cpuset.as_ref().map(ToString::to_string).as_deref(), Some("0"));
        assert_eq!(api.user, IdOrName::Name("postgres".into()));
        assert_eq!(spec.apps[1].user, IdOrName::Id(999));
        assert_eq!(api.stop_timeout, Grace::Limited(std::time::Duration::from_secs(3)));
        assert!(!api.essential);
        assert_eq!(spec.apps[1].exec, ["/bin/db", "-v"]);
        assert_eq!(api.env["PORT"], "8080");
        assert_eq!(spec.pod.labels["a/b"], "true");
        assert_eq!(api.workdir, "/srv");
    }

    fn isolator(app: Option<&str>, typed: &str) -> Change {
        Change::Isolator(app.map(str::to_owned), typed.to_owned())
    }

    #[test]
    fn isolators_are_set_and_taken_away_and_what_comes_of_it_means_the_same() {
        let changes = vec![
            isolator(None, "memory-max="),
            isolator(None, "cpuset-mems="),
            isolator(Some("api"), "memory-max=512MiB"),
            isolator(Some("api"), r#"io-max."/srv/a.b".rbps=1MiB"#),
            isolator(Some("db"), "cpuset=0-1"),
            isolator(Some("db"), "unified.\"memory.swap.high\"=4096"),
        ];
        let (spec, merged) = (spec(changes.clone()), source(changes).merged());
        let (pod, api, db) = (&spec.pod.limits, &spec.apps[0].limits, &spec.apps[1].limits);
        assert_eq!((pod.memory_max, api.memory_max), (None, Some(Ceiling::At(512 << 20))));
        assert_eq!(api.io_max[std::path::Path::new("/srv/a.b")].rbps, Some(Ceiling::At(1 << 20)));
        assert_eq!(db.cpuset.as_ref().map(ToString::to_string).as_deref(), Some("0-1"));
        assert_eq!(db.unified["memory.swap.high"], "4096");
        assert!(merged.contains("#   pod.isolators.memory-max=\n"), "{merged}");
        assert!(merged.contains("#   app.api.isolators.memory-max=512MiB\n"), "{merged}");
        assert_eq!(super::super::read(&merged).spec, Some(spec), "{merged}");
    }

    #[test]
    fn isolator_that_is_unknown_or_has_no_form_is_told_where_it_was_typed() {
        let table = [
            (
                Some("api"),
                "memory-mx=",
                "unknown key `memory-mx` in [app.api.isolators]; did you mean `memory-max`?",
            ),
            (None, "memory-max", "a change is KEY=VALUE"),
            (Some("api"), "memory-max.x=1", "memory-max"),
            (None, "memory-max=5", "memory-max (5) is less than 1MiB"),
        ];
        for (app, typed, words) in table {
            let source = source(vec![isolator(app, "cpus=1"), isolator(app, typed)]);
            let read = source.read();
            let told = render_source(&source, &read.problems, false);
            assert!(read.spec.is_none() && told.contains(words), "{told}");
            assert!(told.contains("command line:2:"), "{told}");
        }
    }

    #[test]
    fn a_later_change_wins_and_variables_win_over_files() {
        let file = Change::EnvFile(
            "prod.env".into(),
            Ok(vec![("PORT".into(), "1".into()), ("A".into(), "f".into())]),
        );
        let spec = spec(vec![
            set("app.api.env.PORT=0"),
            file,
            env("A=b=c"),
            env("db/ONLY="),
            Change::Env("HOME".into(), Some("/root".into())),
        ]);
        assert_eq!((spec.apps[0].env["PORT"].as_str(), spec.apps[0].env["MODE"].as_str()), ("1", "test"));
        assert!(spec.apps.iter().all(|app| app.env["A"] == "b=c" && app.env["HOME"] == "/root"));
        assert_eq!(spec.apps[1].env["ONLY"], "");
        assert!(!spec.apps[0].env.contains_key("ONLY"));
    }

    #[test]
    fn a_name_is_the_hostname_too() {
        let spec = spec(vec![Change::Name("shop-2".into())]);
        assert_eq!((spec.pod.name.as_str(), spec.pod.hostname.as_str()), ("shop-2", "shop-2"));
    }

    #[test]
    fn only_takes_what_is_depended_on_along() {
        let select = |only: &[&str], no_deps| {
            let only = only.iter().map(ToString::to_string).collect();
            let source =
                Source::new("shop.toml", MANIFEST, Overrides { only, no_deps, ..Overrides::default() });
            source.read().spec.unwrap()
        };
        let names = |spec: &Spec| spec.apps.iter().map(|app| app.name.clone()).collect::<Vec<_>>().join(" ");
        assert_eq!(names(&select(&["api"], false)), "api db");
        let alone = select(&["api"], true);
        assert_eq!((names(&alone).as_str(), alone.apps[0].depends_on.len()), ("api", 0));
        let job = select(&["job"], false);
        assert_eq!((names(&job).as_str(), job.pod.exit_policy), ("job", ExitPolicy::AllExited));
    }

    #[test]
    fn sockets_of_apps_that_are_not_run_are_left_out() {
        let sockets =
            ["api", "job"].map(|app| format!("[socket.{app}]\nlisten = \"/run/{app}\"\napp = \"{app}\"\n"));
        let overrides = Overrides { only: vec!["api".into()], ..Overrides::default() };
        let read = Source::new("shop.toml", &format!("{MANIFEST}{}", sockets.concat()), overrides).read();
        let spec = read.spec.unwrap_or_else(|| panic!("{:?}", read.problems));
        assert_eq!(spec.sockets.iter().map(|socket| socket.name.as_str()).collect::<Vec<_>>(), ["api"]);
    }

    #[test]
    fn the_record_of_some_apps_has_no_others() {
        for (no_deps, apps, depends_on) in [(false, 2, "depends-on = [\"db\"]"), (true, 1, "depends-on = []")]
        {
            let overrides = Overrides { only: vec!["api".into()], no_deps, ..Overrides::default() };
            let source = Source::new("shop.toml", MANIFEST, overrides);
            let (spec, merged) = (source.read().spec.unwrap(), source.merged());
            assert_eq!(spec.apps.len(), apps);
            assert!(merged.contains(depends_on) && !merged.contains("app.job"), "{merged}");
            assert_eq!(super::super::read(&merged).spec, Some(spec), "{merged}");
        }
    }

    #[test]
    fn problems_point_at_the_command_line() {
        let source = source(vec![
            set("pod.isolators.memory-high=2GiB"),
            set("app.api.isolators.cpus=fast"),
            set("app.wep.user=1"),
            set("app.api.exec.x=1"),
            set("nonsense"),
            env("8PORT=1"),
            env("UNSET"),
            Change::EnvFile("prod.env".into(), Err("prod.env:3: not `NAME=value`".into())),
            Change::Name("Shop".into()),
        ]);
        let read = source.read();
        assert_eq!(read.spec, None);
        let shown = render_source(&source, &read.problems, false);
        let expected = [
            " --> command line:1:33\n  |\n1 | --set pod.isolators.memory-high=2GiB\n",
            " ::: shop.toml:5:14\n",
            "cpus: \"fast\" is not a CPU amount\n --> command line:2:30\n",
            "there is no app `wep` in this manifest\n",
            "cannot set `app.api.exec.x`: `app.api.exec` is a list\n",
            "`--set` needs PATH=VALUE\n --> command line:5:7\n",
            "invalid variable name `8PORT`",
            "error[E0804]: there is no variable `UNSET` in podrun's own environment\n --> command line:7:4\n",
            "error[E0805]: prod.env:3: not `NAME=value`\n --> command line:8:12\n",
            "invalid pod name `Shop`",
        ];
        for text in expected {
            assert!(shown.contains(text), "{text}\nis not in\n{shown}");
        }
        assert_eq!(shown.matches("8PORT`").count(), 1, "once for all apps:\n{shown}");
    }

    #[test]
    fn what_was_merged_means_the_same() {
        let all = vec![
            set("app.api.isolators.cpus=0.5"),
            set("app.new-key=1"),
            set("pod.labels={ \"a/b\" = \"x\\\"\\n\" }"),
            env("A=ü \" \\ \n b"),
            Change::Name("shop-2".into()),
        ];
        let changes: Vec<_> = all.into_iter().filter(|change| *change != set("app.new-key=1")).collect();
        let source = source(changes);
        let merged = source.merged();
        let again = super::super::read(&merged);
        assert_eq!(again.spec, source.read().spec, "{merged}");
        assert!(again.spec.is_some() && merged.starts_with("# shop.toml with"), "{merged}");
        let plain = Source::new("shop.toml", MANIFEST, Overrides::default());
        assert_eq!(plain.merged(), MANIFEST);
    }

    #[test]
    fn a_key_of_the_command_line_does_not_spread_an_inline_table() {
        let table = "[app.api.env]\nPORT = \"80\"\nMODE = \"test\"\n";
        for (inline, is_told) in [
            ("env = { PORT = \"80\", MODE = \"test\" }\n", false),
            ("env = { PORT = \"80\",\n MODE = \"test\" }\n", true),
        ] {
            let changes = vec![set("app.api.env.PORT=81"), set("app.api.env.NEW=1")];
            let text = MANIFEST.replace(table, inline);
            assert_ne!(text, MANIFEST);
            let read = Source::new("shop.toml", &text, Overrides { changes, ..Overrides::default() }).read();
            let told: Vec<_> = read.problems.iter().map(|problem| problem.code).collect();
            assert_eq!(told.contains(&"W0003"), is_told, "{told:?}");
        }
    }

    #[test]
    fn a_key_of_the_command_line_is_found() {
        let source = source(vec![set("app.api.user=nobody")]);
        let span = source.locate("app.api.user").unwrap();
        assert_eq!(source.place(span.start), ("command line", 1, 20));
        assert_eq!(source.place(source.locate("app.db.rootfs").unwrap().start), ("shop.toml", 14, 10));
    }
}
