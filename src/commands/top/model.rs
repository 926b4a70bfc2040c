//! What `top` knows: the last numbers of every row, their history, and what is selected. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::cgroup::stats::Counters;
use crate::pod::status::json::UsageJson;

/// As many looks are remembered: as many columns as a wide terminal has for them.
const HISTORY: usize = 240;

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Quit,
    Up,
    Down,
    /// The next order of rows.
    Order,
    /// Rows stand still, or go on.
    Stand,
}

/// In which order rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Pods by name, each with its apps behind it.
    Name,
    /// Apps alone, those that use most first.
    Cpu,
    Memory,
}

impl Order {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Name => Self::Cpu,
            Self::Cpu => Self::Memory,
            Self::Memory => Self::Name,
        }
    }
}

/// One group, looked at.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    pub pod: String,
    pub id: String,
    /// `None`: the pod as a whole.
    pub app: Option<String>,
    pub state: String,
    /// Percent of one CPU.
    pub cpu: Option<f64>,
    /// Percent of the time.
    pub throttled: Option<f64>,
    pub usage: UsageJson,
    pub counters: Counters,
}

/// A row.
#[derive(Debug)]
pub struct Row {
    pub last: Sample,
    /// Percent of one CPU, the newest last.
    pub cpu: VecDeque<f64>,
    /// Bytes, the newest last.
    pub memory: VecDeque<f64>,
}

impl Row {
    /// `shop`, `shop/api`.
    pub fn name(&self) -> String {
        match &self.last.app {
            Some(app) => format!("{}/{app}", self.last.pod),
            None => self.last.pod.clone(),
        }
    }

    /// What the quota allows, in percent of one CPU.
    pub fn cpu_max(&self) -> Option<f64> {
        self.last.counters.cpus.map(|cpus| cpus * 100.0)
    }

    /// The hard limit in bytes.
    #[allow(clippy::cast_precision_loss, reason = "for a picture")]
    pub fn memory_max(&self) -> Option<f64> {
        self.last.usage.memory_max_bytes.map(|bytes| bytes as f64)
    }

    fn is(&self, sample: &Sample) -> bool {
        self.last.id == sample.id && self.last.app == sample.app
    }

    #[allow(clippy::cast_precision_loss, reason = "for a picture")]
    fn take(&mut self, sample: Sample) {
        let memory = sample.usage.memory_current_bytes.unwrap_or_default() as f64;
        for (history, value) in [(&mut self.cpu, sample.cpu.unwrap_or_default()), (&mut self.memory, memory)]
        {
            history.push_back(value);
            if history.len() > HISTORY {
                history.pop_front();
            }
        }
        self.last = sample;
    }
}

/// All of it.
#[derive(Debug)]
pub struct Model {
    rows: Vec<Row>,
    /// Pod and app of the row that is selected.
    selected: Option<(String, Option<String>)>,
    pub order: Order,
    /// What comes is not shown.
    pub stands: bool,
    pub interval: Duration,
    /// Of the last look, in milliseconds since 1970.
    pub time_ms: u64,
}

impl Model {
    /// Nothing has been seen yet.
    pub fn new(interval: Duration) -> Self {
        Self { rows: Vec::new(), selected: None, order: Order::Name, stands: false, interval, time_ms: 0 }
    }

    /// Takes a look at everything; what is not in it any more has gone.
    pub fn take(&mut self, samples: Vec<Sample>, time_ms: u64) {
        if self.stands {
            return;
        }
        self.time_ms = time_ms;
        self.rows.retain(|row| samples.iter().any(|sample| row.is(sample)));
        for sample in samples {
            match self.rows.iter_mut().find(|row| row.is(&sample)) {
                Some(row) => row.take(sample),
                None => {
                    let mut row =
                        Row { last: Sample::default(), cpu: VecDeque::new(), memory: VecDeque::new() };
                    row.take(sample);
                    self.rows.push(row);
                }
            }
        }
        self.sort();
    }

    fn sort(&mut self) {
        let key = |row: &Row| (row.last.pod.clone(), row.last.id.clone(), row.last.app.clone());
        self.rows.sort_by_key(key);
        let most = |a: f64, b: f64| b.total_cmp(&a);
        match self.order {
            Order::Name => {}
            Order::Cpu => {
                self.rows.sort_by(|a, b| most(a.last.cpu.unwrap_or_default(), b.last.cpu.unwrap_or_default()))
            }
            Order::Memory => {
                self.rows.sort_by_key(|row| std::cmp::Reverse(row.last.usage.memory_current_bytes));
            }
        }
    }

    /// Those that are shown, in their order.
    pub fn rows(&self) -> Vec<&Row> {
        self.rows.iter().filter(|row| self.order == Order::Name || row.last.app.is_some()).collect()
    }

    /// How many pods and apps there are.
    pub fn counts(&self) -> (usize, usize) {
        let apps = self.rows.iter().filter(|row| row.last.app.is_some());
        let mut pods: Vec<&str> = self.rows.iter().map(|row| row.last.id.as_str()).collect();
        pods.sort_unstable();
        pods.dedup();
        (pods.len(), apps.count())
    }

    /// The row that is selected; the first one when that has gone.
    pub fn selected(&self) -> usize {
        let is = |row: &&Row| {
            self.selected.as_ref().is_some_and(|(id, app)| row.last.id == *id && row.last.app == *app)
        };
        self.rows().iter().position(is).unwrap_or_default()
    }

    /// Says whether it was the last key.
    pub fn press(&mut self, key: Key) -> bool {
        match key {
            Key::Quit => return true,
            Key::Up => self.select(self.selected().saturating_sub(1)),
            Key::Down => self.select(self.selected() + 1),
            Key::Order => {
                self.select(self.selected());
                self.order = self.order.next();
                self.sort();
            }
            Key::Stand => self.stands = !self.stands,
        }
        false
    }

    fn select(&mut self, position: usize) {
        let rows = self.rows();
        let row = rows.get(position).or(rows.last());
        self.selected = row.map(|row| (row.last.id.clone(), row.last.app.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(pod: &str, app: Option<&str>, cpu: f64) -> Sample {
        Sample {
            pod: pod.into(),
            id: format!("id-{pod}"),
            app: app.map(Into::into),
            cpu: Some(cpu),
            ..Sample::default()
        }
    }

    fn names(model: &Model) -> Vec<String> {
        model.rows().iter().map(|row| row.name()).collect()
    }

    #[test]
    fn rows_keep_their_history_and_go_with_their_group() {
        let mut model = Model::new(Duration::from_secs(1));
        let pod =
            |cpu: f64| vec![sample("b", Some("y"), cpu), sample("b", None, cpu), sample("b", Some("x"), cpu)];
        model.take(pod(1.0), 1);
        model.take(pod(2.0).into_iter().chain([sample("a", None, 0.0)]).collect(), 2);
        assert_eq!(names(&model), ["a", "b", "b/x", "b/y"]);
        assert_eq!(model.rows()[2].cpu, [1.0, 2.0]);
        assert_eq!(model.counts(), (2, 2));
        for _ in 0..2 * HISTORY {
            model.take(vec![sample("a", None, 3.0)], 3);
        }
        assert_eq!(names(&model), ["a"]);
        assert_eq!(model.rows()[0].cpu.len(), HISTORY);
        model.press(Key::Stand);
        model.take(Vec::new(), 4);
        assert_eq!(names(&model), ["a"], "what stands still shows nothing new");
    }

    #[test]
    fn selection_follows_its_row() {
        let mut model = Model::new(Duration::from_secs(1));
        model.take(vec![sample("a", None, 9.0), sample("a", Some("x"), 1.0), sample("a", Some("y"), 8.0)], 1);
        assert_eq!(model.selected(), 0);
        assert!(!model.press(Key::Down));
        assert_eq!(model.selected(), 1);
        model.press(Key::Order);
        assert_eq!((names(&model), model.selected()), (vec!["a/y".into(), "a/x".into()], 1));
        for _ in 0..5 {
            model.press(Key::Down);
        }
        assert_eq!(model.selected(), 1, "not beyond the last");
        model.press(Key::Up);
        model.press(Key::Up);
        assert_eq!(model.selected(), 0);
        model.take(vec![sample("a", Some("x"), 1.0)], 2);
        assert_eq!(model.selected(), 0, "what was selected has gone");
        model.take(Vec::new(), 3);
        model.press(Key::Down);
        assert_eq!(model.selected(), 0, "nothing is there");
        assert!(model.press(Key::Quit));
    }
}
