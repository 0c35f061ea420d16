//! Points in time, in the units their columns name.

use serde::{Deserialize, Serialize};

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Microseconds since 1970-01-01T00:00:00 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Micros(pub i64);

impl Micros {
    /// From whole seconds since 1970; saturates.
    pub const fn from_secs(secs: i64) -> Self {
        Micros(secs.saturating_mul(1_000_000))
    }

    /// From milliseconds since 1970; saturates.
    pub const fn from_millis(millis: i64) -> Self {
        Micros(millis.saturating_mul(1_000))
    }

    /// Reads ISO 8601 / RFC 3339, also in Jira's form without a colon in the zone (`2026-10-01T08:00:00.000+0200`).
    pub fn parse(text: &str) -> Option<Self> {
        // Jira writes `+0200`. A format of one's own takes chrono three times as long, so it comes last.
        let time = match text.as_bytes() {
            [.., b'+' | b'-', a, b, c, d] if [a, b, c, d].iter().all(|digit| digit.is_ascii_digit()) => {
                let (local, minutes) = text.split_at(text.len() - 2);
                chrono::DateTime::parse_from_rfc3339(&format!("{local}:{minutes}"))
            }
            _ => chrono::DateTime::parse_from_rfc3339(text),
        };
        time.or_else(|_| chrono::DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z"))
            .ok()
            .map(|t| Micros(t.timestamp_micros()))
    }

    /// The UTC day.
    pub fn day(self) -> Day {
        // Every i64 of microseconds is within ±107 million days of 1970, which fits an i32.
        Day(self.0.div_euclid(MICROS_PER_DAY) as i32)
    }
}

impl std::fmt::Display for Micros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match chrono::DateTime::from_timestamp_micros(self.0) {
            Some(t) => write!(f, "{}", t.format("%Y-%m-%dT%H:%M:%S%.6fZ")),
            None => write!(f, "{}µs", self.0),
        }
    }
}

/// Days since 1970-01-01, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Day(pub i32);

impl Day {
    /// Midnight UTC at which the day starts.
    pub fn start(self) -> Micros {
        Micros(i64::from(self.0) * MICROS_PER_DAY)
    }

    /// The first day of the month.
    pub fn first_of_month(self) -> Day {
        let date = chrono::DateTime::from_timestamp_micros(self.start().0);
        // Beyond the calendar's years every day is a month of its own, as `month` shows it.
        Day(self.0 - date.map_or(0, |d| chrono::Datelike::day0(&d) as i32))
    }

    /// The month, as `2026-10`.
    pub fn month(self) -> String {
        self.start().to_string()[..7].to_owned()
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.start().to_string()[..10])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_zone_are_read() {
        let a = Micros::parse("2026-10-01T08:00:00.000+0200");
        let b = Micros::parse("2026-10-01T06:00:00Z");
        assert_eq!(a, b);
        assert!(a.is_some());
        assert_eq!(Micros::parse("yesterday"), None);
        // As people and other tools write times; a day by itself ends like a zone.
        assert_eq!(Micros::parse("2026-10-01T08:00:00\u{2212}0200"), Micros::parse("2026-10-01T10:00:00Z"));
        assert_eq!(Micros::parse("2026-10-1T8:0:0+0200"), b);
        assert_eq!(Micros::parse("2026-10-0100"), None);
    }

    #[test]
    fn days_before_1970_and_months() {
        assert_eq!(Micros(-1).day(), Day(-1));
        assert_eq!(Day(0).month(), "1970-01");
        assert_eq!((Day(-1).first_of_month(), Day(20_000).first_of_month()), (Day(-31), Day(19_997)));
        assert_eq!(Day(20_000).to_string(), "2024-10-04");
    }
}
