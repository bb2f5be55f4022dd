//! What the container may use.

use std::fs;

/// What `max_size = "auto"` comes to when nothing says how much memory there is.
const FALLBACK: u64 = 256 << 20;

/// Where the kernel tells a control group's memory limit: version 2, then version 1.
const LIMITS: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

/// The container's memory limit in bytes; `None` when it has none.
#[must_use]
pub fn memory_limit() -> Option<u64> {
    let limit = LIMITS
        .iter()
        .find_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok())?;
    // Version 1 writes "no limit" as a number larger than any machine.
    (limit < 1 << 60).then_some(limit)
}

/// A quarter of what the container may use, or of the machine where the container has no limit.
#[must_use]
pub fn quarter_of_memory() -> u64 {
    memory_limit()
        .or_else(machine_memory)
        .map_or(FALLBACK, |limit| limit / 4)
}

fn machine_memory() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
