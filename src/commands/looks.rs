//! Looks at the groups of pods and apps, for `stats` and `top`: what they use at one moment, and what moved between two.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::Result;

use super::{addresses, check_app, not_running, usage};
use crate::cgroup::limits::app_group;
use crate::cgroup::stats::{self, Counters};
use crate::pod::root::Root;
use crate::pod::status::AppState;
use crate::pod::status::json::UsageJson;
use crate::pod::{Address, Pod};

/// What was typed.
pub struct Asked<'a> {
    /// None: all that run.
    pub pods: &'a [Address],
    /// Their apps.
    pub apps: &'a [String],
    /// The apps of pods that were not named.
    pub with_apps: bool,
}

/// What is looked at: a pod, and which of its apps.
pub struct Subject {
    pub pod: Pod,
    pub apps: Apps,
}

/// Which lines a pod has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Apps {
    /// Its own alone.
    None,
    /// Its own and that of each app that runs.
    All,
    /// Those of these apps alone.
    Some(Vec<String>),
}

impl Apps {
    /// Both, and each line once.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, apps) | (apps, Self::None) => apps,
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::Some(mut apps), Self::Some(more)) => {
                for app in more {
                    if !apps.contains(&app) {
                        apps.push(app);
                    }
                }
                Self::Some(apps)
            }
        }
    }
}

/// One group, at one moment.
pub struct Look {
    pub pod: String,
    pub id: String,
    pub app: Option<String>,
    pub at: Instant,
    pub usage: UsageJson,
    pub counters: Counters,
}

/// Two looks at one group.
pub struct Line {
    pub look: Look,
    /// Time between the looks, CPU time used in it, and time held up; of the first look there is none.
    pub span_ns: Option<u64>,
    pub cpu_ns: Option<u64>,
    pub throttled_ns: Option<u64>,
}

/// Those that are named, or all that run; with why one that is named is not among them.
pub fn subjects(root: &Root, asked: &Asked<'_>) -> Result<(Vec<Subject>, Option<anyhow::Error>)> {
    if asked.pods.is_empty() {
        let apps = if asked.with_apps { Apps::All } else { Apps::None };
        let living = root.list()?.into_iter().filter(Pod::is_alive);
        return Ok((living.map(|pod| Subject { pod, apps: apps.clone() }).collect(), None));
    }
    let mut subjects = Vec::new();
    let mut failure = None;
    for address in addresses(asked.pods, asked.apps)? {
        match subject(root, &address.pod, address.app) {
            Ok(subject) => merge(&mut subjects, subject),
            Err(error) => failure = Some(error),
        }
    }
    Ok((subjects, failure))
}

/// A pod that is named more than once has its place at its first name.
fn merge(subjects: &mut Vec<Subject>, subject: Subject) {
    match subjects.iter_mut().find(|known| known.pod.id() == subject.pod.id()) {
        Some(known) => known.apps = std::mem::replace(&mut known.apps, Apps::None).and(subject.apps),
        None => subjects.push(subject),
    }
}

fn subject(root: &Root, word: &str, app: Option<String>) -> Result<Subject> {
    let pod = root.find(word)?;
    if !pod.is_alive() {
        return not_running(&pod)
            .map_err(|error: anyhow::Error| error.context(format!("cannot look at pod `{word}`")));
    }
    let Some(app) = app else { return Ok(Subject { pod, apps: Apps::All }) };
    check_app(&pod.status(), &app).map_err(|error| error.context(format!("cannot look at pod `{word}`")))?;
    Ok(Subject { pod, apps: Apps::Some(vec![app]) })
}

/// One look at each group.
pub fn looks(subjects: &[Subject]) -> Vec<Look> {
    subjects.iter().flat_map(looks_at).collect()
}

fn looks_at(Subject { pod, apps }: &Subject) -> Vec<Look> {
    let Ok(plan) = pod.plan() else { return Vec::new() };
    let look = |app: Option<String>| {
        let group = app.as_deref().map(app_group).unwrap_or_default();
        Look {
            pod: pod.name().to_owned(),
            id: pod.id().to_string(),
            usage: usage::read(&plan.cgroup, app.as_deref()),
            counters: stats::counters(&plan.cgroup, &group),
            at: Instant::now(),
            app,
        }
    };
    let runs = |state: &AppState| matches!(state, AppState::Running { .. } | AppState::Stopping { .. });
    let running = || pod.status().apps.into_iter().filter(|app| runs(&app.state)).map(|app| Some(app.name));
    match apps {
        Apps::None => vec![look(None)],
        Apps::All => std::iter::once(None).chain(running()).map(look).collect(),
        Apps::Some(apps) => apps.iter().map(|app| look(Some(app.clone()))).collect(),
    }
}

/// What moved since the last looks.
pub fn lines(now: Vec<Look>, last: &[Look]) -> Vec<Line> {
    let before: HashMap<(&str, Option<&str>), &Look> =
        last.iter().map(|look| ((look.id.as_str(), look.app.as_deref()), look)).collect();
    let line = |look: Look| {
        let old = before.get(&(look.id.as_str(), look.app.as_deref()));
        let moved = |new: Option<u64>, old: Option<u64>| new?.checked_sub(old?);
        let span = old.map(|old| look.at.saturating_duration_since(old.at));
        Line {
            span_ns: span.and_then(|span| u64::try_from(span.as_nanos()).ok()),
            cpu_ns: old.and_then(|old| moved(look.usage.cpu_used_ns, old.usage.cpu_used_ns)),
            throttled_ns: old.and_then(|old| moved(look.counters.throttled_ns, old.counters.throttled_ns)),
            look,
        }
    };
    now.into_iter().map(line).collect()
}

impl Line {
    /// Percent of the time between the looks.
    #[allow(clippy::cast_precision_loss, reason = "a share, of which a few digits are shown")]
    pub fn percent(&self, part_ns: Option<u64>) -> Option<f64> {
        let span = self.span_ns.filter(|span| *span > 0)?;
        Some(part_ns? as f64 * 100.0 / span as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_twice_is_looked_at_once() {
        let some = |apps: &[&str]| Apps::Some(apps.iter().map(|app| (*app).to_owned()).collect());
        for (one, other, both) in [
            (Apps::All, some(&["a"]), Apps::All),
            (some(&["a"]), Apps::All, Apps::All),
            (Apps::All, Apps::All, Apps::All),
            (some(&["b"]), some(&["a"]), some(&["b", "a"])),
            (some(&["a", "b"]), some(&["b", "a"]), some(&["a", "b"])),
            (Apps::None, some(&["a"]), some(&["a"])),
        ] {
            assert_eq!(one.clone().and(other.clone()), both, "{one:?} {other:?}");
        }
    }
}
