//! Whether memory is there, asked before it is taken: most systems end a process that takes too much.

use super::errors::ExecutorError;

/// Refuses what would not fit into this machine's memory.
///
/// # Errors
/// [`ExecutorError::Memory`], with the amount and what is available.
pub fn check_available(what: &str, bytes: u128) -> Result<(), ExecutorError> {
    let available = available_memory().unwrap_or(isize::MAX as u128);
    if bytes <= available.min(isize::MAX as u128) {
        return Ok(());
    }
    Err(ExecutorError::Memory { what: what.into(), bytes, available })
}

/// Bytes that a process can still get: the least of what the system says is available, the control group's limit, and
/// what is left of the process's own (`ulimit -v`). `None` where none is known.
fn available_memory() -> Option<u128> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let kib = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u128>().ok().map(|kib| kib * 1024)
    };
    let system = read("/proc/meminfo").and_then(|text| kib(&text, "MemAvailable:"));
    let group = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse::<u128>().ok());
    let own = read("/proc/self/limits").zip(read("/proc/self/status")).and_then(|(limits, status)| {
        let limit = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
        let limit = limit.split_whitespace().next()?.parse::<u128>().ok()?;
        Some(limit.saturating_sub(kib(&status, "VmSize:")?))
    });
    [system, group, own].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_has_is_refused_with_the_amount() {
        check_available("a byte", 1).unwrap();
        let error = check_available("all", u128::MAX).unwrap_err().to_string();
        assert!(error.starts_with(&format!("all would take {} bytes; ", u128::MAX)), "{error}");
    }
}
