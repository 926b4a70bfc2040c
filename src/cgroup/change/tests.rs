//! Any state to any state, against a kernel that refuses what the real one refuses.

use super::*;

const GROUPS: [&str; 4] = ["", SUPERVISOR, "app-a", "app-b"];
const FREE: &str = "9223372036854771712";

fn spot(group: &str, file: &str) -> Spot {
    Spot { level: Level::Group(group.to_owned()), hierarchy: 0, file: file.to_owned(), line: None }
}

fn want(value: &str) -> Want {
    let value = value.to_owned();
    Want { key: "k".into(), reads_back: value.clone(), value, shows: Shows::Whole, or_nothing: false }
}

fn number(text: &str) -> u128 {
    bundle::number(text).unwrap_or_else(|| panic!("{text}"))
}

fn set(text: &str) -> BTreeSet<u32> {
    let parts = text.split(',').map(|part| part.split_once('-').unwrap_or((part, part)));
    parts.flat_map(|(first, last)| first.parse::<u32>().unwrap()..=last.parse().unwrap()).collect()
}

/// The rules of v1, at each write.
struct Kernel(State);

impl Kernel {
    fn shown(&self, group: &str, file: &str) -> &str {
        &self.0[&spot(group, file)]
    }

    /// Quota by period; of a group without a quota what is around it allows.
    fn ratio(&self, group: &str) -> Option<(u128, u128)> {
        let quota = self.shown(group, "cpu.cfs_quota_us");
        (quota != "-1").then(|| (number(quota), number(self.shown(group, "cpu.cfs_period_us"))))
    }

    fn is_sound(&self) -> Result<(), String> {
        let above = |inner: (u128, u128), outer: (u128, u128)| inner.0 * outer.1 > outer.0 * inner.1;
        for group in GROUPS {
            let read = |file| self.shown(group, file);
            if number(read("memory.limit_in_bytes")) > number(read("memory.memsw.limit_in_bytes")) {
                return Err(format!("{group}: limit above the sum"));
            }
            if number(read("cpu.cfs_burst_us")) > number(read("cpu.cfs_quota_us")) {
                return Err(format!("{group}: burst above the quota"));
            }
            let (inner, outer) = (set(read("cpuset.cpus")), set(self.shown("", "cpuset.cpus")));
            if inner.is_empty() || !inner.is_subset(&outer) {
                return Err(format!("{group}: CPUs outside of the pod's"));
            }
            if let (Some(inner), Some(outer)) = (self.ratio(group), self.ratio(""))
                && above(inner, outer)
            {
                return Err(format!("{group}: quota above the pod's"));
            }
        }
        Ok(())
    }

    fn write(&mut self, spot: &Spot, value: &str) -> Result<(), String> {
        let Level::Group(group) = &spot.level else { panic!("{spot:?}") };
        let is_idle = self.shown(group, "cpu.idle") == "1";
        if spot.file == "cpu.shares" && is_idle {
            return Err("weight of an idle group".into());
        }
        if spot.file == "cpu.idle" && (is_idle != (value == "1")) {
            self.0.insert(super::tests::spot(group, "cpu.shares"), "1024".into());
        }
        self.0.insert(spot.clone(), value.to_owned());
        self.is_sound()
    }
}

/// splitmix64
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }

    /// A state that the rules allow, as far as the files that the tests have go.
    fn state(&mut self) -> State {
        let mut state = State::new();
        let pod_cpus = self.of(&["0", "1", "0-1", "0-3", "2-3", "1,3"]);
        let pod_quota = self.of(&[None, Some(300_u64), Some(500), Some(1500)]);
        for group in GROUPS {
            let mut put = |file: &str, value: String| drop(state.insert(spot(group, file), value));
            let limit = self.of(&[64_u64, 100, 200]) << 20;
            let (limit, sum) = match self.below(4) {
                0 => (FREE.to_owned(), FREE.to_owned()),
                1 => (limit.to_string(), FREE.to_owned()),
                _ => (limit.to_string(), (limit + (self.below(3) << 24)).to_string()),
            };
            put("memory.limit_in_bytes", limit);
            put("memory.memsw.limit_in_bytes", sum);
            let cpus: Vec<u32> = set(pod_cpus).into_iter().collect();
            let own = if group.is_empty() || group == SUPERVISOR || self.below(2) == 0 {
                pod_cpus.to_owned()
            } else {
                self.of(&cpus).to_string()
            };
            put("cpuset.cpus", own);
            let most = pod_quota.unwrap_or(4000);
            let thousandths = if group.is_empty() { pod_quota } else { Some(most / self.of(&[1, 2, 3])) };
            let period = self.of(&[100_000_u64, 20_000, 1_000_000, 50_000]);
            let quota = thousandths.filter(|_| group.is_empty() || self.below(3) > 0);
            let quota = quota.map(|thousandths| thousandths * period / 1000);
            put("cpu.cfs_period_us", period.to_string());
            put("cpu.cfs_quota_us", quota.map_or("-1".to_owned(), |quota| quota.to_string()));
            put("cpu.cfs_burst_us", quota.map_or(0, |quota| self.of(&[0, quota / 2, quota])).to_string());
            let is_idle = self.below(3) == 0;
            put("cpu.idle", u8::from(is_idle).to_string());
            let shares = if is_idle { "1024" } else { self.of(&["1024", "2048", "10"]) };
            put("cpu.shares", shares.to_owned());
        }
        state
    }
}

fn as_wanted(state: &State) -> Wanted {
    let mut wanted = state.iter().map(|(spot, value)| (spot.clone(), want(value))).collect();
    drop_idle_weights(&mut wanted);
    wanted
}

#[test]
fn any_state_leads_to_any_other_and_no_write_is_refused() {
    for seed in 0..400 {
        let mut random = Random(seed);
        let (before, behind) = (random.state(), random.state());
        assert_eq!(Kernel(before.clone()).is_sound(), Ok(()), "seed {seed}");
        let mut kernel = Kernel(before.clone());
        let way = steps(&before, &as_wanted(&behind), |_| Version::V1);
        for step in &way {
            let Step::Write(spot, value) = step else { panic!("{step:?}") };
            assert_eq!(
                kernel.write(spot, value),
                Ok(()),
                "seed {seed}: {step:?} of {way:#?} from {before:#?}"
            );
        }
        for (spot, value) in &behind {
            let is_same = spot.file.starts_with("cpuset") && set(&kernel.0[spot]) == set(value);
            assert!(is_same || kernel.0[spot] == *value, "seed {seed}: {spot:?}: {way:#?}");
        }
        assert_eq!(steps(&kernel.0, &as_wanted(&kernel.0), |_| Version::V1), []);
    }
}

fn texts(now: &[(&str, &str, &str)], wanted: &[(&str, &str, &str)], version: Version) -> Vec<String> {
    let now = now.iter().map(|(group, file, text)| (spot(group, file), (*text).to_owned())).collect();
    let wanted = wanted.iter().map(|(group, file, text)| (spot(group, file), want(text))).collect();
    let told = |step: Step| match step {
        Step::Write(Spot { level: Level::Group(group), file, .. }, value) => {
            format!("{group} {file} {value}")
        }
        other => panic!("{other:?}"),
    };
    steps(&now, &wanted, |_| version).into_iter().map(told).collect()
}

#[test]
fn what_grows_grows_from_outside_and_what_shrinks_from_inside() {
    let (pod, app) = ("", "app-a");
    let file = "memory.max";
    let small = [(pod, file, "10"), (app, file, "10")];
    let large = [(pod, file, "20"), (app, file, "max")];
    assert_eq!(texts(&small, &large, Version::V2), [" memory.max 20", "app-a memory.max max"]);
    assert_eq!(texts(&large, &small, Version::V2), ["app-a memory.max 10", " memory.max 10"]);
    assert_eq!(texts(&small, &small, Version::V2), [""; 0]);
}

#[test]
fn burst_is_never_above_its_quota() {
    let table = [
        (("max 100000", "0"), ("20000 100000", "5000"), ["cpu.max.burst 5000", "cpu.max 20000 100000"]),
        (("20000 100000", "20000"), ("10000 100000", "0"), ["cpu.max.burst 0", "cpu.max 10000 100000"]),
        (("10000 100000", "0"), ("20000 100000", "15000"), ["cpu.max 20000 100000", "cpu.max.burst 15000"]),
    ];
    for ((quota, burst), (new_quota, new_burst), expected) in table {
        let now = [("app-a", "cpu.max", quota), ("app-a", "cpu.max.burst", burst)];
        let wanted = [("app-a", "cpu.max", new_quota), ("app-a", "cpu.max.burst", new_burst)];
        let expected = expected.map(|step| format!("app-a {step}"));
        assert_eq!(texts(&now, &wanted, Version::V2), expected);
    }
}

#[test]
fn pods_cpus_allow_both_while_they_move() {
    let file = "cpuset.cpus";
    let at = |set| GROUPS.map(|group| (group, file, set)).to_vec();
    let expected = [
        " cpuset.cpus 0,1",
        "app-b cpuset.cpus 1",
        "app-a cpuset.cpus 1",
        "supervisor cpuset.cpus 1",
        " cpuset.cpus 1",
    ];
    assert_eq!(texts(&at("0"), &at("1"), Version::V1), expected);
}

#[test]
fn line_of_a_disk_is_taken_away_by_its_own_means() {
    let disk = |file: &str| Spot { line: Some("8:0".into()), ..spot("app-a", file) };
    let text = "7:0 rbps=1 wbps=max riops=max wiops=max\n8:0 rbps=5 wbps=max riops=max wiops=max\n";
    assert_eq!(disk("io.max").cut(text), "8:0 rbps=5 wbps=max riops=max wiops=max");
    assert_eq!(disk("io.max").cut("8:01 x\n"), "");
    assert_eq!(disk("io.max").written("").unwrap(), "8:0 rbps=max wbps=max riops=max wiops=max");
    assert_eq!(disk("blkio.throttle.read_bps_device").written("").unwrap(), "8:0 0");
    assert_eq!(disk("io.latency").written(""), None);
    assert_eq!(spot("", "cpuset.cpus").written("").unwrap(), "\n");
    assert_eq!(spot("", "memory.max").written("max").unwrap(), "max");
}

#[test]
fn property_is_set_once_for_all_files_that_it_is_in() {
    let at = |file: &str| Spot { level: Level::Slice, ..spot("", file) };
    let files = ["cpu.cfs_quota_us", "cpu.cfs_period_us"];
    let now = files.iter().map(|file| (at(file), "100000".to_owned())).collect();
    let wanted = files.iter().map(|file| (at(file), Want { key: "cpus".into(), ..want("50000") })).collect();
    assert_eq!(steps(&now, &wanted, |_| Version::V1), [Step::Property("cpus".into())]);
}
