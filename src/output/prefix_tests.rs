use super::*;

/// What was emitted, in order: the output (0 or 1) and the text.
struct Run {
    prefixer: Prefixer,
    start: Instant,
    out: Vec<(usize, String)>,
}

impl Run {
    fn new(style: Style, outputs: Outputs) -> Self {
        let prefixer = Prefixer::new(["api", "db"], style, outputs);
        Self { prefixer, start: Instant::now(), out: Vec::new() }
    }

    fn write(&mut self, index: usize, text: &str, at_ms: u64) {
        let now = self.start + Duration::from_millis(at_ms);
        let out = &mut self.out;
        self.prefixer.write(index, text.as_bytes(), now, |bytes| {
            out.push((index % 2, String::from_utf8_lossy(bytes).into_owned()));
        });
    }

    fn tick(&mut self, at_ms: u64) {
        let now = self.start + Duration::from_millis(at_ms);
        let out = &mut self.out;
        self.prefixer.tick(now, |index, bytes| {
            out.push((index % 2, String::from_utf8_lossy(bytes).into_owned()));
        });
    }

    /// All of one output, and what came since the last call only.
    fn text(&mut self, output: usize) -> String {
        let all: String =
            self.out.iter().filter(|(o, _)| *o == output).map(|(_, text)| text.as_str()).collect();
        self.out.retain(|(o, _)| *o != output);
        all
    }
}

#[test]
fn whole_lines_stand_under_their_names() {
    let mut run = Run::new(Style::Plain, Outputs::Apart);
    run.write(0, "one\ntwo\n", 0);
    run.write(3, "warn\n", 0);
    run.write(2, "\n", 0);
    assert_eq!(run.text(0), "api    | one\napi    | two\ndb     | \n");
    assert_eq!(run.text(1), "db     | warn\n");
    assert_eq!(run.prefixer.deadline(), None);
}

#[test]
fn a_line_in_pieces_is_one_line() {
    let mut run = Run::new(Style::Plain, Outputs::Apart);
    run.write(0, "o", 0);
    run.write(0, "n", 50);
    run.write(2, "db\n", 60);
    run.write(0, "e\n", 100);
    assert_eq!(run.text(0), "db     | db\napi    | one\n");
}

#[test]
fn an_unfinished_line_shows_after_its_delay_and_goes_on_without_a_second_name() {
    let mut run = Run::new(Style::Plain, Outputs::Apart);
    run.write(0, "name? ", 0);
    run.write(0, "(", 150);
    assert_eq!(run.prefixer.deadline(), Some(run.start + PARTIAL_DELAY));
    run.tick(199);
    assert_eq!(run.text(0), "");
    run.tick(200);
    assert_eq!(run.text(0), "api    | name? (");
    assert_eq!(run.prefixer.deadline(), None);
    run.write(0, "y/n)\nnext\n", 300);
    assert_eq!(run.text(0), "y/n)\napi    | next\n");
}

#[test]
fn another_app_ends_the_unfinished_line_in_front_of_it() {
    let mut run = Run::new(Style::Plain, Outputs::Apart);
    run.write(0, "50%", 0);
    run.tick(200);
    run.write(2, "db\n", 250);
    run.write(0, "..100%\n", 260);
    assert_eq!(run.text(0), "api    | 50%\ndb     | db\napi    | ..100%\n");
}

#[test]
fn on_one_terminal_both_outputs_share_the_line() {
    for (outputs, expected) in [(Outputs::Together, "\napi    | err\n"), (Outputs::Apart, "api    | err\n")] {
        let mut run = Run::new(Style::Plain, outputs);
        run.write(0, "50%", 0);
        run.tick(200);
        run.write(1, "err\n", 250);
        assert_eq!(run.text(1), expected);
    }
}

#[test]
fn own_lines_do_not_glue_to_an_unfinished_one() {
    let mut run = Run::new(Style::Plain, Outputs::Together);
    assert_eq!(run.prefixer.own_line("hello"), "podrun | hello\n");
    run.write(0, "50%", 0);
    run.tick(200);
    assert_eq!(run.prefixer.own_line("stopping"), "\npodrun | stopping\n");
    run.write(0, "60%\n", 300);
    assert_eq!(run.text(0), "api    | 50%api    | 60%\n");
}

#[test]
fn raw_bytes_pass_untouched() {
    let mut run = Run::new(Style::Raw, Outputs::Apart);
    run.write(0, "a\0b", 0);
    run.write(2, "\x1b[1m\n", 0);
    assert_eq!(run.text(0), "a\0b\x1b[1m\n");
    assert_eq!(run.prefixer.own_line("x"), "podrun: x\n");
}

#[test]
fn a_line_without_an_end_is_written_in_pieces_under_one_name() {
    let mut run = Run::new(Style::Plain, Outputs::Apart);
    let long = "x".repeat(100_000);
    for chunk in long.as_bytes().chunks(4096) {
        run.write(0, std::str::from_utf8(chunk).unwrap(), 0);
        assert!(run.prefixer.streams[0].line.capacity() <= 2 * LINE_BYTES_MAX);
    }
    run.write(0, "\n", 0);
    assert_eq!(run.text(0), format!("api    | {long}\n"));
}

#[test]
fn the_end_of_a_stream_lets_the_rest_go_without_a_newline() {
    let mut run = Run::new(Style::Plain, Outputs::Apart);
    run.write(0, "last words", 0);
    let mut end = String::new();
    run.prefixer.end(0, |bytes| end.push_str(&String::from_utf8_lossy(bytes)));
    assert_eq!(end, "api    | last words");
    run.prefixer.end(2, |_| panic!("nothing was left"));
}

#[test]
fn a_name_keeps_its_colour() {
    assert_eq!(prefix("api", 6, Style::Colored), format!("\x1b[{}mapi    |\x1b[0m ", color("api")));
    let colors: std::collections::BTreeSet<u8> = ["a", "b", "c", "d", "e", "f"].map(color).into();
    assert!(colors.len() > 3);
}

#[test]
fn lines_say_when_they_were_written_if_asked() {
    let with_times = |style| {
        let mut run = Run::new(style, Outputs::Together);
        run.prefixer = run.prefixer.with_times(|| Timestamp::UNIX_EPOCH);
        run.write(0, "one\ntw", 0);
        run.tick(300);
        run.write(0, "o\n", 400);
        (run.text(0), run.prefixer.own_line("stopping 1 app"))
    };
    let time = "1970-01-01T00:00:00.000Z";
    assert_eq!(
        with_times(Style::Plain),
        (format!("api    | {time} one\napi    | {time} two\n"), format!("podrun | {time} stopping 1 app\n"))
    );
    assert_eq!(
        with_times(Style::Bare),
        (format!("{time} one\n{time} two\n"), format!("podrun: {time} stopping 1 app\n"))
    );
}

#[test]
fn lines_are_json_if_asked() {
    let mut run = Run::new(Style::Json, Outputs::Apart);
    run.prefixer = run.prefixer.with_times(|| Timestamp::UNIX_EPOCH);
    run.write(3, "one\ntw", 0);
    run.tick(300);
    run.write(3, "o\n", 400);
    let head = "{\"schema\":1,\"time_at\":\"1970-01-01T00:00:00.000000Z\"";
    let expected = [("one", ""), ("tw", ",\"partial\":true"), ("o", "")].map(|(text, partial)| {
        format!("{head},\"app\":\"db\",\"stream\":\"stderr\",\"text\":\"{text}\"{partial}}}\n")
    });
    assert_eq!(run.text(1), expected.concat());
    assert_eq!(run.prefixer.own_line("x"), format!("{head},\"stream\":\"podrun\",\"text\":\"x\"}}\n"));
}
