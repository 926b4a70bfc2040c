//! From a [`Command`], which names apps, to an [`Event`] of the table, or to why it cannot be done.
//!
//! Invariant: nothing changes in here; a refused command has had no effect.

use std::time::Duration;

use podrun_abi::control::{CHANGES_BYTES_MAX, Command};

use super::{AppIndex, Event, Reach, Supervisor};

impl Supervisor {
    /// What `command` means here, or why it cannot be done: lower case, no full stop.
    pub fn parse_command(&self, command: &Command) -> Result<Event, String> {
        match command {
            Command::Go => Ok(Event::Go),
            Command::Stop { apps, timeout_ms } => {
                Ok(Event::Stop(self.find_all(apps)?, timeout_ms.map(Duration::from_millis)))
            }
            Command::Kill { apps } => Ok(Event::Kill(self.find_all(apps)?)),
            Command::Pause { apps } => Ok(Event::Pause(self.find_pausable(apps)?)),
            // Who is paused shows when it is done: what goes before may be waiting still, such as a pause that is taken back.
            Command::Unpause { apps } if apps.is_empty() => Ok(Event::Unpause(self.indices().collect())),
            Command::Unpause { apps } => Ok(Event::Unpause(self.find_all(apps)?)),
            Command::Updated { app, changes } => {
                app.as_ref().map_or(Ok(AppIndex(0)), |name| self.find(name))?;
                if changes.iter().map(String::len).sum::<usize>() > CHANGES_BYTES_MAX {
                    return Err("these are too many changes to be told".to_owned());
                }
                Ok(Event::Updated(app.clone(), changes.clone()))
            }
            Command::Signal { apps, signal, all_processes } => {
                if !(1..=64).contains(signal) {
                    return Err(format!("`{signal}` is not a signal: 1 to 64"));
                }
                let reach = if *all_processes { Reach::All } else { Reach::Main };
                Ok(Event::Signal(self.find_running(apps)?, *signal, reach))
            }
        }
    }

    fn find_all(&self, names: &[String]) -> Result<Vec<AppIndex>, String> {
        names.iter().map(|name| self.find(name)).collect()
    }

    fn find_running(&self, names: &[String]) -> Result<Vec<AppIndex>, String> {
        if names.is_empty() {
            return Ok(self.indices().filter(|index| self.app(*index).is_running()).collect());
        }
        let apps = self.find_all(names)?;
        match apps.iter().find(|index| !self.app(**index).is_running()) {
            Some(index) => Err(format!("app `{}` is not running", self.app(*index).name)),
            None => Ok(apps),
        }
    }

    /// Those that may stand still: an app that has not been started yet would start, and one that is to end could not.
    fn find_pausable(&self, names: &[String]) -> Result<Vec<AppIndex>, String> {
        if self.stopping.is_some() {
            return Err("the pod is stopping".to_owned());
        }
        if names.is_empty() && !self.up {
            return Err("the pod is not up yet".to_owned());
        }
        let apps = self.find_running(names)?;
        match apps.iter().find(|index| self.app(**index).asked.is_some()) {
            Some(index) if !names.is_empty() => Err(format!("app `{}` is stopping", self.app(*index).name)),
            _ => Ok(apps.into_iter().filter(|index| self.app(*index).asked.is_none()).collect()),
        }
    }

    fn find(&self, name: &str) -> Result<AppIndex, String> {
        let found = self.apps.iter().position(|app| app.name == name);
        found.map(AppIndex).ok_or_else(|| format!("no app `{name}` in this pod"))
    }
}
