//! Numbers and foreign text for people: exact (no floating point), and safe to show.

use flowsync_schemas::{Day, Micros};

/// Digits after the decimal point of a currency (ISO 4217; those that differ from two).
pub fn minor_digits(currency: &str) -> u32 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI" | "VND"
        | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        "CLF" | "UYW" => 4,
        _ => 2,
    }
}

/// A fixed-point number with `digits` after the point: `decimal(-5, 2)` is `-0.05`.
pub fn decimal(value: i64, digits: u32) -> String {
    let width = digits as usize + 1;
    let text = format!("{:0>width$}", value.unsigned_abs());
    let (whole, part) = text.split_at(text.len() - digits as usize);
    let sign = if value < 0 { "-" } else { "" };
    if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
}

/// The same with commas between thousands.
pub fn grouped(value: i64, digits: u32) -> String {
    let plain = decimal(value, digits);
    let (sign, plain) = plain.strip_prefix('-').map_or(("", plain.as_str()), |rest| ("-", rest));
    let (whole, part) = plain.split_once('.').map_or((plain, None), |(w, p)| (w, Some(p)));
    let mut out = sign.to_owned();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(part) = part {
        out.push('.');
        out.push_str(part);
    }
    out
}

/// An amount without its currency: `12,345.60`.
pub fn amount(minor: i64, currency: &str) -> String {
    grouped(minor, minor_digits(currency))
}

/// Millionths of a person-day as person-days with two digits, rounded half up.
pub fn person_days(ppm: i64) -> String {
    grouped(div_round(ppm, 10_000), 2)
}

/// Basis points as whole per cent, rounded half up; what is not certain never reads `100 %`, nor `0 %` what is not impossible.
pub fn percent(bps: i64) -> i64 {
    let rounded = div_round(bps, 100);
    match bps {
        1..=9_999 => rounded.clamp(1, 99),
        _ => rounded,
    }
}

/// A share as basis points, rounded half up; 0 of 0 is 0.
pub fn share_bps(part: i64, whole: i64) -> i64 {
    if whole <= 0 {
        return 0;
    }
    let bps = (i128::from(part) * 20_000 + i128::from(whole)).div_euclid(i128::from(whole) * 2);
    i64::try_from(bps).unwrap_or(i64::MAX)
}

fn div_round(value: i64, by: i64) -> i64 {
    value.div_euclid(by) + i64::from(value.rem_euclid(by) * 2 >= by)
}

/// `3 tickets`, `1 ticket`.
pub fn counted(count: i64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count, 0), if count == 1 { one } else { many })
}

/// `2026-10-03 14:05` (UTC).
pub fn minute(at: Micros) -> String {
    at.to_string().get(..16).unwrap_or_default().replace('T', " ")
}

/// The month before the one in which `day` lies, as `2026-09`.
pub fn month_before(day: Day) -> String {
    let month = day.month();
    let of_month: i32 = day.to_string().get(8..10).and_then(|d| d.parse().ok()).unwrap_or(1);
    let before = Day(day.0.saturating_sub(of_month)).month();
    debug_assert_ne!(before, month);
    before
}

/// Foreign text on one line: control characters (terminal escapes), line breaks and marks that reorder text become spaces.
/// At most `max` characters, then an ellipsis.
pub fn one_line(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max * 4));
    let mut shown = 0;
    for c in text.chars() {
        let c = if is_invisible(c) { ' ' } else { c };
        if c.is_whitespace() && (out.is_empty() || out.ends_with(' ')) {
            continue;
        }
        if shown == max {
            out.truncate(out.trim_end().len());
            out.push('…');
            return out;
        }
        out.push(if c.is_whitespace() { ' ' } else { c });
        shown += 1;
    }
    out.truncate(out.trim_end().len());
    out
}

fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A word of a POSIX shell command.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@,+=%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else if text.contains('\'') && !text.contains(['"', '$', '`', '\\', '!']) {
        format!("\"{text}\"")
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// One segment of a URL's path.
pub fn path_segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    // A segment of dots alone would be taken as a way through folders.
    if out.bytes().all(|b| b == b'.') { out.replace('.', "%2E") } else { out }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_have_the_digits_of_their_currency() {
        assert_eq!(amount(1_234_560, "EUR"), "12,345.60");
        assert_eq!(amount(1_234_560, "JPY"), "1,234,560");
        assert_eq!(amount(-5, "KWD"), "-0.005");
        assert_eq!(decimal(0, 2), "0.00");
        assert_eq!(decimal(i64::MIN, 2), "-92233720368547758.08");
        assert_eq!(person_days(12_345_678), "12.35");
        assert_eq!(person_days(i64::MAX), "9,223,372,036,854.78");
    }

    #[test]
    fn percents_do_not_lie_at_the_ends() {
        assert_eq!([9_999, 10_000, 9_950, 9_749, 1, 0, 50].map(percent), [99, 100, 99, 97, 1, 0, 1]);
        assert_eq!(share_bps(1, 3), 3_333);
        assert_eq!(share_bps(2, 3), 6_667);
        assert_eq!(share_bps(0, 0), 0);
        assert_eq!(share_bps(i64::MAX, i64::MAX), 10_000);
    }

    #[test]
    fn months_before() {
        for (day, before) in [(20_000, "2024-09"), (19_723, "2023-12"), (19_782, "2024-01"), (0, "1969-12")] {
            assert_eq!(month_before(Day(day)), before, "{}", Day(day));
        }
    }

    #[test]
    fn foreign_text_is_one_harmless_line() {
        assert_eq!(one_line(" a\r\n\tb\u{1b}[31mred\u{202e}x ", 80), "a b [31mred x");
        assert_eq!(one_line("abcdef", 3), "abc…");
        assert_eq!(one_line("abc", 3), "abc");
        assert_eq!(shell_word("it's $(x)"), r"'it'\''s $(x)'");
        assert_eq!(shell_word("select 'a b'"), "\"select 'a b'\"");
        assert_eq!(shell_word("SHOP-1,2026-10"), "SHOP-1,2026-10");
        assert_eq!(path_segment("o/r#1 ü"), "o%2Fr%231%20%C3%BC");
        assert_eq!(path_segment(".."), "%2E%2E");
    }

    proptest! {
        #[test]
        fn decimals_are_exact(value: i64, digits in 0u32..5) {
            let text = decimal(value, digits);
            prop_assert_eq!(text.replace('.', "").parse::<i64>().unwrap(), value);
            prop_assert_eq!(grouped(value, digits).replace(',', ""), text);
        }

        #[test]
        fn one_line_is_bounded(text: String, max in 1usize..50) {
            let line = one_line(&text, max);
            prop_assert!(line.chars().count() <= max + 1);
            prop_assert!(!line.chars().any(char::is_control));
        }
    }
}
