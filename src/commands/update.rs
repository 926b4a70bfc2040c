//! `podrun update`: other limits for a pod that runs.
//!
//! The changes are made to the recorded manifest, which is then read and resolved like any other: what it takes and what
//! it refuses, and in which words, is not said twice. What differs from the kernel is written by [`crate::cgroup::update`],
//! all of it or nothing, and then recorded. Until then the record names the files that may show anything, so that a
//! change that is killed is put right by the next one. Signals that ask it to end wait until it has an end ([`Held`]).

mod resolved;

use std::cell::RefCell;

use anyhow::{Context, Result, anyhow, bail};
use podrun_abi::control::{CHANGES_BYTES_MAX, Command};

use self::resolved::Resolved;
use super::{address, ask, check_app, load, not_running};
use crate::cgroup::change::{State, Step};
use crate::cgroup::limits::kills_single_processes;
use crate::cgroup::update::{Change, Groups, Left, whose};
use crate::cli::UpdateArgs;
use crate::error::{self, EXIT_USAGE, Note, Rendered};
use crate::manifest::overrides::{self, Overrides};
use crate::manifest::{self, Problem, Severity, Source};
use crate::output::{write_stderr, write_stdout};
use crate::pod::plan::{PlanRecord, Unsettled};
use crate::pod::root::Root;
use crate::pod::status::{AppState, Phase};
use crate::pod::{Address, Pod};
use crate::spec::Spec;
use crate::sys::held::Held;
use crate::systemd::Manager;
use crate::value::size;

/// Changes limits of a pod or an app.
///
/// # Errors
/// Whatever keeps them from being changed; nothing has changed then, or the error says what has.
pub fn run(root: &Root, color: bool, args: &UpdateArgs) -> Result<u8> {
    let address = address(&args.pod, args.app.as_ref())?;
    let subject = |pod: &str| match &address.app {
        Some(app) => format!("app `{app}` of pod `{pod}`"),
        None => format!("pod `{pod}`"),
    };
    if let Some(key) = overrides::given_twice(&args.changes) {
        let error = anyhow!("cannot update {}: `{key}` is given twice", subject(&address.pod));
        return Err(error).code(EXIT_USAGE);
    }
    let pod = root.find(&address.pod)?;
    let mut held = None;
    let updated =
        update(&pod, &address, (color, args), &mut held).or_else(|error| ended_meanwhile(&pod, error));
    let updated = updated.with_context(|| format!("cannot update {}", subject(pod.name())));
    if held.as_ref().is_some_and(Held::has_come) {
        // The process ends with the guard; what was done, and what could not be undone, has to be known.
        write_stderr(&match &updated {
            Ok(()) => "warning: interrupted by a signal; the limits are as asked for\n".to_owned(),
            Err(error) => error::text(error),
        });
    }
    drop(held);
    updated.map(|()| 0)
}

/// What fails since there is nothing left to change says so and nothing else.
fn ended_meanwhile(pod: &Pod, error: anyhow::Error) -> Result<()> {
    if pod.is_alive() || error.chain().any(|cause| cause.is::<Rendered>()) {
        Err(error)
    } else {
        not_running(pod)
    }
}

/// Nothing is changed before signals are held back.
fn update(
    pod: &Pod,
    address: &Address,
    (color, args): (bool, &UpdateArgs),
    held: &mut Option<Held>,
) -> Result<()> {
    check(pod, address, &args.changes)?;
    let _turn = pod.take_turn_to_change()?;
    let record = pod.plan().map_err(|why| anyhow!("cannot read its plan: {why}"))?;
    let text = pod.manifest().map_err(|why| anyhow!("cannot read its manifest: {why}"))?;
    let change = |typed: &String| overrides::Change::Isolator(address.app.clone(), typed.clone());
    let overrides = Overrides { changes: args.changes.iter().map(change).collect(), ..Overrides::default() };
    let source = Source::new(&pod.manifest_path().display().to_string(), &text, overrides);
    let (spec, warnings) = understood(&source, &text, color)?;
    check_stage1(&record, &text, &spec)?;
    let resolved =
        Resolved::new(pod, &record, &spec)?.map_err(|refusals| load::refused(&source, refusals, color))?;
    write_stderr(&warnings);
    let groups = Groups::open(&resolved.cgroup, resolved.slice())?;
    let wanted = resolved.wanted(&record, &groups)?;
    let now = groups.state(&wanted.new)?;
    if !args.force {
        check_use(&groups, &now, &wanted)?;
    }
    let plan = Plan { groups: &groups, resolved: &resolved, wanted: &wanted };
    if args.dry_run {
        return plan.tell(&now);
    }
    let merged = source.merged();
    if manifest::read(&merged).spec.as_ref() != Some(&spec) {
        bail!("its manifest with the changes does not mean the same when it is read again");
    }
    let steps = plan.steps(&now);
    let connection = RefCell::new(None);
    if steps.iter().any(|step| matches!(step, Step::Property(_))) {
        drop(manager(&connection)?);
    }
    // A write of a memory limit may take memory back for long, and ends by itself all the same: memory_max_write() tries 16
    // times and then kills, memory_high_write() gives up when nothing comes back 16 times, and the group is slowed down
    // meanwhile. mem_cgroup_resize_max() of v1 goes on as long as something comes back, for ever if the app reads as much
    // again: SIGQUIT and SIGKILL, which are not held back, end it.
    *held = Some(Held::new().context("cannot hold signals back")?);
    let has_changed = plan.act(pod, &record, (steps, &connection), (&text, &merged))?;
    if has_changed || manifest::read(&text).spec.as_ref() != Some(&spec) {
        // It is done and recorded all the same.
        if let Err(error) = tell(pod, address, &args.changes) {
            write_stderr(&format!("warning: the limits are changed, but not among the events: {error:#}\n"));
        }
    }
    Ok(())
}

/// Whether there is something that can be changed.
fn check(pod: &Pod, address: &Address, changes: &[String]) -> Result<()> {
    if !pod.is_alive() {
        return not_running(pod);
    }
    let status = pod.status();
    address.app.as_ref().map_or(Ok(()), |app| check_app(&status, app))?;
    let is_early = matches!(status.phase, Phase::Preparing | Phase::Starting);
    if is_early && status.apps.iter().all(|app| matches!(app.state, AppState::Waiting)) {
        return Err(anyhow!("its groups are still being made"))
            .hint(format!("`podrun wait --condition ready {}` waits for it", pod.name()));
    }
    let is_devices = |typed: &&String| typed.split(['=', '.']).next() == Some("devices");
    if changes.iter().any(|typed| is_devices(&typed)) {
        return Err(anyhow!("`devices` cannot be changed while the pod runs"))
            .code(EXIT_USAGE)
            .hint("set it in the manifest and start the pod anew");
    }
    Ok(())
}

/// stage1 has been told at the start what it does in place of the kernel.
fn check_stage1(record: &PlanRecord, text: &str, spec: &Spec) -> Result<()> {
    let asked = |spec: &Spec| -> Vec<bool> {
        spec.apps.iter().map(|app| app.limits.memory_oom_group != Some(false)).collect()
    };
    let before = manifest::read(text).spec.map(|spec| asked(&spec));
    if !kills_single_processes(&record.cgroup) || before.is_none_or(|before| before == asked(spec)) {
        return Ok(());
    }
    let key = "`memory-oom-group` of an app cannot be changed while the pod runs";
    Err(anyhow!("{key}: on cgroup v1 it is stage1 that kills the rest of the app"))
        .hint("set it in the manifest and start the pod anew")
}

/// What the manifest means with the changes, and the warnings that are due to them.
fn understood(source: &Source, text: &str, color: bool) -> Result<(Spec, String)> {
    let (mut read, before) = (source.read(), manifest::read(text).problems);
    let is_known = |problem: &Problem| {
        before.iter().any(|known| known.code == problem.code && known.message == problem.message)
    };
    // What refuses the change is told in any case.
    read.problems.retain(|problem| problem.severity == Severity::Error || !is_known(problem));
    let told = load::render(source, &read.problems, color);
    match read.spec {
        Some(spec) => Ok((spec, told)),
        None => Err(Rendered(told).into()),
    }
}

/// Less memory than is in use is what nobody wants by a slip.
fn check_use(groups: &Groups<'_>, now: &State, wanted: &resolved::Wants) -> Result<()> {
    let found = groups.below_use(now, &wanted.new)?;
    let Some((level, limit, used)) = found.first() else { return Ok(()) };
    let error =
        anyhow!("{} uses {} of memory, more than {}", whose(level), size::show(*used), size::show(*limit));
    Err(error).hint(
        "--force sets the limit all the same: what the kernel cannot take back it kills for (cgroup v2), or it refuses the \
         limit (v1)",
    )
}

/// Everything that is decided.
struct Plan<'p> {
    groups: &'p Groups<'p>,
    resolved: &'p Resolved<'p>,
    wanted: &'p resolved::Wants,
}

impl Plan<'_> {
    fn steps(&self, now: &State) -> Vec<Step> {
        self.groups.steps(now, &self.wanted.new)
    }

    /// Prints what would be done, in its order.
    fn tell(&self, now: &State) -> Result<()> {
        let mut text = String::new();
        for enabled in self.groups.lacking()? {
            let file = enabled.path.join("cgroup.subtree_control");
            text.push_str(&format!("enable {} in {}\n", enabled.controllers.join(" "), file.display()));
        }
        for step in self.steps(now) {
            match step {
                Step::Write(spot, value) => {
                    let path = self.groups.path(&spot);
                    text.push_str(&format!("write {} to {}\n", quoted(&value), path.display()));
                }
                Step::Property(key) => {
                    for property in self.resolved.properties(&key) {
                        text.push_str(&format!("set {property} of {}\n", self.resolved.unit()));
                    }
                }
            }
        }
        write_stdout(if text.is_empty() { "nothing to change\n" } else { &text })
    }

    /// Does it, and says whether there was anything to do.
    fn act(
        &self,
        pod: &Pod,
        record: &PlanRecord,
        (steps, connection): (Vec<Step>, &RefCell<Option<Manager>>),
        (old, new): (&str, &str),
    ) -> Result<bool> {
        let has_changed = !steps.is_empty() || !self.groups.lacking()?.is_empty();
        let unsettled = self.wanted.unsettled(&steps);
        if has_changed {
            self.record_before(pod, record, &unsettled)?;
        }
        let set = |key: &str| self.resolved.set(key, manager(connection)?.as_mut());
        let set_back = |key: &str| self.resolved.set_back(key, manager(connection)?.as_mut());
        let done = self.groups.change(&Change {
            wanted: &self.wanted.new,
            set: &set,
            record: &|| self.record(pod, new),
            back: &self.wanted.back,
            set_back: &set_back,
            usual_score: pod.launchers_oom_score(),
        });
        let Err(error) = done else { return Ok(has_changed) };
        let left = if error.is::<Left>() { unsettled } else { Vec::new() };
        // What counts is the error above.
        let _ = pod.record_manifest(old);
        let _ = pod.record_groups(&record.cgroup, record.units.as_ref(), &left);
        Err(error)
    }

    /// What may be half done from now on. Controllers that are enabled outside of the pod's group are undone with it.
    fn record_before(&self, pod: &Pod, record: &PlanRecord, unsettled: &[Unsettled]) -> Result<()> {
        let mut cgroup = record.cgroup.clone();
        cgroup.hierarchies.clone_from(&self.resolved.cgroup.hierarchies);
        pod.record_groups(&cgroup, record.units.as_ref(), unsettled)
    }

    /// The manifest comes first: with it and the old plan the next change finds its way.
    fn record(&self, pod: &Pod, manifest: &str) -> Result<()> {
        pod.record_manifest(manifest)?;
        pod.record_groups(&self.resolved.cgroup, self.resolved.units.as_ref(), &[])
    }
}

/// One that is there when it is needed.
fn manager(connection: &RefCell<Option<Manager>>) -> Result<std::cell::RefMut<'_, Option<Manager>>> {
    if connection.borrow().is_none() {
        connection.replace(Some(Manager::connect(None)?));
    }
    Ok(connection.borrow_mut())
}

fn quoted(value: &str) -> String {
    let value = value.trim_end();
    if value.is_empty() || value.contains(' ') { format!("`{value}`") } else { value.to_owned() }
}

/// So that it has its place among the events.
fn tell(pod: &Pod, address: &Address, changes: &[String]) -> Result<()> {
    let mut room = CHANGES_BYTES_MAX;
    let fits = |typed: &&String| {
        let left = room.checked_sub(typed.len());
        room = left.unwrap_or(0);
        left.is_some()
    };
    let changes = changes.iter().take_while(fits).cloned().collect();
    ask(pod, &Command::Updated { app: address.app.clone(), changes })
}
