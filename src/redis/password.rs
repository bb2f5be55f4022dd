//! Where the password comes from: never from the URL, and never into a log.

use std::fmt;
use std::path::PathBuf;

/// Where the password comes from.
#[derive(Clone)]
pub enum Password {
    /// There is none.
    None,
    /// This one.
    Given(String),
    /// The first line of this file, read again whenever a connection is made.
    File(PathBuf),
}

impl Password {
    /// The password of this moment. The file is small and local, and read once for a connection.
    pub(super) fn read(&self) -> Result<Option<String>, String> {
        let file = match self {
            Self::None => return Ok(None),
            Self::Given(password) => return Ok(Some(password.clone())),
            Self::File(file) => file,
        };
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
        let line = text.lines().next().unwrap_or_default();
        if line.is_empty() {
            return Err(format!("{}: holds no password", file.display()));
        }
        Ok(Some(line.to_owned()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Given(_) => f.write_str("Given(..)"),
            Self::File(file) => f.debug_tuple("File").field(file).finish(),
        }
    }
}
