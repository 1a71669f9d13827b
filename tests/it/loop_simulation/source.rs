//! A source in memory, which knows what it held at every capture.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use backstay::{
    artifact::{manifest::Details, manifest::Moment},
    sources::{CaptureRequest, Captured, Place, Probe, Restored, Run, Sink, Source, SourceError},
    stores::Class,
};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The protected data of one backup, in pieces that change one by one.
#[derive(Default)]
pub struct Data {
    pub pieces: Vec<Vec<u8>>,
    /// How captures fail: after so many pieces.
    pub fails_after: Option<usize>,
    /// What was captured as of each moment.
    captured: BTreeMap<Timestamp, Vec<Vec<u8>>>,
    restored: Option<Vec<u8>>,
}

/// The data of a whole fleet, by the path that the declaration gives it.
pub type Datasets = Arc<Mutex<BTreeMap<PathBuf, Data>>>;

pub struct MemorySource {
    path: PathBuf,
    data: Datasets,
}

impl MemorySource {
    pub fn new(path: PathBuf, data: Datasets) -> Self {
        Self { path, data }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Data) -> T) -> T {
        work(self.data.lock().unwrap().entry(self.path.clone()).or_default())
    }

    /// Takes what was restored last.
    pub fn restored(&self) -> Option<Vec<u8>> {
        self.with(|data| data.restored.take())
    }

    /// Whether a capture as of `moment` held these bytes.
    pub fn had(&self, moment: Timestamp, bytes: &[u8]) -> bool {
        self.with(|data| data.captured.get(&moment).is_some_and(|all| all.iter().any(|one| one == bytes)))
    }

    fn failed(&self, operation: &'static str) -> SourceError {
        SourceError::new(operation, self.path.display().to_string(), Class::Retry, "it fails on purpose")
    }
}

#[async_trait]
impl Source for MemorySource {
    async fn probe(&self) -> Result<Probe, SourceError> {
        Ok(Probe { version: "memory".to_owned() })
    }

    fn stream_name(&self) -> String {
        "data".to_owned()
    }

    async fn capture(
        &self,
        request: &CaptureRequest<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Captured, SourceError> {
        let now = request.now();
        let (pieces, fails_after) = self.with(|data| (data.pieces.clone(), data.fails_after));
        for (n, piece) in pieces.iter().enumerate() {
            if fails_after == Some(n) {
                return Err(self.failed("dump"));
            }
            let key = *blake3::hash(piece).as_bytes();
            if sink.run(Some(key)).await.map_err(|_| self.failed("dump"))? == Run::Wanted {
                let bytes = Bytes::copy_from_slice(piece);
                sink.write(bytes).await.map_err(|_| self.failed("dump"))?;
            }
        }
        self.with(|data| data.captured.entry(now).or_default().push(pieces.concat()));
        Ok(Captured { moment: Moment::At { time: now, position: None }, details: Details::default() })
    }

    async fn restore(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        _place: &Place,
    ) -> Result<Restored, SourceError> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.map_err(|_| self.failed("restore"))?;
        self.with(|data| data.restored = Some(bytes));
        Ok(Restored { place: "memory".to_owned() })
    }
}
