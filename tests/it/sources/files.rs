//! Folders: what real trees hold, what changes while it is read, what archives try.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::{Read, Write},
    os::unix::{
        ffi::OsStringExt,
        fs::{FileExt, MetadataExt, PermissionsExt, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use backstay::{
    artifact::manifest::Counts,
    sources::{CaptureRequest, Place, Source, SourceError, files::FilesSource, selection::Selection},
    spec::Files,
};
use jiff::{Span, Timestamp};

use super::suite::{Collected, captured, conforms, request, restored};

fn source(paths: &[&Path], exclude: &[&str]) -> FilesSource {
    let paths = paths.iter().map(|path| path.to_path_buf()).collect();
    FilesSource::new(&Files { paths, exclude: exclude.iter().map(|glob| glob.to_string()).collect() })
        .unwrap()
}

fn write(path: PathBuf, content: &[u8]) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A tree with one of everything that can be brought back.
fn plant(tree: &Path) {
    write(tree.join("empty"), b"");
    write(tree.join("small"), b"small");
    write(tree.join("big"), &noise(3 << 20));
    write(tree.join("a/b/c/deep"), b"deep");
    write(tree.join("long").join("n".repeat(200)).join("m".repeat(250)), b"long name");
    write(tree.join(OsString::from_vec(b"not \xff utf-8".to_vec())), b"bytes");
    write(tree.join("späce \n 'quote\""), b"odd");
    fs::create_dir_all(tree.join("empty folder")).unwrap();
    symlink("../small", tree.join("a/link")).unwrap();
    symlink("/nowhere/at/all", tree.join("dangling")).unwrap();
    symlink("x".repeat(300), tree.join("long link")).unwrap();
    fs::hard_link(tree.join("small"), tree.join("z hard link")).unwrap();
    let sparse = fs::File::create(tree.join("sparse")).unwrap();
    sparse.set_len(40 << 20).unwrap();
    sparse.write_all_at(b"in the middle", 20 << 20).unwrap();
    let mode =
        |name: &str, mode| fs::set_permissions(tree.join(name), fs::Permissions::from_mode(mode)).unwrap();
    mode("small", 0o640);
    mode("empty", 0o400);
    mode("a/b", 0o555);
    mode("empty folder", 0o1777);
    let time = |name: &str, second: i64, nano: i64| {
        let time = rustix::fs::Timespec { tv_sec: second, tv_nsec: nano };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, tree.join(name), &times, flags).unwrap();
    };
    time("small", 1_500_000_000, 123_456_789);
    time("a/b", 1_000_000_000, 1);
    time("dangling", 1_200_000_000, 999_999_999);
    time("empty", -5, 500_000_000);
}

/// Everything about a tree that must survive, by path.
fn described(tree: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![tree.to_path_buf()];
    while let Some(path) = open.pop() {
        let metadata = path.symlink_metadata().unwrap();
        let content = match metadata.file_type() {
            kind if kind.is_symlink() => format!("-> {}", fs::read_link(&path).unwrap().display()),
            kind if kind.is_dir() => {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                "folder".to_owned()
            }
            _ => blake3::hash(&fs::read(&path).unwrap()).to_string(),
        };
        let mode = if metadata.is_symlink() { 0 } else { metadata.mode() & 0o7777 };
        let (second, nano) = (metadata.mtime(), metadata.mtime_nsec());
        let links = if metadata.is_dir() { 0 } else { metadata.nlink() };
        let (uid, gid) = (metadata.uid(), metadata.gid());
        let text = format!("{content} {mode:o} {uid}:{gid} {second}.{nano} {links}");
        found.insert(path.strip_prefix(tree).unwrap().to_path_buf(), text);
    }
    found
}

/// A copy of `tree` below a folder that it was restored to.
fn inside(folder: &Path, tree: &Path) -> PathBuf {
    folder.join(tree.strip_prefix("/").unwrap())
}

fn count(captured: &backstay::sources::Captured, tree: &Path, what: &str) -> u64 {
    let Counts::Captured(counts) = &captured.details.counts else { panic!("files are counted") };
    counts[&format!("{} {what}", tree.display())]
}

#[tokio::test]
async fn a_tree_comes_back_as_it_was() {
    let (one, two, away) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    plant(one.path());
    write(two.path().join("small"), b"the same name elsewhere");
    let files = source(&[one.path(), two.path()], &[]);
    let (sink, captured) = captured(&files).await;
    assert_eq!(captured.details.omitted, [] as [String; 0]);
    assert_eq!((count(&captured, one.path(), "files"), count(&captured, one.path(), "symlinks")), (9, 3));
    assert_eq!(count(&captured, two.path(), "bytes"), 23);
    let folder = away.path().join("new");
    restored(&files, &sink.stream(), &Place::Folder(folder.clone())).await.unwrap();
    for tree in [one.path(), two.path()] {
        assert_eq!(described(&inside(&folder, tree)), described(tree));
    }
    let sparse = inside(&folder, one.path()).join("sparse").metadata().unwrap();
    assert!(sparse.blocks() * 512 < sparse.len() / 4, "holes are holes again");
    let again = restored(&files, &sink.stream(), &Place::Folder(folder)).await.unwrap_err();
    assert!(again.to_string().contains("is not empty"), "{again}");
}

#[tokio::test]
async fn tar_itself_reads_what_was_captured() {
    let (tree, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    plant(tree.path());
    let (sink, _) = captured(&source(&[tree.path()], &[])).await;
    let mut tar = Command::new("tar");
    tar.args(["-xpf", "-", "-C"]).arg(away.path()).stdin(Stdio::piped());
    let mut tar = tar.spawn().unwrap();
    tar.stdin.take().unwrap().write_all(&sink.stream()).unwrap();
    assert!(tar.wait().unwrap().success());
    assert_eq!(described(&inside(away.path(), tree.path())), described(tree.path()));
}

#[tokio::test]
async fn files_conform() {
    let (tree, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    plant(tree.path());
    conforms(&source(&[tree.path()], &[]), scratch.path()).await;
}

#[tokio::test]
async fn what_is_excluded_is_left_out_and_what_no_archive_holds_is_named() {
    let (tree, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["keep/a.txt", "keep/a.tmp", "cache/x/y", "keep/cache/z"] {
        write(tree.path().join(name), b"x");
    }
    let _socket = UnixListener::bind(tree.path().join("socket")).unwrap();
    let (sink, captured) = captured(&source(&[tree.path()], &["*.tmp", "cache"])).await;
    let socket = tree.path().join("socket");
    assert_eq!(captured.details.omitted, [format!("{}: a socket", socket.display())]);
    restored(&source(&[tree.path()], &[]), &sink.stream(), &Place::Folder(away.path().to_owned()))
        .await
        .unwrap();
    let names: Vec<_> = described(&inside(away.path(), tree.path())).into_keys().collect();
    assert_eq!(names, ["", "keep", "keep/a.txt", "keep/cache", "keep/cache/z"].map(PathBuf::from));
}

#[tokio::test]
async fn the_stream_is_the_same_for_the_same_tree() {
    let tree = tempfile::tempdir().unwrap();
    plant(tree.path());
    let files = source(&[tree.path()], &[]);
    assert!(captured(&files).await.0.stream() == captured(&files).await.0.stream());
}

/// A capture on `base`, whose own began when nothing in the tree was young any more.
async fn increment(files: &FilesSource, base: &Collected) -> Collected {
    let mut sink = Collected::on(base);
    let settled = Timestamp::now() + Span::new().seconds(60);
    let request = CaptureRequest { base_started: Some(settled), ..request() };
    files.capture(&request, &mut sink).await.unwrap();
    sink
}

#[tokio::test]
async fn an_increment_reads_only_the_runs_whose_files_changed() {
    let tree = tempfile::tempdir().unwrap();
    for number in 0..2_000 {
        write(tree.path().join(format!("{:02}/{number}", number % 50)), &noise(5_000));
    }
    write(tree.path().join("big"), &noise(5 << 20));
    let files = source(&[tree.path()], &[]);
    let (full, _) = captured(&files).await;
    let unchanged = increment(&files, &full).await;
    assert_eq!((unchanged.reused, unchanged.runs.len()), (full.runs.len(), full.runs.len()));
    assert!(unchanged.stream() == full.stream());
    write(tree.path().join("07/7"), b"changed");
    write(tree.path().join("30/new"), b"new");
    let changed = increment(&files, &full).await;
    assert!(changed.runs.len() - changed.reused <= 6, "{} of {}", changed.reused, changed.runs.len());
    assert!(changed.stream() == captured(&files).await.0.stream());
}

#[tokio::test]
async fn files_as_young_as_the_base_are_read_again() {
    let tree = tempfile::tempdir().unwrap();
    let young = tree.path().join("young");
    write(young.clone(), b"one");
    let files = source(&[tree.path()], &[]);
    let (full, _) = captured(&files).await;
    let mut sink = Collected::on(&full);
    let written = young.metadata().unwrap().modified().unwrap();
    let request = CaptureRequest { base_started: Some(written.try_into().unwrap()), ..request() };
    files.capture(&request, &mut sink).await.unwrap();
    assert_eq!(sink.reused, 1, "nothing but the closing blocks");
    assert!(sink.runs[0].0.is_none(), "a later capture can't reuse it either");
}

#[test]
fn files_that_grow_shrink_and_vanish_while_they_are_read_leave_a_whole_archive() {
    let tree = tempfile::tempdir().unwrap();
    for number in 0..8 {
        write(tree.path().join(format!("big-{number}")), &noise(4 << 20));
        write(tree.path().join(format!("small-{number}")), &noise(100_000));
    }
    let stop = AtomicBool::new(false);
    let disturb = || {
        for number in (0..8).cycle() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let big =
                fs::OpenOptions::new().write(true).open(tree.path().join(format!("big-{number}"))).unwrap();
            big.set_len(if big.metadata().unwrap().len() > 3 << 20 { 2 << 20 } else { 4 << 20 }).unwrap();
            let small = tree.path().join(format!("small-{number}"));
            let _ = fs::remove_file(&small);
            fs::write(&small, noise(50_000 + number)).unwrap();
        }
    };
    let streams = thread::scope(|threads| {
        threads.spawn(disturb);
        let _stop = super::Stop(&stop);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        (0..5)
            .map(|_| runtime.block_on(captured(&source(&[tree.path()], &[]))).0.stream())
            .collect::<Vec<_>>()
    });
    for stream in streams {
        assert_eq!(stream.len() % 512, 0);
        let mut archive = tar::Archive::new(&stream[..]);
        for member in archive.entries().unwrap() {
            let mut content = Vec::new();
            let mut member = member.unwrap();
            member.read_to_end(&mut content).unwrap();
            assert_eq!(content.len() as u64, member.size());
        }
        let away = tempfile::tempdir().unwrap();
        let folder = Place::Folder(away.path().to_owned());
        let files = source(&[tree.path()], &[]);
        let restore = async { restored(&files, &stream, &folder).await };
        tokio::runtime::Runtime::new().unwrap().block_on(restore).unwrap();
    }
}

#[test]
fn a_folder_swapped_for_a_link_never_leads_out() {
    let (tree, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(outside.path().join("file"), b"TOP SECRET");
    let (real, aside) = (tree.path().join("folder"), tree.path().join("aside"));
    write(real.join("file"), b"harmless!!");
    let stop = AtomicBool::new(false);
    let swap = || {
        while !stop.load(Ordering::Relaxed) {
            fs::rename(&real, &aside).unwrap();
            symlink(outside.path(), &real).unwrap();
            thread::yield_now();
            fs::remove_file(&real).unwrap();
            fs::rename(&aside, &real).unwrap();
        }
    };
    let streams = thread::scope(|threads| {
        threads.spawn(swap);
        let _stop = super::Stop(&stop);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        (0..300)
            .map(|_| runtime.block_on(captured(&source(&[tree.path()], &[]))).0.stream())
            .collect::<Vec<_>>()
    });
    for stream in streams {
        assert!(!stream.windows(10).any(|window| window == b"TOP SECRET"));
    }
}

#[tokio::test]
async fn a_declared_path_that_is_missing_or_a_link_is_an_error() {
    let tree = tempfile::tempdir().unwrap();
    symlink("/etc", tree.path().join("link")).unwrap();
    for (name, why) in
        [("absent", "No such file"), ("link", "neither folder nor file"), ("link/ssl", "symbolic link")]
    {
        let path = tree.path().join(name);
        let error = source(&[&path], &[]).capture(&request(), &mut Collected::default()).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

/// An archive with one member, as an attacker or an accident would write it.
fn archive(name: &str, kind: tar::EntryType, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o6755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn closed(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

#[tokio::test]
async fn archives_that_try_to_escape_are_refused_and_change_nothing_outside() {
    use tar::EntryType as T;
    let (victim, tree) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let outside = victim.path().to_str().unwrap();
    let through = |second: Vec<u8>| {
        closed(&[archive("srv", T::Directory, "", b""), archive("srv/l", T::Symlink, outside, b""), second])
    };
    let attacks = [
        closed(&[archive("../evil", T::Regular, "", b"x")]),
        closed(&[archive("/tmp/evil", T::Regular, "", b"x")]),
        closed(&[archive("a/../../evil", T::Regular, "", b"x")]),
        closed(&[archive("device", T::Char, "", b"")]),
        closed(&[archive("fifo", T::Fifo, "", b"")]),
        closed(&[archive("link", T::Link, "/etc/passwd", b"")]),
        closed(&[archive("link", T::Link, "../../etc/passwd", b"")]),
        through(archive("srv/l/evil", T::Regular, "", b"x")),
        through(archive("srv/l", T::Regular, "", b"x")),
        through(archive("srv/l/evil", T::Directory, "", b"")),
        closed(&[archive("twice", T::Regular, "", b"1"), archive("twice", T::Regular, "", b"2")]),
    ];
    let files = source(&[tree.path()], &[]);
    for (number, attack) in attacks.iter().enumerate() {
        let away = tempfile::tempdir().unwrap();
        let folder = Place::Folder(away.path().to_owned());
        restored(&files, attack, &folder).await.expect_err(&format!("attack {number}"));
        assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 0, "attack {number}");
    }
    let elsewhere =
        archive(victim.path().join("evil").to_str().unwrap().trim_start_matches('/'), T::Regular, "", b"x");
    restored(&files, &closed(&[elsewhere]), &Place::Original)
        .await
        .expect_err("it is not below the declared path");
    assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 0);
}

async fn restored_part(
    source: &FilesSource,
    mut stream: &[u8],
    place: &Place,
    paths: &[&Path],
) -> Result<String, SourceError> {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let selection = Selection::of(&paths).unwrap();
    source.restore_selected(&mut stream, place, &selection).await.map(|restored| restored.place)
}

#[tokio::test]
async fn a_part_of_a_tree_comes_back_with_the_folders_above_it_as_they_were() {
    let scratch = tempfile::tempdir().unwrap();
    let (tree, new) = (scratch.path().join("tree"), scratch.path().join("new"));
    plant(&tree);
    fs::set_permissions(tree.join("a/b"), fs::Permissions::from_mode(0o710)).unwrap();
    let files = source(&[&tree], &[]);
    let (sink, _) = captured(&files).await;
    let place = Place::Folder(new.clone());
    let (deep, big) = (tree.join("a/b/c"), tree.join("big"));
    restored_part(&files, &sink.stream(), &place, &[&deep, &big]).await.unwrap();
    let mut expected = described(&tree);
    let kept = ["a", "a/b", "a/b/c", "a/b/c/deep", "big"].map(PathBuf::from);
    expected.retain(|path, _| kept.contains(path));
    let mut back = described(&inside(&new, &tree));
    back.retain(|path, _| !path.as_os_str().is_empty());
    assert_eq!(back, expected);
    let mode = inside(&new, &tree).join("a/b").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o710);

    // In place, only what was selected is put back; what stands there is not touched.
    write(tree.join("big"), b"overwritten");
    write(tree.join("small"), b"overwritten, too");
    fs::remove_dir_all(tree.join("a")).unwrap();
    restored_part(&files, &sink.stream(), &Place::Original, &[&deep, &big]).await.unwrap();
    assert_eq!(fs::read(tree.join("big")).unwrap(), noise(3 << 20));
    assert_eq!(fs::read(tree.join("small")).unwrap(), b"overwritten, too");
    assert_eq!(fs::read(tree.join("a/b/c/deep")).unwrap(), b"deep");
    assert_eq!(tree.join("a/b").metadata().unwrap().permissions().mode() & 0o777, 0o710);
}

#[tokio::test]
async fn what_was_selected_and_is_not_there_is_told_and_nothing_is_left() {
    let scratch = tempfile::tempdir().unwrap();
    let (tree, new) = (scratch.path().join("tree"), scratch.path().join("new"));
    write(tree.join("a/b"), b"b");
    fs::hard_link(tree.join("a/b"), tree.join("a/c")).unwrap();
    let files = source(&[&tree], &[]);
    let (sink, _) = captured(&files).await;
    let stream = sink.stream();
    let place = Place::Folder(new.clone());
    let part = |path: &'static str| tree.join(path);
    let error = restored_part(&files, &stream, &place, &[&part("a/x"), &part("b")]).await.unwrap_err();
    assert!(error.to_string().contains("tree/a/x, ") && error.to_string().contains("nothing was"), "{error}");
    assert!(!new.exists(), "the folder is removed again");
    fs::create_dir(&new).unwrap();
    restored_part(&files, &stream, &place, &[&part("x")]).await.unwrap_err();
    assert!(new.exists(), "a folder that was there stays");
    let error = restored_part(&files, &stream, &place, &[&part("a/b"), &part("x")]).await.unwrap_err();
    assert!(error.to_string().contains("at the other paths was restored"), "{error}");
    assert_eq!(fs::read(inside(&new, &tree).join("a/b")).unwrap(), b"b");

    let linked = Place::Folder(scratch.path().join("linked"));
    let error = restored_part(&files, &stream, &linked, &[&part("a/c")]).await.unwrap_err();
    assert!(error.to_string().contains("another name of") && error.to_string().contains("a/b"), "{error}");
    let both = Place::Folder(scratch.path().join("both"));
    restored_part(&files, &stream, &both, &[&part("a/c"), &part("a/b")]).await.unwrap();
    let file = Place::File(scratch.path().join("part.tar"));
    let error = restored_part(&files, &stream, &file, &[&part("a")]).await.unwrap_err();
    assert!(error.to_string().contains("goes into a folder"), "{error}");
}

#[tokio::test]
async fn setuid_is_dropped_and_a_truncated_archive_is_an_error() {
    let (away, tree) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let program = archive("program", tar::EntryType::Regular, "", b"#!");
    let files = source(&[tree.path()], &[]);
    restored(&files, &closed(std::slice::from_ref(&program)), &Place::Folder(away.path().to_owned()))
        .await
        .unwrap();
    assert_eq!(away.path().join("program").metadata().unwrap().mode() & 0o7777, 0o755);
    for truncated in [&program[..700], &program[..], &program[..512], &[]] {
        let away = tempfile::tempdir().unwrap();
        let folder = Place::Folder(away.path().to_owned());
        restored(&files, truncated, &folder).await.expect_err("it is cut short");
    }
}

#[tokio::test]
async fn a_restore_over_the_original_replaces_what_was_captured_and_leaves_the_rest() {
    let tree = tempfile::tempdir().unwrap();
    plant(tree.path());
    let files = source(&[tree.path()], &[]);
    let (sink, _) = captured(&files).await;
    let before = described(tree.path());
    fs::write(tree.path().join("small"), b"overwritten, through both of its names").unwrap();
    fs::remove_file(tree.path().join("big")).unwrap();
    fs::remove_dir_all(tree.path().join("a")).unwrap();
    fs::remove_file(tree.path().join("dangling")).unwrap();
    symlink("/etc/passwd", tree.path().join("dangling")).unwrap();
    write(tree.path().join("new"), b"made later");
    restored(&files, &sink.stream(), &Place::Original).await.unwrap();
    let mut after = described(tree.path());
    assert!(after.remove(Path::new("new")).is_some());
    assert_eq!(after, before);
}
