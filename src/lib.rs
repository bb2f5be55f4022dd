//! Reprise: a caching reverse proxy that runs as a sidecar beside a booking backend.
//!
//! # The path of a request
//!
//! [`server`] turns sockets into requests and hands each to [`proxy`], which finds its route in the table ([`route`])
//! and sends it down one of three ways.
//!
//! A **read** gets its [`key`], and its caller an [`identity`] where the route keeps users apart. [`cache`] looks for an
//! entry under it; [`coherence`] says, last of all, whether a write has dropped it. The rules of RFC 9111 ([`policy`])
//! judge what was found. A fresh [`entry`] is answered at once ([`respond`]: coding, preconditions, range, body);
//! anything else is fetched by [`fill`], a task of its own that many readers may wait for: from [`redis`], where other
//! replicas may have put it, or over [`upstream`].
//!
//! A **write** is announced to [`coherence`] before it is forwarded; when the app has answered, the tags that the
//! `[[write]]` rules name are dropped, and only then does the client get its answer. With Redis both are records of one
//! log that every replica follows, and the answer waits until none of them can serve what was there. A [`purge`] is a drop
//! without a write.
//!
//! **The rest** passes through, upgrades included.
//!
//! What happened is one [`outcome`], from which headers, log and [`metrics`] are made. The control path is
//! [`config`] (file to rules) → [`app`] (rules to running tasks) → [`cli`].
//!
//! # The order of the modules
//!
//! Five groups; each module uses only those above it (`tests/layers.rs` reads the sources and says so).

// Vocabulary: what things are. No I/O, no clock, no locks, no async.
pub mod capture;
pub mod entry;
pub mod glob;
pub mod headers;
pub mod identity;
pub mod key;
pub mod pattern;
pub mod tag;
pub mod units;

// Rules: RFC 9111 and the configuration's rules, as pure functions.
pub mod outcome;
pub mod policy;
pub mod purge;
pub mod route;

// Owners: each holds some state or some sockets behind one handle.
pub mod body;
pub mod cache;
pub mod coherence;
pub mod metrics;
pub mod redis;
pub mod server;
pub mod upstream;

// Request path: where a request is answered.
pub mod fill;
pub mod proxy;
pub mod respond;

// Control path: what operates the above.
pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod demo;
