use std::io::Write;

use flate2::{Compression, write::GzEncoder};

use super::*;

const SHARD: &str = "20261129T033430Z.s1.tar.gz";
const META: &str = "20261129T033430Z.meta";
const LIST: &str = "20261129T033430Z.manifest";

/// A shard's archive as the server writes it: one file, and the closing blocks.
fn shard(content: usize) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let mut seed = 1u32;
    let bytes: Vec<u8> = (0..content)
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        })
        .collect();
    builder.append_data(&mut header, "tele/autogen/1/000000001-000000001.tsm", bytes.as_slice()).unwrap();
    builder.into_inner().unwrap()
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Metadata that know one database, and one shard.
fn metadata(database: &str) -> Vec<u8> {
    let field = |number: u8, content: &[u8]| [&[number << 3 | 2, content.len() as u8], content].concat();
    let group = field(5, &[&[0x10, 0][..], &field(5, &[0x08, 1])].concat());
    let policy = field(3, &[field(1, b"autogen"), group].concat());
    let data = [field(5, &[field(1, database.as_bytes()), policy].concat()), vec![0x48, 0x01]].concat();
    [field(1, &data), vec![0x10, 0x00]].concat()
}

/// A whole backup of the database `tele` with one shard.
fn backup(archive: &[u8], size: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(SHARD), archive).unwrap();
    fs::write(folder.path().join(META), metadata("tele")).unwrap();
    let manifest = serde_json::json!({
        "meta": { "fileName": META, "size": metadata("tele").len() - 4 },
        "limited": false,
        "files": [{
            "database": "tele", "policy": "autogen", "shardID": 1, "fileName": SHARD, "size": size, "lastModified": 0,
        }],
    });
    fs::write(folder.path().join(LIST), manifest.to_string()).unwrap();
    folder
}

fn proved(folder: &Path) -> Result<Portable, Failure> {
    prove(folder, &DatabaseName::parse("tele").unwrap(), || Ok(()))
}

fn refused(folder: &Path, why: &str) {
    match proved(folder) {
        Err(Failure::Incomplete(reason)) => assert!(reason.contains(why), "{reason}"),
        other => panic!("{why}: {other:?}"),
    }
}

#[test]
fn a_whole_backup_is_proved() {
    let archive = shard(100_000);
    let folder = backup(&compressed(&archive), archive.len());
    record::Record::new("tele", None, None, None).write(folder.path()).unwrap();
    let portable = proved(folder.path()).unwrap();
    assert_eq!(portable.files.keys().collect::<Vec<_>>(), [LIST, META, SHARD, record::FILE]);
    let span = Span { policy: "autogen".to_owned(), start: 0 };
    assert_eq!((portable.listed, portable.shards), (1, BTreeSet::from([span])));
}

#[test]
fn a_shard_that_was_cut_short_before_or_after_it_was_compressed_is_found_wherever_it_was() {
    let archive = shard(100_000);
    for length in
        [0, 1, 511, 512, 50_000, 100_352, archive.len() - 1024, archive.len() - 512, archive.len() - 1]
    {
        // As the program leaves it when the server is killed: a whole compressed file of a part, and its size.
        let folder = backup(&compressed(&archive[..length]), length);
        refused(folder.path(), "cut short");
    }
    let whole = compressed(&archive);
    for length in [0, 1, 10, whole.len() / 2, whole.len() - 9, whole.len() - 8, whole.len() - 1] {
        let folder = backup(&whole[..length], archive.len());
        refused(folder.path(), "cut short");
    }
    for position in [0, 20, whole.len() / 2, whole.len() - 6] {
        let mut flipped = whole.clone();
        flipped[position] ^= 0x10;
        let folder = backup(&flipped, archive.len());
        refused(folder.path(), "shard file");
    }
    refused(backup(&whole, archive.len() + 512).path(), "the manifest says");
    refused(backup(&[whole.as_slice(), b"more"].concat(), archive.len()).path(), "shard file");
}

#[test]
fn the_manifest_names_exactly_what_is_there() {
    let archive = shard(1000);
    let whole = || backup(&compressed(&archive), archive.len());
    let folder = whole();
    fs::write(folder.path().join("20261129T033430Z.s2.tar.gz"), compressed(&archive)).unwrap();
    refused(folder.path(), "is not named");
    let folder = whole();
    fs::write(folder.path().join("tele.autogen.00002.00.pending"), "half").unwrap();
    refused(folder.path(), "is not named");
    for name in [SHARD, META] {
        let folder = whole();
        fs::remove_file(folder.path().join(name)).unwrap();
        refused(folder.path(), "is missing");
    }
    let folder = whole();
    fs::remove_file(folder.path().join(LIST)).unwrap();
    refused(folder.path(), "0 manifests");
    let folder = whole();
    let text = fs::read_to_string(folder.path().join(LIST)).unwrap();
    fs::write(folder.path().join("20261129T033431Z.manifest"), &text).unwrap();
    refused(folder.path(), "2 manifests");
    for (from, to, why) in [
        ("\"database\":\"tele\"", "\"database\":\"other\"", "of database other"),
        (SHARD, "../../etc/passwd", "is missing"),
        ("{", "", "can't be read"),
    ] {
        let folder = whole();
        fs::write(folder.path().join(LIST), text.replace(from, to)).unwrap();
        refused(folder.path(), why);
    }
}

#[test]
fn metadata_that_are_empty_cut_short_or_of_another_server_are_found() {
    let archive = shard(1000);
    let whole = metadata("tele");
    for (bad, why) in [
        (&b""[..], "empty or cut short"),
        (&whole[..8], "empty or cut short"),
        (&metadata("elet"), "do not know"),
    ] {
        let folder = backup(&compressed(&archive), archive.len());
        fs::write(folder.path().join(META), bad).unwrap();
        refused(folder.path(), why);
    }
}

#[test]
fn a_shard_that_was_made_after_the_metadata_were_read_is_found() {
    let archive = shard(1000);
    let folder = backup(&compressed(&archive), archive.len());
    let text = fs::read_to_string(folder.path().join(LIST)).unwrap();
    fs::write(folder.path().join(LIST), text.replace("\"shardID\":1", "\"shardID\":2")).unwrap();
    refused(folder.path(), "older than shard 2");
    fs::write(folder.path().join(LIST), text.replace("\"shardID\":1", "\"shardID\":0")).unwrap();
    refused(folder.path(), "do not know shard 0");
}

#[test]
fn a_shard_that_did_not_change_is_called_and_digested_alike_whenever_it_is_backed_up() {
    let archive = shard(1000);
    let proved_as = |time: &str, archive: &[u8]| {
        let folder = backup(&compressed(archive), archive.len());
        for entry in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap().replace("20261129T033430Z", time);
            let content = fs::read(entry.path()).unwrap();
            fs::remove_file(entry.path()).unwrap();
            let content = match String::from_utf8(content) {
                Ok(text) => text.replace("20261129T033430Z", time).into_bytes(),
                Err(error) => error.into_bytes(),
            };
            fs::write(folder.path().join(name), content).unwrap();
        }
        rename(folder.path()).unwrap();
        let manifest = fs::read_to_string(folder.path().join("backup.manifest")).unwrap();
        (proved(folder.path()).unwrap(), manifest)
    };
    let first = proved_as("20261129T033430Z", &archive);
    assert!(first.0.files.contains_key("backup.s1.tar.gz") && first.0.files.contains_key("backup.meta"));
    assert_eq!(proved_as("20261130T010000Z", &archive), first);
    let mut changed = archive.clone();
    changed[700] ^= 1;
    assert_ne!(proved_as("20261130T010000Z", &changed).0, first.0);
}

#[test]
fn a_proof_ends_where_nobody_waits_for_it() {
    let archive = shard(100_000);
    let folder = backup(&compressed(&archive), archive.len());
    let ended = prove(folder.path(), &DatabaseName::parse("tele").unwrap(), || Err(Failure::SinkClosed));
    assert!(matches!(ended, Err(Failure::SinkClosed)), "{ended:?}");
}
