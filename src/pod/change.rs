//! Changes of the limits of a pod that runs, as far as its directory is concerned: one at a time, and recorded.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::libc::{O_CLOEXEC, O_NOFOLLOW};

use super::plan::Unsettled;
use super::record::write_whole;
use super::root::lock_before;
use super::{Pod, dir};
use crate::cgroup::plan::CgroupPlan;
use crate::systemd::UnitPlan;

/// Another change takes milliseconds, unless the kernel has to take memory back for it.
const TURN_DEADLINE: Duration = Duration::from_secs(30);

impl Pod {
    /// Waits until nobody else changes limits of this pod; nobody does as long as the answer is kept.
    ///
    /// # Errors
    /// Somebody does for too long.
    pub fn take_turn_to_change(&self) -> Result<File> {
        let path = self.path().join(dir::CHANGE);
        let mut options = OpenOptions::new();
        options.write(true).create(true).mode(0o600).custom_flags(O_NOFOLLOW | O_CLOEXEC);
        let context = || format!("cannot lock `{}`", path.display());
        let file = options.open(&path).with_context(context)?;
        if lock_before(&file, Instant::now() + TURN_DEADLINE).with_context(context)? {
            return Ok(file);
        }
        Err(anyhow!("another change of its limits has not ended within {} s", TURN_DEADLINE.as_secs()))
    }

    /// The launcher's `oom_score_adj`, with which stage1 begins; that of most processes when the launcher is gone.
    #[must_use]
    pub fn launchers_oom_score(&self) -> i32 {
        let launcher = self.record.as_ref().ok().map(|record| &record.launcher);
        let launcher = launcher.filter(|launcher| launcher.is_running() && launcher.is_numbered_here());
        let text = launcher.and_then(|launcher| {
            std::fs::read_to_string(format!("/proc/{}/oom_score_adj", launcher.pid)).ok()
        });
        text.and_then(|text| text.trim_end().parse().ok()).unwrap_or(0)
    }

    /// Replaces what the plan says of groups and units; the rest of it stays.
    ///
    /// # Errors
    /// When the disk is full; the old one stays.
    pub fn record_groups(
        &self,
        cgroup: &CgroupPlan,
        units: Option<&UnitPlan>,
        unsettled: &[Unsettled],
    ) -> Result<()> {
        let mut plan = self.plan_json().map_err(|why| anyhow!("cannot read its plan: {why}"))?;
        let fields = plan.as_object_mut().context("cannot read its plan: it is no object")?;
        fields.insert("cgroup".to_owned(), serde_json::to_value(cgroup)?);
        fields.insert("units".to_owned(), serde_json::to_value(units)?);
        if unsettled.is_empty() {
            fields.remove("unsettled");
        } else {
            fields.insert("unsettled".to_owned(), serde_json::to_value(unsettled)?);
        }
        write_whole(self.path(), dir::PLAN, &serde_json::to_vec(&plan)?)
    }

    /// Replaces the manifest.
    ///
    /// # Errors
    /// When the disk is full; the old one stays.
    pub fn record_manifest(&self, text: &str) -> Result<()> {
        write_whole(self.path(), dir::MANIFEST, text.as_bytes())
    }
}
