//! Where the command line prints: data to stdout, everything else to stderr.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::{Color, Global, Output};
use crate::render::Palette;

/// The two streams of the process, and how they want to be written to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    /// What data on stdout looks like.
    pub(super) output: Output,
    /// Colours of stdout.
    pub(super) stdout: Palette,
    /// Colours of stderr.
    pub(super) stderr: Palette,
    /// Whether progress is shown: stderr is a terminal and `--quiet` was not given.
    pub(super) progress: bool,
    quiet: bool,
}

/// A JSON object that says what it is.
#[derive(Serialize)]
struct Envelope<'a, T> {
    format: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

impl Terminal {
    pub(super) fn new(global: &Global) -> Self {
        Self {
            output: global.output,
            stdout: palette(global.color, &io::stdout()),
            stderr: palette(global.color, &io::stderr()),
            progress: io::stderr().is_terminal() && !global.quiet,
            quiet: global.quiet,
        }
    }

    /// Writes data to stdout. A reader that went away, such as `head`, is no failure.
    pub(super) fn data(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome,
        }
    }

    /// Writes one JSON object to stdout, its `format` first.
    pub(super) fn json<T: Serialize>(&self, format: &'static str, body: &T) -> anyhow::Result<()> {
        Ok(self.data(&json_text(format, body)?)?)
    }

    /// Writes one JSON object on a line of its own to stdout, its `format` first.
    pub(super) fn json_line<T: Serialize>(&self, format: &'static str, body: &T) -> anyhow::Result<()> {
        let mut text = serde_json::to_string(&Envelope { format, body })?;
        text.push('\n');
        Ok(self.data(&text)?)
    }

    /// Tells a person something on stderr, unless `--quiet` was given.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            self.complain(text);
        }
    }

    /// Reports a failure on stderr.
    pub(super) fn error(&self, error: &anyhow::Error) {
        self.complain(&format!("{} {error:#}", self.stderr.bad("error:")));
    }

    fn complain(&self, text: &str) {
        // Nothing better can be done when even stderr is closed.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// One JSON object as text, its `format` first.
pub(super) fn json_text<T: Serialize>(format: &'static str, body: &T) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(&Envelope { format, body })? + "\n")
}

fn palette<S: anstream::stream::RawStream>(wanted: Color, stream: &S) -> Palette {
    let colored = match wanted {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never,
    };
    if colored { Palette::Colored } else { Palette::Plain }
}
