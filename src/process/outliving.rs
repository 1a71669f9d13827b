//! Programs that go on to their end where this process is killed: what they print goes into files, for a pipe would break, and a
//! program that prints into a broken pipe ends where it stands (signal(7), `SIGPIPE`).

use std::{fs::File, io, os::unix::fs::FileExt, process::Stdio, time::Duration};

use bytes::Bytes;
use rustix::fs::{FallocateFlags, fallocate};

use super::{
    CHUNK, Exit, Process, ProcessError, Program,
    group::Group,
    limited,
    tail::{KEPT, Tail},
};

/// Between two looks at what was printed.
const PACE: Duration = Duration::from_millis(100);

/// What was read of a file is given back to the disk in pieces of this size, bytes.
const PIECE: u64 = 1 << 20;

/// The files of a program.
#[derive(Debug)]
pub struct Files {
    /// Its standard input. What this process has locked by it stays locked until the program has ended as well, and whatever got its
    /// standard input from it (flock(2): the lock is the open file description's).
    pub input: File,
    /// Its standard output: empty, to be written and read.
    pub printed: File,
    /// Its standard error: likewise.
    pub said: File,
}

/// A running program that goes on where this process is killed. Dropped, it is ended as a [`Process`] is.
#[derive(Debug)]
pub struct Outliving {
    process: Process,
    printed: Spool,
    said: Spool,
}

impl Program {
    /// Starts the program as the leader of a process group of its own, with its output in `files`.
    ///
    /// # Errors
    /// As [`Program::start`].
    pub fn start_outliving(self, files: Files) -> Result<Outliving, ProcessError> {
        let failed = |error: io::Error| ProcessError::Start { program: self.name(), error: error.into() };
        let Files { input, printed, said } = files;
        let mut command = self.command();
        command.stdin(Stdio::from(input));
        command.stdout(Stdio::from(printed.try_clone().map_err(failed)?));
        command.stderr(Stdio::from(said.try_clone().map_err(failed)?));
        let tail = Tail::of(said.try_clone().map_err(failed)?, self.secrets.clone());
        let child = self.spawned(command)?;
        let process = self.followed(child, tail);
        Ok(Outliving { process, printed: Spool::of(printed), said: Spool::of(said) })
    }
}

impl Outliving {
    /// As [`Process::read`].
    ///
    /// # Errors
    /// As [`Process::read`].
    pub async fn read(&mut self) -> Result<Option<Bytes>, ProcessError> {
        let Self { process, printed, said } = self;
        let grown = grown(&mut process.group, printed, said);
        match limited(process.stall, process.deadline, grown).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(process.broken("read from", error).await),
            Err(exceeded) => Err(process.exceeded(exceeded).await),
        }
    }

    /// As [`Process::finish`].
    ///
    /// # Errors
    /// As [`Process::finish`].
    pub async fn finish(self) -> Result<(), ProcessError> {
        self.process.finish().await
    }

    /// Says that somebody else has asked it to end, and that once more would be too often: whatever ends it from now on, a limit, its
    /// drop or [`Self::stop`], waits for it, and kills it after the grace.
    pub fn was_asked(&mut self) {
        self.process.group.was_asked();
    }

    /// Waits until it has ended by itself, after it was asked to where nobody did so yet, and kills it after the grace; how it ended,
    /// with what it said last, and `None` where it had to be killed.
    pub async fn stop(mut self) -> Option<(Exit, super::Said)> {
        if self.process.group.has_ended().unwrap_or(false) {
            self.was_asked();
        }
        let exit = self.process.group.stop().await?;
        Some((exit.into(), self.process.tail.said().await))
    }
}

/// What was printed since, as soon as there is any; `None` once the program has ended and all of it was read.
async fn grown(group: &mut Group, printed: &mut Spool, said: &mut Spool) -> io::Result<Option<Bytes>> {
    loop {
        // Asked before the file is looked at: what it printed before its end is there by then.
        let has_ended = group.has_ended()?;
        said.keep_end(KEPT as u64);
        match printed.next()? {
            Some(bytes) => return Ok(Some(bytes)),
            None if has_ended => return Ok(None),
            None => tokio::time::sleep(PACE).await,
        }
    }
}

/// A file that somebody else writes, of which what was read takes no room on the disk any more.
#[derive(Debug)]
struct Spool {
    file: File,
    read: u64,
    freed: u64,
}

impl Spool {
    fn of(file: File) -> Self {
        Self { file, read: 0, freed: 0 }
    }

    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut bytes = vec![0; CHUNK];
        let length = self.file.read_at(&mut bytes, self.read)?;
        bytes.truncate(length);
        self.read += length as u64;
        self.free(self.read);
        Ok(Some(Bytes::from(bytes)).filter(|bytes| !bytes.is_empty()))
    }

    /// Lets go of all but its last `length` bytes.
    fn keep_end(&mut self, length: u64) {
        let written = self.file.metadata().map_or(0, |about| about.len());
        self.free(written.saturating_sub(length));
    }

    /// Where the file system can't do that, it takes the room until it is removed.
    fn free(&mut self, until: u64) {
        let until = until / PIECE * PIECE;
        if until > self.freed {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let _ = fallocate(&self.file, hole, self.freed, until - self.freed);
            self.freed = until;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::MetadataExt, time::Instant};

    use super::*;

    fn files() -> Files {
        let file = || tempfile::tempfile().unwrap();
        Files { input: file(), printed: file(), said: file() }
    }

    fn sh(script: &str) -> Program {
        Program::new("sh").arguments(["-c", script])
    }

    async fn all(run: &mut Outliving) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(bytes) = run.read().await.unwrap() {
            all.extend_from_slice(&bytes);
        }
        all
    }

    #[tokio::test]
    async fn what_it_prints_is_read_to_its_end_and_its_end_is_told() {
        let mut run =
            sh("echo one; sleep 0.3; echo two; echo why >&2; exit 3").start_outliving(files()).unwrap();
        assert_eq!(all(&mut run).await, b"one\ntwo\n");
        let error = run.finish().await.unwrap_err().to_string();
        assert_eq!(error, "failed to run sh: it ended with exit status 3: why");
    }

    #[tokio::test]
    async fn what_was_read_takes_no_room_on_the_disk() {
        let files = files();
        let (printed, said) = (files.printed.try_clone().unwrap(), files.said.try_clone().unwrap());
        let much = "head -c 20000000 /dev/zero; head -c 20000000 /dev/zero >&2; echo end >&2; exit 1";
        let mut run = sh(much).start_outliving(files).unwrap();
        assert_eq!(all(&mut run).await.len(), 20_000_000);
        let error = run.finish().await.unwrap_err().to_string();
        assert!(error.ends_with("end"), "{error}");
        for file in [printed, said] {
            let about = file.metadata().unwrap();
            assert!(about.len() >= 20_000_000 && about.blocks() * 512 < 3 << 20, "{}", about.blocks());
        }
    }

    #[tokio::test]
    async fn a_silence_ends_it_and_one_that_was_asked_is_not_asked_again() {
        let silent = sh("sleep 60").stall(Duration::from_millis(300)).grace(Duration::from_millis(100));
        let mut run = silent.start_outliving(files()).unwrap();
        assert!(matches!(run.read().await, Err(ProcessError::Stalled { .. })));

        let counts =
            "trap 'n=$((n+1)); [ $n -gt 0 ] && exit 7' INT; echo ready; while :; do sleep 0.05; done";
        let started = async || {
            let run = sh(counts).interrupted().grace(Duration::from_secs(1)).start_outliving(files());
            let mut run = run.unwrap();
            assert_eq!(run.read().await.unwrap().unwrap(), "ready\n");
            run
        };
        let began = Instant::now();
        assert_eq!(started().await.stop().await.map(|(exit, _)| exit), Some(Exit::Code(7)));
        let mut run = started().await;
        run.was_asked();
        assert_eq!(run.stop().await, None);
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn one_that_a_limit_ends_is_neither_killed_nor_asked_again_when_it_is_given_up() {
        let counts = "n=0; trap 'n=$((n+1))' INT; echo ready; while [ $n = 0 ]; do sleep 0.05; done; \
                      i=0; while [ $i -lt 30 ]; do sleep 0.05; i=$((i+1)); done; exit $((6+n))";
        let run = sh(counts).interrupted().stall(Duration::from_millis(500)).grace(Duration::from_secs(30));
        let mut run = run.start_outliving(files()).unwrap();
        assert_eq!(run.read().await.unwrap().unwrap(), "ready\n");
        let limited = tokio::time::timeout(Duration::from_secs(1), run.read()).await;
        assert!(limited.is_err(), "it takes its time to end");
        assert_eq!(run.stop().await.map(|(exit, _)| exit), Some(Exit::Code(7)));
    }
}
