//! What every store must meet. Both test binaries run it: against drivers that need no server, and against real ones.

use std::{ops::Range, sync::Arc, time::Duration};

use backstay::{
    artifact::layout::ObjectName,
    stores::{ErrorKind, Held, Put, Store},
};
use bytes::Bytes;
use futures::future::join_all;
use jiff::Timestamp;

/// A store under test, and one like it whose root does not exist (for drivers that have roots).
pub struct Subject {
    pub store: Arc<dyn Store>,
    pub rootless: Option<Arc<dyn Store>>,
    pub names: Names,
}

/// Which names a store is tried with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Any.
    Any,
    /// Such as Backstay's own: never put twice at a time, none of them the folder of another, none very long. For servers that a driver
    /// is tried against and that hold to no more.
    OnlyOurs,
}

const MIB: usize = 1024 * 1024;
const ANY: u64 = 1 << 30;

/// Runs the whole suite in a folder of its own.
pub async fn run(subject: Subject) {
    let store = subject.store.as_ref();
    what_was_put_is_read_back(store).await;
    a_put_never_overwrites(store).await;
    if subject.names == Names::Any {
        of_concurrent_puts_one_wins(&subject.store).await;
    }
    a_reader_never_sees_a_part_of_a_put(&subject.store).await;
    ranges_are_exact_and_never_beyond_the_end(store).await;
    a_limit_refuses_before_reading(store).await;
    what_is_not_there_is_not_found(store, subject.names).await;
    a_listing_is_complete_and_of_one_folder(store).await;
    a_listing_has_every_page(&subject.store).await;
    names_keep_every_allowed_character(store, subject.names).await;
    sizes_from_nothing_to_many_parts_are_whole(store).await;
    a_deletion_is_idempotent_and_leaves_the_rest(store).await;
    puts_and_deletions_of_one_folder_do_not_disturb_each_other(&subject.store).await;
    the_clock_is_near_now(store).await;
    probing_leaves_nothing(store).await;
    if let Some(rootless) = &subject.rootless {
        without_a_root_everything_is_unavailable(rootless.as_ref()).await;
    }
}

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).expect("a test's own name")
}

/// Bytes that no compression, repetition or shift leaves alike.
fn content(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let word = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(word).collect();
    bytes.truncate(length);
    bytes.into()
}

async fn read(store: &dyn Store, name: &ObjectName, range: Option<Range<u64>>) -> Bytes {
    store.get(name, range, ANY).await.expect("the object is there")
}

async fn what_was_put_is_read_back(store: &dyn Store) {
    let (object, bytes) = (name("conformance/put/one"), content(70_000, 1));
    assert_eq!(store.put_if_absent(&object, bytes.clone()).await.unwrap(), Put::Created);
    assert_eq!(read(store, &object, None).await, bytes);
    let stat = store.stat(&object).await.unwrap().expect("what was put is there");
    assert_eq!(stat.size, 70_000);
    if let Some(digest) = stat.sha256 {
        use sha2::Digest;
        assert_eq!(digest, <[u8; 32]>::from(sha2::Sha256::digest(&bytes)));
    }
}

async fn a_put_never_overwrites(store: &dyn Store) {
    let object = name("conformance/keep/one");
    assert_eq!(store.put_if_absent(&object, "first".into()).await.unwrap(), Put::Created);
    assert_eq!(store.put_if_absent(&object, "second, longer".into()).await.unwrap(), Put::Existed);
    assert_eq!(store.put_if_absent(&object, "".into()).await.unwrap(), Put::Existed);
    assert_eq!(read(store, &object, None).await, "first");
}

async fn of_concurrent_puts_one_wins(store: &Arc<dyn Store>) {
    let object = name("conformance/race/one");
    let conditional = store.capabilities().await.unwrap().conditional_put;
    let puts = (0..8u64).map(|i| {
        let (store, object) = (store.clone(), object.clone());
        tokio::spawn(async move { (i, store.put_if_absent(&object, content(100_000, i)).await.unwrap()) })
    });
    let created: Vec<u64> = join_all(puts)
        .await
        .into_iter()
        .map(Result::unwrap)
        .filter_map(|(i, put)| (put == Put::Created).then_some(i))
        .collect();
    let kept = read(store.as_ref(), &object, None).await;
    assert!(created.iter().any(|i| kept == content(100_000, *i)), "the content is a winner's, whole");
    if conditional == Held::Yes {
        assert_eq!(created.len(), 1, "one put creates, the others find it existing");
    }
}

async fn a_reader_never_sees_a_part_of_a_put(store: &Arc<dyn Store>) {
    let bytes = content(20 * MIB, 3);
    for (i, cut_off_after) in [1, 5, 20, 60, 150].map(Duration::from_millis).into_iter().enumerate() {
        let object = name(&format!("conformance/torn/{i}"));
        let put = tokio::time::timeout(cut_off_after, store.put_if_absent(&object, bytes.clone()));
        let (watched, looked_up) = (store.clone(), object.clone());
        let watcher = tokio::spawn(async move {
            for _ in 0..20 {
                if let Some(stat) = watched.stat(&looked_up).await.unwrap() {
                    assert_eq!(stat.size, 20 * MIB as u64, "a part of a put is visible");
                }
            }
        });
        let _ = put.await;
        watcher.await.unwrap();
        match store.get(&object, None, ANY).await {
            Ok(kept) => assert!(kept == bytes, "what is there is whole"),
            Err(error) => assert_eq!(error.kind, ErrorKind::NotFound),
        }
        store.put_if_absent(&object, bytes.clone()).await.unwrap();
        assert!(read(store.as_ref(), &object, None).await == bytes, "a put after a torn one is whole");
        store.delete(&object).await.unwrap();
    }
}

async fn ranges_are_exact_and_never_beyond_the_end(store: &dyn Store) {
    let (object, bytes) = (name("conformance/range/one"), content(300_000, 4));
    store.put_if_absent(&object, bytes.clone()).await.unwrap();
    for range in [0..1, 0..300_000, 299_999..300_000, 1000..200_000, 5..5, 300_000..300_000] {
        let part = bytes.slice(range.start as usize..range.end as usize);
        assert_eq!(read(store, &object, Some(range)).await, part);
    }
    for range in [0..300_001, 299_999..300_002, 300_000..300_001, 400_000..400_001, 300_001..300_001] {
        let error = store.get(&object, Some(range.clone()), ANY).await.expect_err("beyond the end");
        assert_eq!(error.kind, ErrorKind::Protocol, "{range:?}: {error}");
    }
}

async fn a_limit_refuses_before_reading(store: &dyn Store) {
    let object = name("conformance/limit/one");
    store.put_if_absent(&object, content(1000, 5)).await.unwrap();
    assert_eq!(store.get(&object, None, 1000).await.unwrap().len(), 1000);
    assert_eq!(store.get(&object, Some(10..20), 10).await.unwrap().len(), 10);
    for (range, limit) in [(None, 999), (Some(10..20), 9), (Some(0..1000), 0)] {
        let error = store.get(&object, range, limit).await.expect_err("over the limit");
        assert_eq!(error.kind, ErrorKind::Protocol, "{error}");
    }
}

async fn what_is_not_there_is_not_found(store: &dyn Store, names: Names) {
    store.put_if_absent(&name("conformance/there/one"), "1".into()).await.unwrap();
    let mut absent = vec!["conformance/there/two", "conformance/no/one"];
    if names == Names::Any {
        absent.extend(["conformance/there", "conformance/there/one/deeper"]);
    }
    for absent in absent {
        let absent = name(absent);
        assert_eq!(store.stat(&absent).await.unwrap(), None, "{absent}");
        for range in [None, Some(0..1), Some(0..0)] {
            let error = store.get(&absent, range, ANY).await.expect_err("nothing there");
            assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
        }
    }
}

async fn names_below(store: &dyn Store, folder: &str) -> Vec<String> {
    let listed = store.list(&name(folder)).await.unwrap();
    let mut names: Vec<String> = listed.into_iter().map(|listed| listed.name.to_string()).collect();
    names.sort();
    names
}

async fn a_listing_is_complete_and_of_one_folder(store: &dyn Store) {
    let all = ["a/one", "a/two/three", "a/two/four/five", "a-neighbour/six", "ab/seven"];
    for object in all {
        let object = name(&format!("conformance/list/{object}"));
        store.put_if_absent(&object, content(object.as_str().len(), 6)).await.unwrap();
    }
    let expected = ["a/one", "a/two/four/five", "a/two/three"].map(|n| format!("conformance/list/{n}"));
    assert_eq!(names_below(store, "conformance/list/a").await, expected);
    assert_eq!(names_below(store, "conformance/list").await.len(), all.len());
    assert!(names_below(store, "conformance/list/nothing").await.is_empty());
    assert!(names_below(store, "conformance/list/a/one").await.is_empty(), "an object is no folder");
    for listed in store.list(&name("conformance/list")).await.unwrap() {
        let stat = store.stat(&listed.name).await.unwrap().expect("what is listed is there");
        assert_eq!(listed.size, listed.name.as_str().len() as u64);
        assert_eq!(listed.size, stat.size);
        let apart = listed.modified.duration_since(stat.modified).abs();
        assert!(apart.as_secs() < 2, "a listing dates objects as a look at one does");
    }
}

async fn a_listing_has_every_page(store: &Arc<dyn Store>) {
    const MANY: usize = 1100;
    for batch in (0..MANY).collect::<Vec<_>>().chunks(50) {
        let puts = batch.iter().map(|i| {
            let (store, object) = (store.clone(), name(&format!("conformance/pages/{}/{i:05}", i % 3)));
            async move { store.put_if_absent(&object, "x".into()).await }
        });
        join_all(puts).await.into_iter().for_each(|put| assert_eq!(put.unwrap(), Put::Created));
    }
    let mut names = names_below(store.as_ref(), "conformance/pages").await;
    names.dedup();
    assert_eq!(names.len(), MANY);
}

async fn names_keep_every_allowed_character(store: &dyn Store, names: Names) {
    let long = if names == Names::Any { 200 } else { 100 };
    let letters: String = ('a'..='z').chain('A'..='Z').chain('0'..='9').collect();
    let odd = [letters.as_str(), "-", "--", "-rf", "_", "a.", "a..b", "A", "0", "x-_.Y", &"n".repeat(long)];
    for part in odd {
        let object = name(&format!("conformance/names/{part}"));
        store.put_if_absent(&object, part.to_owned().into()).await.unwrap();
        assert_eq!(read(store, &object, None).await, part.to_owned());
    }
    let mut expected: Vec<String> = odd.iter().map(|part| format!("conformance/names/{part}")).collect();
    expected.sort();
    assert_eq!(names_below(store, "conformance/names").await, expected);
    let deep = name(&format!("conformance/deep/{}", vec!["d"; 20].join("/")));
    store.put_if_absent(&deep, "deep".into()).await.unwrap();
    assert_eq!(read(store, &deep, None).await, "deep");
}

async fn sizes_from_nothing_to_many_parts_are_whole(store: &dyn Store) {
    for length in [0, 1, 32 * 1024, 8 * MIB, 16 * MIB, 16 * MIB + 1, 40 * MIB + 13] {
        let (object, bytes) = (name(&format!("conformance/sizes/{length}")), content(length, 7));
        assert_eq!(store.put_if_absent(&object, bytes.clone()).await.unwrap(), Put::Created);
        assert_eq!(store.put_if_absent(&object, "another".into()).await.unwrap(), Put::Existed);
        assert_eq!(store.stat(&object).await.unwrap().map(|stat| stat.size), Some(length as u64));
        assert!(read(store, &object, None).await == bytes, "{length} bytes come back as they were");
        store.delete(&object).await.unwrap();
    }
}

async fn a_deletion_is_idempotent_and_leaves_the_rest(store: &dyn Store) {
    let (gone, kept) = (name("conformance/delete/a/one"), name("conformance/delete/two"));
    for object in [&gone, &kept] {
        store.put_if_absent(object, "x".into()).await.unwrap();
    }
    for _ in 0..2 {
        store.delete(&gone).await.unwrap();
    }
    store.delete(&name("conformance/never/was/there")).await.unwrap();
    assert_eq!(names_below(store, "conformance/delete").await, ["conformance/delete/two"]);
    assert_eq!(store.put_if_absent(&gone, "again".into()).await.unwrap(), Put::Created);
    assert_eq!(read(store, &gone, None).await, "again");
}

async fn puts_and_deletions_of_one_folder_do_not_disturb_each_other(store: &Arc<dyn Store>) {
    let tasks = (0..6).map(|i| {
        let (store, object) = (store.clone(), name(&format!("conformance/busy/a/b/{i}")));
        tokio::spawn(async move {
            for _ in 0..15 {
                assert_eq!(store.put_if_absent(&object, "x".into()).await.unwrap(), Put::Created);
                assert_eq!(read(store.as_ref(), &object, None).await, "x");
                store.delete(&object).await.unwrap();
            }
        })
    });
    join_all(tasks).await.into_iter().for_each(Result::unwrap);
    assert!(names_below(store.as_ref(), "conformance/busy").await.is_empty());
}

async fn the_clock_is_near_now(store: &dyn Store) {
    let apart = store.clock().await.unwrap().duration_since(Timestamp::now()).abs();
    assert!(apart.as_secs() < 60, "the store's clock is {apart:?} off");
}

async fn probing_leaves_nothing(store: &dyn Store) {
    let first = store.capabilities().await.unwrap();
    assert_eq!(store.capabilities().await.unwrap(), first);
    assert!(names_below(store, "_probe").await.is_empty());
}

async fn without_a_root_everything_is_unavailable(store: &dyn Store) {
    let object = name("conformance/one");
    let kinds = [
        ("put", store.put_if_absent(&object, "x".into()).await.err()),
        ("get", store.get(&object, None, ANY).await.err()),
        ("stat", store.stat(&object).await.err()),
        ("list", store.list(&object).await.err()),
        ("delete", store.delete(&object).await.err()),
        ("clock", store.clock().await.err()),
        ("capabilities", store.capabilities().await.err()),
    ];
    for (call, error) in kinds {
        let error = error.unwrap_or_else(|| panic!("{call} must fail without a root"));
        assert_eq!(error.kind, ErrorKind::Unavailable, "{call}: {error}");
    }
}
