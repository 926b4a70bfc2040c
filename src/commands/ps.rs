//! `podrun ps`.

use anyhow::Result;
use serde::Serialize;

use crate::cli::{ListFormat, PsArgs};
use crate::output::table::Table;
use crate::output::{span, write_json, write_stdout};
use crate::pod::Pod;
use crate::pod::record::now_ms;
use crate::pod::root::Root;
use crate::pod::status::json::{PodJson, SCHEMA};

#[derive(Serialize)]
struct PodsJson {
    schema: u32,
    pods: Vec<PodJson>,
}

/// Lists pods, the oldest first.
///
/// # Errors
/// When the root cannot be read, or standard output cannot be written.
pub fn run(root: &Root, args: &PsArgs) -> Result<u8> {
    let pods: Vec<Pod> = root.list()?.into_iter().filter(|pod| args.all || pod.is_alive()).collect();
    if args.quiet {
        let ids: String = pods.iter().map(|pod| format!("{}\n", pod.id())).collect();
        write_stdout(&ids)?;
        return Ok(0);
    }
    let json = || pods.iter().map(|pod| pod.status().to_json(pod.identity()));
    match args.output {
        ListFormat::Table => write_stdout(&table(&pods, args.no_heading, now_ms()).render())?,
        ListFormat::Json => write_json(&PodsJson { schema: SCHEMA, pods: json().collect() })?,
        ListFormat::Jsonl => {
            let lines: Result<Vec<String>, _> = json().map(|pod| serde_json::to_string(&pod)).collect();
            write_stdout(&lines?.into_iter().map(|line| line + "\n").collect::<String>())?;
        }
    }
    Ok(0)
}

fn table(pods: &[Pod], no_heading: bool, now_ms: u64) -> Table {
    let table = Table::new(&["POD", "ID", "APPS", "AGE", "STATUS"]);
    let mut table = if no_heading { table.without_headings() } else { table };
    for pod in pods {
        let status = pod.status();
        let age = pod.created_ms().map_or("?".into(), |created| span(now_ms.saturating_sub(created)));
        table.row(vec![
            pod.name().to_owned(),
            pod.id().to_string(),
            format!("{}/{}", status.running(), status.apps.len()),
            age,
            status.phase.words(),
        ]);
    }
    table
}
