//! A cluster over its original: put together beside its data folder, and in its place only when it is whole.

use std::{
    fs,
    path::{Path, PathBuf},
};

use backstay::{
    artifact::until::Until,
    sources::{Captured, Place, Replay, Restored, Source, SourceError, postgres::PostgresSource},
    stores::Class,
};

use super::lab::postgres::{Postgres, verify};
use super::postgres_wal::{end, log, sell, sold, till};
use super::source_conformance::{Collected, captured, restored};

/// What the executor does with a source whose stream and logs are proved.
async fn over_original(
    source: &PostgresSource,
    base: &(Collected, Captured),
    logs: &[Vec<u8>],
    until: Option<Until>,
) -> Result<Restored, SourceError> {
    let made = source.prepare(&Place::Original).await?;
    restored(source, &base.0.stream(), &made).await?;
    let mut told = Restored { place: String::new() };
    let replay = Replay { from: end(&base.1).position, until };
    for log in logs {
        told = source.replay(&mut log.as_slice(), &made, &replay).await?;
    }
    let replay = (!logs.is_empty()).then_some(&replay);
    source.conclude(&made, &Place::Original, replay, told).await
}

/// The folders beside a data folder that restores made.
fn beside(data: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(data.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let mut made: Vec<_> = names.filter(|path| path.to_string_lossy().contains("data.")).collect();
    made.sort();
    made
}

#[tokio::test]
async fn a_stopped_cluster_is_replaced_whole_and_what_was_there_is_kept() {
    let server = till();
    let data = server.data();
    let source = server.cluster_in(Some(&data));
    let base = captured(&source).await;
    sell(&server, "after the base");
    let (stream, _) = log(&source, end(&base.1)).await;
    sell(&server, "lost");
    let running = over_original(&source, &base, &[], None).await.unwrap_err();
    assert!(running.to_string().contains("stop it first") && running.class == Class::Stalled, "{running}");
    assert_eq!((beside(&data), sold(&server).ends_with("lost")), (Vec::new(), true), "it is left alone");

    let folder = server.stop();
    let told = over_original(&source, &base, &[stream], None).await.unwrap().place;
    let kept = data.with_file_name("data.before-restore-1");
    assert!(told.contains(&kept.display().to_string()), "{told}");
    assert_eq!(beside(&data), [kept.as_path()]);
    let server = Postgres::start_on(folder, &data);
    server.wait_for("SELECT pg_is_in_recovery()", "f");
    assert_eq!(sold(&server), "before the base,after the base");
    let before = Postgres::start_on(tempfile::tempdir().unwrap(), &kept);
    assert_eq!(sold(&before), "before the base,after the base,lost", "what was replaced is whole");
    drop(before);

    let folder = server.stop();
    over_original(&source, &base, &[], None).await.unwrap();
    verify(&data);
    assert_eq!(beside(&data).len(), 2, "nothing takes the place of what was kept");
    fs::remove_dir_all(&data).unwrap();
    over_original(&source, &base, &[], None).await.unwrap();
    assert_eq!(sold(&Postgres::start_on(folder, &data)), "before the base");
}

#[tokio::test]
async fn a_restore_over_the_original_that_fails_leaves_it_as_it_was() {
    let server = till();
    let data = server.data();
    let base = captured(&server.cluster()).await;
    let (stream, _) = log(&server.cluster(), end(&base.1)).await;
    sell(&server, "after the base");
    let port = server.port();
    let folder = server.stop();
    let source = || Postgres::cluster_at(port, Some(&data));
    let cut = (Collected::default(), base.1.clone());
    over_original(&source(), &cut, &[], None).await.expect_err("it is no base backup");
    over_original(&source(), &base, &[stream[..stream.len() / 2].to_vec()], None)
        .await
        .expect_err("it is half a log");
    let unprepared = Restored { place: String::new() };
    let made = Place::Folder(data.with_file_name("made"));
    source().conclude(&made, &Place::Original, None, unprepared).await.expect_err("there is nothing to put");
    assert!(beside(&data).is_empty(), "what was restored in part is gone");

    // Somebody starts the server while the restore goes on.
    let late = source();
    let made = late.prepare(&Place::Original).await.unwrap();
    restored(&late, &base.0.stream(), &made).await.unwrap();
    let server = Postgres::start_on(folder, &data);
    let told = Restored { place: String::new() };
    let running = late.conclude(&made, &Place::Original, None, told).await.unwrap_err();
    assert!(running.to_string().contains("a server runs on it"), "{running}");
    assert_eq!(sold(&server), "before the base,after the base");
    // Hours of restoring are not thrown away for that: it is told where they are.
    let [kept]: [PathBuf; 1] = beside(&data).try_into().expect("one folder is left");
    assert!(running.to_string().contains(&kept.display().to_string()), "{kept:?}: {running}");
}

#[tokio::test]
async fn only_a_data_folder_that_this_host_lets_go_is_replaced() {
    let server = Postgres::start();
    let undeclared = server.cluster().prepare(&Place::Original).await.unwrap_err();
    assert!(undeclared.to_string().contains("data_dir"), "{undeclared}");
    let data = server.data();
    let kept = server.cluster_in(Some(&data)).keep_data_folder("this host does not allow it");
    let kept = kept.prepare(&Place::Original).await.unwrap_err();
    assert!(kept.to_string().contains("does not allow it"), "{kept}");
    let port = server.port();
    let folder = server.stop();
    let (link, other) = (folder.path().join("link"), folder.path().join("other"));
    std::os::unix::fs::symlink(&data, &link).unwrap();
    fs::create_dir(&other).unwrap();
    fs::write(other.join("letters"), "dear").unwrap();
    for (place, why) in [(&link, "symbolic link"), (&other, "no data of PostgreSQL")] {
        let source = Postgres::cluster_at(port, Some(place));
        let refused = source.prepare(&Place::Original).await.unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
    assert!(other.join("letters").exists() && link.is_symlink());
}
