//! The program's own text in memory.
//!
//! The kernel maps file pages generously, 16 at a fault, so that soon after a start nearly all of the program counts
//! as ours, though a launcher beside a running pod executes little of it.

/// Gives the pages of the text back. Those that are executed again return from the page cache at a fault each.
pub fn give_back() {
    let Some((start, length)) =
        std::fs::read_to_string("/proc/self/maps").ok().and_then(|maps| text_of(&maps))
    else {
        return;
    };
    let start = std::ptr::without_provenance_mut::<libc::c_void>(start);
    // SAFETY: MADV_DONTNEED (madvise(2)) drops pages of a private file mapping that was never writable, so that each
    // comes again from the file with the same bytes; no memory of Rust's abstract machine lies in executable pages.
    // A refusal leaves everything as it is.
    let _ = unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) };
}

/// Address and length of the executable mapping of a file in `/proc/self/maps` (proc(5)); this program has one, as it
/// is static.
fn text_of(maps: &str) -> Option<(usize, usize)> {
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let is_text = fields.next()? == "r-xp";
        let inode = fields.nth(2)?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        let (start, end) = (address(start)?, address(end)?);
        (is_text && inode != "0").then(|| (start, end.saturating_sub(start)))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    const MAPS: &str = "\
5621c26c5000-5621c2708000 rw-p 00000000 00:00 0                          [heap]
7fe99ac4c000-7fe99ace5000 r--p 00000000 fe:00 10371230                   /usr/local/bin/podrun
7fe99ace5000-7fe99aecd000 r-xp 00099000 fe:00 10371230                   /usr/local/bin/podrun
7fe99aecd000-7fe99aee2000 r--p 00281000 fe:00 10371230                   /usr/local/bin/podrun
7fe99aee2000-7fe99aee6000 rw-p 00296000 fe:00 10371230                   /usr/local/bin/podrun
7fe99afd5000-7fe99afd7000 r-xp 00000000 00:00 0                          [vdso]
";

    #[test]
    fn text_is_the_executable_mapping_of_a_file() {
        assert_eq!(text_of(MAPS), Some((0x7fe9_9ace_5000, 0x1e8000)));
        assert_eq!(text_of(MAPS.lines().next_back().unwrap()), None);
        assert_eq!(text_of("no maps\n"), None);
    }

    /// After it this very function goes on.
    #[test]
    fn text_that_was_given_back_still_runs() {
        give_back();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let (start, length) = text_of(&maps).unwrap();
        assert!((start..start + length).contains(&(give_back as fn() as usize)));
    }
}
