#![allow(missing_docs)]
pub mod body;
pub mod cache;
pub mod capture;
pub mod coherence;
pub mod entry;
pub mod headers;
pub mod identity;
pub mod key;
pub mod metrics;
pub mod outcome;
pub mod pattern;
pub mod policy;
pub mod route;
pub mod tag;
pub mod units;
