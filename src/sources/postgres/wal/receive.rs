//! A few segments at a time: `pg_receivewal` writes files, and what waits on disk must not grow with the log.

use std::{
    fs::{File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use super::{
    Failure,
    files::send,
    marks::Marks,
    origin::Log,
    segment::{HEADER, HISTORY, is_file},
};
use crate::{
    artifact::position::Lsn,
    process::ProcessError,
    scratch,
    sources::{
        Sink,
        entries::Entry,
        postgres::{access::Access, programs::Programs},
    },
};

/// How much is on disk at a time, bytes; at least a segment.
const AT_A_TIME: u64 = 64 * 1024 * 1024;

/// What the server says of a segment that it has no more.
const REMOVED: &str = "has already been removed";

/// Receives segments of one server.
#[derive(Clone, Copy)]
pub(super) struct Receiver<'a> {
    pub access: &'a Access,
    pub programs: &'a Programs,
    pub log: &'a Log,
    /// From where on the server keeps its log for us.
    pub keeps: Lsn,
    /// How long a few segments may take.
    pub stall: Duration,
}

impl Receiver<'_> {
    /// Sends the segments, and the histories of the timelines that they go over, each as a file.
    ///
    /// # Errors
    /// [`Failure::Gone`] when the server has the first of them no more; then nothing was sent.
    pub(super) async fn receive(
        &self,
        segments: &Range<u64>,
        marks: &mut Marks,
        sink: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let step = usize::try_from((AT_A_TIME / self.log.segments.size()).max(1)).unwrap_or(1);
        let mut histories = Vec::new();
        for first in segments.clone().step_by(step) {
            let few = first..segments.end.min(first + step as u64);
            let folder = scratch::folder().map_err(unusable)?;
            let received = self.run(&few, folder.path()).await;
            received.map_err(
                |error| if first == segments.start { self.gone(first, error) } else { error.into() },
            )?;
            self.send_histories(folder.path(), &mut histories, sink).await?;
            for number in few {
                self.send_segment(folder.path(), number, marks, sink).await?;
            }
        }
        Ok(())
    }

    async fn run(&self, few: &Range<u64>, folder: &Path) -> Result<(), ProcessError> {
        let Log { segments, history, .. } = self.log;
        // The program goes on with the segment of which it finds a part.
        let part = segments.name(history.at(segments.begin(few.start)).timeline, few.start);
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        options.open(folder.join(format!("{part}.partial"))).map_err(|error| ProcessError::Start {
            program: "pg_receivewal".to_owned(),
            error: error.into(),
        })?;
        let program = self.access.program(self.programs, "pg_receivewal", Duration::MAX).timeout(self.stall);
        let program = program.arguments(["--no-loop", "--no-sync", "--directory"]).argument(folder);
        let end = format!("--endpos={}", Lsn(segments.begin(few.end).0 - 1));
        program.argument(end).discard_output().start()?.finish().await
    }

    /// What the failure to receive the first segment means. The server may say it in any language: where it was not bound to
    /// keep the segment, that it failed is enough.
    fn gone(&self, first: u64, error: ProcessError) -> Failure {
        let said = error.to_string();
        let has_failed = matches!(error, ProcessError::Failed { .. });
        let was_kept = self.log.segments.number(self.keeps) <= first;
        if said.contains(REMOVED) || (has_failed && !was_kept) { Failure::Gone(said) } else { error.into() }
    }

    async fn send_histories(
        &self,
        folder: &Path,
        sent: &mut Vec<String>,
        sink: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .map_err(unusable)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.ends_with(HISTORY) && is_file(name) && !sent.contains(name))
            .collect();
        names.sort_unstable();
        for name in names {
            let path = folder.join(&name);
            let size = path.metadata().map_err(unusable)?.len();
            send(&path, &Entry { name: name.clone(), size }, size, |_| (), sink).await?;
            std::fs::remove_file(&path).map_err(unusable)?;
            sent.push(name);
        }
        Ok(())
    }

    async fn send_segment(
        &self,
        folder: &Path,
        number: u64,
        marks: &mut Marks,
        sink: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let Log { segments, history, system } = self.log;
        let name = segments.file(number, history);
        let path = folder.join(&name);
        let missing =
            |error: io::Error| Failure::Incomplete(format!("segment {name} was not received: {error}"));
        let mut file = File::open(&path).map_err(missing)?;
        let mut header = [0; HEADER];
        io::Read::read_exact(&mut file, &mut header).map_err(missing)?;
        let size = file.metadata().map_err(missing)?.len();
        if size != segments.size() || !segments.begins(number, system, &header) {
            return Err(Failure::Incomplete(format!(
                "what was received as segment {name} is not that segment"
            )));
        }
        send(&path, &Entry { name, size }, size, |bytes| marks.look(bytes), sink).await?;
        std::fs::remove_file(&path).map_err(unusable)
    }
}

fn unusable(error: io::Error) -> Failure {
    Failure::Refused(format!(
        "the folder for received segments can't be used: {error}; see that TMPDIR has room"
    ))
}
