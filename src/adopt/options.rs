//! Options of a program, told apart from its other words as getopt(3) does.

use super::words::Word;

/// Which options of a program take a value. All others are taken for flags.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grammar {
    /// Letters whose value is the rest of the word, or the next word.
    pub letters: &'static str,
    /// Letters whose value is the rest of the word, if there is one.
    pub attached: &'static str,
    /// Names whose value stands behind `=`, or is the next word.
    pub names: &'static [&'static str],
    /// Names of flags, and what they begin with; a name that is in neither list may take a value or not.
    pub flags: &'static [&'static str],
    /// Whether names begin with a single dash.
    pub single_dash: bool,
}

impl Grammar {
    pub(super) const PLAIN: Grammar =
        Grammar { letters: "", attached: "", names: &[], flags: &[], single_dash: false };
}

/// Words of a command, told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    given: Vec<(String, Option<Word>)>,
    /// What is no option.
    pub rest: Vec<Word>,
    /// Words that may be the value of an option that is not known: whoever must not pass on a secret leaves them alone.
    pub doubtful: Vec<Word>,
}

impl Options {
    pub(super) fn read(grammar: &Grammar, words: &[Word]) -> Self {
        let mut options = Self::default();
        let mut words = words.iter().cloned().peekable();
        while let Some(word) = words.next() {
            let Some(dashed) = word.text.strip_prefix('-').filter(|text| !text.is_empty()) else {
                options.rest.push(word);
                continue;
            };
            let name = if grammar.single_dash {
                Some(dashed.trim_start_matches('-'))
            } else {
                dashed.strip_prefix('-')
            };
            match name {
                Some("") => {
                    options.rest.extend(words);
                    break;
                }
                Some(name) => match name.split_once('=') {
                    Some((name, value)) => options.give(name, Some(part(&word, value))),
                    None if grammar.names.contains(&name) => options.give(name, words.next()),
                    None => {
                        options.give(name, None);
                        let flag = grammar.flags.iter().any(|flag| name.starts_with(flag));
                        let unclear = !flag && words.peek().is_some_and(|next| !next.text.starts_with('-'));
                        options.doubtful.extend(unclear.then(|| words.next()).flatten());
                    }
                },
                None => options.letters(grammar, &word, dashed, &mut words),
            }
        }
        options
    }

    fn letters(
        &mut self,
        grammar: &Grammar,
        word: &Word,
        letters: &str,
        words: &mut impl Iterator<Item = Word>,
    ) {
        for (at, letter) in letters.char_indices() {
            let name = letter.to_string();
            let after = &letters[at + letter.len_utf8()..];
            let value = (!after.is_empty()).then(|| part(word, after));
            if grammar.letters.contains(letter) {
                return self.give(&name, value.or_else(|| words.next()));
            }
            if grammar.attached.contains(letter) {
                return self.give(&name, value);
            }
            self.give(&name, None);
        }
    }

    fn give(&mut self, name: &str, value: Option<Word>) {
        self.given.push((name.to_owned(), value));
    }

    /// Whether one of these was given.
    pub(super) fn has(&self, names: &[&str]) -> bool {
        self.given.iter().any(|(name, _)| names.contains(&name.as_str()))
    }

    /// Whether one of these was given without a value.
    pub(super) fn has_bare(&self, names: &[&str]) -> bool {
        self.given.iter().any(|(name, value)| names.contains(&name.as_str()) && value.is_none())
    }

    /// The values of these, in the order of the command.
    pub(super) fn values<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = &'a Word> {
        self.given
            .iter()
            .filter(move |(name, _)| names.contains(&name.as_str()))
            .filter_map(|(_, value)| value.as_ref())
    }

    /// The last value of these, which counts.
    pub(super) fn value(&self, names: &[&str]) -> Option<&Word> {
        self.given
            .iter()
            .rev()
            .filter(|(name, _)| names.contains(&name.as_str()))
            .find_map(|(_, value)| value.as_ref())
    }
}

fn part(word: &Word, text: &str) -> Word {
    Word { text: text.to_owned(), is_literal: word.is_literal }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adopt::words;

    #[test]
    fn values_are_attached_or_follow_and_what_is_not_known_makes_doubt() {
        let grammar = Grammar {
            letters: "hu",
            attached: "p",
            names: &["host"],
            flags: &["quick", "skip-"],
            single_dash: false,
        };
        let read = |line: &str| Options::read(&grammar, &words::commands(line).unwrap()[0]);
        let options =
            read("-qh db -ubackup -psecret --host=x --host y --quick a --skip-lock b --odd c -- -d");
        let texts = |words: &[Word]| words.iter().map(|word| word.text.clone()).collect::<Vec<_>>();
        assert_eq!(texts(&options.rest), ["a", "b", "-d"]);
        assert_eq!(texts(&options.doubtful), ["c"]);
        assert_eq!(options.value(&["h", "host"]).unwrap().text, "y");
        assert_eq!(options.value(&["u"]).unwrap().text, "backup");
        assert_eq!(options.value(&["p"]).unwrap().text, "secret");
        assert!(options.has(&["q"]) && options.has(&["odd"]) && !options.has(&["x"]));
        assert_eq!(read("-p b").value(&["p"]), None);
    }
}
