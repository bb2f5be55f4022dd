//! A look at the heads of answers before hyper reads them: hyper takes a lone LF for the end of a line, skips empty lines
//! before a status line, and skips interim answers for as long as they come.
//!
//! **In:** the bytes that a connection receives from the moment a request is about to be written. **Out:** whether they may
//! go on to hyper. From the end of the final head on it looks at nothing any more. What a head says is not its business:
//! hyper parses it, [`answer`](super::answer) judges it.

use std::fmt;

/// Bytes of an answer's head, with all the interim heads before it.
const MOST_BYTES: usize = 64 * 1024;
/// Interim answers to one request. An app has use for a `100` and a few `103`; one that sends more never comes to an end.
const MOST_INTERIM: usize = 32;

/// Why an answer's head is not read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Odd {
    /// A CR or an LF by itself (RFC 9112 §2.2), or a NUL.
    Line,
    /// An empty line where a status line must be.
    NoStatus,
    /// More than anyone has to say.
    TooLong,
    /// One interim answer after another.
    Interim,
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Line => "a line of the head does not end in CRLF",
            Self::NoStatus => "the answer begins with an empty line",
            Self::TooLong => "the head is too long",
            Self::Interim => "there are too many interim answers",
        })
    }
}

impl std::error::Error for Odd {}

/// How far into an answer's head a connection is.
#[derive(Debug)]
pub(super) struct Watch {
    /// The final head has ended.
    done: bool,
    bytes: usize,
    interim: usize,
    /// The head's first line is not over.
    on_status: bool,
    /// Bytes of this line.
    column: usize,
    /// The last byte was a CR.
    cr: bool,
    /// The digits of the status so far, which stand behind `HTTP/1.1 `.
    status: u16,
}

/// Where the three digits are in a status line (RFC 9112 §4): hyper takes none that has them elsewhere.
const STATUS: std::ops::Range<usize> = 9..12;

impl Watch {
    /// A watch over the answer to come.
    pub(super) const fn begin() -> Self {
        Self {
            done: false,
            bytes: 0,
            interim: 0,
            on_status: true,
            column: 0,
            cr: false,
            status: 0,
        }
    }

    /// A watch over nothing: a connection without a request is hyper's to watch.
    pub(super) const fn idle() -> Self {
        Self {
            done: true,
            ..Self::begin()
        }
    }

    /// Looks at what has come.
    pub(super) fn see(&mut self, bytes: &[u8]) -> Result<(), Odd> {
        for byte in bytes {
            if self.done {
                break;
            }
            self.see_one(*byte)?;
        }
        Ok(())
    }

    fn see_one(&mut self, byte: u8) -> Result<(), Odd> {
        self.bytes += 1;
        match (self.cr, byte) {
            _ if self.bytes > MOST_BYTES => Err(Odd::TooLong),
            (true, b'\n') => self.end_line(),
            (true, _) | (false, b'\n' | 0) => Err(Odd::Line),
            (false, b'\r') => {
                self.cr = true;
                Ok(())
            }
            (false, _) => {
                if self.on_status && STATUS.contains(&self.column) {
                    self.status = self.status * 10 + u16::from(byte.wrapping_sub(b'0') % 10);
                }
                self.column += 1;
                Ok(())
            }
        }
    }

    fn end_line(&mut self) -> Result<(), Odd> {
        let was_empty = std::mem::take(&mut self.column) == 0;
        self.cr = false;
        if !was_empty {
            self.on_status = false;
            return Ok(());
        }
        if self.on_status {
            return Err(Odd::NoStatus);
        }
        if self.status == 101 || self.status / 100 != 1 {
            self.done = true;
            return Ok(());
        }
        self.interim += 1;
        (self.on_status, self.status) = (true, 0);
        if self.interim > MOST_INTERIM {
            Err(Odd::Interim)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(bytes: &[u8]) -> Result<(), Odd> {
        let mut watch = Watch::begin();
        // One by one and all at once must come to the same.
        let one_by_one = bytes.iter().try_for_each(|byte| watch.see(&[*byte]));
        assert_eq!(Watch::begin().see(bytes), one_by_one);
        one_by_one
    }

    #[test]
    fn heads_in_crlf_pass_and_what_follows_them_is_not_looked_at() {
        for answer in [
            "HTTP/1.1 200 OK\r\n\r\n\0\n\r",
            "HTTP/1.1 204\r\nx: y\r\n\r\n\n",
            "HTTP/1.0 999 ?\r\na:b\r\n\r\n\r",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nlink: </>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n\n",
            "HTTP/1.1 101 Switching\r\n\r\n\x00\x01",
        ] {
            assert_eq!(seen(answer.as_bytes()), Ok(()), "{answer:?}");
        }
    }

    #[test]
    fn lines_that_do_not_end_in_crlf_are_not_read() {
        for (answer, odd) in [
            ("HTTP/1.1 200 OK\n\n", Odd::Line),
            ("HTTP/1.1 200 OK\r\nx: y\n\r\n", Odd::Line),
            ("HTTP/1.1 200 OK\r\nx: y\r\n\n", Odd::Line),
            ("HTTP/1.1 200 OK\r\nx: y\rz: a\r\n\r\n", Odd::Line),
            ("HTTP/1.1 200 OK\r\nx: y\r\r\n\r\n", Odd::Line),
            ("HTTP/1.1 200 OK\r\nx: \0\r\n\r\n", Odd::Line),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", Odd::NoStatus),
            (
                "HTTP/1.1 100 Continue\r\n\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
                Odd::NoStatus,
            ),
        ] {
            assert_eq!(seen(answer.as_bytes()), Err(odd), "{answer:?}");
        }
    }

    #[test]
    fn heads_have_an_end() {
        let interim = "HTTP/1.1 103 Early Hints\r\n\r\n";
        let last = "HTTP/1.1 200 OK\r\n\r\n";
        let most = interim.repeat(MOST_INTERIM);
        assert_eq!(seen(format!("{most}{last}").as_bytes()), Ok(()));
        let more = format!("{most}{interim}{last}");
        assert_eq!(seen(more.as_bytes()), Err(Odd::Interim));
        let long = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(MOST_BYTES));
        assert_eq!(seen(long.as_bytes()), Err(Odd::TooLong));
    }
}
