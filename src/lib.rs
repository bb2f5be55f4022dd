#![allow(missing_docs)]
pub mod body;
pub mod capture;
pub mod coherence;
pub mod entry;
pub mod headers;
pub mod identity;
pub mod key;
pub mod pattern;
pub mod policy;
pub mod route;
pub mod tag;
pub mod units;
