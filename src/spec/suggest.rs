//! "Did you mean": the known word that is nearest to an unknown one.

/// The known word that was probably meant.
pub fn closest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer words are no typing mistakes, and comparing them would take long.
    if given.len() > 64 {
        return None;
    }
    let allowed = (given.chars().count() / 3).max(1);
    known
        .into_iter()
        .take(MOST_COMPARED)
        .filter(|word| word.len().abs_diff(given.len()) <= allowed || is_cut_short(given, word))
        .map(|word| (strsim::damerau_levenshtein(given, word), word))
        .filter(|(distance, word)| *distance <= allowed || is_cut_short(given, word))
        .min()
        .map(|(_, word)| word)
}

/// Words that are compared with an unknown one.
const MOST_COMPARED: usize = 10_000;

fn is_cut_short(given: &str, word: &str) -> bool {
    let (short, long) = if given.len() < word.len() { (given, word) } else { (word, given) };
    short.len() >= 3 && long.starts_with(short)
}

/// A text of a declaration as a message shows it: no control characters, not long.
pub fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (number, c) in text.chars().enumerate() {
        match c {
            _ if number == LONGEST_SHOWN => {
                shown.push('…');
                break;
            }
            '"' | '\'' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

const LONGEST_SHOWN: usize = 80;

/// Names for a message: `` `a`, `b` and `c` ``.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>, and: &str) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{}`", shown(name))).collect();
    match names.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, first)) => format!("{} {and} {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_mistakes_are_recognised_and_other_words_are_not() {
        let known = ["rpo", "rto", "retention", "incremental", "full"];
        assert_eq!(closest("retenton", known), Some("retention"));
        assert_eq!(closest("incr", known), Some("incremental"));
        assert_eq!(closest("ful", known), Some("full"));
        assert_eq!(closest("colour", known), None);
        assert_eq!(closest(&"x".repeat(1000), known), None);
    }

    #[test]
    fn what_is_shown_holds_no_control_characters_and_is_short() {
        assert_eq!(shown("a\u{1b}[31m\0\u{202e}"), "a\\u{1b}[31m\\0\\u{202e}");
        assert!(shown(&"ä".repeat(5000)).chars().count() <= LONGEST_SHOWN + 1);
        assert_eq!(listed(["a", "b", "c"], "or"), "`a`, `b` or `c`");
    }
}
