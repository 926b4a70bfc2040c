//! The order in which apps are started: each behind those it depends on, else as in the manifest.

use crate::spec::AppSpec;

/// Indices into `apps`. The spec has no cycle; if it had, the rest would follow in the manifest's order.
pub fn start_order(apps: &[AppSpec]) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::with_capacity(apps.len());
    while order.len() < apps.len() {
        let waits = |i: &usize| !order.contains(i);
        let ready = (0..apps.len()).filter(waits).find(|&i| {
            apps[i].depends_on.iter().all(|name| order.iter().any(|&done| apps[done].name == *name))
        });
        match ready.or_else(|| (0..apps.len()).find(waits)) {
            Some(next) => order.push(next),
            None => break,
        }
    }
    order
}

/// The positions in `before` of the apps with these names.
pub fn positions(before: &[usize], apps: &[AppSpec], names: &[String]) -> Vec<usize> {
    let depends = |&(_, &index): &(usize, &usize)| names.contains(&apps[index].name);
    before.iter().enumerate().filter(depends).map(|(position, _)| position).collect()
}
