//! The tables `[app.NAME]`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use podrun_abi::boot::{RootMode, Success};
use toml::de::DeValue;

use super::devices::{self, Named};
use super::order::Edge;
use super::pod::{NUL, grace};
use super::problem::Problem;
use super::tree::{Item, Report, Table, ValueRules, type_words};
use super::{isolators, keys, known, log, rules};
use crate::spec::{AppSpec, Capabilities, Grace, IdOrName};
use crate::value::{capability, identity, nearest, place, rlimit, signal};

const PATH: ValueRules = ValueRules::both(rules::PATH);
const WORKDIR: ValueRules = ValueRules::new(rules::PATH, rules::WORKDIR);
const COMMAND: ValueRules = ValueRules::both(rules::COMMAND);
const IDENTITY: ValueRules = ValueRules::new(rules::IDENTITY_FORM, rules::IDENTITY_RANGE);
const CAPABILITY: ValueRules = ValueRules::both(rules::CAPABILITY);
const SIGNAL: ValueRules = ValueRules::both(rules::SIGNAL);
const RLIMIT: ValueRules = ValueRules::new(rules::RLIMIT_FORM, rules::RLIMIT_RANGE);
/// What an app can be waited for, and whether that works.
const CONDITIONS: [(&str, bool); 3] = [(STARTED, true), (READY, true), ("completed", false)];
const STARTED: &str = "started";
const READY: &str = "ready";
const STOP_TIMEOUT: Grace = Grace::Limited(Duration::from_secs(10));
const SIGTERM: i32 = 15;

/// One app, with what the checks between apps need of its places.
pub(super) struct App<'a> {
    /// As read.
    pub spec: AppSpec,
    /// Its dependencies.
    pub edges: Vec<Edge>,
    /// The place of `stop-timeout`.
    pub stop_timeout: Option<Range<usize>>,
    /// The devices that it may use.
    pub devices: Option<Named>,
    /// The table of its isolators.
    pub isolators: Option<Table<'a>>,
}

/// Reads all apps in the order of the text; tells when there is none.
pub(super) fn read<'a>(root: &Table<'a>, report: &mut Report) -> Vec<App<'a>> {
    let table = root.table("app");
    let items = table.as_ref().map(Table::items).unwrap_or_default();
    let told_elsewhere = table.is_none() && root.item("app").is_some();
    if items.is_empty() && !told_elsewhere {
        let span = table.map_or(report.end(), |table| table.span);
        report.add(
            Problem::new(
                &rules::NO_APPS,
                "app",
                span,
                "a pod needs at least one app, and there is no [app.NAME]",
            )
            .help("add [app.NAME] with rootfs = \"/\" and exec = [\"/bin/sh\", \"-c\", \"echo hello\"]"),
        );
    }
    let mut apps = Vec::new();
    for item in items {
        if !report.is_full() {
            apps.extend(read_one(&item, report));
        }
    }
    apps
}

fn read_one<'a>(item: &Item<'a>, report: &mut Report) -> Option<App<'a>> {
    let table = item.as_table()?;
    check_name(item, report);
    if known::dotted_app(&table).is_some() {
        return None;
    }
    let stop = table.item("stop-timeout");
    let edges = table.item("depends-on").map(|item| depends_on(&item, report)).unwrap_or_default();
    let devices = table.item("devices").map(|item| devices::read(&item, report));
    let spec = AppSpec {
        name: item.key.to_owned(),
        devices: devices.as_ref().map(|devices| devices.specs.clone()),
        stop_timeout: stop.as_ref().and_then(|item| grace(item, report)).unwrap_or(STOP_TIMEOUT),
        depends_on: names(edges.iter()),
        needs_ready: names(edges.iter().filter(|edge| edge.until_ready)),
        ready_notify: ready_notify(&table, report),
        limits: isolators::read(&table, report),
        log: log::read(&table, report),
        ..read_process(&table, report)
    };
    let (stop_timeout, isolators) = (stop.map(|item| item.span), table.table("isolators"));
    Some(App { spec, edges, stop_timeout, devices, isolators })
}

/// What belongs to the process itself; name, life cycle in time and limits are placeholders.
fn read_process(table: &Table, report: &mut Report) -> AppSpec {
    let item = |key: &str| table.item(key);
    AppSpec {
        name: String::new(),
        rootfs: rootfs(table, report),
        rootfs_mode: item("rootfs-mode").and_then(|i| rootfs_mode(&i, report)).unwrap_or(RootMode::Overlay),
        exec: table.required("exec", report).map(|i| exec(&i, report)).unwrap_or_default(),
        env: item("env").map(|i| env(&i, report)).unwrap_or_default(),
        env_files: item("env-file").map(|i| env_files(&i, report)).unwrap_or_default(),
        workdir: item("workdir")
            .and_then(|i| i.parsed(report, WORKDIR, place::workdir))
            .unwrap_or("/")
            .to_owned(),
        user: item("user").and_then(|i| id_or_name(&i, report)).unwrap_or(IdOrName::Id(0)),
        group: item("group").and_then(|i| id_or_name(&i, report)),
        groups: item("groups").map(|i| groups(&i, report)).unwrap_or_default(),
        capabilities: item("capabilities")
            .and_then(|i| capabilities(&i, report))
            .unwrap_or(Capabilities::Default),
        no_new_privileges: item("no-new-privileges").and_then(|i| i.boolean(report)).unwrap_or(true),
        oom_score_adjust: item("oom-score-adjust").and_then(|i| oom_score(&i, report)).unwrap_or(0),
        rlimits: item("rlimits").map(|i| rlimits(&i, report)).unwrap_or_default(),
        stop_signal: item("stop-signal")
            .and_then(|i| i.parsed(report, SIGNAL, signal::parse_stop))
            .unwrap_or(SIGTERM),
        stop_timeout: STOP_TIMEOUT,
        essential: item("essential").and_then(|i| i.boolean(report)).unwrap_or(true),
        success: item("success-codes").map_or_else(|| vec![Success::Code(0)], |i| success(&i, report)),
        depends_on: Vec::new(),
        needs_ready: Vec::new(),
        ready_notify: false,
        devices: None,
        limits: crate::spec::Limits::default(),
        log: crate::spec::LogSpec::default(),
    }
}

fn check_name(item: &Item, report: &mut Report) {
    let well = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !(1..=32).contains(&item.key.len()) || !item.key.bytes().all(well) {
        let message =
            format!("invalid app name `{}`: use 1 to 32 lower-case letters, digits and `-`", item.key);
        let lower = item.key.to_ascii_lowercase();
        let better: String =
            lower.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(32).collect();
        let problem = Problem::new(&rules::APP_NAME, &item.path, item.key_span.clone(), message);
        report.add(match better.trim_matches('-') {
            "" => problem,
            better => problem.help(format!("for example [app.{better}]")),
        });
    }
}

fn rootfs(table: &Table, report: &mut Report) -> PathBuf {
    // Where an image is named instead, that key is refused already.
    if table.item("rootfs").is_none() && table.item("image").is_some() {
        return PathBuf::new();
    }
    let path = table.required("rootfs", report).and_then(|item| item.parsed(report, PATH, place::absolute));
    path.map(PathBuf::from).unwrap_or_default()
}

fn rootfs_mode(item: &Item, report: &mut Report) -> Option<RootMode> {
    item.choice(
        report,
        &[
            ("overlay", RootMode::Overlay),
            ("read-only", RootMode::ReadOnly),
            ("writable", RootMode::Writable),
        ],
    )
}

pub(super) fn exec(item: &Item, report: &mut Report) -> Vec<String> {
    let elements = item.elements(report);
    if elements.is_empty() && item.value.is_array() {
        let message = format!("{} is an empty list: there is nothing to execute", item.key);
        report.add(item.problem(&rules::EMPTY_LIST, message));
    }
    let mut words = Vec::new();
    for (index, element) in elements.iter().enumerate() {
        let word = if index == 0 {
            element.parsed(report, COMMAND, place::command)
        } else {
            element.parsed(report, NUL, place::no_nul)
        };
        words.extend(word.map(str::to_owned));
    }
    words
}

fn env(item: &Item, report: &mut Report) -> BTreeMap<String, String> {
    let Some(table) = item.as_table() else {
        item.wrong_type(report);
        return BTreeMap::new();
    };
    let app = item.path.parts().get(1).copied().unwrap_or_default().to_owned();
    let app_keys = keys::keys_in(&["app", &app]);
    let mut env = BTreeMap::new();
    for variable in table.items() {
        let slipped = app_keys.contains(&variable.key);
        if let Some(problem) = variable_problem(&variable, item, slipped, report) {
            report.add(problem);
        }
        if let Some(value) = variable.value.as_str() {
            let value = variable.accept(report, NUL, place::no_nul(value)).unwrap_or_default();
            env.insert(variable.key.to_owned(), value.to_owned());
        }
    }
    env
}

/// What is wrong with a variable; `slipped`: an app's key has the same name.
fn variable_problem(variable: &Item, env: &Item, slipped: bool, report: &Report) -> Option<Problem> {
    let at_key = |rule, message| Problem::new(rule, &variable.path, variable.key_span.clone(), message);
    let problem = if !place::is_variable(variable.key) {
        let message = format!("invalid variable name `{}`: use letters, digits and `_`", variable.key);
        at_key(&rules::ENV_NAME, message)
    } else if !variable.value.is_str() {
        not_a_string(variable, report)
    } else if slipped {
        at_key(&rules::ENV_SLIPPED, format!("\"{}\" in [{}] is also an app key", variable.key, env.path))
    } else {
        return None;
    };
    if !slipped {
        return Some(problem);
    }
    let key = variable.key;
    let hint =
        format!("`{key}` is a key of the app: did it slip under the env table? Put it above [{}]", env.path);
    Some(problem.help(hint))
}

fn not_a_string(variable: &Item, report: &Report) -> Problem {
    let text = report.text.get(variable.span.clone()).unwrap_or_default();
    match variable.value {
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            let message = format!("env values are strings: {} = \"{text}\"", variable.key);
            variable.problem(&rules::ENV_VALUE, message)
        }
        other => {
            let message = format!("env values are strings; {} is {}", variable.key, type_words(other));
            variable.problem(&rules::ENV_VALUE, message)
        }
    }
}

fn env_files(item: &Item, report: &mut Report) -> Vec<PathBuf> {
    let elements = item.elements(report);
    elements.iter().filter_map(|file| file.parsed(report, PATH, place::absolute)).map(PathBuf::from).collect()
}

pub(super) fn id_or_name(item: &Item, report: &mut Report) -> Option<IdOrName> {
    match item.as_integer() {
        Some(number) => {
            let result = u128::try_from(number)
                .map_or_else(|_| identity::parse(&number.to_string()), identity::from_number);
            item.accept(report, IDENTITY, result)
        }
        None => item.parsed(report, IDENTITY, identity::parse),
    }
}

fn groups(item: &Item, report: &mut Report) -> Vec<IdOrName> {
    let elements = item.elements(report);
    elements.iter().filter_map(|group| id_or_name(group, report)).collect()
}

fn capabilities(item: &Item, report: &mut Report) -> Option<Capabilities> {
    if item.value.is_str() {
        return item.parsed(report, CAPABILITY, capability::parse_set);
    }
    let elements = item.elements(report);
    let numbers = elements.iter().filter_map(|name| name.parsed(report, CAPABILITY, capability::parse));
    Some(Capabilities::Exactly(numbers.fold(0, |set, number| set | 1 << number)))
}

fn oom_score(item: &Item, report: &mut Report) -> Option<i32> {
    let number = item.integer(report)?;
    let score = i32::try_from(number).ok().filter(|score| (-1000..=1000).contains(score));
    if score.is_none() {
        let message = format!("oom-score-adjust is {number}; the range is -1000 to 1000");
        report.add(item.problem(&rules::OOM_SCORE, message));
    }
    score
}

fn rlimits(item: &Item, report: &mut Report) -> BTreeMap<u32, (u64, u64)> {
    let Some(table) = item.as_table() else {
        item.wrong_type(report);
        return BTreeMap::new();
    };
    let mut limits = BTreeMap::new();
    for limit in table.items() {
        let named = Item { span: limit.key_span.clone(), ..limit.clone() };
        let resource =
            named.accept(report, ValueRules::both(rules::RLIMIT_NAME), rlimit::resource(limit.key));
        let value = match (limit.as_integer(), limit.value.as_str()) {
            (Some(number), _) => limit.accept(report, RLIMIT, rlimit::parse(&number.to_string())),
            (_, Some(text)) => limit.accept(report, RLIMIT, rlimit::parse(text)),
            _ => {
                let message = format!(
                    "rlimit {} is an integer or a string, not {}",
                    limit.key,
                    type_words(limit.value)
                );
                report.add(limit.problem(&rules::WRONG_TYPE, message));
                None
            }
        };
        limits.extend(resource.zip(value));
    }
    limits
}

fn success(item: &Item, report: &mut Report) -> Vec<Success> {
    let elements = item.elements(report);
    if elements.is_empty() && item.value.is_array() {
        let problem =
            item.problem(&rules::EMPTY_LIST, "success-codes is an empty list: every end would be a failure");
        report.add(problem.help("leave it out for the code 0 alone"));
    }
    let mut ends = Vec::new();
    for element in &elements {
        match element.as_integer() {
            Some(number) => match u8::try_from(number) {
                Ok(code) => ends.push(Success::Code(code)),
                Err(_) => {
                    let message = format!("{number} is not an exit code; the range is 0 to 255");
                    report.add(element.problem(&rules::SUCCESS_CODE, message));
                }
            },
            None => ends.extend(element.parsed(report, SIGNAL, signal::parse).map(Success::Signal)),
        }
    }
    ends
}

/// A list of names, or a table from names to what must have happened.
fn depends_on(item: &Item, report: &mut Report) -> Vec<Edge> {
    if let Some(table) = item.as_table() {
        let conditions = table.items();
        for condition in &conditions {
            check_condition(condition, report);
        }
        return conditions.into_iter().map(Edge::from_condition).collect();
    }
    let elements = item.elements(report);
    let edge = |element: &Item, report: &mut Report| {
        let to = element.text(report)?.to_owned();
        Some(Edge { to, span: element.span.clone(), until_ready: false })
    };
    elements.iter().filter_map(|element| edge(element, report)).collect()
}

fn check_condition(condition: &Item, report: &mut Report) {
    if let Some(table) = condition.as_table() {
        let message = format!("a table for `{}` in depends-on is not supported yet", condition.key);
        report.add(condition.problem(&rules::NOT_SUPPORTED, message).help("write \"started\""));
        check_condition_table(&table, report);
        return;
    }
    let word = condition.choice_of("condition", report, &CONDITIONS);
    if word == Some(false) {
        let text = condition.value.as_str().unwrap_or_default();
        let message =
            format!("the condition \"{text}\" of `{}` in depends-on is not supported yet", condition.key);
        report.add(condition.problem(&rules::NOT_SUPPORTED, message).help("\"started\" and \"ready\" are"));
    }
}

/// `{ when = "ready", restart = true }`, which does not work yet. Its keys are not in the table of keys: they stand
/// below a name of the author's.
fn check_condition_table(table: &Table, report: &mut Report) {
    for item in table.items() {
        match item.key {
            "when" if item.value.is_str() => {
                item.choice_of("condition", report, &CONDITIONS);
            }
            "when" => {
                let message = format!("when is a string, not {}", type_words(item.value));
                report.add(item.problem(&rules::WRONG_TYPE, message).help("for example: when = \"started\""));
            }
            "restart" if item.value.as_bool().is_some() => {}
            "restart" => {
                let message = format!("restart is a boolean, not {}", type_words(item.value));
                report.add(item.problem(&rules::WRONG_TYPE, message).help("for example: restart = true"));
            }
            key => {
                let mut message = format!("unknown key `{key}` in [{}]", table.path);
                let near = nearest(key, ["when", "restart"]);
                if let Some(near) = near {
                    message.push_str(&format!("; did you mean `{near}`?"));
                }
                let problem = Problem::new(&rules::UNKNOWN_KEY, &item.path, item.key_span.clone(), message);
                report.add(match near {
                    Some(_) => problem,
                    None => problem.help(format!("the keys in [{}] are when, restart", table.path)),
                });
            }
        }
    }
}

impl Edge {
    fn from_condition(condition: Item) -> Self {
        let until_ready = condition.value.as_str() == Some(READY);
        Self { to: condition.key.to_owned(), span: condition.key_span, until_ready }
    }
}

/// Whether the app says by itself that it is ready.
fn ready_notify(app: &Table, report: &mut Report) -> bool {
    let item = app.table("ready").and_then(|ready| ready.item("notify"));
    item.and_then(|item| item.boolean(report)).unwrap_or(false)
}

/// The names, each once, in the order in which they were given.
fn names<'a>(edges: impl Iterator<Item = &'a Edge>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    edges.filter(|edge| seen.insert(&edge.to)).map(|edge| edge.to.clone()).collect()
}
