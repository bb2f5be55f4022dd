//! A real Django app behind the shipped proxy.toml, and the same app asked directly: nobody can tell them apart.

mod errors;
mod freshness;
mod hostile;
mod reading;
mod restarting;
mod sessions;
