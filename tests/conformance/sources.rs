//! What every source must meet, and a sink that collects a stream.

use std::{
    collections::HashMap,
    io,
    path::Path,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use backstay::{
    artifact::Kind,
    clock::SystemClock,
    sources::{CaptureRequest, Captured, Place, Run, RunKey, Sink, SinkClosed, Source, SourceError},
};
use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};

/// Keeps what a source writes, by runs.
#[derive(Clone, Default)]
pub struct Collected {
    /// Each run's key and bytes; bytes before the first run stand in a run of their own.
    pub runs: Vec<(Option<RunKey>, Vec<u8>)>,
    /// How many runs were taken from the base.
    pub reused: usize,
    base: HashMap<RunKey, Vec<u8>>,
    room: Option<usize>,
}

impl Collected {
    #[allow(dead_code, reason = "servers' sources have no runs")]
    /// A sink that shares the runs of an earlier capture.
    pub fn on(base: &Collected) -> Self {
        let keyed = base.runs.iter().filter_map(|(key, bytes)| Some(((*key)?, bytes.clone())));
        Self { base: keyed.collect(), ..Self::default() }
    }

    /// A sink whose pipeline fails after so many bytes.
    pub fn with_room(bytes: usize) -> Self {
        Self { room: Some(bytes), ..Self::default() }
    }

    /// The whole stream.
    pub fn stream(&self) -> Vec<u8> {
        self.runs.iter().flat_map(|(_, bytes)| bytes).copied().collect()
    }
}

#[async_trait]
impl Sink for Collected {
    async fn write(&mut self, bytes: Bytes) -> Result<(), SinkClosed> {
        if let Some(room) = &mut self.room {
            *room = room.checked_sub(bytes.len()).ok_or(SinkClosed)?;
        }
        if self.runs.is_empty() {
            self.runs.push((None, Vec::new()));
        }
        self.runs.last_mut().expect("one was pushed").1.extend_from_slice(&bytes);
        Ok(())
    }

    async fn run(&mut self, key: Option<RunKey>) -> Result<Run, SinkClosed> {
        let known = key.and_then(|key| self.base.get(&key)).cloned();
        let run = if known.is_some() { Run::Reused } else { Run::Wanted };
        self.reused += usize::from(known.is_some());
        self.runs.push((key, known.unwrap_or_default()));
        Ok(run)
    }
}

/// A request for a full artifact now.
pub fn request() -> CaptureRequest<'static> {
    CaptureRequest {
        kind: Kind::Full,
        clock: &SystemClock,
        base_started: None,
        continues: None,
        stall: Duration::from_secs(120),
        spool: None,
    }
}

/// A whole capture.
pub async fn captured(source: &dyn Source) -> (Collected, Captured) {
    let mut sink = Collected::default();
    let captured = source.capture(&request(), &mut sink).await.expect("the capture succeeds");
    (sink, captured)
}

/// The same source, that refuses to replace what is there when it would begin to write.
pub fn sparing<S: Source>(mut source: S) -> S {
    source.refuse_to_replace();
    source
}

/// Restores bytes as they are.
pub async fn restored(source: &dyn Source, mut stream: &[u8], place: &Place) -> Result<String, SourceError> {
    source.restore(&mut stream, place).await.map(|restored| restored.place)
}

/// A stream that breaks at its end, as one does whose next segment is damaged.
struct Breaking<'a>(&'a [u8]);

impl AsyncRead for Breaking<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            return Poll::Ready(Err(io::Error::other("segment 7 is damaged")));
        }
        let length = self.0.len().min(into.remaining());
        into.put_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Poll::Ready(Ok(()))
    }
}

/// What every source must meet. `scratch` is an empty folder.
pub async fn conforms(source: &dyn Source, scratch: &Path) {
    source.probe().await.expect("the source can be probed");
    let (sink, _) = captured(source).await;
    let stream = sink.stream();
    a_failed_pipeline_fails_the_capture(source, stream.len()).await;
    restores_to_a_new_file_and_refuses_to_overwrite(source, &stream, scratch).await;
    a_broken_stream_leaves_no_file(source, &stream, scratch).await;
}

async fn a_failed_pipeline_fails_the_capture(source: &dyn Source, length: usize) {
    for room in [0, length / 2, length - 1] {
        let mut sink = Collected::with_room(room);
        source.capture(&request(), &mut sink).await.expect_err("a sink that failed makes no capture");
    }
}

async fn restores_to_a_new_file_and_refuses_to_overwrite(source: &dyn Source, stream: &[u8], scratch: &Path) {
    let file = scratch.join(source.stream_name());
    let place = Place::File(file.clone());
    restored(source, stream, &place).await.expect("a new file is restored to");
    assert!(std::fs::read(&file).unwrap() == stream, "the file is the stream");
    restored(source, stream, &place).await.expect_err("an existing file is not overwritten");
    assert!(std::fs::read(&file).unwrap() == stream, "a refusal changes nothing");
}

async fn a_broken_stream_leaves_no_file(source: &dyn Source, stream: &[u8], scratch: &Path) {
    let file = scratch.join("broken");
    for length in [0, stream.len() / 2, stream.len()] {
        let mut broken = Breaking(&stream[..length]);
        let error = source.restore(&mut broken, &Place::File(file.clone())).await;
        let error = error.expect_err("a damaged stream is no restore").to_string();
        assert!(error.contains("segment 7 is damaged"), "{error}");
        assert!(!file.exists(), "what is incomplete is not put in place");
    }
}
