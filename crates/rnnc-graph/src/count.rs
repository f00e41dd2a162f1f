//! Numbers of things in messages: of one thing, its word stands alone.

/// "1 input", "2 inputs", "2 classes"
pub fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ if what.ends_with('s') => format!("{number} {what}es"),
        _ => format!("{number} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn one_thing_is_singular() {
        assert_eq!([0, 1, 2].map(|n| count(n, "unit")), ["0 units", "1 unit", "2 units"]);
        assert_eq!([1, 2].map(|n| count(n, "class")), ["1 class", "2 classes"]);
    }
}
