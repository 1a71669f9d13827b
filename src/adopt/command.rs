//! What a command line dumps: which program does it, of which server or folders, and how long the dumps are kept.

mod databases;
mod files;
mod keep;
mod wrapped;

use super::words::{self, Word};
pub(super) use databases::Server;
pub(super) use keep::Keep;

/// What a line tells of its dumps, and of what is kept of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub dumps: Vec<Dump>,
    pub keep: Keep,
    /// The programs that it starts and that are not known here, by plain names.
    pub others: Vec<String>,
}

/// One source that is dumped, as far as that can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dump {
    pub source: Source,
    /// What a person must look at.
    pub remarks: Vec<String>,
}

/// What is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Server(Server),
    Sqlite {
        path: String,
    },
    Files {
        paths: Vec<String>,
        exclude: Vec<String>,
    },
    Bucket {
        bucket: String,
        prefix: Option<String>,
        endpoint: Option<String>,
    },
    /// It dumps something that can't be told.
    Unclear,
}

impl Told {
    /// What is copied beside the dump of a database may be that dump, on its way elsewhere.
    fn doubt_copies(&mut self) {
        let is_copy = |dump: &Dump| matches!(dump.source, Source::Files { .. } | Source::Unclear);
        if self.dumps.iter().any(is_copy) && !self.dumps.iter().all(is_copy) {
            for copy in self.dumps.iter_mut().filter(|dump| is_copy(dump)) {
                copy.remarks
                    .push("it may only carry the dump of that line elsewhere: then leave it out".to_owned());
            }
        }
    }
}

/// How deep shells may start each other.
const DEEPEST: u8 = 3;

/// Reads a line.
///
/// # Errors
/// When it is no command line.
pub(super) fn told(line: &str) -> Result<Told, words::Unclosed> {
    let mut told = Told::default();
    read(line, 0, &mut told)?;
    told.others.dedup();
    told.doubt_copies();
    Ok(told)
}

/// Reads a line, and what shells in it are told to run.
fn read(line: &str, depth: u8, told: &mut Told) -> Result<(), words::Unclosed> {
    for words in words::commands(line)? {
        let start = wrapped::unwrap(&words);
        let Some((program, arguments)) = start.command.split_first() else { continue };
        if let Some(inner) = start.inner.as_ref().filter(|_| depth < DEEPEST) {
            let before = told.dumps.len();
            read(inner, depth + 1, told)?;
            told.dumps[before..].iter_mut().for_each(|dump| start.remark(dump));
            continue;
        }
        let name = file_name(&program.text);
        if told.keep.learn(name, arguments) {
            continue;
        }
        match dump(name, arguments) {
            Some(mut dump) => {
                start.remark(&mut dump);
                told.dumps.push(dump);
            }
            None if is_plain_program(program) => told.others.push(program.text.clone()),
            None => {}
        }
    }
    Ok(())
}

fn dump(program: &str, arguments: &[Word]) -> Option<Dump> {
    databases::dump(program, arguments).or_else(|| files::dump(program, arguments))
}

/// Whether a program is one that is read here.
fn is_known(program: &str) -> bool {
    databases::PROGRAMS.contains(&program)
        || files::PROGRAMS.contains(&program)
        || keep::PROGRAMS.contains(&program)
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether a word can only be a program's name, and no secret that stands where one should.
fn is_plain_program(word: &Word) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+');
    word.is_literal && word.text.len() <= 100 && word.text.chars().all(plain) && !is_builtin(&word.text)
}

/// Words of shells that start nothing of their own.
fn is_builtin(name: &str) -> bool {
    [
        ":", "cd", "echo", "exit", "export", "false", "printf", "set", "sleep", "test", "true", "umask",
        "for", "done", "fi",
    ]
    .contains(&name)
}

/// Whether a variable of that name holds a secret.
fn is_secret(variable: &str) -> bool {
    let name = variable.to_ascii_uppercase();
    ["PASS", "PWD", "TOKEN", "SECRET", "KEY", "CREDENTIAL"].iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests;
