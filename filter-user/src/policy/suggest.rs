//! "Did you mean": the nearest known word. Never guesses when nothing is near.

/// Longest word that is compared; the comparison is quadratic.
const MAX_WORD: usize = 64;

/// The candidate nearest to `word`, if a typing slip or two lie between them.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if word.is_empty() || word.len() > MAX_WORD {
        return None;
    }
    let word = word.to_lowercase().replace(['_', ' '], "-");
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let known = candidate.to_lowercase().replace('_', "-");
            let distance = strsim::damerau_levenshtein(&word, &known);
            // The beginning of a word is near whatever the rest: `echo` for `echo-request`.
            let prefix = word.len() >= 3 && known.starts_with(&word);
            (distance <= 1 + known.len() / 4 && distance < known.len() || prefix)
                .then_some((distance, candidate))
        })
        .min_by_key(|(distance, candidate)| (*distance, std::cmp::Reverse(candidate.len())))
        .map(|(_, candidate)| candidate)
}

/// A cure: "did you mean `x`?" if something is near, else all the candidates.
pub(crate) fn cure<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    match nearest(word, candidates.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!(
            "use one of: {}",
            candidates.into_iter().collect::<Vec<_>>().join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let keys = ["interfaces", "vlans", "default", "rate_per_source", "v4"];
        assert_eq!(nearest("interface", keys), Some("interfaces"));
        assert_eq!(nearest("defualt", keys), Some("default"));
        assert_eq!(nearest("rate-per-source", keys), Some("rate_per_source"));
        assert_eq!(nearest("zzz", keys), None);
        assert_eq!(nearest("icmp6", ["icmp", "icmpv6"]), Some("icmpv6"));
        assert_eq!(nearest(&"x".repeat(100_000), keys), None);
        assert_eq!(cure("zzz", ["a", "b"]), "use one of: a, b");
    }
}
