//! What the processes of a group may do with devices: by a program that the kernel asks before one is opened or a node of
//! it is made (BPF_PROG_TYPE_CGROUP_DEVICE), where there is a cgroup2 tree; by the list of v1's controller `devices`
//! where there is none.
//!
//! [`program`] is pure: rules to instructions, which are compared with nothing but numbers and know no loop. A process
//! is asked about by the programs of all groups above it, and each must agree. Program and list go with their group, so
//! that there is nothing to undo.

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::BorrowedFd;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::cgroup::files;
use crate::sys::bpf;
use crate::value::Access;

/// One device, or all of a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Block or character.
    pub kind: Kind,
    /// The driver's number.
    pub major: u32,
    /// The device's; `None`: any.
    pub minor: Option<u32>,
    /// What is allowed.
    pub access: Access,
}

/// The two kinds of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A block device.
    Block,
    /// A character device.
    Character,
}

impl Rule {
    fn is_of_same(&self, other: &Self) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }
}

impl fmt::Display for Rule {
    /// As v1's `devices.allow` has it: `c 1:3 rw`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.kind == Kind::Block { 'b' } else { 'c' };
        match self.minor {
            Some(minor) => write!(f, "{kind} {}:{minor} {}", self.major, self.access),
            None => write!(f, "{kind} {}:* {}", self.major, self.access),
        }
    }
}

/// Where v1 shows what is allowed, a line for each device.
pub const LIST: &str = "devices.list";

/// Lets the processes of a group, which is an open directory of the cgroup2 tree, do only what the rules allow.
///
/// # Errors
/// The kernel does not take the program, or does not show it at the group afterwards.
pub(super) fn attach(group: BorrowedFd<'_>, rules: &[Rule]) -> anyhow::Result<()> {
    let program = bpf::load_device_program(&program(rules)).context("cannot load the filter of devices")?;
    bpf::attach(group, &program).context("cannot attach the filter of devices")?;
    let count = attached(group)?.len();
    ensure!(count == 1, "the group shows {count} filters of devices after one was attached");
    Ok(())
}

/// The numbers of the filters of devices that a group of the cgroup2 tree has itself.
///
/// # Errors
/// The kernel's.
pub fn attached(group: BorrowedFd<'_>) -> anyhow::Result<Vec<u32>> {
    bpf::attached(group).context("cannot look for the filter of devices")
}

/// The same by the list of a group of v1's controller `devices`. The group has none below it yet.
///
/// # Errors
/// The kernel's, such as EPERM for what a group above does not allow; or it shows something else afterwards.
pub(super) fn list(group: BorrowedFd<'_>, rules: &[Rule]) -> anyhow::Result<()> {
    files::write(group, "devices.deny", "a").context("cannot write `a` to `devices.deny`")?;
    for rule in rules {
        let line = rule.to_string();
        files::write(group, "devices.allow", &line)
            .with_context(|| format!("cannot write `{line}` to `devices.allow`"))?;
    }
    let text = files::read(group, LIST).with_context(|| format!("cannot read `{LIST}`"))?;
    let shown: BTreeSet<&str> = text.lines().collect();
    let rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
    let expected: BTreeSet<&str> = rules.iter().map(String::as_str).collect();
    ensure!(shown == expected, "`{LIST}` shows {shown:?}, expected {expected:?}");
    Ok(())
}

/// One rule for each device: v1 makes one line of all that is said of a device.
#[must_use]
pub fn merged(rules: Vec<Rule>) -> Vec<Rule> {
    let mut all: Vec<Rule> = Vec::new();
    for rule in rules {
        match all.iter_mut().find(|other| other.is_of_same(&rule)) {
            Some(other) => other.access = other.access.with(rule.access),
            None => all.push(rule),
        }
    }
    all
}

/// What is left of the rules where others, of a group above, must agree. v1 takes no rule that is more than a group above
/// allows; the programs of v2 ask each other anyway.
#[must_use]
pub fn within(rules: Vec<Rule>, outer: &[Rule]) -> Vec<Rule> {
    let allowed = |rule: &Rule| {
        let covers = |other: &&Rule| {
            other.kind == rule.kind
                && other.major == rule.major
                && (other.minor.is_none() || other.minor == rule.minor)
        };
        outer.iter().filter(covers).fold(Access(0), |all, other| all.with(other.access))
    };
    let narrow = |rule: Rule| Rule { access: rule.access.and(allowed(&rule)), ..rule };
    rules.into_iter().map(narrow).filter(|rule| rule.access != Access(0)).collect()
}

/// Where `struct bpf_cgroup_dev_ctx` has what (linux/bpf.h).
const ACCESS_AND_KIND: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;

/// Registers: 1 comes with the context.
const ANSWER: u8 = 0;
const SCRATCH: u8 = 1;
const OF_KIND: u8 = 2;
const OF_ACCESS: u8 = 3;
const OF_MAJOR: u8 = 4;
const OF_MINOR: u8 = 5;

/// The instructions: each rule allows or goes on to the next, and the end forbids.
fn program(rules: &[Rule]) -> Vec<u64> {
    let mut code = vec![
        load(OF_KIND, SCRATCH, ACCESS_AND_KIND),
        load(OF_MAJOR, SCRATCH, MAJOR),
        load(OF_MINOR, SCRATCH, MINOR),
        // The upper half is the access, the lower the kind.
        copy(OF_ACCESS, OF_KIND),
        number(RIGHT, OF_ACCESS, 16),
        number(AND, OF_KIND, 0xffff),
    ];
    for rule in rules {
        let kind = if rule.kind == Kind::Block { 1 } else { 2 };
        let minor = rule.minor.map(|minor| (OF_MINOR, minor));
        let fields: Vec<(u8, u32)> =
            [(OF_KIND, kind), (OF_MAJOR, rule.major)].into_iter().chain(minor).collect();
        // Behind a comparison: the other comparisons, three instructions of the access, and the two of the answer.
        let mut left = i16::try_from(fields.len()).unwrap_or(3) + 5;
        for (field, wanted) in fields {
            left -= 1;
            code.push(unless_equal(field, wanted, left));
        }
        // Nothing is asked for that is not allowed.
        code.push(copy(SCRATCH, OF_ACCESS));
        code.push(number(AND, SCRATCH, u32::from(Access::ALL.0 & !rule.access.0)));
        code.push(unless_equal(SCRATCH, 0, 2));
        code.extend([number(MOVE, ANSWER, 1), EXIT]);
    }
    code.extend([number(MOVE, ANSWER, 0), EXIT]);
    code
}

/// `BPF_ALU | BPF_MOV | BPF_K`
const MOVE: u8 = 0xb4;
/// `BPF_ALU | BPF_AND | BPF_K`
const AND: u8 = 0x54;
/// `BPF_ALU | BPF_RSH | BPF_K`
const RIGHT: u8 = 0x74;
/// `BPF_JMP | BPF_EXIT`
const EXIT: u64 = 0x95;

/// The fields of `struct bpf_insn` in one number, as a little-endian machine has them; see [`bpf::load_device_program`].
fn instruction(operation: u8, to: u8, from: u8, offset: i16, number: u32) -> u64 {
    u64::from(operation)
        | u64::from(to | from << 4) << 8
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(number) << 32
}

/// `BPF_LDX | BPF_MEM | BPF_W`
fn load(to: u8, from: u8, offset: i16) -> u64 {
    instruction(0x61, to, from, offset, 0)
}

/// `BPF_ALU | BPF_MOV | BPF_X`
fn copy(to: u8, from: u8) -> u64 {
    instruction(0xbc, to, from, 0, 0)
}

fn number(operation: u8, to: u8, number: u32) -> u64 {
    instruction(operation, to, 0, 0, number)
}

/// Skips so many instructions: `BPF_JMP32 | BPF_JNE | BPF_K`.
fn unless_equal(field: u8, number: u32, skip: i16) -> u64 {
    instruction(0x56, field, 0, skip, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_an_app_are_narrowed_to_those_of_the_pod() {
        let rule = |minor, access| Rule { kind: Kind::Character, major: 10, minor, access };
        let block = Rule { kind: Kind::Block, ..rule(Some(1), Access::ALL) };
        let pod = merged(vec![
            rule(Some(1), Access::READ),
            rule(Some(1), Access::MAKE),
            rule(Some(2), Access::MAKE),
        ]);
        assert_eq!(pod.iter().map(ToString::to_string).collect::<Vec<_>>(), ["c 10:1 rm", "c 10:2 m"]);
        let app =
            vec![rule(Some(1), Access::ALL), rule(Some(2), Access::READ), rule(Some(3), Access::ALL), block];
        let left = within(app.clone(), &pod);
        assert_eq!(left.iter().map(ToString::to_string).collect::<Vec<_>>(), ["c 10:1 rm"]);
        assert_eq!(within(app, &[rule(None, Access::WRITE)]).len(), 2, "any minor of the pod covers each");
    }

    /// What the kernel would answer, for the few instructions that there are.
    fn answer(code: &[u64], context: [u32; 3]) -> u32 {
        let mut registers = [0_u32; 6];
        let mut at = 0;
        loop {
            let word = code[at];
            let [operation, both] = [word as u8, (word >> 8) as u8];
            let (to, from) = (usize::from(both & 15), usize::from(both >> 4));
            let (offset, number) = ((word >> 16) as u16, (word >> 32) as u32);
            at += 1;
            match operation {
                0x61 => registers[to] = context[usize::from(offset) / 4],
                0xbc => registers[to] = registers[from],
                MOVE => registers[to] = number,
                AND => registers[to] &= number,
                RIGHT => registers[to] >>= number,
                0x56 if registers[to] != number => at += usize::from(offset),
                0x56 => {}
                0x95 => return registers[0],
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn program_allows_what_a_rule_says_and_nothing_else() {
        let rule = |kind, major, minor, access| Rule { kind, major, minor, access };
        let rules = [
            rule(Kind::Character, 1, Some(3), Access::ALL),
            rule(Kind::Character, 136, None, Access::READ.with(Access::WRITE)),
            rule(Kind::Block, 7, Some(0), Access::READ),
        ];
        let code = program(&rules);
        let (block, character) = (1, 2);
        let table = [
            ((character, 1, 3, 7), 1),
            ((character, 1, 3, 1), 1),
            ((character, 1, 5, 2), 0),
            ((block, 1, 3, 2), 0),
            ((character, 136, 9, 6), 1),
            ((character, 136, 9, 1), 0),
            ((block, 7, 0, 2), 1),
            ((block, 7, 0, 6), 0),
            ((block, 7, 1, 2), 0),
            ((character, 7, 0, 2), 0),
        ];
        for ((kind, major, minor, access), expected) in table {
            let answer = answer(&code, [access << 16 | kind, major, minor]);
            assert_eq!(answer, expected, "{kind} {major}:{minor} {access}");
        }
        assert_eq!(answer(&program(&[]), [2 << 16 | 2, 1, 3]), 0);
        assert_eq!(rules.map(|rule| rule.to_string()), ["c 1:3 rwm", "c 136:* rw", "b 7:0 r"]);
    }
}
