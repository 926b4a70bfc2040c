//! The graph of `depends-on`: every name is an app, no app waits for itself, and how long the ordered stop can
//! take. Nothing here recurses, so that no manifest can exhaust the stack.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use super::app::App;
use super::problem::Problem;
use super::rules;
use super::tree::Report;
use crate::spec::Grace;
use crate::value::nearest;

/// What the stop of the pod may take beyond its apps' own grace times.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// A longer cycle is cut short in its message.
const CYCLE_NAMES_MAX: usize = 16;

/// One app that another depends on.
pub(super) struct Edge {
    /// The app that is depended on.
    pub to: String,
    /// Where it is named.
    pub span: Range<usize>,
    /// It must be ready, not only started.
    pub until_ready: bool,
}

/// Checks the graph; the longest path of the stop graph plus a margin, when there is one.
pub(super) fn check(apps: &[App], report: &mut Report) -> Option<Grace> {
    let index: BTreeMap<&str, usize> =
        apps.iter().enumerate().map(|(at, app)| (app.spec.name.as_str(), at)).collect();
    let mut edges: Vec<Vec<(usize, &Edge)>> = Vec::new();
    for app in apps {
        let mut known = Vec::new();
        for edge in &app.edges {
            match index.get(edge.to.as_str()) {
                Some(to) => known.push((*to, edge)),
                // The search for the name that was meant looks at every app.
                None if report.is_full() => {}
                None => report.add(unknown_app(app, edge, apps)),
            }
        }
        edges.push(known);
    }
    match in_order(&edges) {
        Ok(order) => Some(longest_stop(apps, &edges, &order)),
        Err(cyclic) => {
            tell_cycles(apps, &edges, cyclic, report);
            None
        }
    }
}

/// Every app behind those that it depends on; or the apps that are on a cycle or behind one.
fn in_order(edges: &[Vec<(usize, &Edge)>]) -> Result<Vec<usize>, BTreeSet<usize>> {
    let mut waits_for: Vec<usize> = edges.iter().map(Vec::len).collect();
    let mut dependants = vec![Vec::new(); edges.len()];
    for (from, outgoing) in edges.iter().enumerate() {
        for (to, _) in outgoing {
            dependants[*to].push(from);
        }
    }
    let mut order: Vec<usize> = (0..edges.len()).filter(|app| waits_for[*app] == 0).collect();
    let mut next = 0;
    while let Some(app) = order.get(next).copied() {
        next += 1;
        for dependant in &dependants[app] {
            waits_for[*dependant] -= 1;
            if waits_for[*dependant] == 0 {
                order.push(*dependant);
            }
        }
    }
    if order.len() == edges.len() {
        return Ok(order);
    }
    Err((0..edges.len()).filter(|app| waits_for[*app] > 0).collect())
}

/// Tells each cycle that shares no app with one told before: a walk along the edges that forgets an app when
/// nothing but dead ends and told cycles is left behind it.
fn tell_cycles(apps: &[App], edges: &[Vec<(usize, &Edge)>], mut left: BTreeSet<usize>, report: &mut Report) {
    let mut place_on_walk: Vec<Option<usize>> = vec![None; apps.len()];
    let mut tried = vec![0; apps.len()];
    let mut walk: Vec<(usize, &Edge)> = Vec::new();
    let mut next = left.first().copied();
    while let Some(at) = next {
        let mut forgotten = vec![at];
        if let Some(begin) = place_on_walk[at] {
            let cycle = walk.split_off(begin);
            forgotten = cycle.iter().map(|(app, _)| *app).collect();
            report.add(cycle_problem(apps, &cycle));
        } else {
            while edges[at].get(tried[at]).is_some_and(|(to, _)| !left.contains(to)) {
                tried[at] += 1;
            }
            if let Some((to, edge)) = edges[at].get(tried[at]) {
                place_on_walk[at] = Some(walk.len());
                walk.push((at, edge));
                next = Some(*to);
                continue;
            }
        }
        for app in forgotten {
            left.remove(&app);
        }
        next = match walk.pop() {
            Some((before, _)) => {
                place_on_walk[before] = None;
                Some(before)
            }
            None => left.first().copied(),
        };
    }
}

fn cycle_problem(apps: &[App], cycle: &[(usize, &Edge)]) -> Problem {
    let name = |app: usize| apps[app].spec.name.as_str();
    let mut names: Vec<_> = cycle.iter().take(CYCLE_NAMES_MAX).map(|(app, _)| name(*app)).collect();
    if cycle.len() > CYCLE_NAMES_MAX {
        names.push("…");
    }
    names.extend(cycle.first().map(|(app, _)| name(*app)));
    let path = cycle.first().map(|(app, _)| format!("app.{}.depends-on", name(*app))).unwrap_or_default();
    let span = cycle.first().map(|(_, edge)| edge.span.clone()).unwrap_or_default();
    let problem =
        Problem::new(&rules::CYCLE, path, span, format!("dependency cycle: {}", names.join(" -> ")));
    cycle.iter().take(CYCLE_NAMES_MAX).fold(problem, |problem, (app, edge)| {
        problem.related(edge.span.clone(), format!("`{}` waits for `{}`", name(*app), edge.to))
    })
}

fn unknown_app(app: &App, edge: &Edge, apps: &[App]) -> Problem {
    let path = format!("app.{}.depends-on", app.spec.name);
    let message = format!("app `{}` depends on `{}`, which is not in this manifest", app.spec.name, edge.to);
    let problem = Problem::new(&rules::UNKNOWN_APP, path, edge.span.clone(), message);
    let others = apps.iter().map(|other| other.spec.name.as_str()).filter(|name| *name != app.spec.name);
    match nearest(&edge.to, others) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => match others_shown(app, apps) {
            Some(others) => problem.help(others),
            None => problem,
        },
    }
}

/// The names of the other apps, where they are few.
fn others_shown(app: &App, apps: &[App]) -> Option<String> {
    let others: Vec<&str> =
        apps.iter().map(|other| other.spec.name.as_str()).filter(|name| *name != app.spec.name).collect();
    (1..=8).contains(&others.len()).then(|| format!("the other apps are {}", others.join(", ")))
}

/// The stop goes against the edges, so the longest chain of grace times along them is what it can take.
fn longest_stop(apps: &[App], edges: &[Vec<(usize, &Edge)>], order: &[usize]) -> Grace {
    let mut chain = vec![Duration::ZERO; apps.len()];
    for app in order {
        let Grace::Limited(own) = apps[*app].spec.stop_timeout else { return Grace::Infinite };
        let before = edges[*app].iter().map(|(to, _)| chain[*to]).max().unwrap_or_default();
        chain[*app] = before.saturating_add(own);
    }
    Grace::Limited(chain.into_iter().max().unwrap_or_default().saturating_add(STOP_MARGIN))
}
