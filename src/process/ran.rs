//! Programs whose end is the answer: run to whatever end, with what they printed.

use super::{Exit, Process, ProcessError, Program, Said};

/// What is kept of what a program prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// So many bytes of its beginning.
    Beginning(usize),
    /// So many bytes of its end.
    End(usize),
}

/// A program that ended by itself, well or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// How it ended.
    pub exit: Exit,
    /// What was kept of its standard output.
    pub printed: String,
    /// The end of its standard error.
    pub said: Said,
}

impl Keep {
    fn add(self, kept: &mut Vec<u8>, bytes: &[u8]) {
        match self {
            Keep::Beginning(most) => {
                let room = most.saturating_sub(kept.len()).min(bytes.len());
                kept.extend_from_slice(&bytes[..room]);
            }
            Keep::End(most) => {
                kept.extend_from_slice(bytes);
                kept.drain(..kept.len().saturating_sub(most));
            }
        }
    }
}

impl Program {
    /// Runs the program to its end, without input. An end that is no success is an answer as well.
    ///
    /// # Errors
    /// Where it could not be started, or came to no end of its own.
    pub async fn ran(self, keep: Keep) -> Result<Ran, ProcessError> {
        let mut process: Process = self.start()?;
        process.close_input();
        let mut kept = Vec::new();
        while let Some(bytes) = process.read().await? {
            keep.add(&mut kept, &bytes);
        }
        let (exit, said) = match process.last_words().await {
            Ok(said) => (Exit::Code(0), said),
            Err(ProcessError::Failed { exit, said, .. }) => (exit, said),
            Err(error) => return Err(error),
        };
        Ok(Ran { exit, printed: String::from_utf8_lossy(&kept).into_owned(), said })
    }
}
