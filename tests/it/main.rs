//! Behaviour, through real sockets, in one binary.

#![expect(
    clippy::disallowed_methods,
    reason = "a test is its tasks' owner, reads whole bodies, and looks at the clock and the environment"
)]

mod support;

mod cli; // commands, exit codes, the environment, what `run` says and does at start
mod coalescing; // many readers, one request to the app
mod commands; // commands that speak to a running sidecar, and those for shells
mod conditional; // preconditions of clients, answered from the cache
mod config_files; // `check`: every error at once, with its place and what to write
mod deception; // what is one user's own never becomes everybody's, however its address is spelt
mod demo; // `reprise demo` keeps the promises that it prints
mod disconnects; // readers that leave, apps that break off, bodies too large
mod django; // a real Django app behind the shipped proxy.toml
mod early_hints; // interim answers: to whom, before what, and never stored
mod encoding; // codings: chosen, made, undone
mod floods; // clients that take time, memory or work: others are served, and it is counted
mod forwarding; // what the app is told, and what the client is: fields, Host, Via, who asked
mod freshness; // how long an answer is fresh, and what it says of its age
mod hostile; // requests and answers that mean harm, and neighbours that leave
mod identity; // who may share what: scopes, credentials, the lookup
mod keys; // which requests are one entry: path, query, host, scheme
mod limits; // what is too large or too many, and an app that cannot be reached
mod log_lives; // random lives of the shared log: its scripts in a real Redis, compared with their oracle
mod log_scripts; // what each script of the shared log promises
mod log_servers; // the scripts on servers that are full, read-only, clustered, and under limited users
mod lying_app; // answers that lie about their end, their request and their content
mod memory; // what tier 1 may take
mod passing; // both protocols, every transport, bodies as they stream
mod poisoning; // what one client sends never changes what the others get
mod properties; // what holds for any body and any Accept-Encoding
mod purge; // what operators drop: the admin API, PURGE and BAN
mod races; // fills and writes at the same time
mod ranges; // parts of an entry
mod redis; // the handle on Redis: its commands, wherever it is reached
mod redis_down; // what each kind of failure does to that handle, and how it comes back
mod regressions; // what went wrong once
mod regressions_fuzz; // what fuzzing found
mod regressions_replicas; // what went wrong once among replicas
mod replicas; // several replicas: read here what was written there
mod replicas_down; // the same without their Redis, or with a broken one
mod reuse; // what a request's own directives and method change
mod session_tokens; // a client reads its own writes through any replica
mod shared_lookups; // who somebody is: asked by one replica, known to all
mod shutdown; // signals, draining, and what may be lost (nothing)
mod smoke; // the vocabulary itself, and the shortest path
mod smuggling; // bodies and connections made to be read in two ways: refused, or one request to the app
mod smuggling_h2; // the same in HTTP/2, frame by frame
mod smuggling_heads; // the same of request lines and fields
mod stale; // what is served when it is no longer fresh
mod standards; // what RFC 9111 and its neighbours say beyond the public suite
mod storing; // what is stored and what is not
mod subscriptions; // listening to channels of Redis, and knowing what may have been missed
mod sweeper; // what is freed in Redis, and at what pace
mod telling; // headers, metrics and log tell one story, and no secrets
mod tier2_store; // the shared tier by itself: stored by one replica, found by another
mod timeouts; // every wait has an end
mod upgrades; // WebSocket and its like
mod validation; // asking the app whether an entry still holds
mod vary; // the secondary key
mod writes; // what a write drops, and what it leaves alone
