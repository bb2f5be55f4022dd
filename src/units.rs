//! Settings people type: durations (`30s`, `1h30m`) and sizes (`64MiB`), read and written the same way.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// Reads a duration such as `250ms`, `30s`, `5m`, `1h30m` or `2d`; a bare `0` needs no unit.
///
/// # Errors
///
/// Says what is wrong and how to write it: a missing or unknown unit, a fraction, units out of order, or more
/// than ten years (which is always a slip, and would make sums with the clock overflow).
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(UnitError::duration(text, "is empty"));
    }
    let mut rest = text;
    let mut total: u64 = 0;
    let mut smallest = u64::MAX;
    while !rest.is_empty() {
        let (millis, unit, after) = duration_part(text, rest)?;
        if unit >= smallest {
            return Err(UnitError::duration(
                text,
                "must name each unit once, largest first",
            ));
        }
        smallest = unit;
        total = total.saturating_add(millis);
        rest = after.trim_start();
    }
    if total > LONGEST_MILLIS {
        return Err(UnitError::new(format!(
            "`{text}` is more than ten years: write at most `3650d`"
        )));
    }
    Ok(Duration::from_millis(total))
}

/// Reads a size such as `64KiB`, `256MiB`, `1.5GiB` or `10MB`; a bare number counts bytes.
///
/// # Errors
///
/// Says what is wrong and how to write it: no number, an unknown unit (with the likely one), or too large.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let text = text.trim();
    let number_ends = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(number_ends);
    let unit = unit.trim_start();
    let scale = size_unit(text, number, unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let malformed =
        whole.is_empty() || fraction.len() > 3 || fraction.contains('.') || number.ends_with('.');
    if malformed || (scale == 1 && !fraction.is_empty()) {
        return Err(UnitError::size(text, "is not a size"));
    }
    let too_large = || UnitError::size(text, "is too large");
    let thousandths: u128 = format!("{whole}{fraction:0<3}")
        .parse()
        .map_err(|_| too_large())?;
    let bytes = thousandths
        .checked_mul(u128::from(scale))
        .ok_or_else(too_large)?
        / 1000;
    u64::try_from(bytes).map_err(|_| too_large())
}

/// Writes a duration as [`parse_duration`] reads it: `5m`, `1h30m`, `250ms`. What is finer than a millisecond is
/// dropped, because no setting can say it.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, millis) in DURATION_UNITS {
        if rest >= millis {
            text.push_str(&format!("{}{name}", rest / millis));
            rest %= millis;
        }
    }
    text
}

/// Writes a size for people: `256 MiB`, `1.5 KiB`, `900 B`. One decimal, rounded down, so that a limit is never
/// shown as larger than it is.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let Some((name, scale)) = SIZE_UNITS[..4]
        .iter()
        .rev()
        .find(|(_, scale)| bytes >= *scale)
    else {
        return format!("{bytes} B");
    };
    let tenths = u128::from(bytes) * 10 / u128::from(*scale);
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} {name}"),
        (whole, tenth) => format!("{whole}.{tenth} {name}"),
    }
}

/// Why a duration or a size could not be read, in words for the person who typed it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnitError {
    message: String,
}

impl UnitError {
    const fn new(message: String) -> Self {
        Self { message }
    }

    fn duration(text: &str, problem: &str) -> Self {
        Self::new(format!(
            "`{text}` {problem}: write a duration like `250ms`, `30s`, `5m`, `1h30m` or `2d`"
        ))
    }

    fn size(text: &str, problem: &str) -> Self {
        Self::new(format!(
            "`{text}` {problem}: write a size like `64KiB`, `256MiB` or `2GiB`"
        ))
    }
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for UnitError {}

/// Largest first: the order in which they are written.
const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// The four that [`format_size`] writes come first.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

const LONGEST_MILLIS: u64 = 3650 * 86_400_000;

/// One `30m` of a duration: its milliseconds, those of its unit, and what follows it.
fn duration_part<'a>(text: &str, rest: &'a str) -> Result<(u64, u64, &'a str), UnitError> {
    if rest.starts_with('-') {
        return Err(UnitError::duration(text, "is negative"));
    }
    let digits_end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, rest) = rest.split_at(digits_end);
    if digits.is_empty() {
        return Err(UnitError::duration(text, "is not a duration"));
    }
    if rest.starts_with('.') {
        return Err(UnitError::duration(
            text,
            "has a fraction, and only whole numbers are read",
        ));
    }
    let rest = rest.trim_start();
    let unit_end = rest
        .find(|c: char| !c.is_alphabetic())
        .unwrap_or(rest.len());
    let (name, rest) = rest.split_at(unit_end);
    if name.is_empty() {
        return Err(UnitError::new(format!(
            "`{text}` needs a unit: ms, s, m, h or d (as in `{digits}s`)"
        )));
    }
    let Some((_, unit)) = DURATION_UNITS.into_iter().find(|(known, _)| *known == name) else {
        return Err(UnitError::new(format!(
            "`{text}` has the unknown unit `{name}`: use ms, s, m, h or d"
        )));
    };
    // A number too long for u64 is too long for ten years: let the sum saturate, and say that.
    let count: u64 = digits.parse().unwrap_or(u64::MAX);
    Ok((count.saturating_mul(unit), unit, rest))
}

fn size_unit(text: &str, number: &str, unit: &str) -> Result<u64, UnitError> {
    if number.is_empty() {
        return Err(UnitError::size(text, "is not a size"));
    }
    if unit.is_empty() {
        return Ok(1);
    }
    if let Some((_, scale)) = SIZE_UNITS.into_iter().find(|(known, _)| *known == unit) {
        return Ok(scale);
    }
    // `64M` and `64mib` are the usual slips; guessing would be off by 5% or by eight, so only suggest.
    let close = |known: &str| {
        known.eq_ignore_ascii_case(unit)
            || (unit.len() == 1 && known[..1].eq_ignore_ascii_case(unit))
    };
    Err(
        match SIZE_UNITS.into_iter().find(|(known, _)| close(known)) {
            Some((known, _)) => UnitError::new(format!(
                "`{text}` has the unknown unit `{unit}`: did you mean `{number}{known}`?"
            )),
            None => UnitError::new(format!(
                "`{text}` has the unknown unit `{unit}`: use B, KiB, MiB or GiB (or KB, MB, GB for powers of ten)"
            )),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("250ms", 250),
            ("30s", 30_000),
            (" 5m ", 300_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("2d", 172_800_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("3650d", LONGEST_MILLIS),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
    }

    #[test]
    fn a_bad_duration_is_told_how_to_be_written() {
        for (text, says) in [
            ("", "is empty"),
            ("30", "needs a unit: ms, s, m, h or d (as in `30s`)"),
            ("1h30", "needs a unit: ms, s, m, h or d"),
            ("5 minutes", "unknown unit `minutes`"),
            ("5M", "unknown unit `M`"),
            ("1.5h", "only whole numbers"),
            ("-5s", "is negative"),
            ("s", "is not a duration"),
            ("5s!", "is not a duration"),
            ("30m1h", "largest first"),
            ("1h1h", "largest first"),
            ("3651d", "more than ten years"),
            ("99999999999999999999999s", "more than ten years"),
        ] {
            let error = parse_duration(text).expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("10B", 10),
            ("64KiB", 65_536),
            ("256MiB", 268_435_456),
            ("256 MiB", 268_435_456),
            ("1.5KiB", 1536),
            ("2GiB", 2_147_483_648),
            ("10MB", 10_000_000),
            ("1GB", 1_000_000_000),
            ("1KB", 1000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn a_bad_size_is_told_how_to_be_written() {
        for (text, says) in [
            ("", "is not a size"),
            ("MiB", "is not a size"),
            ("-1KiB", "is not a size"),
            ("1.5", "is not a size"),
            ("1.KiB", "is not a size"),
            (".5KiB", "is not a size"),
            ("1.2.3KiB", "is not a size"),
            ("64M", "did you mean `64MiB`?"),
            ("64mib", "did you mean `64MiB`?"),
            ("64mb", "did you mean `64MB`?"),
            ("64 pages", "use B, KiB, MiB or GiB"),
            ("64é", "use B, KiB, MiB or GiB"),
            ("99999999TiB", "is too large"),
            ("99999999999999999999999999999999999999999", "is too large"),
        ] {
            let error = parse_size(text).expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn durations_are_written_as_they_are_read() {
        for text in ["0s", "250ms", "30s", "5m", "1h30m", "2d", "1m1s500ms", "1d"] {
            let duration = parse_duration(text).expect(text);
            assert_eq!(format_duration(duration), text);
        }
        assert_eq!(format_duration(Duration::from_micros(1_900)), "1ms");
    }

    #[test]
    fn sizes_are_written_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (268_435_456, "256 MiB"),
            (2 << 30, "2 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(format_size(bytes), text);
        }
    }
}
