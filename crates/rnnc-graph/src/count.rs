//! Numbers of things in messages: of one thing, its word stands alone.

/// "1 input", "2 inputs"
pub fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
