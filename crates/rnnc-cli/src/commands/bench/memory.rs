//! The memory that an executor really takes, by what the system says of this process.

use std::fs;

/// Bytes of a line of the process's status, `VmRSS` or `VmHWM`; `None` where the system does not say.
fn status(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Bytes of memory that this process holds.
pub fn resident() -> Option<u64> {
    status("VmRSS")
}

/// The most that it held since [`forget_peak`].
pub fn peak() -> Option<u64> {
    status("VmHWM")
}

/// Begins anew to look for the most. `None` if the system does not let it.
pub fn forget_peak() -> Option<()> {
    fs::write("/proc/self/clear_refs", "5").ok()
}
