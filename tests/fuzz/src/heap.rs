//! The heap of a target, with a limit: what a parser takes is bounded by what it was given, whatever that says.

use std::alloc::System;

use cap::Cap;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// Runs something that may take so many bytes at a time beyond what is taken already. To take more ends the process, which
/// is a finding.
pub fn within<T>(bytes: usize, run: impl FnOnce() -> T) -> T {
    HEAP.set_limit(HEAP.allocated() + bytes)
        .expect("more than is taken");
    let result = run();
    HEAP.set_limit(usize::MAX).expect("no limit");
    result
}
