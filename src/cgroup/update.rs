//! Other limits in the groups of a pod that runs: all of them, or none.
//!
//! What is written is decided against what the kernel shows at this moment, so that what a change that was killed has left
//! is put right by the next one. Every file is read back at the end; whatever fails before that puts back what there was,
//! in the same way and with the same proof. The order of the writes is [`change`]'s.

use std::cell::RefCell;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use crate::cgroup::change::{self, Level, Spot, State, Step, Want, Wanted};
use crate::cgroup::limits::SUPERVISOR;
use crate::cgroup::plan::{CgroupPlan, Joined, Version};
use crate::cgroup::{cgroupfs, cpuset, files};

/// The groups of a pod that runs, open.
pub struct Groups<'p> {
    plan: &'p CgroupPlan,
    /// The slice's group below the root of each hierarchy.
    slice: Option<&'p str>,
    dirs: Vec<OwnedFd>,
}

/// A group above the pod's apps that is to hand controllers down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enabled {
    /// Its directory.
    pub path: PathBuf,
    /// What it does not hand down yet.
    pub controllers: Vec<String>,
}

/// What the OOM killer leaves out where it takes a whole group.
const SPARED: i32 = -1000;
/// systemd writes a quota into two files of v1 in one order; what it could not do at first it can then.
const ATTEMPTS: usize = 3;
/// The time between them.
const AGAIN: Duration = Duration::from_millis(20);

/// Has systemd set what is wanted of a key for the slice.
pub type SetProperty<'s> = &'s dyn Fn(&str) -> anyhow::Result<()>;

/// What is to become of the limits, and what of them when it fails.
pub struct Change<'c> {
    /// What shall be shown.
    pub wanted: &'c Wanted,
    /// Does what systemd has to do for it.
    pub set: SetProperty<'c>,
    /// Writes down what is shown now. It fails as a whole, and is undone with the rest.
    pub record: &'c dyn Fn() -> anyhow::Result<()>,
    /// What the slice goes back to, and whoever has had no cpuset; all other files go back to what they show.
    pub back: &'c Wanted,
    /// Does what systemd has to do for that.
    pub set_back: SetProperty<'c>,
    /// stage1's `oom_score_adj` where the OOM killer does not take the pod as a whole.
    pub usual_score: i32,
}

/// An undo that has failed, with what is left of the change.
#[derive(Debug)]
pub struct Left(pub String);

impl std::error::Error for Left {}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot undo ({}) after", self.0)
    }
}

impl<'p> Groups<'p> {
    /// Those of a plan.
    ///
    /// # Errors
    /// One is not there.
    pub fn open(plan: &'p CgroupPlan, slice: Option<&'p str>) -> anyhow::Result<Self> {
        let open = |joined: &Joined| {
            let path = own(plan, joined);
            files::open_group(&path, joined.version)
                .with_context(|| format!("cannot open group `{}`", path.display()))
        };
        let dirs = plan.hierarchies.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { plan, slice, dirs })
    }

    fn joined(&self, spot: &Spot) -> anyhow::Result<(&Joined, &OwnedFd)> {
        let found = self.plan.hierarchies.get(spot.hierarchy).zip(self.dirs.get(spot.hierarchy));
        found.context("the plan names a hierarchy that it does not join")
    }

    /// The file, for messages.
    #[must_use]
    pub fn path(&self, spot: &Spot) -> PathBuf {
        let Some(joined) = self.plan.hierarchies.get(spot.hierarchy) else { return PathBuf::new() };
        match (&spot.level, self.slice) {
            (Level::Slice, Some(slice)) => joined.mount_point.join(slice).join(&spot.file),
            (Level::Group(group), _) if !group.is_empty() => {
                own(self.plan, joined).join(group).join(&spot.file)
            }
            _ => own(self.plan, joined).join(&spot.file),
        }
    }

    /// `None`: there is no such file, as before its controller is enabled.
    fn text(&self, spot: &Spot) -> anyhow::Result<Option<String>> {
        let read = match &spot.level {
            Level::Slice => std::fs::read_to_string(self.path(spot)),
            Level::Group(group) => files::read(self.joined(spot)?.1, &below(group, &spot.file)),
        };
        match read {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read `{}`", self.path(spot).display())),
        }
    }

    /// What is shown now of what is wanted, and of what bounds it.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn state(&self, wanted: &Wanted) -> anyhow::Result<State> {
        let mut state = State::new();
        for spot in wanted.keys() {
            for spot in change::neighbours(spot).into_iter().chain([spot.clone()]) {
                if !state.contains_key(&spot)
                    && let Some(text) = self.text(&spot)?
                {
                    let shown = spot.cut(&text).to_owned();
                    state.insert(spot, shown);
                }
            }
        }
        Ok(state)
    }

    /// What a group starts with: as it still is in stage1's, which nothing limits. `None`: nobody knows.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn start(&self, key: &str, spot: &Spot) -> anyhow::Result<Option<Want>> {
        let spot_of_stage1 = Spot { level: Level::Group(SUPERVISOR.to_owned()), ..spot.clone() };
        let text = self.text(&spot_of_stage1)?;
        let text = text.or_else(|| change::start_text(spot).map(str::to_owned));
        let Some(text) = text else { return Ok(None) };
        let shown = spot.cut(&text);
        let is_known = spot.line.is_some() || shown.lines().count() == 1 || spot.file.starts_with("cpuset.");
        Ok(if is_known { Want::again(key, spot, shown) } else { None })
    }

    /// What must be enabled for the plan's controllers, from the outside inwards.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn lacking(&self) -> anyhow::Result<Vec<Enabled>> {
        let Some(joined) = self.plan.hierarchies.iter().find(|joined| joined.version == Version::V2) else {
            return Ok(Vec::new());
        };
        let pod = own(self.plan, joined);
        let parent = joined.mount_point.join(&joined.parent);
        let mut lacking = Vec::new();
        for (path, wanted) in [(parent, &joined.enable_in_parent), (pod, &joined.controllers)] {
            let file = path.join("cgroup.subtree_control");
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read `{}`", file.display()))?;
            let is_there = |controller: &&String| text.split_whitespace().any(|word| word == *controller);
            let controllers: Vec<String> = wanted.iter().filter(|c| !is_there(c)).cloned().collect();
            if !controllers.is_empty() {
                lacking.push(Enabled { path, controllers });
            }
        }
        Ok(lacking)
    }

    /// What leads from one state to the other.
    #[must_use]
    pub fn steps(&self, now: &State, wanted: &Wanted) -> Vec<Step> {
        let version = |index: usize| self.plan.hierarchies.get(index).map_or(Version::V2, |j| j.version);
        change::steps(now, wanted, version)
    }

    fn perform(&self, step: &Step, wanted: &Wanted, set: SetProperty<'_>) -> anyhow::Result<()> {
        match step {
            Step::Property(key) => set(key),
            Step::Write(spot, value) => {
                let (Level::Group(group), (_, dir)) = (&spot.level, self.joined(spot)?) else {
                    return Ok(());
                };
                files::write(dir, &below(group, &spot.file), value).with_context(|| {
                    let key = wanted.get(spot).map_or("a limit", |want| want.key.as_str());
                    let shown = value.trim_end();
                    format!(
                        "cannot set {key} of {}: cannot write `{shown}` to `{}`",
                        whose(&spot.level),
                        self.path(spot).display()
                    )
                })
            }
        }
    }

    /// Whether everything shows what is wanted.
    fn verify(&self, wanted: &Wanted) -> anyhow::Result<()> {
        let state = self.state(wanted)?;
        for (spot, want) in wanted {
            let shown = state.get(spot).map(String::as_str);
            // systemd takes a controller back that no limit needs any more.
            let is_free = shown.is_none() && change::start_text(spot) == Some(want.reads_back.as_str());
            if !is_free && shown.is_none_or(|shown| !want.agrees(shown)) {
                bail!(
                    "cannot set {} of {}: `{}` shows `{}`, expected `{}`",
                    want.key,
                    whose(&spot.level),
                    self.path(spot).display(),
                    shown.unwrap_or("nothing"),
                    want.reads_back
                );
            }
        }
        Ok(())
    }

    fn reach(&self, wanted: &Wanted, set: SetProperty<'_>) -> anyhow::Result<()> {
        let mut attempt = 1;
        loop {
            let steps = self.steps(&self.state(wanted)?, wanted);
            steps.iter().try_for_each(|step| self.perform(step, wanted, set))?;
            let verified = self.verify(wanted);
            if verified.is_ok() || attempt == ATTEMPTS || !steps.iter().any(asks_systemd) {
                return verified;
            }
            attempt += 1;
            std::thread::sleep(AGAIN);
        }
    }

    /// Makes everything show what is wanted, and has it recorded.
    ///
    /// # Errors
    /// What failed. Everything is as it was then, or the error says what is not ([`Left`]).
    pub fn change(&self, change: &Change<'_>) -> anyhow::Result<()> {
        let before = RefCell::new(State::new());
        let enabled = self.lacking()?;
        let done = self.enable(&enabled).and_then(|()| {
            before.replace(self.state(change.wanted)?);
            self.spare_stage1(change.wanted)?;
            self.reach(change.wanted, change.set)?;
            self.prove_cpusets(change.wanted, &before.borrow())?;
            self.expose_stage1(change.wanted, change.usual_score)?;
            (change.record)()
        });
        let Err(error) = done else { return Ok(()) };
        let undone = self.undo(change, &before.into_inner()).and_then(|()| self.disable(&enabled));
        match undone {
            Ok(()) => Err(error),
            Err(left) => Err(error.context(Left(format!("{left:#}")))),
        }
    }

    /// Of those that are new: what the kernel has taken away from the others since is no matter of this change.
    fn prove_cpusets(&self, wanted: &Wanted, before: &State) -> anyhow::Result<()> {
        let is_new = |(spot, want): &(&Spot, &Want)| {
            !want.or_nothing && before.get(*spot).is_none_or(|shown| !want.agrees(shown))
        };
        for (spot, want) in wanted.iter().filter(is_new) {
            let (joined, path) = (self.joined(spot)?.0, self.path(spot));
            let group = path.parent().context("the file is in no group")?;
            cpuset::prove(joined, group, &want.setting(spot))
                .with_context(|| format!("cannot set {} of {}", want.key, whose(&spot.level)))?;
        }
        Ok(())
    }

    /// Whatever cannot be put back does not keep the rest from it.
    fn undo(&self, change: &Change<'_>, before: &State) -> anyhow::Result<()> {
        let mut old = change.back.clone();
        let mut undone = Ok(());
        for (spot, shown) in before {
            // Of the slice what is recorded counts; and who has a cpuset on v2 cannot be without one again.
            if spot.level == Level::Slice || (shown.is_empty() && old.contains_key(spot)) {
                continue;
            }
            let key = change.wanted.get(spot).map_or("", |want| want.key.as_str());
            match Want::again(key, spot, shown) {
                Some(want) => drop(old.insert(spot.clone(), want)),
                None => undone = Err(anyhow!("nobody knows how `{}` was", self.path(spot).display())),
            }
        }
        change::drop_idle_weights(&mut old);
        undone = undone.and(self.spare_stage1(&old));
        for _ in 0..ATTEMPTS {
            for step in self.steps(&self.state(&old)?, &old) {
                undone = undone.and(self.perform(&step, &old, change.set_back));
            }
            if self.verify(&old).is_ok() {
                break;
            }
            std::thread::sleep(AGAIN);
        }
        undone.and(self.verify(&old)).and(self.expose_stage1(&old, change.usual_score))
    }

    /// As at the start of such a pod: where the OOM killer takes all of it, stage1 lives to tell. Before it can.
    fn spare_stage1(&self, wanted: &Wanted) -> anyhow::Result<()> {
        let Some((spot, _)) = wanted.iter().find(|(spot, want)| is_pods_oom(spot) && want.value == "1")
        else {
            return Ok(());
        };
        self.each_score_of_stage1(spot, |_| Some(SPARED))
    }

    /// As at the start of any other pod, once it does not any more. A score that is not podrun's stays.
    fn expose_stage1(&self, wanted: &Wanted, usual: i32) -> anyhow::Result<()> {
        let Some((spot, _)) = wanted.iter().find(|(spot, want)| is_pods_oom(spot) && want.value != "1")
        else {
            return Ok(());
        };
        self.each_score_of_stage1(spot, |score| (score == SPARED).then_some(usual))
    }

    fn each_score_of_stage1(&self, spot: &Spot, change: impl Fn(i32) -> Option<i32>) -> anyhow::Result<()> {
        let stage1 = files::open_group_at(self.joined(spot)?.1, SUPERVISOR)?;
        for pid in files::processes(stage1.as_fd()).context("cannot find stage1")? {
            let path = format!("/proc/{pid}/oom_score_adj");
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))?;
            let Some(score) = text.trim_end().parse().ok().and_then(&change) else { continue };
            std::fs::write(&path, score.to_string())
                .with_context(|| format!("cannot write `{score}` to `{path}`"))?;
        }
        Ok(())
    }

    fn enable(&self, lacking: &[Enabled]) -> anyhow::Result<()> {
        for Enabled { path, controllers } in lacking {
            let dir = files::open_group(path, Version::V2)
                .with_context(|| format!("cannot open group `{}`", path.display()))?;
            cgroupfs::enable(&dir, path, controllers)?;
        }
        Ok(())
    }

    /// In the pod's own group alone: in the one above another pod may rely on them by now.
    fn disable(&self, enabled: &[Enabled]) -> anyhow::Result<()> {
        let is_pods =
            |enabled: &&Enabled| self.plan.hierarchies.iter().any(|j| own(self.plan, j) == enabled.path);
        for Enabled { path, controllers } in enabled.iter().filter(is_pods) {
            let words: Vec<String> = controllers.iter().map(|c| format!("-{c}")).collect();
            let file = path.join("cgroup.subtree_control");
            std::fs::write(&file, words.join(" "))
                .with_context(|| format!("cannot write `{}` to `{}`", words.join(" "), file.display()))?;
        }
        Ok(())
    }

    /// Memory limits that would be below what is in use, where they come down: whose, the limit and the use, in bytes.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn below_use(&self, now: &State, wanted: &Wanted) -> anyhow::Result<Vec<(Level, u64, u64)>> {
        let mut found = Vec::new();
        for (spot, want) in wanted {
            let use_file = match spot.file.as_str() {
                "memory.max" => "memory.current",
                "memory.limit_in_bytes" => "memory.usage_in_bytes",
                "memory.memsw.limit_in_bytes" => "memory.memsw.usage_in_bytes",
                _ => continue,
            };
            let Ok(limit) = want.reads_back.parse::<u64>() else { continue };
            let old = now.get(spot).and_then(|text| text.parse::<u64>().ok()).unwrap_or(u64::MAX);
            let used = self.text(&Spot { file: use_file.to_owned(), ..spot.clone() })?;
            let Some(used) = used.and_then(|text| text.trim_end().parse::<u64>().ok()) else { continue };
            if limit < old && limit < used {
                found.push((spot.level.clone(), limit, used));
            }
        }
        Ok(found)
    }
}

fn own(plan: &CgroupPlan, joined: &Joined) -> PathBuf {
    Path::new(&joined.mount_point).join(&joined.parent).join(&plan.pod_group)
}

fn is_pods_oom(spot: &Spot) -> bool {
    spot.file == "memory.oom.group" && spot.level == Level::Group(String::new())
}

fn asks_systemd(step: &Step) -> bool {
    matches!(step, Step::Property(_))
}

fn below(group: &str, file: &str) -> String {
    if group.is_empty() { file.to_owned() } else { format!("{group}/{file}") }
}

/// Whose limits they are, in words.
#[must_use]
pub fn whose(level: &Level) -> String {
    match level {
        Level::Group(group) => {
            group.strip_prefix("app-").map_or("the pod".to_owned(), |app| format!("app `{app}`"))
        }
        Level::Slice => "the pod".to_owned(),
    }
}
