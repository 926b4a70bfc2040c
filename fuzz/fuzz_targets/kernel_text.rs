//! Texts of the kernel and of a root's files: mount tables, cgroup memberships, accounts. The first byte picks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use podrun::cgroup::hierarchy::Hierarchies;
use podrun::passwd::Accounts;

fuzz_target!(|bytes: &[u8]| {
    let Some((&pick, text)) = bytes.split_first() else { return };
    let middle = text.iter().position(|&b| b == 0).unwrap_or(text.len());
    let (first, second) = text.split_at(middle);
    if pick % 2 == 0 {
        let hierarchies = Hierarchies::parse(first, second);
        let _ = hierarchies.mode();
    } else {
        let accounts = Accounts::parse(first, second);
        let _ = (accounts.user_by_name("root"), accounts.group_by_id(0));
    }
});
