//! Where in the cgroup2 tree the pod's group may be made, and which controllers its parent must hand down.
//!
//! Pure: [`UnifiedFacts`] were gathered by `host`. On v1 the answer is always the launcher's own group and needs
//! no thought. On v2 a group with processes in it cannot give domain controllers to its children ("no internal
//! processes", cgroup-v2.rst), and giving it the others would silently make it threaded; so the own group serves
//! only when it is the root, has given them already, or is delegated to us and we can leave it for a leaf.

/// What is known of the cgroup2 tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnifiedFacts {
    /// The launcher's own group, below the mount point; empty: the root of the mount.
    pub own_group: String,
    /// Its facts.
    pub own: GroupFacts,
    /// The group at the root of the mount.
    pub root: GroupFacts,
}

/// What is known of one existing group of the cgroup2 tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupFacts {
    /// `cgroup.controllers`: what it could hand down.
    pub controllers: Vec<String>,
    /// `cgroup.subtree_control`: what it does hand down.
    pub enabled: Vec<String>,
    /// It is the root of the hierarchy, which may hold processes and controllers at once.
    pub is_root: bool,
    /// It will be made for this pod, which is alone in it.
    pub is_ours: bool,
    /// Its owner gave it to us: the xattr `trusted.delegate` or `user.delegate` is `1`.
    pub delegated: bool,
    /// No process is in it but the launcher and the caller that waits for it.
    pub alone: bool,
    /// We may make groups in it.
    pub writable: bool,
    /// `cgroup.type` is not `domain`: its children could not hold processes.
    pub threaded: bool,
}

/// The parent of the pod's group in the cgroup2 tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Below the mount point; empty: its root.
    pub parent: String,
    /// What is to be enabled in the parent.
    pub enable: Vec<String>,
    /// The launcher moves into a leaf first.
    pub leave: bool,
}

/// Why the controllers cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Those of the needed controllers that are missing; never empty.
    pub missing: Vec<String>,
    /// Why: lower case, no full stop.
    pub reason: String,
}

/// What to do when the cgroup2 tree does not give what is needed.
pub const DELEGATION_HINT: &str =
    "start it below a delegated group: systemd-run --user --scope -p Delegate=yes podrun run …";

/// Finds the parent for a pod that needs these controllers of cgroup2. None needed: the own group as it is.
pub fn place(facts: &UnifiedFacts, need: &[&str]) -> Result<Place, Refusal> {
    let own = candidate(&facts.own_group, &facts.own, need);
    match own {
        Err(refusal) if facts.own_group.is_empty() => Err(refusal),
        Err(refusal) => candidate("", &facts.root, need).map_err(|_| refusal),
        Ok(place) => Ok(place),
    }
}

/// Takes those of the wished controllers into a place found by [`place`] that it gives without a price: it hands them down
/// already, or it is the pod's alone, and left for a leaf anyway. What no limit needs moves a pod nowhere, and changes nothing
/// for others: at the root of the tree it is not enabled.
pub fn add_gifts<'c>(facts: &UnifiedFacts, place: &mut Place, wished: &[&'c str]) -> Vec<&'c str> {
    let parent = if place.parent == facts.own_group { &facts.own } else { &facts.root };
    if !parent.writable || parent.threaded {
        return Vec::new();
    }
    let is_enabled = |c: &str| contains(&parent.enabled, c);
    let may_enable = place.leave || parent.is_ours;
    let is_given = |c: &&&str| contains(&parent.controllers, c) && (may_enable || is_enabled(c));
    let gifts: Vec<&str> = wished.iter().filter(is_given).copied().collect();
    place.enable.extend(gifts.iter().filter(|c| !is_enabled(c)).map(|&c| c.to_owned()));
    gifts
}

fn candidate(group: &str, facts: &GroupFacts, need: &[&str]) -> Result<Place, Refusal> {
    let parent = group.to_owned();
    let enable: Vec<String> =
        need.iter().filter(|c| !contains(&facts.enabled, c)).map(|&c| c.to_owned()).collect();
    if need.is_empty() {
        return Ok(Place { parent, enable, leave: false });
    }
    let all = || need.iter().map(|&c| c.to_owned()).collect::<Vec<_>>();
    let absent: Vec<String> = all().into_iter().filter(|c| !contains(&facts.controllers, c)).collect();
    if !absent.is_empty() {
        let reason = format!("is not among the controllers of cgroup2's group `/{group}` ({})", list(facts));
        return Err(Refusal { missing: absent, reason });
    }
    let refuse = |missing: Vec<String>, why: &str| {
        Err(Refusal { missing, reason: format!("cannot be used below cgroup2's group `/{group}`: {why}") })
    };
    if !facts.writable {
        return refuse(all(), "we may not make groups in it");
    }
    if facts.threaded {
        return refuse(all(), "it is threaded, groups below it cannot hold processes");
    }
    if enable.is_empty() || facts.is_root {
        return Ok(Place { parent, enable, leave: false });
    }
    if !facts.delegated {
        return refuse(enable, "it holds processes and is not delegated to us");
    }
    if !facts.alone {
        return refuse(enable, "it is delegated but holds processes besides the launcher");
    }
    Ok(Place { parent, enable, leave: true })
}

fn contains(set: &[String], controller: &str) -> bool {
    set.iter().any(|c| c == controller)
}

fn list(facts: &GroupFacts) -> String {
    if facts.controllers.is_empty() {
        "it has none".into()
    } else {
        format!("`{}`", facts.controllers.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn group(controllers: &str, enabled: &str) -> GroupFacts {
        GroupFacts {
            controllers: words(controllers),
            enabled: words(enabled),
            writable: true,
            ..GroupFacts::default()
        }
    }

    fn facts(own: GroupFacts, root: GroupFacts) -> UnifiedFacts {
        UnifiedFacts { own_group: "user.slice/a.scope".into(), own, root }
    }

    fn no_root() -> GroupFacts {
        GroupFacts { is_root: true, ..group("cpu memory pids", "") }.unwritable()
    }

    impl GroupFacts {
        fn unwritable(self) -> Self {
            Self { writable: false, ..self }
        }
    }

    #[test]
    fn nothing_needed_means_the_own_group_whatever_it_is() {
        let place = place(&facts(group("", "").unwritable(), no_root()), &[]).unwrap();
        assert_eq!(place, Place { parent: "user.slice/a.scope".into(), enable: vec![], leave: false });
    }

    #[test]
    fn own_group_that_hands_down_already_is_used_as_it_is() {
        let own = group("cpu memory pids", "memory pids");
        let place = place(&facts(own, no_root()), &["memory"]).unwrap();
        assert_eq!((place.enable.len(), place.leave), (0, false));
    }

    #[test]
    fn delegated_group_that_is_ours_alone_is_left_for_a_leaf() {
        let own = GroupFacts { delegated: true, alone: true, ..group("cpu memory pids", "memory") };
        let place = place(&facts(own, no_root()), &["memory", "pids"]).unwrap();
        assert_eq!(place.enable, ["pids"]);
        assert!(place.leave);
    }

    #[test]
    fn root_of_the_hierarchy_serves_root() {
        let root = GroupFacts { is_root: true, ..group("cpu memory pids", "memory") };
        let found = place(&facts(group("memory", ""), root.clone()), &["memory", "cpu"]).unwrap();
        assert_eq!(found, Place { parent: String::new(), enable: words("cpu"), leave: false });
        let at_root = UnifiedFacts { own_group: String::new(), own: root.clone(), root };
        assert_eq!(place(&at_root, &["memory"]).unwrap().enable.len(), 0);
    }

    #[test]
    fn what_is_only_wished_for_moves_the_pod_nowhere() {
        let wished = ["io", "pids"];
        let gifts = |own: GroupFacts, root: GroupFacts, need: &[&str]| {
            let facts = facts(own, root);
            let mut found = place(&facts, need).unwrap();
            let gifts = add_gifts(&facts, &mut found, &wished);
            (gifts, found.enable, found.leave)
        };
        let given = |enabled: &str| group("io memory pids", enabled);
        let delegated = GroupFacts { delegated: true, alone: true, ..group("memory pids", "") };
        let root = |enabled: &str| GroupFacts { is_root: true, ..given(enabled) };
        let scope = GroupFacts { is_ours: true, ..root("") };
        let memory: &[&str] = &["memory"];
        let table = [
            (given("memory pids"), no_root(), memory, (vec!["pids"], words(""), false)),
            (delegated.clone(), no_root(), memory, (vec!["pids"], words("memory pids"), true)),
            // It would be left for them alone.
            (
                GroupFacts { enabled: words("memory"), ..delegated },
                no_root(),
                memory,
                (vec![], words(""), false),
            ),
            (scope, no_root(), memory, (wished.to_vec(), words("memory io pids"), false)),
            // Everybody's.
            (group("cpu", ""), root(""), memory, (vec![], words("memory"), false)),
            (group("cpu", ""), root("io memory"), memory, (vec!["io"], words(""), false)),
            (given("pids"), no_root(), &[], (vec!["pids"], words(""), false)),
            (given("pids").unwritable(), no_root(), &[], (vec![], words(""), false)),
            (GroupFacts { threaded: true, ..given("pids") }, no_root(), &[], (vec![], words(""), false)),
        ];
        for (own, root, need, expected) in table {
            assert_eq!(gifts(own.clone(), root, need), expected, "{own:?}");
        }
    }

    #[test]
    fn refusals_name_group_and_reason() {
        let delegated = GroupFacts { delegated: true, ..group("memory pids", "") };
        let cases = [
            (
                group("memory pids", ""),
                "cpu",
                "is not among the controllers of cgroup2's group `/user.slice/a.scope` (`memory pids`)",
            ),
            (
                group("", ""),
                "cpu",
                "is not among the controllers of cgroup2's group `/user.slice/a.scope` (it has none)",
            ),
            (
                group("memory", "").unwritable(),
                "memory",
                "cannot be used below cgroup2's group `/user.slice/a.scope`: we may not make groups in it",
            ),
            (
                group("memory", ""),
                "memory",
                "cannot be used below cgroup2's group `/user.slice/a.scope`: it holds processes and is not delegated to us",
            ),
            (
                delegated,
                "memory",
                "cannot be used below cgroup2's group `/user.slice/a.scope`: it is delegated but holds processes besides the launcher",
            ),
            (
                GroupFacts { threaded: true, ..group("memory", "") },
                "memory",
                "cannot be used below cgroup2's group `/user.slice/a.scope`: it is threaded, groups below it cannot hold processes",
            ),
        ];
        for (own, controller, reason) in cases {
            let refusal = place(&facts(own, no_root()), &[controller]).unwrap_err();
            assert_eq!(refusal, Refusal { missing: words(controller), reason: reason.into() });
        }
    }
}
