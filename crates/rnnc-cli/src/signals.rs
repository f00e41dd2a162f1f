//! What ends a run early: Ctrl-C, and what systems send before they end a process.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Sets `stop` on the first SIGINT (Ctrl-C), SIGTERM (`kill`, batch systems, containers, `shutdown`) or SIGHUP (a closed
/// terminal). A second one ends the process at once, with the exit code that shells have for it.
pub fn stop_on_signals(stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    for signal in signals() {
        // In this order: what sees the flag set is the second one.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(stop))
            .and_then(|_| flag::register(signal, Arc::clone(stop)))
            .map_err(|error| anyhow::anyhow!("signal {signal} cannot be caught: {error}"))?;
    }
    Ok(())
}

#[cfg(unix)]
fn signals() -> Vec<i32> {
    use signal_hook::consts::SIGHUP;
    // `nohup` has it ignored, for runs to outlive their terminal.
    if ignored(SIGHUP) { vec![SIGINT, SIGTERM] } else { vec![SIGINT, SIGTERM, SIGHUP] }
}

#[cfg(not(unix))]
fn signals() -> Vec<i32> {
    vec![SIGINT, SIGTERM]
}

/// Whether whoever started the process has a signal ignored; no, where the system does not tell.
#[cfg(unix)]
fn ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}
