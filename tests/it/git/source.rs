use std::{path::Path, time::Duration};

use async_trait::async_trait;
use backstay::{
    artifact::{ArtifactId, Kind, manifest::Moment},
    clock::ManualClock,
    git::{StoredTips, Tips, tips_position},
    sources::{
        CaptureRequest, Captured, Place, Run, RunKey, Sink, SinkClosed, Source, SourceError, git::GitSource,
    },
};
use bytes::Bytes;

use super::{Repo, git};

#[derive(Default)]
struct Memory(Vec<u8>);

#[async_trait]
impl Sink for Memory {
    async fn write(&mut self, bytes: Bytes) -> Result<(), SinkClosed> {
        self.0.extend_from_slice(&bytes);
        Ok(())
    }

    async fn run(&mut self, _: Option<RunKey>) -> Result<Run, SinkClosed> {
        Ok(Run::Wanted)
    }
}

async fn captured(
    mirror: &Path,
    kind: Kind,
    prerequisites: Option<Tips>,
) -> Result<(Captured, Vec<u8>), SourceError> {
    let clock = ManualClock::new("2026-11-20T01:00:00Z".parse().unwrap());
    let request = CaptureRequest {
        kind,
        clock: &clock,
        base_started: None,
        continues: None,
        stall: Duration::from_secs(60),
        spool: None,
    };
    let mut sink = Memory::default();
    let captured = GitSource::new(mirror.to_owned(), prerequisites).capture(&request, &mut sink).await?;
    Ok((captured, sink.0))
}

async fn restored(bundle: &[u8], place: &Place) -> Result<String, SourceError> {
    let source = GitSource::new("/nowhere".into(), None);
    source.restore(&mut &bundle[..], place).await.map(|restored| restored.place)
}

fn tips(captured: &Captured) -> Tips {
    Tips(captured.details.tips.clone())
}

#[tokio::test]
async fn a_chain_is_restored_to_exactly_what_the_mirror_held_force_pushed_tips_included() {
    let repo = Repo::with_a_commit();
    repo.git(&["branch", "temporary"]);
    let lost = repo.commit("backup/a.toml", "a = 1\n");
    let mirror = repo.mirror();
    mirror.fetch().await.unwrap();
    let (full, first) = captured(mirror.path(), Kind::Full, None).await.unwrap();

    repo.git(&["reset", "-q", "--hard", "HEAD~1"]);
    repo.git(&["branch", "-q", "-D", "temporary"]);
    repo.commit("backup/b.toml", "b = 1\n");
    mirror.fetch().await.unwrap();
    let (second, increment) = captured(mirror.path(), Kind::Incremental, Some(tips(&full))).await.unwrap();
    let Moment::At { position, .. } = &second.moment else { panic!("{second:?}") };
    assert_eq!(position.as_deref(), Some(tips_position(&mirror.tips().await.unwrap()).as_str()));

    repo.git(&["tag", "-a", "v1", "-m", "First"]);
    mirror.fetch().await.unwrap();
    let (_, third) = captured(mirror.path(), Kind::Incremental, Some(tips(&second))).await.unwrap();

    let folder = repo.root.path().join("restored.git");
    let place = Place::Folder(folder.clone());
    for bundle in [&first, &increment, &third] {
        restored(bundle, &place).await.unwrap();
    }
    let listing =
        ["for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags", "refs/backstay/old"];
    assert_eq!(git(&folder, &listing), git(mirror.path(), &listing));
    assert!(git(&folder, &listing).contains(&format!("refs/backstay/old/{lost}")));
    assert_eq!(git(&folder, &["symbolic-ref", "HEAD"]), "refs/heads/main");
    git(&folder, &["fsck", "--strict", "--full"]);
    git(repo.root.path(), &["clone", "-q", "restored.git", "work"]);
    assert_eq!(std::fs::read_to_string(repo.root.path().join("work/backup/b.toml")).unwrap(), "b = 1\n");
}

#[tokio::test]
async fn an_increment_alone_and_a_second_full_are_refused_before_anything_changes() {
    let repo = Repo::with_a_commit();
    let mirror = repo.mirror();
    mirror.fetch().await.unwrap();
    let (full, first) = captured(mirror.path(), Kind::Full, None).await.unwrap();
    repo.commit("backup/b.toml", "b = 1\n");
    mirror.fetch().await.unwrap();
    let (_, increment) = captured(mirror.path(), Kind::Incremental, Some(tips(&full))).await.unwrap();

    let folder = repo.root.path().join("restored.git");
    let place = Place::Folder(folder.clone());
    let error = restored(&increment, &place).await.unwrap_err();
    assert!(error.to_string().contains("apply the artifacts that it requires first"), "{error}");
    assert!(!folder.exists());

    restored(&first, &place).await.unwrap();
    let error = restored(&first, &place).await.unwrap_err();
    assert!(error.to_string().contains("it is not empty"), "{error}");

    git(repo.root.path(), &["clone", "-q", "--bare", "infra", "theirs.git"]);
    let theirs = Place::Folder(repo.root.path().join("theirs.git"));
    let error = restored(&increment, &theirs).await.unwrap_err();
    assert!(error.to_string().contains("it is not empty"), "a repository of somebody else: {error}");
}

#[tokio::test]
async fn a_bundle_that_is_cut_short_or_damaged_moves_no_reference() {
    let repo = Repo::with_a_commit();
    let mirror = repo.mirror();
    mirror.fetch().await.unwrap();
    let (_, bundle) = captured(mirror.path(), Kind::Full, None).await.unwrap();
    let mut damaged = bundle.clone();
    let middle = damaged.len() - 40;
    damaged[middle] ^= 0x10;
    for (name, broken) in
        [("cut", &bundle[..bundle.len() - 1]), ("damaged", &damaged), ("foreign", b"GIT bundle")]
    {
        let folder = repo.root.path().join(name);
        let error = restored(broken, &Place::Folder(folder.clone())).await.unwrap_err();
        assert!(error.to_string().starts_with("failed to restore the infra repo: failed to"), "{error}");
        assert!(!folder.exists() || git(&folder, &["for-each-ref"]).is_empty());
    }
}

#[tokio::test]
async fn a_file_is_the_bundle_itself_and_never_overwritten() {
    let repo = Repo::with_a_commit();
    let mirror = repo.mirror();
    mirror.fetch().await.unwrap();
    let (_, bundle) = captured(mirror.path(), Kind::Full, None).await.unwrap();
    let file = repo.root.path().join("infra.bundle");
    restored(&bundle, &Place::File(file.clone())).await.unwrap();
    git(repo.root.path(), &["clone", "-q", "infra.bundle", "clone"]);
    assert!(restored(b"other", &Place::File(file.clone())).await.is_err());
    assert_eq!(std::fs::read(&file).unwrap(), bundle);
}

#[tokio::test]
async fn an_increment_on_unknown_tips_is_refused_in_favour_of_a_full() {
    let repo = Repo::with_a_commit();
    let mirror = repo.mirror();
    mirror.fetch().await.unwrap();
    let error = captured(mirror.path(), Kind::Incremental, None).await.unwrap_err();
    assert!(error.to_string().ends_with("make a full"), "{error}");
}

#[tokio::test]
async fn the_tips_of_a_store_count_only_for_its_newest_artifact_and_a_mirror_that_has_them() {
    let repo = Repo::with_a_commit();
    let mirror = repo.mirror();
    let tips = mirror.fetch().await.unwrap().tips;
    let stored = StoredTips::new(&repo.state_dir());
    let (store, at) = ("offsite".parse().unwrap(), "2026-11-20T01:00:00Z".parse().unwrap());
    let (first, other) = (ArtifactId::new(at, 1), ArtifactId::new(at, 2));
    assert_eq!(stored.usable(&store, &first, mirror.path()), None);
    stored.record(&store, &first, &tips).unwrap();
    assert_eq!(stored.usable(&store, &first, mirror.path()), Some(tips.clone()));
    assert_eq!(stored.usable(&store, &other, mirror.path()), None);
    let foreign = Tips([("refs/heads/x".to_owned(), "1".repeat(40))].into());
    stored.record(&store, &first, &foreign).unwrap();
    assert_eq!(stored.usable(&store, &first, mirror.path()), None);
    std::fs::write(repo.state_dir().join("infra-tips/offsite.json"), b"{\"format\":").unwrap();
    assert_eq!(stored.usable(&store, &first, mirror.path()), None);
}
