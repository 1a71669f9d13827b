//! A shell's command line as simple commands (POSIX.1-2024, Shell Command Language, 2.2 and 2.3). It is read, never run:
//! what only a shell can tell is marked.

/// One word of a command, its quotes taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub text: String,
    /// Whether a shell would take it as it is: it holds no variable, substitution or pattern.
    pub is_literal: bool,
}

/// A line whose quotes or parentheses are not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unclosed;

/// The simple commands of a line, each as words, never empty. Redirections are left out.
pub(super) fn commands(line: &str) -> Result<Vec<Vec<Word>>, Unclosed> {
    let mut commands = vec![Vec::new()];
    let mut skip_next = false;
    for token in Reader::new(line).tokens()? {
        match (token, commands.last_mut()) {
            (Token::Word(_), _) if std::mem::take(&mut skip_next) => {}
            (Token::Word(word), Some(command)) => command.push(word),
            (Token::Redirection, _) => skip_next = true,
            (Token::Operator | Token::Word(_), _) => {
                skip_next = false;
                commands.push(Vec::new());
            }
        }
    }
    commands.retain(|command| !command.is_empty());
    Ok(commands)
}

enum Token {
    Word(Word),
    /// `|`, `&&`, `;` and such: another command begins.
    Operator,
    /// `>`, `2>>`, `<`: a file follows.
    Redirection,
}

struct Reader<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    tokens: Vec<Token>,
    word: Option<Word>,
}

impl<'a> Reader<'a> {
    fn new(line: &'a str) -> Self {
        Self { chars: line.chars().peekable(), tokens: Vec::new(), word: None }
    }

    fn tokens(mut self) -> Result<Vec<Token>, Unclosed> {
        while let Some(c) = self.chars.next() {
            match c {
                '\'' => self.single_quoted()?,
                '"' => self.double_quoted()?,
                '`' => self.substitution('`')?,
                '$' => self.dollar()?,
                '\\' => match self.chars.next() {
                    Some('\n') | None => {}
                    Some(c) => self.word().text.push(c),
                },
                '#' if self.word.is_none() => while self.chars.next_if(|c| *c != '\n').is_some() {},
                '>' | '<' => self.redirection(),
                ';' | '|' | '&' | '(' | ')' | '\n' => {
                    self.end_word();
                    self.tokens.push(Token::Operator);
                }
                c if c.is_whitespace() => self.end_word(),
                // In a URL it begins the query, and no file is named so.
                '?' if self.word.as_ref().is_some_and(|word| word.text.contains("://")) => {
                    self.word().text.push(c)
                }
                '*' | '?' | '[' => self.open(c),
                // A home folder, which only a shell knows.
                '~' if self.word.is_none() => self.open(c),
                c => self.word().text.push(c),
            }
        }
        self.end_word();
        Ok(self.tokens)
    }

    fn word(&mut self) -> &mut Word {
        self.word.get_or_insert(Word { text: String::new(), is_literal: true })
    }

    fn end_word(&mut self) {
        self.tokens.extend(self.word.take().map(Token::Word));
    }

    /// A character that a shell puts something else in place of.
    fn open(&mut self, c: char) {
        let word = self.word();
        word.is_literal = false;
        word.text.push(c);
    }

    fn single_quoted(&mut self) -> Result<(), Unclosed> {
        self.word();
        loop {
            match self.chars.next().ok_or(Unclosed)? {
                '\'' => return Ok(()),
                c => self.word().text.push(c),
            }
        }
    }

    fn double_quoted(&mut self) -> Result<(), Unclosed> {
        self.word();
        loop {
            match self.chars.next().ok_or(Unclosed)? {
                '"' => return Ok(()),
                '\\' => match self.chars.next().ok_or(Unclosed)? {
                    c @ ('$' | '`' | '"' | '\\') => self.word().text.push(c),
                    '\n' => {}
                    c => self.word().text.extend(['\\', c]),
                },
                '$' => self.dollar()?,
                '`' => self.substitution('`')?,
                c => self.word().text.push(c),
            }
        }
    }

    /// A variable, whose name is left to stand as text, or a substitution.
    fn dollar(&mut self) -> Result<(), Unclosed> {
        match self.chars.peek() {
            Some('(') => self.substitution(')'),
            Some('{') => self.substitution('}'),
            _ => {
                self.open('$');
                Ok(())
            }
        }
    }

    /// Something up to `end` that only a shell can tell: nothing of it is kept.
    fn substitution(&mut self, end: char) -> Result<(), Unclosed> {
        self.open('$');
        let mut depth = 0_usize;
        loop {
            match self.chars.next().ok_or(Unclosed)? {
                '\\' => _ = self.chars.next(),
                c if c == end && depth <= 1 => return Ok(()),
                c if c == end => depth -= 1,
                '(' if end == ')' => depth += 1,
                '{' if end == '}' => depth += 1,
                _ => {}
            }
        }
    }

    fn redirection(&mut self) {
        // The number of what is redirected is no word.
        self.word = self.word.take().filter(|word| !word.text.chars().all(|c| c.is_ascii_digit()));
        self.end_word();
        while self.chars.next_if(|c| matches!(c, '>' | '<' | '&' | '|')).is_some() {}
        self.tokens.push(Token::Redirection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Vec<Vec<String>> {
        let text = |word: &Word| if word.is_literal { word.text.clone() } else { format!("?{}", word.text) };
        commands(line).unwrap().iter().map(|command| command.iter().map(text).collect()).collect()
    }

    #[test]
    fn quotes_pipes_redirections_and_substitutions_are_told_apart() {
        let line = r#"cd /x && mysqldump -u 'a b' "c\"d" "$(date +%F | tr a b)" 2>&1 | gzip >/b/d-$X.gz; find . -exec rm {} \;"#;
        assert_eq!(
            read(line),
            [
                vec!["cd", "/x"],
                vec!["mysqldump", "-u", "a b", "c\"d", "?$"],
                vec!["gzip"],
                vec!["find", ".", "-exec", "rm", "{}", ";"],
            ]
        );
        assert_eq!(read("a '' b#c # d"), [vec!["a", "", "b#c"]]);
        assert_eq!(read("(a; b) > /dev/null & c >> x"), [vec!["a"], vec!["b"], vec!["c"]]);
        assert_eq!(read("a -p${P:-x} ~/b *.c \"*.d\""), [vec!["a", "?-p$", "?~/b", "?*.c", "*.d"]]);
    }

    #[test]
    fn what_is_not_closed_is_no_command() {
        for line in ["'a", "a \"b", "a `b", "a $(b", "a ${b", "a \"b\\"] {
            assert_eq!(commands(line), Err(Unclosed), "{line}");
        }
    }
}
