//! "Did you mean ...": the nearest of the words that would have been right.

/// A sentence that proposes the nearest word, or lists them all.
pub(super) fn did_you_mean(word: &str, candidates: &[&str]) -> String {
    match nearest(word, candidates) {
        Some(candidate) => format!("Did you mean \"{candidate}\"?"),
        None => format!("Valid here: {}.", candidates.join(", ")),
    }
}

/// The nearest candidate, if it is near enough to be what was meant.
fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .iter()
        .map(|candidate| (distance(&word, candidate), *candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, &a) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, &b) in right.iter().enumerate() {
            let mut best = (last[column] + usize::from(a != b))
                .min(last[column + 1] + 1)
                .min(current[column] + 1);
            let swapped = row > 0 && column > 0 && a == right[column - 1] && b == left[row - 1];
            if swapped {
                best = best.min(before[column - 1] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut last, current);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits() {
        for (left, right, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("url", "url", 0),
            ("ulr", "url", 1),
            ("recipient", "recipients", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(left, right), expected, "{left} {right}");
            assert_eq!(distance(right, left), expected, "{right} {left}");
        }
    }

    #[test]
    fn only_what_is_near_is_proposed() {
        let keys = ["path", "paths", "class", "key_file"];
        assert_eq!(nearest("clas", &keys), Some("class"));
        assert_eq!(nearest("key-file", &keys), Some("key_file"));
        assert_eq!(nearest("keyfile", &keys), Some("key_file"));
        assert_eq!(nearest("schedule", &keys), None);
        assert_eq!(
            did_you_mean("schedule", &keys[..2]),
            "Valid here: path, paths."
        );
    }
}
