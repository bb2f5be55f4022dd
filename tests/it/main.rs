//! Behaviour, through real sockets, in one binary.

mod support;

mod smoke; // the vocabulary itself, and the shortest path
