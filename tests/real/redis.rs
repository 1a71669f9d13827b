//! Redis by its replication: what is captured, what comes back, and what must never count.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use backstay::{
    artifact::{
        Kind,
        manifest::{Counts, Moment},
    },
    clock::Clock,
    sources::{CaptureRequest, Captured, Holds, Place, Source, SourceError, redis::RedisSource},
    spec::{self, Tls},
    stores::Class,
};

use super::lab::moments::OfOld;
use super::lab::{
    READY,
    certificates::Certificates,
    free_port,
    held::Held,
    redis::{PASSWORD, Redis, Sends, USER, at},
    wait_until,
};
use super::source_conformance::{Collected, captured, conforms, request, restored, sparing};

const BOTH: [Sends; 2] = [Sends::AsMade, Sends::FromDisk];

/// One of everything that Redis keeps, in two databases.
fn shop(server: &Redis) {
    server.script(
        0,
        "for n = 1, 5000 do redis.call('SET', 'article:' .. n, string.rep('t\\195\\181\\195\\181 ' .. n, 20)) end
         for n = 1, 300 do redis.call('HSET', 'hash', 'field' .. n, n); redis.call('SADD', 'set', 'member' .. n)
           redis.call('ZADD', 'sorted', n / 3, 'member' .. n); redis.call('RPUSH', 'list', 'item' .. n)
           redis.call('PFADD', 'seen', n); redis.call('XADD', 'stream', n .. '-1', 'what', n) end
         redis.call('SADD', 'numbers', 1, 2, 3); redis.call('SETBIT', 'bits', 70000, 1)
         redis.call('XGROUP', 'CREATE', 'stream', 'readers', '0'); redis.call('SET', 'late', 'x', 'EX', 100000)
         redis.call('SET', '\\0odd\\255REDIS0010\\255', '$EOF:')",
    );
    server.script(7, "redis.call('SET', 'elsewhere', 'x')");
    let library = "#!lua name=lab\nredis.register_function{function_name='one', callback=function() return 1 end, flags={'no-writes'}}";
    server.run(&["FUNCTION", "LOAD", library]);
}

fn position(captured: &Captured) -> &str {
    match &captured.moment {
        Moment::At { position: Some(position), .. } => position,
        other => panic!("{other:?}"),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

/// A value of the server's own report.
fn info(server: &Redis, key: &str) -> String {
    let report = server.run(&["INFO", "everything"]);
    let value = report.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("{report} has no {key}")).trim().to_owned()
}

#[tokio::test]
async fn a_second_server_on_the_restored_file_holds_the_same() {
    for sends in BOTH {
        let server = Redis::start(sends);
        shop(&server);
        let digest = server.digest();
        let (sink, captured) = captured(&server.source()).await;
        let place = format!("{}:{}", info(&server, "master_replid"), info(&server, "master_repl_offset"));
        assert_eq!(position(&captured), place, "{sends:?}");
        assert!(captured.details.versions["server"].starts_with("Redis "), "{captured:?}");
        assert!(matches!(captured.details.counts, Counts::NotCaptured(_)), "{captured:?}");
        assert_eq!(captured.details.omitted, Vec::<String>::new());
        server.run(&["FLUSHALL"]);

        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new");
        restored(&server.source(), &sink.stream(), &Place::Folder(folder.clone())).await.unwrap();
        let copy = Redis::start_on(&folder.join("dump.rdb"));
        assert_eq!(copy.digest(), digest, "{sends:?}");
        assert_ne!(server.digest(), digest, "the digest tells data apart");
        assert_eq!(copy.run(&["FCALL", "one", "0"]), "1");
        let again = restored(&server.source(), &sink.stream(), &Place::Folder(folder)).await;
        assert!(again.unwrap_err().to_string().contains("not empty"));
    }
}

#[tokio::test]
async fn a_running_server_gets_the_data_back_by_replicating_from_a_second_one() {
    let server = Redis::start(Sends::AsMade);
    shop(&server);
    let digest = server.digest();
    let (sink, _) = captured(&server.source()).await;
    server.run(&["FLUSHALL"]);
    let refused =
        restored(&server.root(), &sink.stream(), &Place::Database("1".to_owned())).await.unwrap_err();
    assert!(refused.hint.is_some_and(|hint| hint.contains("appendonly no")));
    assert_eq!(refused.class, Class::Stalled);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump.rdb");
    restored(&server.source(), &sink.stream(), &Place::File(file.clone())).await.unwrap();
    let second = Redis::start_on(&file);
    server.run(&["CONFIG", "SET", "masterauth", "r00t"]);
    server.run(&["REPLICAOF", "127.0.0.1", &second.port().to_string()]);
    wait_until("the data is there", READY, || info(&server, "master_link_status") == "up");
    server.run(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(server.digest(), digest);
}

/// What the pieces in which values are sent are smaller than.
fn large(server: &Redis) {
    server.script(
        0,
        "redis.call('SET', 'large', string.rep('0123456789abcdef', 100000)); redis.call('SET', 'empty', '')
         for n = 1, 60000 do redis.call('RPUSH', 'long', 'item ' .. n); redis.call('ZADD', 'wide', n / 7, 'member' .. n)
           redis.call('HSET', 'broad', 'a long name of a field ' .. n, n); redis.call('SADD', 'many', 'member ' .. n) end
         redis.call('XREADGROUP', 'GROUP', 'readers', 'me', 'COUNT', 20, 'STREAMS', 'stream', '>')
         redis.call('SET', string.rep('a name that is packed ', 40), 'x'); redis.call('SET', '-12345', 'x')",
    );
}

#[tokio::test]
async fn a_running_server_takes_everything_back_in_place_of_what_it_holds() {
    for sends in BOTH {
        let server = Redis::start(sends);
        shop(&server);
        large(&server);
        let digest = server.digest();
        let (sink, _) = captured(&server.source()).await;
        assert!(matches!(server.root().holds().await.unwrap(), Holds::Data(_)));
        server.run(&["FLUSHALL"]);
        server.run(&["FUNCTION", "FLUSH"]);
        assert_eq!(server.root().holds().await.unwrap(), Holds::Nothing);
        let told = restored(&server.root(), &sink.stream(), &Place::Original).await.unwrap();
        assert_eq!(server.digest(), digest, "{sends:?}");
        assert_eq!(server.run(&["FCALL", "one", "0"]), "1");
        assert!(told.ends_with(" keys, 1 libraries of functions)"), "{told:?}");
        // Over data: what was not captured is gone afterwards.
        server.run(&["SET", "junk", "1"]);
        server.run(&["-n", "7", "SET", "elsewhere", "changed"]);
        restored(&server.root(), &sink.stream(), &Place::Original).await.unwrap();
        assert_eq!(server.digest(), digest, "{sends:?}");
    }
}

#[tokio::test]
async fn what_can_not_be_put_back_whole_leaves_a_server_as_it_is() {
    let server = Redis::start(Sends::AsMade);
    shop(&server);
    let (sink, _) = captured(&server.source()).await;
    let stream = sink.stream();
    let mut damaged = stream.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;

    let other = Redis::with(Sends::AsMade, "databases 2");
    other.run(&["SET", "junk", "1"]);
    let why = restored(&other.root(), &damaged, &Place::Original).await.unwrap_err();
    assert!(why.to_string().contains("altered"), "{why}");
    let why = restored(&other.root(), &stream[..middle], &Place::Original).await.unwrap_err();
    assert!(why.to_string().contains("closing mark"), "{why}");
    let why = restored(&other.root(), &stream, &Place::Original).await.unwrap_err();
    assert!(why.hint.as_ref().is_some_and(|hint| hint.contains("databases")), "{why}");
    let why = restored(&other.source(), &stream, &Place::Original).await.unwrap_err();
    assert!(why.hint.as_ref().is_some_and(|hint| hint.contains("+restore")), "{why}");
    // As though it were of a newer release.
    let newer = of_version(&stream, "0099");
    let why = restored(&server.root(), &newer, &Place::Original).await.unwrap_err();
    assert!(why.to_string().contains("older than the one that was captured"), "{why}");
    assert_eq!((other.run(&["DBSIZE"]), other.run(&["GET", "junk"])), ("1".to_owned(), "1".to_owned()));
    server.run(&["FCALL", "one", "0"]);

    let replica = Redis::start(Sends::AsMade);
    replica.run(&["CONFIG", "SET", "masterauth", "r00t"]);
    replica.run(&["REPLICAOF", "127.0.0.1", &server.port().to_string()]);
    wait_until("it replicates", READY, || info(&replica, "master_link_status") == "up");
    let why = restored(&replica.root(), &stream, &Place::Original).await.unwrap_err();
    assert!(why.to_string().contains("declare the master"), "{why}");
    assert_eq!(replica.digest(), server.digest());
}

#[tokio::test]
async fn what_was_written_while_the_stream_came_is_not_replaced() {
    let server = Redis::start(Sends::AsMade);
    shop(&server);
    let digest = server.digest();
    let (sink, _) = captured(&server.source()).await;
    server.run(&["FLUSHALL"]);
    server.run(&["FUNCTION", "FLUSH"]);
    let sparing = sparing(server.root());
    assert_eq!(sparing.holds().await.unwrap(), Holds::Nothing);
    server.run(&["SET", "session", "new"]);
    let why = restored(&sparing, &sink.stream(), &Place::Original).await.unwrap_err();
    assert!(why.to_string().contains("holds 1 keys by now"), "{why}");
    assert_eq!(server.run(&["GET", "session"]), "new");
    assert_eq!(server.run(&["DBSIZE"]), "1");
    server.run(&["DEL", "session"]);
    restored(&sparing, &sink.stream(), &Place::Original).await.unwrap();
    assert_eq!(server.digest(), digest);
}

/// A file with two values of the type `MBbloom--` of a module, the second of which is longer than a piece.
fn of_a_module() -> Vec<u8> {
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let number =
        "MBbloom--".chars().fold(0, |number: u64, letter| number << 6 | letters.find(letter).unwrap() as u64);
    let mut file = b"REDIS0010\xfe\0".to_vec();
    for (name, length) in [(b'a', 8_u32), (b'b', 300_000)] {
        // The kind of what modules write, a name, the module, a string, and the end.
        file.extend_from_slice(&[7, 1, name, 0x81]);
        file.extend_from_slice(&(number << 10 | 4).to_be_bytes());
        file.extend_from_slice(&[5, 0x80]);
        file.extend_from_slice(&length.to_be_bytes());
        file.resize(file.len() + length as usize, b'x');
        file.push(0);
    }
    file.extend_from_slice(&[0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    file
}

#[tokio::test]
async fn values_of_a_module_that_the_server_lacks_leave_it_as_it_is() {
    let server = Redis::start(Sends::AsMade);
    server.run(&["SET", "kept", "1"]);
    let why = restored(&server.root(), &of_a_module(), &Place::Original).await.unwrap_err();
    let said = why.to_string();
    assert!(said.contains("type `MBbloom--` of a module") && said.contains("nothing was changed"), "{said}");
    assert_eq!((server.run(&["DBSIZE"]), server.run(&["GET", "kept"])), ("1".to_owned(), "1".to_owned()));
}

/// The same file as another version would begin, with the checksum that it has then.
fn of_version(file: &[u8], version: &str) -> Vec<u8> {
    let mut file = file[..file.len() - 8].to_vec();
    file[5..9].copy_from_slice(version.as_bytes());
    // Zero: the server is set to write none.
    file.extend_from_slice(&[0; 8]);
    file
}

#[tokio::test]
async fn a_server_that_lets_go_of_keys_is_told_and_so_is_one_without_room() {
    let server = Redis::start(Sends::AsMade);
    server.script(0, "for n = 1, 20000 do redis.call('SET', 'key' .. n, string.rep('x', 1000)) end");
    let (sink, _) = captured(&server.source()).await;
    let tight = |policy| Redis::with(Sends::AsMade, &format!("maxmemory 8mb\nmaxmemory-policy {policy}"));
    let why = restored(&tight("allkeys-lru").root(), &sink.stream(), &Place::Original).await.unwrap_err();
    assert!(why.to_string().contains("lets go of keys") && why.to_string().contains("a part"), "{why}");
    let why = restored(&tight("noeviction").root(), &sink.stream(), &Place::Original).await.unwrap_err();
    assert!(why.to_string().contains("OOM") && why.to_string().contains("a part"), "{why}");
}

#[tokio::test]
async fn redis_conforms_however_it_sends() {
    for sends in BOTH {
        let (server, scratch) = (Redis::start(sends), tempfile::tempdir().unwrap());
        shop(&server);
        conforms(&server.source(), scratch.path()).await;
        conforms_by_root(&server).await;
    }
}

async fn conforms_by_root(server: &Redis) {
    let version = server.root().probe().await.unwrap().version;
    assert!(version.starts_with("Redis "), "{version}");
    let log = CaptureRequest { kind: Kind::Log, ..request() };
    let error = fails(&server.root(), &log).await;
    assert!(error.to_string().contains("no log"), "{error}");
    let of_old = CaptureRequest { clock: &OfOld, ..request() };
    let dated = server.root().capture(&of_old, &mut Collected::default()).await.unwrap();
    assert_eq!(dated.moment.newest(), OfOld.now());
}

#[tokio::test]
async fn what_is_no_whole_file_is_not_put_in_place() {
    let server = Redis::start(Sends::AsMade);
    shop(&server);
    let (sink, _) = captured(&server.source()).await;
    let stream = sink.stream();
    let mut altered = stream.clone();
    altered[stream.len() / 2] ^= 1;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump.rdb");
    for damaged in [&stream[..stream.len() - 1], &altered, b"-- a dump of something else", b""] {
        let error = restored(&server.source(), damaged, &Place::File(file.clone())).await;
        error.expect_err("it is no whole RDB file");
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing is left");
    }
}

/// Every failure is an error that shows no secret.
async fn fails(source: &RedisSource, request: &CaptureRequest<'_>) -> SourceError {
    let error = source.capture(request, &mut Collected::default()).await.expect_err("this must not count");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("s3cr#t") && !shown.contains("wr0ng") && !shown.contains("r00t"), "{shown}");
    error
}

#[tokio::test]
async fn what_only_a_person_can_mend_is_told_with_how() {
    let server = Redis::start(Sends::AsMade);
    let expect = |error: SourceError, said: &str, hint: &str| {
        assert!(error.to_string().contains(said), "{error}");
        assert!(error.hint.as_ref().is_some_and(|told| told.contains(hint)), "{error:?}");
        assert_eq!(error.class, Class::Stalled, "{error:?}");
    };
    expect(
        fails(&server.source_with(Some(USER), "wr0ng"), &request()).await,
        "WRONGPASS",
        "user and password",
    );
    expect(fails(&server.source_with(Some("nobody"), PASSWORD), &request()).await, "WRONGPASS", "user");
    expect(
        fails(&RedisSource::new(at(server.port()), None), &request()).await,
        "NOAUTH",
        "declare the password",
    );
    for command in ["-psync", "-replconf", "-info"] {
        server.run(&["ACL", "SETUSER", USER, command]);
        expect(fails(&server.source(), &request()).await, "NOPERM", "+psync +replconf +info");
        server.run(&["ACL", "SETUSER", USER, &command.replace('-', "+")]);
    }
    server.run(&["CONFIG", "SET", "requirepass", ""]);
    expect(fails(&server.root(), &request()).await, "without any password", "remove it");
}

#[tokio::test]
async fn a_server_that_is_down_or_has_lost_its_master_is_tried_again() {
    let (port, second) = (free_port(), Redis::start(Sends::AsMade));
    let down = RedisSource::new(at(port), None);
    let error = fails(&down, &request()).await;
    assert!(error.class == Class::Retry && error.hint.is_some(), "{error:?}");
    assert!(down.probe().await.unwrap_err().to_string().contains(&port.to_string()));
    second.run(&["REPLICAOF", "127.0.0.1", &port.to_string()]);
    let error = fails(&second.source(), &request()).await;
    assert!(error.class == Class::Retry && error.to_string().contains("NOMASTERLINK"), "{error:?}");
}

/// More than what fits between two programs on its way.
fn fill(server: &Redis) {
    server.script(0, "for n = 1, 400 do redis.call('SET', 'large' .. n, string.rep(n .. 'ab', 20000)) end");
    server.run(&["CONFIG", "SET", "rdbcompression", "no"]);
}

#[test]
fn a_server_that_is_killed_during_the_transfer_fails_it() {
    for sends in BOTH {
        let mut server = Redis::start(sends);
        fill(&server);
        let source = server.source();
        let (mut sink, held) = Held::after(10 << 20);
        let capture = thread::spawn(move || block_on(source.capture(&request(), &mut sink)));
        let go = held.recv().expect("the transfer begins");
        server.kill();
        go.send(()).unwrap();
        let error = capture.join().unwrap().expect_err("half a file does not count");
        assert!(!format!("{error:?}").contains("s3cr#t") && error.class == Class::Retry, "{error:?}");
    }
}

#[test]
fn a_server_that_falls_silent_fails_the_transfer() {
    for sends in BOTH {
        let server = Redis::start(sends);
        fill(&server);
        let source = server.source();
        let (mut sink, held) = Held::after(10 << 20);
        let impatient = CaptureRequest { stall: Duration::from_secs(2), ..request() };
        let capture = thread::spawn(move || block_on(source.capture(&impatient, &mut sink)));
        let go = held.recv().expect("the transfer begins");
        server.suspend();
        go.send(()).unwrap();
        let error = capture.join().unwrap().expect_err("half a file does not count");
        assert!(error.to_string().contains("silent for 2s"), "{sends:?}: {error}");
    }
}

/// So that a save takes some seconds.
fn slow(server: &Redis, seconds: u64) {
    server.script(0, "for n = 1, 100 do redis.call('SET', 'key' .. n, n) end");
    server.run(&["CONFIG", "SET", "rdb-key-save-delay", &(seconds * 10_000).to_string()]);
    server.run(&["CONFIG", "SET", "repl-ping-replica-period", "1"]);
}

#[tokio::test]
async fn a_server_that_saves_for_longer_than_a_stall_shows_that_it_is_alive() {
    let server = Redis::start(Sends::FromDisk);
    slow(&server, 6);
    let impatient = CaptureRequest { stall: Duration::from_secs(3), ..request() };
    let begun = Instant::now();
    server.source().capture(&impatient, &mut Collected::default()).await.unwrap();
    assert!(begun.elapsed() > Duration::from_secs(5), "the save was not slow");
}

#[test]
fn a_save_that_was_begun_for_another_counts_from_when_it_was_begun() {
    let server = Redis::start(Sends::FromDisk);
    slow(&server, 6);
    let first = server.source();
    let first = thread::spawn(move || block_on(captured(&first)).1);
    wait_until("the save begins", READY, || info(&server, "rdb_bgsave_in_progress") == "1");
    wait_until("it lasts", READY, || {
        info(&server, "rdb_current_bgsave_time_sec").parse::<u32>().unwrap() >= 3
    });
    server.run(&["SET", "newer", "x"]);
    let joined = jiff::Timestamp::now();
    let second = block_on(server.source().capture(&request(), &mut Collected::default())).unwrap();
    let first = first.join().unwrap();
    assert_eq!(position(&first), position(&second), "both got the same file");
    let age = joined.duration_since(second.moment.newest());
    assert!(age.as_secs() >= 2, "{age:?}: it does not hold what was written meanwhile");
}

#[tokio::test]
async fn what_the_file_does_not_prove_or_hold_is_told() {
    let server = Redis::with(Sends::AsMade, "rdbchecksum no\ncluster-enabled yes");
    server.run(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let (sink, captured) = captured(&server.source()).await;
    assert!(sink.stream().ends_with(&[0xff, 0, 0, 0, 0, 0, 0, 0, 0]));
    let told = captured.details.omitted.join("\n");
    assert!(told.contains("rdbchecksum") && told.contains("one node of a cluster"), "{told}");
}

#[tokio::test]
async fn a_secured_server_must_have_a_certificate_of_the_declared_authority() {
    let (ours, others, port) = (Certificates::make(), Certificates::make(), free_port());
    let file = |name| ours.file(name).display().to_string();
    let configuration = format!(
        "tls-port {port}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients no",
        file("server.pem"),
        file("server.key"),
        file("ca.pem")
    );
    let server = Redis::with(Sends::AsMade, &configuration);
    shop(&server);
    let secured = |ca| {
        let user = Some(USER.to_owned());
        let declared = spec::Redis { user, tls: Tls::Verified { ca }, ..at(port) };
        RedisSource::new(declared, Some(backstay::secrets::Secret::new(PASSWORD.to_owned())))
    };
    let scratch = tempfile::tempdir().unwrap();
    conforms(&secured(ours.file("ca.pem")), scratch.path()).await;
    let error = fails(&secured(others.file("ca.pem")), &request()).await;
    assert!(error.to_string().contains("secured"), "{error}");
    let error = fails(&secured(ours.file("server.key")), &request()).await;
    assert!(error.to_string().contains("holds no certificate") && error.class == Class::Stalled, "{error}");
    let plain = RedisSource::new(at(port), None);
    plain.capture(&request(), &mut Collected::default()).await.expect_err("the port is secured");
}
