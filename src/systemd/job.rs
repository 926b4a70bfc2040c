//! [`Wait`]: whether *our* job has ended, out of replies and signals in whatever order they come.
//!
//! Pure. Starting a unit starts its parents too, whose jobs end on the same match; and the signal that a job has
//! ended may come before the reply that names it. So ends are remembered until the name is known, and only the job's
//! object path counts, never "the first signal".

/// What has become of the waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The job ended `done`.
    Done,
    /// It ended, and not well: `failed`, `timeout`, `canceled`, `dependency`, `skipped`, and what else there may be.
    Failed(String),
}

/// The waiting for one job.
#[derive(Debug, Default)]
pub(super) struct Wait {
    job: Option<String>,
    ended: Vec<(String, String)>,
}

impl Wait {
    /// The reply to the call: this is our job.
    pub(super) fn started(&mut self, job: String) -> Option<Outcome> {
        let ended = std::mem::take(&mut self.ended);
        let result = ended.into_iter().find_map(|(path, result)| (path == job).then_some(result));
        self.job = Some(job);
        result.map(outcome)
    }

    /// Some job has ended.
    pub(super) fn removed(&mut self, job: &str, result: &str) -> Option<Outcome> {
        match &self.job {
            Some(own) => (own == job).then(|| outcome(result.to_owned())),
            None => {
                self.ended.push((job.to_owned(), result.to_owned()));
                None
            }
        }
    }
}

fn outcome(result: String) -> Outcome {
    if result == "done" { Outcome::Done } else { Outcome::Failed(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Seen {
        Reply(&'static str),
        Removed(&'static str, &'static str),
    }
    use Seen::{Removed, Reply};

    #[test]
    fn only_our_job_ends_the_waiting() {
        let failed = |result: &str| Some(Outcome::Failed(result.to_owned()));
        let table: [(&[Seen], Option<Outcome>); 8] = [
            (&[Reply("/job/2")], None),
            (&[Reply("/job/2"), Removed("/job/2", "done")], Some(Outcome::Done)),
            (&[Reply("/job/2"), Removed("/job/1", "failed")], None),
            (&[Reply("/job/2"), Removed("/job/1", "failed"), Removed("/job/2", "done")], Some(Outcome::Done)),
            (&[Removed("/job/1", "done"), Removed("/job/2", "done"), Reply("/job/2")], Some(Outcome::Done)),
            (&[Removed("/job/2", "timeout"), Removed("/job/1", "done"), Reply("/job/2")], failed("timeout")),
            (&[Reply("/job/2"), Removed("/job/2", "canceled")], failed("canceled")),
            (&[Removed("/job/22", "done"), Reply("/job/2")], None),
        ];
        for (number, (seen, expected)) in table.iter().enumerate() {
            let mut wait = Wait::default();
            let mut last = None;
            for seen in *seen {
                last = match seen {
                    Reply(job) => wait.started((*job).to_owned()),
                    Removed(job, result) => wait.removed(job, result),
                };
            }
            assert_eq!(&last, expected, "row {number}");
        }
    }

    #[test]
    fn every_result_but_done_is_a_failure() {
        let results =
            "canceled timeout failed dependency skipped invalid assert unsupported once collected frozen";
        for result in results.split(' ') {
            assert_eq!(outcome(result.to_owned()), Outcome::Failed(result.to_owned()));
        }
    }
}
