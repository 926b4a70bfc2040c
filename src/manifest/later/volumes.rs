//! `[volume.NAME]` and `[[app.NAME.mount]]`.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::problem::Problem;
use super::super::rules;
use super::super::tree::{Item, Report, Table, ValueRules};
use super::app_tables;
use crate::spec::IdOrName;
use crate::value::{Refusal, identity, nearest, quoted};

const OWNER: ValueRules = ValueRules::both(rules::OWNER);

pub(super) fn check(root: &Table, report: &mut Report) {
    let volumes = root.table("volume").map(|table| table.items()).unwrap_or_default();
    let names: Vec<&str> = volumes.iter().map(|item| item.key).collect();
    let mut used = BTreeSet::new();
    for (_, app) in app_tables(root) {
        let mounts = app.item("mount").filter(|item| item.value.is_array());
        let mounts: Vec<Table> = mounts
            .map(|item| item.elements(report).iter().filter_map(Item::as_table).collect())
            .unwrap_or_default();
        for mount in &mounts {
            used.extend(check_mount(mount, &names, report));
        }
        check_targets(&mounts, report);
    }
    for item in &volumes {
        if let Some(table) = item.as_table() {
            check_volume(item, &table, report);
        }
        if !used.contains(item.key) {
            let message = format!("volume `{}` is not mounted by any app", item.key);
            report.add(Problem::new(&rules::VOLUME_UNUSED, &item.path, item.key_span.clone(), message));
        }
    }
}

fn check_volume(item: &Item, table: &Table, report: &mut Report) {
    let kind = table.item("kind");
    let word = kind.as_ref().map_or(Some("dir"), |kind| kind.value.as_str());
    match (word, table.item("path")) {
        (Some("dir"), None) => {
            let message = format!("volume `{}` has kind dir but no path", item.key);
            let problem = Problem::new(&rules::VOLUME_PATH, &item.path, item.key_span.clone(), message);
            report.add(problem.help("add path = \"/srv/…\", or kind = \"tmpfs\" or \"empty\""));
        }
        (Some(word @ ("tmpfs" | "empty")), Some(path)) => {
            let message = format!("volume `{}` has kind {word} and a path", item.key);
            let problem = path.problem(&rules::VOLUME_PATH, message);
            report.add(match kind {
                Some(kind) => problem.related(kind.span, "its kind"),
                None => problem,
            });
        }
        _ => {}
    }
    if let Some(item) = table.item("owner").filter(|item| item.value.is_str()) {
        owner(&item, report);
    }
}

/// `uid:gid`, by number or name.
pub(in super::super) fn owner(item: &Item, report: &mut Report) -> Option<(IdOrName, IdOrName)> {
    item.parsed(report, OWNER, |text| match text.split_once(':') {
        Some((user, group)) => Ok((identity::parse(user)?, identity::parse(group)?)),
        None => Err(Refusal::form(format!("{} is not an owner", quoted(text)))
            .help(format!("write user and group: \"{text}:{text}\""))),
    })
}

/// The volume that the mount names.
fn check_mount<'a>(mount: &Table<'a>, volumes: &[&str], report: &mut Report) -> Option<&'a str> {
    let (source, volume) = (mount.item("source"), mount.item("volume"));
    let at_table =
        |message: &str| Problem::new(&rules::MOUNT_SOURCE, &mount.path, mount.span.clone(), message);
    match (&source, &volume) {
        (Some(source), Some(volume)) => report.add(
            Problem::new(
                &rules::MOUNT_SOURCE,
                &mount.path,
                volume.key_span.clone(),
                "mount needs exactly one of source and volume",
            )
            .related(source.key_span.clone(), "the other one"),
        ),
        (None, None) => report.add(
            at_table("mount needs exactly one of source and volume")
                .help("add source = \"/a/path/of/the/host\", or volume = \"NAME\""),
        ),
        _ => {}
    }
    mount.required("target", report);
    let volume = volume?;
    let name = volume.value.as_str()?;
    if !volumes.contains(&name) {
        let message = format!("there is no volume `{name}`");
        let problem = volume.problem(&rules::UNKNOWN_VOLUME, message);
        report.add(match nearest(name, volumes.iter().copied()) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem.help(format!("add [volume.{name}]")),
        });
    }
    Some(name)
}

/// Mounts of one app are made in their order: a later one hides what is below its target.
fn check_targets(mounts: &[Table], report: &mut Report) {
    let targets: Vec<(Item, &Path)> = mounts
        .iter()
        .filter_map(|mount| mount.item("target"))
        .filter_map(|item| item.value.as_str().map(|text| (item.clone(), Path::new(text))))
        .collect();
    for (at, (item, target)) in targets.iter().enumerate() {
        let earlier = targets[..at].iter().find(|(_, earlier)| earlier.starts_with(target));
        let Some((first, inner)) = earlier else { continue };
        if inner == target {
            let message = format!("the target {} is given twice", target.display());
            report.add(
                item.problem(&rules::TARGET_TWICE, message).related(first.span.clone(), "first given here"),
            );
        } else {
            let message = format!("this mount hides the one at {}", inner.display());
            let problem = item.problem(&rules::TARGET_HIDDEN, message);
            report.add(problem.related(first.span.clone(), "hidden").help("put the outer mount first"));
        }
    }
}
