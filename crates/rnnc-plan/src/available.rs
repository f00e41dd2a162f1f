//! Whether memory is there, asked before it is taken: most systems end a process that takes too much.

use crate::executor::ExecutorError;

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

/// Bytes that a process can still get: what the system says is available, or the control group's limit if less. `None`
/// where neither is known.
fn available_memory() -> Option<u128> {
    let system = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
        line.split_whitespace().nth(1)?.parse::<u128>().ok().map(|kib| kib * 1024)
    });
    let group =
        std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|t| t.trim().parse::<u128>().ok());
    match (system, group) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
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
