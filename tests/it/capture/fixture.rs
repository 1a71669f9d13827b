//! A controller's keys, sources by script, and a reader that is not the restore.

use std::{
    fs::{DirBuilder, Permissions},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use backstay::{
    apply::{
        capture::{CaptureError, CaptureOrder, Means, STALL, capture},
        segment::{Opener, Recipients, decrypt},
    },
    artifact::{
        ArtifactId, Kind, Manifest,
        index::Index,
        layout::{self, ObjectName, PackName},
        manifest::{Content, Details, Moment, SIGNATURE_NAMESPACE, Sealed, Segments},
    },
    clock::ManualClock,
    committed::BackupFolder,
    inventory::{Interrupted, Work},
    keys::{Keys, identity},
    observe::{cache::MemoryCache, stores::Look},
    plan::action::Capture,
    progress::Unseen,
    sources::{CaptureRequest, Captured, Place, Probe, Restored, Run, RunKey, Sink, Source, SourceError},
    spec::names::{FleetName, FolderName},
    stores::{Class, Store, memory::MemoryStore},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use jiff::{Span, Timestamp};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::io::AsyncRead;

/// A controller with an identity of its own.
pub struct Lab {
    pub dir: tempfile::TempDir,
    pub keys: Arc<Keys>,
    pub clock: ManualClock,
    pub fleet: FleetName,
    pub backup: FolderName,
    recipients: Vec<String>,
    captures: AtomicU64,
}

/// Keys whose naming key is always the same, for it decides where streams are cut.
fn keys(dir: &Path, identity: &Path) -> Keys {
    let naming = dir.join("naming");
    DirBuilder::new().mode(0o700).create(dir).unwrap();
    std::fs::write(&naming, format!("{}\n", "07".repeat(32))).unwrap();
    std::fs::set_permissions(&naming, Permissions::from_mode(0o600)).unwrap();
    Keys::load_or_create(dir, &[], Some(identity)).unwrap()
}

impl Lab {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let generated = identity::generate(start());
        let path = dir.path().join("identity.txt");
        std::fs::write(&path, generated.file.as_bytes()).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let keys = keys(&dir.path().join("keys"), &path);
        Self {
            dir,
            keys: Arc::new(keys),
            clock: ManualClock::new(start()),
            fleet: "pavroto".parse().unwrap(),
            backup: "agama".parse().unwrap(),
            recipients: vec![generated.recipient],
            captures: AtomicU64::new(0),
        }
    }

    pub fn identity(&self) -> PathBuf {
        self.dir.path().join("identity.txt")
    }

    pub fn add_recipient(&mut self) {
        self.recipients.push(identity::generate(start()).recipient);
    }

    pub fn order(&self, kind: Kind, base: Option<ArtifactId>) -> CaptureOrder {
        let number = self.captures.fetch_add(1, Ordering::Relaxed);
        CaptureOrder {
            capture: Capture {
                backup: (&self.backup).into(),
                kind,
                slot: Some(start()),
                manual: None,
                store: "here".parse().unwrap(),
                base,
                continues: None,
            },
            artifact: ArtifactId::new(start(), number),
            revision: "0123456789abcdef".to_owned(),
            reason: "scheduled".to_owned(),
            requires: vec![],
            recipients: Recipients::parse(self.recipients.iter().map(String::as_str)).unwrap(),
            expected: None,
            now: start(),
            stall: STALL,
            spool: None,
            native_place: None,
        }
    }

    pub async fn capture(
        &self,
        store: &(impl Store + Clone + 'static),
        kind: Kind,
        base: Option<ArtifactId>,
        source: Script<'_>,
    ) -> Result<Manifest, CaptureError> {
        self.carry_out(&self.order(kind, base), store, &source).await
    }

    pub async fn carry_out(
        &self,
        order: &CaptureOrder,
        store: &(impl Store + Clone + 'static),
        source: &dyn Source,
    ) -> Result<Manifest, CaptureError> {
        self.carry_out_in(order, &self.folder(Arc::new(store.clone())), source).await
    }

    pub async fn carry_out_in(
        &self,
        order: &CaptureOrder,
        folder: &BackupFolder,
        source: &dyn Source,
    ) -> Result<Manifest, CaptureError> {
        let means = Means { source, folder, keys: &self.keys, clock: &self.clock, progress: &Unseen };
        // Steps run on any thread.
        fn movable<F: Future + Send>(work: F) -> F {
            work
        }
        movable(capture(order, &means)).await
    }

    pub fn folder(&self, store: Arc<dyn Store>) -> BackupFolder {
        let (fleet, backup) = (self.fleet.clone(), self.backup.clone());
        BackupFolder { name: "here".parse().unwrap(), store, fleet, backup }
    }

    /// What a capture leaves in the journal when it is cut off.
    pub fn interrupted(&self, artifact: ArtifactId) -> Interrupted {
        let (backup, store) = (self.backup.clone(), "here".parse().unwrap());
        Interrupted { backup, store, artifact, work: Work::Capture, copy: None }
    }

    pub fn look(&self, store: &MemoryStore) -> Look {
        Look {
            name: "here".parse().unwrap(),
            store: Arc::new(store.clone()),
            fleet: self.fleet.clone(),
            keys: self.keys.clone(),
            cache: Arc::new(MemoryCache::default()),
        }
    }

    pub async fn get(&self, store: &dyn Store, name: &ObjectName) -> Vec<u8> {
        store.get(name, None, u64::MAX).await.unwrap().to_vec()
    }

    pub fn manifest_name(&self, manifest: &Manifest) -> ObjectName {
        layout::manifest(&self.fleet, &self.backup, &manifest.artifact)
    }

    pub fn pack(&self, manifest: &Manifest, number: u32) -> ObjectName {
        layout::pack(&self.fleet, &self.backup, &PackName { artifact: manifest.artifact, number })
    }

    /// Bytes of the packs that an artifact itself wrote.
    pub fn own_bytes(&self, manifest: &Manifest) -> u64 {
        let own = segments(manifest).packs.iter().filter(|(pack, _)| pack.artifact == manifest.artifact);
        own.map(|(_, stored)| stored.size).sum()
    }

    pub fn unseal(&self, manifest: &Manifest) -> Sealed {
        let sealed = BASE64_STANDARD.decode(manifest.sealed.as_ref().unwrap()).unwrap();
        serde_json::from_slice(&decrypt(self.keys.identities(), &sealed).unwrap()).unwrap()
    }

    /// The manifest that the store holds under this name, if it is signed by us.
    pub async fn committed(&self, store: &dyn Store, id: ArtifactId) -> Option<Manifest> {
        let manifest = layout::manifest(&self.fleet, &self.backup, &id);
        store.stat(&manifest).await.unwrap()?;
        let bytes = self.get(store, &manifest).await;
        let signature = self.get(store, &layout::manifest_signature(&self.fleet, &self.backup, &id)).await;
        self.keys.verify(SIGNATURE_NAMESPACE, &bytes, &signature).expect("what is committed is signed");
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    /// The stream of an artifact, each segment by its place in the index.
    pub async fn read(&self, store: &dyn Store, manifest: &Manifest) -> Vec<u8> {
        let committed = self.committed(store, manifest.artifact).await;
        assert_eq!(committed.as_ref(), Some(manifest));
        let name = layout::index(&self.fleet, &self.backup, &manifest.artifact);
        let index = Index::parse(&self.get(store, &name).await).unwrap();
        let naming = self.keys.naming_key(&self.fleet, &self.backup);
        let mut opener = Opener::new(self.keys.identities()).unwrap();
        let mut stream = vec![];
        for segment in index.segments {
            let pack = layout::pack(&self.fleet, &self.backup, &segment.extent.pack);
            let sealed = store.get(&pack, Some(segment.extent.range()), u64::MAX).await.unwrap();
            let plaintext = opener.open(&sealed).unwrap();
            assert_eq!(naming.segment(&plaintext), segment.hash);
            stream.extend(plaintext);
        }
        stream
    }
}

pub fn start() -> Timestamp {
    "2026-11-20T01:00:00Z".parse().unwrap()
}

pub fn segments(manifest: &Manifest) -> &Segments {
    match &manifest.content {
        Content::Segments(segments) => segments,
        Content::Native { .. } => panic!("a capture makes segments"),
    }
}

/// Bytes that do not compress.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// Rows of a dump.
pub fn rows(seed: u64, count: u64) -> Vec<u8> {
    let row = |n: u64| {
        format!("INSERT INTO t VALUES ({n},'{:x}');\n", (n + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    };
    (0..count).flat_map(|n| row(n).into_bytes()).collect()
}

/// A source that does as it is told.
pub struct Script<'a> {
    runs: Vec<(Option<Option<RunKey>>, &'a [u8])>,
    leave_out: LeaveOut,
    end: End<'a>,
}

enum LeaveOut {
    Never,
    AsTold,
}

enum End<'a> {
    Whole,
    Fails,
    Late(&'a ManualClock),
}

impl<'a> Script<'a> {
    pub fn new() -> Self {
        Self { runs: vec![], leave_out: LeaveOut::Never, end: End::Whole }
    }

    /// One stream without runs.
    pub fn of(stream: &'a [u8]) -> Self {
        Self { runs: vec![(None, stream)], ..Self::new() }
    }

    pub fn run(mut self, key: Option<RunKey>, bytes: &'a [u8]) -> Self {
        self.runs.push((Some(key), bytes));
        self
    }

    /// Leaves the bytes of reused runs out, as a source must.
    pub fn leaving_out(mut self) -> Self {
        self.leave_out = LeaveOut::AsTold;
        self
    }

    /// Fails after its last byte, as a producer does that exits 1.
    pub fn failing(mut self) -> Self {
        self.end = End::Fails;
        self
    }

    /// Takes two days by this clock.
    pub fn taking_two_days(mut self, clock: &'a ManualClock) -> Self {
        self.end = End::Late(clock);
        self
    }
}

#[async_trait]
impl Source for Script<'_> {
    async fn probe(&self) -> Result<Probe, SourceError> {
        Ok(Probe { version: "script".to_owned() })
    }

    fn stream_name(&self) -> String {
        "agama.sql".to_owned()
    }

    async fn capture(
        &self,
        request: &CaptureRequest<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Captured, SourceError> {
        let closed = |_| failure("the stream is no longer read");
        for (run, bytes) in &self.runs {
            let run = match run {
                Some(key) => sink.run(*key).await.map_err(closed)?,
                None => Run::Wanted,
            };
            if run == Run::Reused && matches!(self.leave_out, LeaveOut::AsTold) {
                continue;
            }
            for piece in bytes.chunks(100_000) {
                sink.write(Bytes::copy_from_slice(piece)).await.map_err(closed)?;
            }
        }
        match self.end {
            End::Fails => return Err(failure("it exited with status 1")),
            End::Late(clock) => clock.advance(Span::new().hours(48)),
            End::Whole => {}
        }
        let moment = Moment::At { time: request.now(), position: None };
        Ok(Captured { moment, details: Details::default() })
    }

    async fn restore(
        &self,
        _stream: &mut (dyn AsyncRead + Send + Unpin),
        _place: &Place,
    ) -> Result<Restored, SourceError> {
        Err(failure("a script restores nothing"))
    }
}

fn failure(reason: &str) -> SourceError {
    SourceError {
        operation: "dump",
        subject: "database agama".to_owned(),
        class: Class::Retry,
        reason: reason.to_owned(),
        hint: None,
    }
}
