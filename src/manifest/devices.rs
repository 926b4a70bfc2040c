//! Lists of devices, of the pod and of an app, and what they say together.

use std::ops::Range;

use super::problem::Problem;
use super::rules;
use super::tree::{Item, Report, ValueRules};
use crate::spec::DeviceSpec;
use crate::value::device::{self, EVERYBODYS};

const DEVICE: ValueRules = ValueRules::both(rules::DEVICE);

/// The devices of one list.
pub(super) struct Named {
    pub specs: Vec<DeviceSpec>,
    /// The place of each.
    spans: Vec<Range<usize>>,
    /// Of the whole list.
    span: Range<usize>,
}

/// Reads a list of devices, each of which is there once.
pub(super) fn read(item: &Item, report: &mut Report) -> Named {
    let mut named = Named { specs: Vec::new(), spans: Vec::new(), span: item.span.clone() };
    for element in item.elements(report) {
        let Some((path, access)) = element.parsed(report, DEVICE, device::parse) else { continue };
        if named.specs.iter().any(|other| other.path == path) {
            report.add(element.problem(&rules::DEVICE, format!("{path} is there twice")));
            continue;
        }
        named.specs.push(DeviceSpec { path: path.to_owned(), access });
        named.spans.push(element.span.clone());
    }
    named
}

/// Warns of what an app names and the pod's list, which holds for all of it, does not allow.
pub(super) fn above_pod(pod: &Named, (app, name): (&Named, &str), report: &mut Report) {
    for (mine, span) in std::iter::zip(&app.specs, &app.spans) {
        let path = &mine.path;
        let message = match pod.specs.iter().find(|outer| outer.path == *path) {
            Some(outer) if mine.access.is_within(outer.access) => continue,
            Some(outer) => {
                let (mine, outer) = (mine.access, outer.access);
                format!("{path} ({mine}) is more than the pod's devices allow ({outer}), which bind")
            }
            None if EVERYBODYS.iter().any(|(usual, _, _)| usual == path) => continue,
            None => format!("{path} is not among the pod's devices, which bind"),
        };
        let problem = Problem::new(&rules::ABOVE_POD, format!("app.{name}.devices"), span.clone(), message);
        report.add(problem.related(pod.span.clone(), "the pod's are here"));
    }
}
