use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::model::{Key, Sample};
use super::*;
use crate::cgroup::stats::Counters;
use crate::pod::status::json::UsageJson;

const MIB: u64 = 1 << 20;

/// As it would look in a terminal of this size, without blanks at the ends of lines.
fn picture(model: &Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y: u16| -> String { (0..width).map(|x| buffer[(x, y)].symbol()).collect() };
    (0..height).map(|y| line(y).trim_end().to_owned() + "\n").collect()
}

fn sample(app: Option<&str>, cpu: f64, cpus: Option<f64>, memory: u64, max: Option<u64>) -> Sample {
    let stall = |some_avg10| Some(Stall { some_avg10, some_total_ns: 0 });
    Sample {
        pod: "shop".into(),
        id: "0a1b2c3d".into(),
        app: app.map(Into::into),
        state: "running".into(),
        cpu: Some(cpu),
        throttled: cpus.map(|cpus| if cpu >= cpus * 99.0 { 41.5 } else { 0.0 }),
        usage: UsageJson {
            memory_current_bytes: Some(memory),
            memory_peak_bytes: Some(memory.max(20 * MIB)),
            memory_max_bytes: max,
            pids_current: Some(3),
            pids_max: app.map(|_| 40),
            ..UsageJson::default()
        },
        counters: Counters {
            cpus,
            swap_bytes: Some(0),
            read_bytes: Some(5 * MIB),
            written_bytes: Some(1 << 30),
            pressure: Pressure { cpu: stall(cpu / 4.0), memory: stall(0.0), io: stall(1.5) },
            ..Counters::default()
        },
    }
}

/// A pod in which one app works in waves and another one's memory grows up to its limit.
fn shop() -> Model {
    let mut model = Model::new(Duration::from_secs(1));
    for second in 0..120_u32 {
        let wave = (f64::from(second) / 9.0).sin().mul_add(24.0, 25.0).min(50.0);
        let grown = (8 + u64::from(second) / 5).min(32) * MIB;
        let samples = vec![
            sample(None, wave + 12.5, None, grown + 90 * MIB, Some(256 * MIB)),
            sample(Some("api"), wave, Some(0.5), 90 * MIB, Some(128 * MIB)),
            sample(Some("db"), 12.5, None, grown, Some(32 * MIB)),
        ];
        model.take(samples, 1_795_460_400_000 + u64::from(second) * 1000);
    }
    model
}

/// docs/top.md shows what is drawn; `PODRUN_UPDATE_GOLDEN=1` writes it.
#[test]
fn document_shows_what_is_drawn() {
    let mut model = shop();
    let narrow = picture(&model, 80, 24);
    model.press(Key::Down);
    model.press(Key::Down);
    let wide = picture(&model, 130, 20);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/top.md");
    let page = std::fs::read_to_string(path).unwrap_or_default();
    let shown = format!(
        "In 80x24:\n\n```text\n{narrow}```\n\nIn 130x20, with another row selected:\n\n```text\n{wide}```\n"
    );
    if std::env::var_os("PODRUN_UPDATE_GOLDEN").is_some() {
        let text = page.split("In 80x24:").next().unwrap_or_default();
        std::fs::write(path, format!("{text}{shown}")).unwrap();
        return;
    }
    assert!(page.ends_with(&shown), "docs/top.md does not show what is drawn:\n{shown}");
}

#[test]
fn rows_in_another_order_have_their_whole_names() {
    let mut model = shop();
    model.press(Key::Order);
    model.press(Key::Stand);
    let shown = picture(&model, 80, 12);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].ends_with("STANDS STILL") && lines[0].contains("by cpu"), "{shown}");
    assert!(lines[2].starts_with("shop/api ") && lines[3].starts_with("shop/db "), "{shown}");
}

#[test]
fn bars_are_shares_of_the_top_and_the_newest_is_at_the_right() {
    let values = [0.0, 50.0, 100.0, 500.0];
    assert_eq!(bars(&values, 100.0, 6), "  ▁▅██");
    assert_eq!(bars(&values, 100.0, 2), "██");
    assert_eq!(bars(&[], 100.0, 2), "  ");
    assert_eq!(bars(&[1.0], 0.0, 1), "▁");
}

#[test]
fn every_size_can_be_drawn() {
    let model = shop();
    for width in [1, 2, 10, 40, 79, 109, 110, 300] {
        for height in [1, 2, 3, 15, 16, 60] {
            picture(&model, width, height);
            picture(&Model::new(Duration::from_secs(1)), width, height);
        }
    }
}

#[test]
fn what_is_near_its_limit_is_told_by_colour() {
    let of = |value| color(value, 100.0).fg;
    assert_eq!([of(10.0), of(70.0), of(95.0)], [Some(Color::Green), Some(Color::Yellow), Some(Color::Red)]);
}
