//! Percent escapes (RFC 3986 §2.1), as paths, queries and names of parameters have them. What begins no escape stands for
//! itself.

/// The byte that an escape at `at` stands for.
#[must_use]
pub fn byte(text: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    u8::try_from(digit(at + 1)? * 16 + digit(at + 2)?).ok()
}

/// The bytes that a text with escapes stands for; `plus` is what a `+` is.
pub fn decoded(text: &[u8], plus: u8) -> impl Iterator<Item = u8> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let first = *text.get(at)?;
        let escaped = (first == b'%').then(|| byte(text, at)).flatten();
        at += if escaped.is_some() { 3 } else { 1 };
        Some(escaped.unwrap_or(if first == b'+' { plus } else { first }))
    })
}

/// The bytes that a parameter's name stands for (`application/x-www-form-urlencoded`).
pub fn form_decoded(name: &str) -> impl Iterator<Item = u8> {
    decoded(name.as_bytes(), b' ')
}
