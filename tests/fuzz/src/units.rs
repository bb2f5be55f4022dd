//! Durations and sizes of the configuration. Input: a text; its first bytes are numbers too.

use std::time::Duration;

use reprise::units::{format_duration, format_size, parse_duration, parse_size};

const LONGEST: u64 = 3650 * 86_400_000;

/// What holds for any text and any number.
pub fn check(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        a_text_is_read_or_explained(text);
    }
    if let Some(bytes) = data.first_chunk() {
        a_number_is_written_to_be_read(u64::from_le_bytes(*bytes));
    }
}

fn a_text_is_read_or_explained(text: &str) {
    match parse_duration(text) {
        Ok(duration) => {
            assert!(duration <= Duration::from_millis(LONGEST));
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
        Err(error) => assert!(error.to_string().contains(text.trim())),
    }
    match parse_size(text) {
        Ok(size) => a_number_is_written_to_be_read(size),
        Err(error) => assert!(error.to_string().contains(text.trim())),
    }
}

fn a_number_is_written_to_be_read(number: u64) {
    let duration = Duration::from_millis(number % (LONGEST + 1));
    assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
    // For people, so rounded: down, and by less than a tenth.
    let shown = parse_size(&format_size(number)).expect("a size");
    assert!(shown <= number && number - shown <= number / 10, "{number}");
    assert_eq!(parse_size(&format!("{number}B")), Ok(number));
    assert_eq!(parse_size(&number.to_string()), Ok(number));
}
