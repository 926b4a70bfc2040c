//! Waiting for a condition, with a deadline far beyond what it takes on a slow machine.

use std::time::{Duration, Instant};

/// How many times slower than usual this machine is: `PODRUN_TEST_SLOWNESS=5` in a virtual one.
pub fn slowness() -> u32 {
    std::env::var("PODRUN_TEST_SLOWNESS").ok().and_then(|word| word.parse().ok()).unwrap_or(1)
}

/// How often a storm repeats, as the project promises; less where somebody is in a hurry: `PODRUN_TEST_RUNS=50`.
pub fn runs() -> u64 {
    std::env::var("PODRUN_TEST_RUNS").ok().and_then(|word| word.parse().ok()).unwrap_or(1000)
}

/// Longer than anything here takes on a machine that builds something else at the same time.
pub fn far() -> Duration {
    Duration::from_secs(60) * slowness()
}

/// Looks until the condition holds; `what` is told when it never does.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < far(), "{what}: not after {} s", far().as_secs());
        std::thread::sleep(Duration::from_millis(2));
    }
}
