//! Figures as people read them: bytes in MiB, shares in percent, four significant digits, and a name for each metric that
//! says what it is. Every view goes through here, so that one figure looks the same everywhere.

use aehost_study::{TrialId, metrics};

/// Trials that are named before the rest is counted.
const SHOWN: usize = 4;

/// How a metric's stored unit is shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scale {
    /// Shown value = stored value * factor.
    pub factor: f64,
    /// The shown unit; empty for plain numbers.
    pub unit: String,
}

impl Scale {
    /// The scale of a stored unit; units that are not known stay as they are.
    pub fn of(unit: &str) -> Self {
        let (factor, unit) = match unit {
            "bytes" => (1.0 / 1_048_576.0, "MiB"),
            "share" => (100.0, "%"),
            "J" => (1.0, "J"),
            other => (1.0, other),
        };
        Self { factor, unit: clean(unit) }
    }

    /// A stored value as shown, without the unit.
    pub fn show(&self, value: f64) -> String {
        number(value * self.factor)
    }

    /// A stored value as shown, with the unit.
    pub fn show_with_unit(&self, value: f64) -> String {
        with_unit(self.show(value), &self.unit)
    }

    /// A stored value with its standard error (left out where it is 0), without the unit: `43.0 ± 1.2`.
    pub fn show_with_error(&self, value: f64, standard_error: f64) -> String {
        let (shown, error) = (self.show(value), standard_error * self.factor);
        if standard_error > 0.0 { format!("{shown} ± {error:.*}", decimals(value * self.factor)) } else { shown }
    }
}

/// A shown figure and its unit, if it has one.
pub(crate) fn with_unit(shown: String, unit: &str) -> String {
    if unit.is_empty() { shown } else { format!("{shown} {unit}") }
}

/// Trials by their numbers, the first few of many: `3, 5, 9 and 4 more`.
pub(crate) fn trials(ids: &[TrialId]) -> String {
    let (shown, more) = ids.split_at(ids.len().min(SHOWN));
    let shown: Vec<String> = shown.iter().map(ToString::to_string).collect();
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    shown.join(", ") + &more
}

/// Three or four significant digits: 0.123, 1.23, 12.3, 123.4, 1234.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "–".into(),
        0.0 => "0".into(),
        size if size < 0.001 => format!("{value:.2e}"),
        _ => format!("{value:.*}", decimals(value)),
    }
}

/// Digits after the point with which [`number`] shows a value.
fn decimals(value: f64) -> usize {
    match value.abs() {
        size if size < 1.0 => 3,
        size if size < 10.0 => 2,
        size if size < 1000.0 => 1,
        _ => 0,
    }
}

/// Percent with a sign and two digits, as drops are shown: `+0.84`, `-0.12`.
pub(crate) fn signed(value: f64) -> String {
    if value.abs() < 0.005 { "0.00".into() } else { format!("{value:+.2}") }
}

/// Seconds as `0.42 s`, `12.3 s`, `4 min 05 s`, `1 h 02 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match seconds {
        _ if seconds < 60.0 => format!("{} s", number(seconds)),
        _ if whole < 3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Unix seconds as `2026-11-23 06:10 UTC`, by Hinnant's days-to-civil algorithm.
pub(crate) fn date(unix_seconds: f64) -> String {
    let seconds = unix_seconds.floor() as i64;
    let (days, in_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let z = days + 719_468;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", in_day / 3600, in_day % 3600 / 60)
}

/// What a metric is called in tables and charts; an evaluator's metrics keep their own names.
pub(crate) fn label(metric: &str) -> String {
    let known = match metric {
        "latency.ttft_ms" => "time to first token",
        "latency.tpot_ms" => "time per output token",
        metrics::END_TO_END => "end-to-end latency",
        "throughput.prefill_tokens_per_s" => "prefill throughput",
        "throughput.decode_tokens_per_s" => "decode throughput",
        "throughput.tokens_per_step" => "tokens per decoding step",
        metrics::PEAK_MEMORY => "peak memory",
        metrics::WEIGHTS_MEMORY => "memory of weights",
        metrics::CACHE_MEMORY => "memory of caches",
        metrics::ENERGY => "energy per token",
        metrics::ACCURACY_DROP => "accuracy drop",
        SCORE => "efficiency score",
        other => other,
    };
    clean(known)
}

/// The efficiency score stands among the metrics of the views under this name.
pub(crate) const SCORE: &str = "efficiency.score";

/// Text of a plugin or a user on one line, without control characters: none of it may move the cursor of a terminal or
/// break an XML file.
pub(crate) fn clean(text: &str) -> String {
    let visible = |c: char| {
        !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}')
    };
    let spaced: String =
        text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| visible(*c)).collect();
    spaced.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_their_significant_digits() {
        let shown = [0.0, 0.000123, 0.1234, 1.234, 12.34, 123.44, 1234.4, -5.678].map(number);
        assert_eq!(shown, ["0", "1.23e-4", "0.123", "1.23", "12.3", "123.4", "1234", "-5.68"]);
        assert_eq!(Scale::of("bytes").show_with_unit(150.0 * 1_048_576.0), "150.0 MiB");
        assert_eq!(Scale::of("share").show_with_error(0.43, 0.0123), "43.0 ± 1.2");
        assert_eq!([0.837, -0.12, 0.001].map(signed), ["+0.84", "-0.12", "0.00"]);
    }

    #[test]
    fn times_and_dates_are_for_people() {
        assert_eq!([0.4211, 12.34, 245.0, 3720.0].map(duration), ["0.421 s", "12.3 s", "4 min 05 s", "1 h 02 min"]);
        assert_eq!(date(0.0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_399.0), "2000-02-28 23:59 UTC");
        assert_eq!(date(951_782_400.0), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_795_414_200.0), "2026-11-23 06:10 UTC");
    }

    #[test]
    fn control_characters_do_not_reach_a_view() {
        assert_eq!(clean("\u{1b}[31mred\u{7}\nnext\u{202e}line "), "[31mred nextline");
    }
}
