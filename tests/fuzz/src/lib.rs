//! Oracles for the fuzz targets: one module per target, each with one function `check` that takes any bytes and panics
//! when the proxy's parser breaks a promise. "It does not panic" is the least of them: what is written is read again, what
//! is read agrees with a second reading that is as plain as can be, and a doubt never shares more.
//!
//! Inputs are text where the format is (a line of input is a line of the field), so that seeds can be read, written and
//! minimised by hand.

pub mod cache_control;
pub mod captures;
pub mod codings;
pub mod config;
pub mod fields;
pub mod heap;
pub mod input;
pub mod made;
pub mod paths;
pub mod patterns;
pub mod preconditions;
pub mod ranges;
pub mod records;
pub mod structured;
pub mod units;
pub mod vary;
pub mod wire;
