//! Bytes as lines, fields and messages; and what several oracles compute the plain way.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The lines of an input.
pub fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|byte| *byte == b'\n')
}

/// The parts of an input between empty lines; as many as are asked for, the last with all the rest.
pub fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut rest = data;
    let mut parts = [[].as_slice(); N];
    for (index, part) in parts.iter_mut().enumerate() {
        let end = rest.windows(2).position(|two| two == b"\n\n");
        match end.filter(|_| index + 1 < N) {
            Some(end) => (*part, rest) = (&rest[..end], &rest[end + 2..]),
            None => (*part, rest) = (rest, &[]),
        }
    }
    parts
}

/// One field with each line that can be one.
pub fn field(name: &'static str, data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines(data) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// The fields of a message, `name: value` in each line that can be one. The value comes as a server's parser would give it.
pub fn message(data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines(data) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..colon]), value) {
            headers.append(name, value);
        }
    }
    headers
}

/// The lines of a field that are text, if all are.
pub fn texts(headers: &HeaderMap, name: &str) -> Option<Vec<String>> {
    let lines = headers.get_all(name).iter();
    lines
        .map(|line| String::from_utf8(line.as_bytes().to_vec()).ok())
        .collect()
}

/// The elements of a line, found from the grammar of lists: a comma ends one unless it is inside a quoted string that
/// ends. `escapes`: whether a backslash in it hides the next character.
pub fn elements(line: &str, escapes: bool) -> Vec<String> {
    let chars: Vec<char> = line.chars().collect();
    let mut elements = vec![String::new()];
    let (mut at, mut quotes) = (0, true);
    while at < chars.len() {
        let mut end = at + 1;
        if chars[at] == ',' {
            elements.push(String::new());
            at = end;
            continue;
        }
        if chars[at] == '"' && quotes {
            while end < chars.len() && chars[end] != '"' {
                end += if escapes && chars[end] == '\\' { 2 } else { 1 };
            }
            quotes = end < chars.len();
            end = if quotes { end + 1 } else { at + 1 };
        }
        let last = elements.last_mut().expect("never empty");
        last.extend(&chars[at..end]);
        at = end;
    }
    let trimmed = elements.iter().map(|one| one.trim_matches([' ', '\t']));
    trimmed
        .filter(|one| !one.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Whether every quoted string of a line ends in it.
pub fn is_closed(line: &str) -> bool {
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c != '"' {
            continue;
        }
        loop {
            match chars.next() {
                None => return false,
                Some('"') => break,
                Some('\\') => drop(chars.next()),
                Some(_) => {}
            }
        }
    }
    true
}

/// The bytes that a percent-encoded text stands for; what is no escape stands for itself.
pub fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| match bytes.get(at).copied().unwrap_or_default() {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
        digit @ b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    };
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high * 16 + low);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}
