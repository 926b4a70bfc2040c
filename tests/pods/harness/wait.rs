//! Waiting for a condition, with a deadline far beyond what it takes on a slow machine.

use std::time::{Duration, Instant};

/// Longer than anything here takes on a machine that builds something else at the same time.
pub const FAR: Duration = Duration::from_secs(60);

/// Looks until the condition holds; `what` is told when it never does.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < FAR, "{what}: not after {} s", FAR.as_secs());
        std::thread::sleep(Duration::from_millis(2));
    }
}
