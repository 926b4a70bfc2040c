//! Memory that a start took and a running pod does not need.
//!
//! The kernel maps file pages generously, 16 and more at a fault, so that soon after a start nearly all of the program
//! counts as ours, though a launcher beside a running pod executes little of it. The allocator keeps what was freed.

/// Gives back the pages of the program and the free ones of the heap. Those of the program that are used again return
/// from the page cache at a fault each.
pub fn give_back() {
    // SAFETY: malloc_trim(3) takes the locks of the C library's allocator, which is Rust's on this target, and returns
    // only pages that hold nothing but free memory.
    unsafe { libc::malloc_trim(0) };
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, length) in constant_pages(&maps) {
        let start = std::ptr::without_provenance_mut::<libc::c_void>(start);
        // SAFETY: MADV_DONTNEED (madvise(2)) drops pages of a private file mapping that was never writable, so that
        // each comes again from the file with the same bytes. A refusal leaves everything as it is.
        let _ = unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) };
    }
}

/// Address and length of what the program executes, and of the constants at the beginning of its file, in
/// `/proc/self/maps` (proc(5)). Read-only pages elsewhere in the file were written when it was loaded (relocations),
/// and are not the file's any more.
fn constant_pages(maps: &str) -> Vec<(usize, usize)> {
    let of_line = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let (access, offset) = (fields.next()?, fields.next()?);
        let inode = fields.nth(1)?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        let (start, end) = (number(start)?, number(end)?);
        let is_constant = access == "r-xp" || (access == "r--p" && number(offset)? == 0);
        (is_constant && inode != "0").then(|| (start, end.saturating_sub(start)))
    };
    maps.lines().filter_map(of_line).collect()
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
    fn constant_pages_are_text_and_the_beginning_of_the_file() {
        assert_eq!(constant_pages(MAPS), [(0x7fe9_9ac4_c000, 0x99000), (0x7fe9_9ace_5000, 0x1e8000)]);
        assert_eq!(constant_pages(MAPS.lines().next_back().unwrap()), []);
        assert_eq!(constant_pages("no maps\n"), []);
    }

    /// After it this very function goes on, and constants and relocated pages hold what they held.
    #[test]
    fn program_that_was_given_back_still_runs() {
        let before = (MAPS.to_owned(), format!("{:?}", constant_pages(MAPS)));
        give_back();
        assert_eq!(before, (MAPS.to_owned(), format!("{:?}", constant_pages(MAPS))));
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let here = give_back as fn() as usize;
        let mut pages = constant_pages(&maps).into_iter();
        assert!(pages.any(|(start, length)| (start..start + length).contains(&here)));
    }
}
