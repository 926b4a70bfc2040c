//! From the values that files show to those that they shall show: what is written, and in which order. Pure.
//!
//! Some files of a group bound each other, and on v1 a group bounds those below it, at each single write. So files that
//! belong together are one [`Bundle`], which knows its own order; and first everything that grows is written, from the
//! outer group to the inner ones, then everything that shrinks, from the inner ones outwards. In that order no write is
//! refused for what another one would have put right, whatever the two states are.

mod bundle;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use self::bundle::{Bundle, Direction};
use crate::cgroup::limits::SUPERVISOR;
use crate::cgroup::plan::{CgroupPlan, Setting, Shows, Version};

/// Whose group a file is in. The outer ones come first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The slice's, which systemd writes when a property is set.
    Slice,
    /// A group of the pod: `""` its own, `supervisor`, `app-<name>`.
    Group(String),
}

impl Level {
    fn is_outer(&self) -> bool {
        match self {
            Self::Slice => true,
            Self::Group(name) => name.is_empty(),
        }
    }
}

/// A file of a group, or the line of one disk in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Spot {
    /// Whose group.
    pub level: Level,
    /// Index into [`CgroupPlan::hierarchies`].
    pub hierarchy: usize,
    /// Such as `memory.max`.
    pub file: String,
    /// The word that the line begins with, in a file of many lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
}

impl Spot {
    /// Where a setting is written.
    #[must_use]
    pub fn of(level: &Level, setting: &Setting) -> Self {
        let first = || setting.value.split_once(' ').map(|(first, _)| first.to_owned());
        Self {
            level: level.clone(),
            hierarchy: setting.hierarchy,
            file: setting.file.clone(),
            line: if setting.shows == Shows::Line { first() } else { None },
        }
    }

    /// What of the file's text is here: all of it, or the line, which may be missing.
    #[must_use]
    pub fn cut<'t>(&self, text: &'t str) -> &'t str {
        let Some(first) = &self.line else { return text.trim_end() };
        let is_it = |line: &&str| line.split(' ').next() == Some(first);
        text.lines().find(is_it).unwrap_or_default().trim_end()
    }

    /// What has to be written for a text that was shown; `None`: nobody knows.
    #[must_use]
    pub fn written(&self, shown: &str) -> Option<String> {
        match &self.line {
            Some(disk) if shown.is_empty() && self.file == "io.max" => {
                Some(format!("{disk} rbps=max wbps=max riops=max wiops=max"))
            }
            Some(disk) if shown.is_empty() && self.file.starts_with("blkio.throttle.") => {
                Some(format!("{disk} 0"))
            }
            Some(_) if shown.is_empty() => None,
            // The kernel is not asked to write nothing.
            _ if shown.is_empty() => Some("\n".to_owned()),
            _ => Some(shown.lines().next().unwrap_or_default().to_owned()),
        }
    }
}

/// What a group starts with in a file that belongs to a controller which no group of the pod has yet.
#[must_use]
pub fn start_text(spot: &Spot) -> Option<&'static str> {
    match spot.file.as_str() {
        "io.max" | "cpuset.cpus" | "cpuset.mems" => Some(""),
        "io.weight" => Some("default 100"),
        "cpu.max" => Some("max 100000"),
        "cpu.weight" => Some("100"),
        "cpu.idle" | "cpu.max.burst" => Some("0"),
        "pids.max" => Some("max"),
        _ => None,
    }
}

/// No machine has as much of anything.
const FREE_FROM: u128 = 1 << 62;

/// What a file or a line shall show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// The manifest's key that wants it.
    pub key: String,
    /// What is written for it.
    pub value: String,
    /// What the kernel shows then.
    pub reads_back: String,
    /// Where.
    pub shows: Shows,
    /// An empty file means the same.
    pub or_nothing: bool,
}

impl Want {
    fn of(setting: &Setting) -> Self {
        let Setting { key, value, reads_back, shows, .. } = setting.clone();
        Self { key, value, reads_back, shows, or_nothing: false }
    }

    /// As a plan has it.
    #[must_use]
    pub fn setting(&self, spot: &Spot) -> Setting {
        let Self { key, value, reads_back, shows, .. } = self.clone();
        Setting { key, value, reads_back, shows, hierarchy: spot.hierarchy, file: spot.file.clone() }
    }

    /// As it was shown before.
    #[must_use]
    pub fn again(key: &str, spot: &Spot, shown: &str) -> Option<Self> {
        let (key, value, reads_back) = (key.to_owned(), spot.written(shown)?, shown.to_owned());
        Some(Self { key, value, reads_back, shows: Shows::Whole, or_nothing: false })
    }

    /// A cpuset of all that there is, for a file that may as well be empty.
    #[must_use]
    pub fn all(key: &str, set: &str) -> Self {
        let (key, value, reads_back) = (key.to_owned(), set.to_owned(), set.to_owned());
        Self { key, value, reads_back, shows: Shows::Whole, or_nothing: true }
    }

    /// Whether what is shown is that.
    #[must_use]
    pub fn agrees(&self, shown: &str) -> bool {
        // How the kernel shows that there is no limit is not the same before and after a write (hugetlb), nor with every
        // version.
        let is_free = |text: &str| bundle::number(text).is_some_and(|number| number >= FREE_FROM);
        shown == self.reads_back
            || (shown.is_empty() && self.or_nothing)
            || self.shows.agrees(shown, &self.reads_back)
            || (is_free(shown) && is_free(&self.reads_back))
    }
}

/// What is shown; what is not there is not in it.
pub type State = BTreeMap<Spot, String>;
/// What shall be shown.
pub type Wanted = BTreeMap<Spot, Want>;

/// Every spot that a plan writes, with what it writes there.
#[must_use]
pub fn wanted(plan: &CgroupPlan, of_slice: &[Setting]) -> Wanted {
    let own = plan.groups.iter().flat_map(|group| {
        let level = Level::Group(group.name.clone());
        group.settings.iter().map(move |setting| (Spot::of(&level, setting), Want::of(setting)))
    });
    let above = of_slice.iter().map(|setting| (Spot::of(&Level::Slice, setting), Want::of(setting)));
    above.chain(own).collect()
}

/// The files beside it that bound what may be written to a spot.
#[must_use]
pub fn neighbours(spot: &Spot) -> Vec<Spot> {
    let files = bundle::family(&spot.file);
    let others = files.iter().filter(|file| **file != spot.file);
    others.map(|file| Spot { file: (*file).to_owned(), ..spot.clone() }).collect()
}

/// In a group that is idle the weight says nothing, and cannot be written.
pub fn drop_idle_weights(wanted: &mut Wanted) {
    let is_idle = |(spot, want): (&Spot, &Want)| spot.file == "cpu.idle" && want.value == "1";
    let idle: BTreeSet<(Level, usize)> = wanted
        .iter()
        .filter(|(spot, want)| is_idle((spot, want)))
        .map(|(spot, _)| (spot.level.clone(), spot.hierarchy))
        .collect();
    wanted.retain(|spot, _| {
        let is_weight = spot.file == "cpu.weight" || spot.file == "cpu.shares";
        !(is_weight && idle.contains(&(spot.level.clone(), spot.hierarchy)))
    });
}

/// One thing to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write this value.
    Write(Spot, String),
    /// Have systemd set what is wanted of this key for the slice.
    Property(String),
}

/// What leads from one state to the other; nothing when it is there already.
#[must_use]
pub fn steps(now: &State, wanted: &Wanted, version: impl Fn(usize) -> Version) -> Vec<Step> {
    let bundles = bundles(now, wanted, &version);
    let mut changed: Vec<&Bundle<'_>> = bundles.iter().filter(|bundle| bundle.is_changed()).collect();
    changed.sort_by_key(|bundle| rank(bundle.level));
    let mut steps = Vec::new();
    for bundle in &changed {
        match bundle.direction() {
            Direction::Grows => steps.extend(done(bundle, bundle.writes())),
            Direction::Moves => steps.extend(done(bundle, bundle.widening())),
            Direction::Shrinks => {}
        }
    }
    for bundle in changed.iter().rev() {
        if bundle.direction() != Direction::Grows {
            steps.extend(done(bundle, bundle.writes()));
        }
    }
    steps
}

fn rank(level: &Level) -> usize {
    match level {
        Level::Slice => 0,
        Level::Group(name) if name.is_empty() => 1,
        Level::Group(name) if name == SUPERVISOR => 2,
        Level::Group(_) => 3,
    }
}

fn done(bundle: &Bundle<'_>, writes: Vec<(Spot, String)>) -> Vec<Step> {
    match bundle.level {
        Level::Slice if writes.is_empty() => Vec::new(),
        Level::Slice => bundle.key().map(|key| Step::Property(key.to_owned())).into_iter().collect(),
        Level::Group(_) => writes.into_iter().map(|(spot, value)| Step::Write(spot, value)).collect(),
    }
}

fn bundles<'a>(now: &'a State, wanted: &'a Wanted, version: &impl Fn(usize) -> Version) -> Vec<Bundle<'a>> {
    let mut bundles: BTreeMap<(&Level, usize, String, &Option<String>), Bundle<'a>> = BTreeMap::new();
    for (spot, want) in wanted {
        let name = bundle::family(&spot.file).first().map_or(spot.file.clone(), |first| (*first).to_owned());
        let bundle = bundles
            .entry((&spot.level, spot.hierarchy, name, &spot.line))
            .or_insert_with(|| Bundle::new(&spot.level, version(spot.hierarchy)));
        bundle.add(spot, now, want);
    }
    bundles.into_values().collect()
}

#[cfg(test)]
mod tests;
