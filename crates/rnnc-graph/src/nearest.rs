//! Which of some names was meant by one that is none of them: for messages.

/// The candidate fewest edits away, if they are at most a third of the name's letters: short names are meant. Upper and
/// lower case are no edit.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // No one mistypes a word longer than this, and the distance takes time in the product of both lengths.
    const LONGEST: usize = 40;
    if name.len() > LONGEST {
        return None;
    }
    let allowed = name.chars().count() / 3;
    let folded = name.to_lowercase();
    candidates
        .into_iter()
        .filter(|c| c.len() <= LONGEST && c.len().abs_diff(name.len()) <= allowed)
        .map(|c| (strsim::damerau_levenshtein(&folded, &c.to_lowercase()), c))
        .filter(|&(distance, _)| distance <= allowed)
        .min()
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_name_that_is_a_few_edits_away_is_meant_and_no_other() {
        let names = ["window", "streams", "ReLU"];
        assert_eq!(nearest("windw", names), Some("window"));
        assert_eq!(nearest("relu", names), Some("ReLU"));
        assert_eq!(nearest("h", names), None);
        assert_eq!(nearest("learning_rate", names), None);
    }
}
