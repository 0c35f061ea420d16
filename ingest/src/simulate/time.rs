//! Times and shas as tools write them, without a formatter on the way.

use flowsync_schemas::Micros;
use serde::{Serialize, Serializer};

/// Seconds of a minute, an hour and a day, in microseconds.
pub(super) const SECOND: i64 = 1_000_000;
pub(super) const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;

/// A time as GitHub writes it: whole seconds, UTC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Iso(pub Micros);

/// A time as Jira writes it: milliseconds, and a zone without a colon.
#[derive(Clone, Copy, Debug)]
pub(super) struct JiraTime(pub Micros);

impl Serialize for Iso {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut text = *b"0000-00-00T00:00:00Z";
        write_time(&mut text, self.0);
        to.serialize_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl Serialize for JiraTime {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut text = *b"0000-00-00T00:00:00.000+0000";
        write_time(&mut text, self.0);
        to.serialize_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

fn write_time(text: &mut [u8], at: Micros) {
    let (year, month, day) = civil(at.day().0);
    let seconds = at.0.div_euclid(SECOND).rem_euclid(86_400) as u32;
    let parts = [
        (0, 4, year.clamp(0, 9_999) as u32),
        (5, 2, month),
        (8, 2, day),
        (11, 2, seconds / 3_600),
        (14, 2, seconds / 60 % 60),
        (17, 2, seconds % 60),
    ];
    for (start, length, mut value) in parts {
        for place in text[start..start + length].iter_mut().rev() {
            *place = b'0' + (value % 10) as u8;
            value /= 10;
        }
    }
}

/// Year, month and day of a day since 1970-01-01, in the proleptic Gregorian calendar.
pub(super) fn civil(day: i32) -> (i32, u32, u32) {
    // Counted from 0000-03-01, a leap day is the last day of its year: eras of 400 years have 146,097 days.
    let day = i64::from(day) + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as i32, month as u32, (of_year - (153 * shifted + 2) / 5 + 1) as u32)
}

/// The name of a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Sha(u64, u64, u32);

impl Sha {
    /// Before the first commit of a branch.
    pub const NONE: Sha = Sha(0, 0, 0);

    pub fn draw(rng: &mut fastrand::Rng) -> Self {
        // Never all zeros, which means "no commit".
        Sha(rng.u64(1..), rng.u64(..), rng.u32(..))
    }

    /// The name of the same change on another parent.
    pub fn rewritten(self) -> Self {
        Sha(mix(self.0, 1).max(1), mix(self.1, self.0), self.2.wrapping_add(1))
    }

    fn hex(self) -> [u8; 40] {
        let mut text = [b'0'; 40];
        let digits = |to: &mut [u8], mut value: u64| {
            for place in to.iter_mut().rev() {
                *place = b"0123456789abcdef"[(value & 15) as usize];
                value >>= 4;
            }
        };
        digits(&mut text[..16], self.0);
        digits(&mut text[16..32], self.1);
        digits(&mut text[32..], u64::from(self.2));
        text
    }
}

impl std::fmt::Display for Sha {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

impl Serialize for Sha {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(std::str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

/// Two numbers into one that looks random (the finalizer of splitmix64).
pub(super) fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_add(b.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Whether something of this share in basis points happens.
pub(super) fn happens(rng: &mut fastrand::Rng, bps: u32) -> bool {
    rng.u32(0..10_000) < bps
}

/// One of a list.
pub(super) fn pick<'a, T>(rng: &mut fastrand::Rng, list: &'a [T]) -> &'a T {
    &list[rng.usize(0..list.len())]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_written_as_chrono_writes_them() {
        for day in (-800_000..800_000).step_by(397) {
            let at = Micros(i64::from(day) * 86_400_000_000 / 7 * 5 + 12_345_678_901);
            if at.to_string().starts_with(['-', '+']) {
                continue;
            }
            assert_eq!(serde_json::to_value(Iso(at)).unwrap(), format!("{}Z", &at.to_string()[..19]));
        }
        let at = Micros::parse("2024-02-29T23:59:58Z").unwrap();
        assert_eq!(serde_json::to_value(JiraTime(at)).unwrap(), "2024-02-29T23:59:58.000+0000");
    }

    #[test]
    fn shas_have_forty_digits() {
        let sha = Sha::draw(&mut fastrand::Rng::with_seed(1));
        assert_eq!(sha.to_string().len(), 40);
        assert_ne!(sha, sha.rewritten());
        assert_eq!(Sha::NONE.to_string(), "0".repeat(40));
    }
}
