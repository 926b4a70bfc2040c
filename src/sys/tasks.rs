//! How many threads this process has.

/// The number of threads of this process, from `/proc/self/task` (its link count is 2 plus one per thread).
///
/// # Errors
/// When `/proc` is not mounted.
pub fn count() -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let task = std::fs::metadata("/proc/self/task")
        .map_err(|e| anyhow::Error::new(e).context("cannot count threads in `/proc/self/task`"))?;
    Ok(task.nlink().saturating_sub(2))
}

#[cfg(test)]
mod tests {
    #[test]
    fn count_with_one_more_thread_is_one_more() {
        let before = super::count().unwrap();
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let (ready, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            ready.send(()).unwrap();
            let _ = held.recv();
        });
        started.recv().unwrap();
        assert!(super::count().unwrap() > before.saturating_sub(1));
        drop(hold);
        thread.join().unwrap();
    }
}
