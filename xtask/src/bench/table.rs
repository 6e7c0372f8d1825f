//! The table: numbers as people read them, and whether the bars were reached.

use super::{
    measure::{Measured, Result},
    rows::{Bar, Contestant, Unit},
};

/// Whose numbers have columns.
const COLUMNS: [Contestant; 4] = [Contestant::Tcp, Contestant::Requests, Contestant::Stream, Contestant::Ours];

/// How a row did beside its bar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// Our number as a multiple of the other's, where there is another.
    pub ratio: Option<f64>,
    /// How much of the bar was reached: 1 is all of it. `None` where no bar is set.
    pub reached: Option<f64>,
    pub met: Option<bool>,
}

impl Verdict {
    pub fn of(result: &Result) -> Self {
        let number = |of: Contestant| {
            result
                .measured
                .iter()
                .find(|measured| measured.contestant == of)
                .map_or(f64::NAN, |measured| measured.value)
        };
        let ours = number(Contestant::Ours);
        match result.row.bar {
            Bar::AtLeast(times, other) => {
                let ratio = ours / number(other);
                Self { ratio: Some(ratio), reached: Some(ratio / times), met: Some(ratio >= times) }
            }
            Bar::AtMost(times, other) => {
                let ratio = ours / number(other);
                Self { ratio: Some(ratio), reached: Some(times / ratio), met: Some(ratio <= times) }
            }
            Bar::Under(limit) => Self { ratio: None, reached: Some(limit / ours), met: Some(ours < limit) },
            Bar::Beside(other) => Self { ratio: Some(ours / number(other)), reached: None, met: None },
        }
    }
}

/// The table, as Markdown that reads well as it stands.
pub fn markdown(results: &[Result]) -> String {
    let mut lines = vec![head()];
    lines.extend(results.iter().map(line));
    let widths = (0..lines[0].len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default())
        .collect::<Vec<_>>();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for ((cell, width), column) in line.iter().zip(&widths).zip(0..) {
            let pad = " ".repeat(width - cell.chars().count());
            text.push_str(&if is_number(column) { format!("| {pad}{cell} ") } else { format!("| {cell}{pad} ") });
        }
        text.push_str("|\n");
        if number == 0 {
            for (width, column) in widths.iter().zip(0..) {
                let rule = "-".repeat(width + 1);
                text.push_str(&if is_number(column) { format!("|{rule}:") } else { format!("|{rule}-") });
            }
            text.push_str("|\n");
        }
    }
    text
}

fn is_number(column: usize) -> bool {
    (1..=COLUMNS.len()).contains(&column)
}

fn head() -> Vec<String> {
    let names = COLUMNS.iter().map(|contestant| contestant.name());
    let head = std::iter::once("").chain(names).chain(["asked for", "reached"]);
    head.map(str::to_owned).collect()
}

fn line(result: &Result) -> Vec<String> {
    let number = |of: Contestant| result.measured.iter().find(|measured| measured.contestant == of);
    let cell = |measured: &Measured| value(measured.value, result.row.unit);
    let numbers = COLUMNS.iter().map(|contestant| number(*contestant).map(cell).unwrap_or_default());
    // Who has no column is told with the bar.
    let aside = result.measured.iter().find(|measured| !COLUMNS.contains(&measured.contestant));
    let named = aside.map(|aside| format!(" ({}: {})", aside.contestant.name(), cell(aside))).unwrap_or_default();
    let unnamed = aside.map(|aside| format!(" ({})", cell(aside))).unwrap_or_default();
    let asked = match result.row.bar {
        Bar::AtLeast(times, other) => format!("at least {times} × {}{unnamed}", other.name()),
        Bar::AtMost(times, other) => format!("at most {times} × {}{unnamed}", other.name()),
        Bar::Under(limit) => format!("under {}{named}", value(limit, result.row.unit)),
        Bar::Beside(_) => String::new(),
    };
    let mut cells = vec![result.row.name.to_owned()];
    cells.extend(numbers);
    cells.extend([asked, said(result)]);
    cells
}

fn said(result: &Result) -> String {
    let verdict = Verdict::of(result);
    let ratio = match (verdict.ratio, result.row.bar) {
        (Some(ratio), Bar::Beside(other)) => format!("{} × {}", ratio_text(ratio), other.name()),
        (Some(ratio), _) => format!("{} ×: ", ratio_text(ratio)),
        (None, _) => String::new(),
    };
    match (verdict.met, verdict.reached) {
        (Some(true), _) => format!("{ratio}met"),
        (Some(false), Some(reached)) => format!("{ratio}missed, {:.0} % of the bar", (reached * 100.0).floor()),
        _ => ratio,
    }
}

fn ratio_text(ratio: f64) -> String {
    if ratio < 0.1 { format!("{ratio:.3}") } else { format!("{ratio:.2}") }
}

/// A number with its unit.
pub fn value(number: f64, unit: Unit) -> String {
    match unit {
        Unit::Micros if number < 1000.0 => format!("{} µs", digits(number)),
        Unit::Micros => format!("{} ms", digits(number / 1000.0)),
        Unit::PerSecond => format!("{}/s", digits(number)),
        Unit::BytesPerSecond => format!("{} MB/s", digits(number / 1e6)),
        Unit::Pieces => format!("{number:.0}"),
        Unit::Bytes if number < 1000.0 => format!("{} B", digits(number)),
        Unit::Bytes => format!("{} KB", digits(number / 1000.0)),
    }
}

/// Three digits that count, thousands apart.
fn digits(number: f64) -> String {
    if number.abs() < 10.0 {
        return format!("{number:.2}");
    }
    if number.abs() < 100.0 {
        return format!("{number:.1}");
    }
    let step = 10_f64.powf((number.abs().log10().floor() - 2.0).max(0.0));
    let whole = format!("{:.0}", (number / step).round() * step);
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{super::rows, *};

    fn result(key: &str, numbers: &[(Contestant, f64)]) -> Result {
        let row = rows::chosen(&[key.to_owned()])[0];
        let measured = numbers.iter().map(|(contestant, value)| Measured {
            contestant: *contestant,
            rounds: vec![*value],
            value: *value,
            beside: Value::Null,
        });
        Result { row, measured: measured.collect() }
    }

    #[test]
    fn numbers_have_the_digits_that_count() {
        for (number, unit, text) in [
            (7.123, Unit::Micros, "7.12 µs"),
            (84.26, Unit::Micros, "84.3 µs"),
            (1_234.5, Unit::Micros, "1.23 ms"),
            (12_345.6, Unit::Micros, "12.3 ms"),
            (1_234_567.0, Unit::PerSecond, "1,230,000/s"),
            (999.6, Unit::PerSecond, "1,000/s"),
            (523_081_087.0, Unit::BytesPerSecond, "523 MB/s"),
            (42.0, Unit::Bytes, "42.0 B"),
            (73_728.0, Unit::Bytes, "73.7 KB"),
            (0.0, Unit::Pieces, "0"),
        ] {
            assert_eq!(value(number, unit), text);
        }
    }

    #[test]
    fn a_bar_is_met_at_the_bar_and_missed_below() {
        use Contestant::{Gossipsub, Ours, Requests, Stream};
        for (key, other, ours, ratio, met) in [
            ("latency", (Requests, 100.0), 80.0, Some(0.8), Some(true)),
            ("latency", (Requests, 100.0), 90.0, Some(0.9), Some(false)),
            ("in-flight", (Requests, 100.0), 1000.0, Some(10.0), Some(true)),
            ("in-flight", (Requests, 100.0), 500.0, Some(5.0), Some(false)),
            ("urgent", (Stream, 1.0), 9_999.0, None, Some(true)),
            ("urgent", (Stream, 1.0), 20_000.0, None, Some(false)),
            ("connect", (Stream, 2.0), 3.0, Some(1.5), None),
            ("posts-lost", (Gossipsub, 7.0), 0.0, None, Some(true)),
            ("posts-lost", (Gossipsub, 0.0), 1.0, None, Some(false)),
        ] {
            let verdict = Verdict::of(&result(key, &[other, (Ours, ours)]));
            assert_eq!((verdict.ratio, verdict.met), (ratio, met), "{key} {ours}");
        }
    }

    #[test]
    fn the_table_says_what_was_asked_for_and_what_was_missed() {
        use Contestant::{Bare, Gossipsub, Memory, Ours, Requests, Stream, Tcp};
        let table = markdown(&[
            result("latency", &[(Tcp, 15.0), (Requests, 100.0), (Stream, 25.0), (Ours, 128.0)]),
            result("one-way", &[(Tcp, 15e6), (Stream, 2e6), (Ours, 1.1e6)]),
            result("durable", &[(Memory, 150_000.0), (Ours, 90_000.0)]),
            result("posts-cpu", &[(Gossipsub, 400.0), (Ours, 100.0)]),
            result("idle", &[(Bare, 73_700.0), (Ours, 80_000.0)]),
        ]);
        let lines = table.lines().collect::<Vec<_>>();
        assert_eq!(lines.len(), 7);
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{table}");
        assert!(lines[2].contains("at most 0.8 × request-response"), "{table}");
        assert!(lines[2].contains("1.28 ×: missed, 62 % of the bar"), "{table}");
        assert!(lines[3].contains("0.55 ×: met") && !lines[3].contains("missed"), "{table}");
        assert!(lines[4].contains("at least 0.5 × in memory (150,000/s)"), "{table}");
        assert!(lines[5].contains("at most 0.5 × gossipsub (400 µs)") && lines[5].contains("0.25 ×: met"), "{table}");
        assert!(lines[6].contains("under 90.0 KB (bare libp2p: 73.7 KB)"), "{table}");
    }
}
