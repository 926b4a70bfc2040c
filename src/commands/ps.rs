//! `podrun ps`.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use crate::cli::pods::Filter;
use crate::cli::{ListFormat, PsArgs};
use crate::output::table::Table;
use crate::output::{json_line, span, terminal_width, write_stdout};
use crate::pod::Pod;
use crate::pod::record::now_ms;
use crate::pod::root::Root;
use crate::pod::status::json::{AppJson, PodJson, SCHEMA, phase_word};
use crate::pod::status::{AppStatus, Status};

#[derive(Serialize)]
struct PodsJson {
    schema: u32,
    pods: Vec<PodJson>,
}

#[derive(Serialize)]
struct AppsJson<'a> {
    schema: u32,
    apps: Vec<AppOfPodJson<'a>>,
}

#[derive(Serialize)]
struct AppOfPodJson<'a> {
    pod: &'a str,
    pod_id: &'a str,
    #[serde(flatten)]
    app: AppJson,
}

/// A pod and what is known of it.
struct Row {
    pod: Pod,
    status: Status,
    labels: BTreeMap<String, String>,
}

impl Row {
    fn json(&self) -> PodJson {
        PodJson { labels: self.labels.clone(), ..self.status.to_json(self.pod.identity()) }
    }

    fn apps(&self) -> impl Iterator<Item = (&Self, &AppStatus)> {
        self.status.apps.iter().map(move |app| (self, app))
    }
}

/// Lists pods, the oldest first.
///
/// # Errors
/// When the root cannot be read, or standard output cannot be written.
pub fn run(root: &Root, args: &PsArgs) -> Result<u8> {
    // Whoever asks for a state means the pods that are in it, whether they live or not.
    let asks_for_state = args.filter.iter().any(|filter| matches!(filter, Filter::State(_)));
    let all = args.all || asks_for_state;
    let pods = root.list()?.into_iter().filter(|pod| all || pod.is_alive());
    let rows: Vec<Row> = pods.map(row).filter(|row| passes(row, &args.filter)).collect();
    let text = if args.apps { apps_text(&rows, args)? } else { pods_text(&rows, args)? };
    write_stdout(&text)?;
    Ok(0)
}

fn row(pod: Pod) -> Row {
    let labels = pod.plan().map(|plan| plan.labels).unwrap_or_default();
    Row { status: pod.status(), labels, pod }
}

/// One of each kind that is asked for.
fn passes(row: &Row, filters: &[Filter]) -> bool {
    let holds = |filter: &Filter| match filter {
        Filter::Id(start) => row.pod.id().as_str().starts_with(start.as_str()),
        Filter::Name(start) => row.pod.name().starts_with(start.as_str()),
        Filter::State(state) => phase_word(&row.status.phase) == state,
        Filter::Label(name, value) => {
            row.labels.get(name).is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        }
    };
    filters.iter().all(|filter| {
        let same_kind = |other: &&Filter| std::mem::discriminant(*other) == std::mem::discriminant(filter);
        filters.iter().filter(same_kind).any(holds)
    })
}

fn pods_text(rows: &[Row], args: &PsArgs) -> Result<String> {
    if args.quiet {
        return Ok(rows.iter().map(|row| format!("{}\n", row.pod.id())).collect());
    }
    match args.output {
        ListFormat::Table => Ok(headed(pods_table(rows, now_ms()), args).render()),
        ListFormat::Json => {
            json_line(&PodsJson { schema: SCHEMA, pods: rows.iter().map(Row::json).collect() })
        }
        ListFormat::Jsonl => lines(rows.iter().map(Row::json)),
    }
}

fn apps_text(rows: &[Row], args: &PsArgs) -> Result<String> {
    if args.quiet {
        let address = |(row, app): (&Row, &AppStatus)| format!("{}/{}\n", row.pod.id(), app.name);
        return Ok(rows.iter().flat_map(Row::apps).map(address).collect());
    }
    let json = rows.iter().flat_map(Row::apps).map(|(row, app)| AppOfPodJson {
        pod: row.pod.name(),
        pod_id: row.pod.id().as_str(),
        app: app.to_json(),
    });
    match args.output {
        ListFormat::Table => Ok(headed(apps_table(rows, now_ms()), args).render()),
        ListFormat::Json => json_line(&AppsJson { schema: SCHEMA, apps: json.collect() }),
        ListFormat::Jsonl => lines(json),
    }
}

fn headed(table: Table, args: &PsArgs) -> Table {
    let table = if args.no_trunc { table } else { table.fit(terminal_width()) };
    if args.no_heading { table.without_headings() } else { table }
}

fn lines<T: Serialize>(items: impl Iterator<Item = T>) -> Result<String> {
    let lines: Result<Vec<String>> = items.map(|item| json_line(&item)).collect();
    Ok(lines?.concat())
}

fn pods_table(rows: &[Row], now_ms: u64) -> Table {
    let mut table = Table::new(&["POD", "ID", "APPS", "AGE", "STATUS"]).cut(&["POD"]);
    for Row { pod, status, .. } in rows {
        let age = pod.created_ms().map_or("?".into(), |created| span(now_ms.saturating_sub(created)));
        table.row(vec![
            pod.name().to_owned(),
            pod.id().to_string(),
            format!("{}/{}", status.running(), status.apps.len()),
            age,
            status.words(),
        ]);
    }
    table
}

fn apps_table(rows: &[Row], now_ms: u64) -> Table {
    let mut table = Table::new(&["POD", "APP", "PID", "TIME", "STATUS"]).cut(&["POD", "APP"]);
    for (row, app) in rows.iter().flat_map(Row::apps) {
        let json = app.to_json();
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.row(vec![
            row.pod.name().to_owned(),
            app.name.clone(),
            or_dash(json.pid.map(|pid| pid.to_string())),
            or_dash(app.time_ms(now_ms).map(span)),
            json.status,
        ]);
    }
    table
}
