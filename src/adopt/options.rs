//! Options of a program, told apart from its other words as getopt(3) does.

use super::words::Word;

/// Which options of a program take a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grammar {
    /// Letters whose value is the rest of the word, or the next word.
    pub letters: &'static str,
    /// Letters whose value is the rest of the word, if there is one.
    pub attached: &'static str,
    /// Names whose value stands behind `=`, or is the next word.
    pub names: &'static [&'static str],
    /// Letters of flags.
    pub switches: &'static str,
    /// Names of flags, or what they begin with.
    pub flags: &'static [&'static str],
    /// What an option is that stands nowhere above.
    pub other: Other,
    /// With how many dashes names begin.
    pub dashes: Dashes,
}

/// What an option is that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Other {
    /// A flag.
    Flag,
    /// It may take a value, which may be a secret.
    Doubtful,
}

/// How the names of a program's options begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dashes {
    /// `-host`; there are no letters.
    One,
    /// `--host`.
    Two,
}

impl Grammar {
    /// A program whose options are all flags.
    pub(super) const PLAIN: Grammar = Grammar {
        letters: "",
        attached: "",
        names: &[],
        switches: "",
        flags: &[],
        other: Other::Flag,
        dashes: Dashes::Two,
    };

    /// A program on whose command line secrets may stand.
    pub(super) const WARY: Grammar = Grammar { other: Other::Doubtful, ..Self::PLAIN };

    /// The option's name, if the word is one by name.
    fn name_in<'w>(&self, dashed: &'w str) -> Option<&'w str> {
        match self.dashes {
            Dashes::One => Some(dashed.trim_start_matches('-')),
            Dashes::Two => dashed.strip_prefix('-'),
        }
    }

    fn is_flag(&self, name: &str) -> bool {
        self.other == Other::Flag || self.flags.iter().any(|flag| name.starts_with(flag))
    }

    fn is_switch(&self, letter: char) -> bool {
        self.other == Other::Flag || self.switches.contains(letter)
    }
}

/// Words of a command, told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    given: Vec<(String, Option<Word>)>,
    /// What is no option.
    pub rest: Vec<Word>,
    /// Whether there were words that may be the value of an option that is not known. They are left out.
    pub has_doubtful: bool,
}

type Words<'w> = std::iter::Peekable<std::slice::Iter<'w, Word>>;

impl Options {
    pub(super) fn read(grammar: &Grammar, words: &[Word]) -> Self {
        let mut options = Self::default();
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            let dashed = word.text.strip_prefix('-').filter(|text| !text.is_empty());
            match dashed.map(|dashed| (dashed, grammar.name_in(dashed))) {
                None => options.rest.push(word.clone()),
                Some((_, Some(""))) => options.rest.extend(words.by_ref().cloned()),
                Some((_, Some(name))) => options.named(grammar, word, name, &mut words),
                Some((letters, None)) => options.letters(grammar, word, letters, &mut words),
            }
        }
        options
    }

    fn named(&mut self, grammar: &Grammar, word: &Word, name: &str, words: &mut Words<'_>) {
        match name.split_once('=') {
            Some((name, value)) => self.give(name, Some(part(word, value))),
            None if grammar.names.contains(&name) => self.give(name, words.next().cloned()),
            None => {
                self.give(name, None);
                if !grammar.is_flag(name) {
                    self.doubt(words);
                }
            }
        }
    }

    fn letters(&mut self, grammar: &Grammar, word: &Word, letters: &str, words: &mut Words<'_>) {
        for (at, letter) in letters.char_indices() {
            let name = letter.to_string();
            let after = &letters[at + letter.len_utf8()..];
            let value = (!after.is_empty()).then(|| part(word, after));
            if grammar.letters.contains(letter) {
                return self.give(&name, value.or_else(|| words.next().cloned()));
            }
            if grammar.attached.contains(letter) {
                return self.give(&name, value);
            }
            self.give(&name, None);
            if !grammar.is_switch(letter) {
                return self.doubt(words);
            }
        }
    }

    /// Leaves out a word that may be the value of an option that is not known.
    fn doubt(&mut self, words: &mut Words<'_>) {
        self.has_doubtful |= words.next_if(|next| !next.text.starts_with('-')).is_some();
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
            switches: "q",
            flags: &["quick", "skip-"],
            ..Grammar::WARY
        };
        let read = |line: &str| Options::read(&grammar, &words::commands(line).unwrap()[0]);
        let options =
            read("-qh db -ubackup -psecret --host=x --host y --quick a --skip-lock b --odd c -- -d");
        let texts = |words: &[Word]| words.iter().map(|word| word.text.clone()).collect::<Vec<_>>();
        assert_eq!(texts(&options.rest), ["a", "b", "-d"]);
        assert!(options.has_doubtful);
        assert_eq!(options.value(&["h", "host"]).unwrap().text, "y");
        assert_eq!(options.value(&["u"]).unwrap().text, "backup");
        assert_eq!(options.value(&["p"]).unwrap().text, "secret");
        assert!(options.has(&["q"]) && options.has(&["odd"]) && !options.has(&["x"]));
        assert_eq!(read("-p b").value(&["p"]), None);
        assert_eq!((texts(&read("-x b c").rest), read("-q b").has_doubtful), (vec!["c".to_owned()], false));
        let lenient = Options::read(&Grammar::PLAIN, &words::commands("--odd a -x b").unwrap()[0]);
        assert_eq!(texts(&lenient.rest), ["a", "b"]);
    }
}
