//! [`Journal`]: what happens to a pod as entries of the host's journal.
//!
//! None is waited for: a journal that does not keep up misses entries, and the pod's own account (`events.jsonl`) does
//! not. docs/logging.md has the list of events.

use std::os::unix::net::UnixDatagram;

use podrun_abi::event::Record;

use crate::output::journal;
use crate::plan::Plan;
use crate::plan::output::JOURNAL;
use crate::pod::status::Status;
use crate::pod::told::told;

/// Where the entries of one pod go.
pub struct Journal {
    socket: UnixDatagram,
    pod: String,
    id: String,
    /// The pod's unit, under which `journalctl -u` shows the entries.
    unit: Option<String>,
}

impl Journal {
    /// `None`: the pod has nothing to do with the journal, or there is none.
    #[must_use]
    pub fn of(plan: &Plan) -> Option<Self> {
        if !plan.has_journal {
            return None;
        }
        let socket = journal::connect(JOURNAL)?;
        let unit = plan.units.as_ref().map(|units| units.scope.clone());
        Some(Self { socket, pod: plan.pod.clone(), id: plan.id.clone(), unit })
    }

    /// Tells of a record; the status has it already.
    pub fn tell(&self, record: &Record, status: &Status) {
        let Some(told) = told(&record.event, status) else { return };
        let message = match told.app {
            Some(_) => format!("pod {}: {}", self.pod, told.words),
            None => format!("pod {} {}", self.pod, told.words),
        };
        let mut entry = journal::Entry::new(told.priority, "podrun", message.as_bytes())
            .with("PODRUN_EVENT", told.event)
            .with("PODRUN_POD", &self.pod)
            .with("PODRUN_ID", &self.id);
        if let Some(app) = told.app {
            entry = entry.with("PODRUN_APP", app);
        }
        if let Some(unit) = &self.unit {
            entry = entry.with("OBJECT_SYSTEMD_UNIT", unit);
        }
        // EAGAIN: the journal does not keep up. Nobody waits for it.
        let _ = self.socket.send(entry.bytes());
    }
}
