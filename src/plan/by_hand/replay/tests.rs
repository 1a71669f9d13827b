//! What is printed for a log, by what manifests tell.

use jiff::Timestamp;

use super::*;
use crate::{
    artifact::manifest::{Counting, Edge},
    plan::by_hand::{Stored, brought},
    spec::{BinaryLogs, Jobs, LogFrom, Mysql, Postgres, Tls},
};

fn data(position: &str, server: &str) -> Stored {
    let moment = Moment::At { time: Timestamp::UNIX_EPOCH, position: Some(position.to_owned()) };
    Stored { stream: "data".to_owned(), moment, server: Some(server.to_owned()) }
}

fn log((from, until): (&str, &str)) -> Stored {
    let edge = |position: &str| Edge { time: Timestamp::UNIX_EPOCH, position: position.to_owned() };
    let moment = Moment::Window { from: edge(from), until: edge(until), named: Vec::new() };
    Stored { stream: "data".to_owned(), moment, server: None }
}

fn server() -> Server {
    Server {
        host: "db".into(),
        port: None,
        socket: None,
        user: None,
        password: None,
        databases: Vec::new(),
        tls: Tls::Default,
    }
}

fn mysql(method: MysqlMethod) -> Source {
    Source::Mysql(Mysql {
        server: server(),
        method,
        binary_logs: BinaryLogs::Left,
        counting: Counting::default(),
    })
}

fn made(source: &Source, base: Stored, logs: &[(&str, &str)], until: Option<&Until>) -> MadeByHand {
    let all = brought("out", std::iter::once(base).chain(logs.iter().map(|edges| log(*edges))));
    let folders = folders();
    let (data, logs) = all.split_at(1);
    replay(source, &Restored { data, logs, until }, &folders).unwrap()
}

fn folders() -> Folders {
    let [data, log, prepared, login] = ["back", "log", "r.conf", "login"].map(str::to_owned);
    Folders { data, log, prepared, login }
}

fn lines(made: &MadeByHand) -> Vec<String> {
    made.hands.iter().map(ToString::to_string).collect()
}

/// What reads a log of MariaDB, up to its output.
fn read(base: &str, logs: &[(&str, &str)], until: Option<Until>) -> Vec<String> {
    let copy = mysql(MysqlMethod::Physical { data_dir: "/d".into() });
    let lines = lines(&made(&copy, data(base, "10.11.6-MariaDB"), logs, until.as_ref()));
    let head = "env TZ=UTC mariadb-binlog --no-defaults --start-position=";
    let of_reader = |line: &String| {
        Some(line.strip_prefix(head)?.strip_suffix(" > log/replay.sql").expect("it is written").to_owned())
    };
    lines.iter().filter_map(of_reader).collect()
}

const TWO: [(&str, &str); 2] = [
    ("bin.000002:4, server a", "bin.000004:4, server a, gtid 0-1-7"),
    ("bin.000004:4, server a, gtid 0-1-7", "bin.000005:4, server a"),
];

#[test]
fn a_log_is_read_from_where_the_data_stands_to_its_end_each_file_once() {
    assert_eq!(
        read("bin.000002:4711, gtid 0-1-2, server a", &TWO, None),
        ["4711 log/01/bin.000002 log/01/bin.000003 log/02/bin.000004"]
    );
    // The data stands in the second file of what is in the first log.
    assert_eq!(read("bin.000003:9, server a", &TWO, None), ["9 log/01/bin.000003 log/02/bin.000004"]);
    // Of what it holds already nothing is read.
    assert_eq!(read("bin.000004:5, server a", &TWO, None), ["5 log/02/bin.000004"]);
    assert!(read("bin.000005:4, server a", &TWO, None).is_empty());
    let nothing_new = [("bin.000002:4", "bin.000002:4"), ("bin.000002:4", "bin.000003:4")];
    assert_eq!(read("bin.000002:4", &nothing_new, None), ["4 log/02/bin.000002"]);
    let grown = [("bin.999999:4", "bin.1000001:4")];
    assert_eq!(read("bin.999999:4", &grown, None), ["4 log/01/bin.999999 log/01/bin.1000000"]);
}

#[test]
fn a_file_that_one_log_has_a_part_of_is_gone_on_with_from_there_in_the_next() {
    let parted = [("bin.000002:4", "bin.000003:500"), ("bin.000003:500", "bin.000005:4")];
    assert_eq!(
        read("bin.000002:90", &parted, None),
        ["90 log/01/bin.000002 log/01/bin.000003", "500 log/02/bin.000003 log/02/bin.000004"]
    );
}

#[test]
fn a_log_is_read_up_to_what_is_asked_for_and_nothing_behind_it() {
    let moment = Until::Moment("2026-11-20T10:35:50.7Z".parse().unwrap());
    assert_eq!(
        read("bin.000003:9", &TWO, Some(moment)),
        ["9 '--stop-datetime=2026-11-20 10:35:50' log/01/bin.000003 log/02/bin.000004"]
    );
    let place = |text: &str| Some(Until::Place(text.parse().unwrap()));
    assert_eq!(
        read("bin.000002:9", &TWO, place("bin.000003:77")),
        ["9 --stop-position=77 log/01/bin.000002 log/01/bin.000003"]
    );
    assert_eq!(read("bin.000002:9", &TWO, place("bin.000003:4")), ["9 log/01/bin.000002"]);
    assert_eq!(
        read("bin.000002:9", &TWO, place("bin.000002:30")),
        ["9 --stop-position=30 log/01/bin.000002"]
    );
    assert_eq!(
        read("bin.000002:9", &TWO, place("bin.000005:4")),
        ["9 log/01/bin.000002 log/01/bin.000003 log/02/bin.000004"]
    );
}

#[test]
fn what_can_not_be_told_is_no_command() {
    let source = mysql(MysqlMethod::Logical);
    let folders = folders();
    let refused = |base: Stored, log: Stored, until: Option<&Until>| {
        let all = brought("out", [base, log]);
        let (data, logs) = all.split_at(1);
        replay(&source, &Restored { data, logs, until }, &folders).unwrap_err()
    };
    let base = || data("bin.000002:4711", "10.11.6-MariaDB");
    let transaction = Until::Transaction("0-1-2".parse().unwrap());
    assert!(refused(base(), log(TWO[0]), Some(&transaction)).contains("moment or a place"));
    assert!(refused(base(), log(("log.000002:4", "log.000003:4")), None).contains("not all called bin"));
    assert!(refused(base(), log(("0/1", "0/2")), None).contains("no place in a binary log"));
    assert!(refused(base(), base(), None).contains("is no log"));
    for hostile in ["bin.18446744073709551615:4", "bin.18446744073709551615:5", "bin.012002:5"] {
        assert!(refused(base(), log(("bin.000002:4", hostile)), None).contains("10000 files"), "{hostile}");
    }
    let long = format!("bin.{}3:4", "0".repeat(300));
    assert!(refused(base(), log(("bin.000002:4", &long)), None).contains("no place in a binary log"));
    let nowhere = Stored { moment: Moment::At { time: Timestamp::UNIX_EPOCH, position: None }, ..base() };
    assert!(refused(nowhere, log(TWO[0]), None).contains("does not tell where"));
}

#[test]
fn the_log_of_a_copy_is_replayed_on_the_server_that_runs_on_it_alone() {
    let copy = mysql(MysqlMethod::Physical { data_dir: "/d".into() });
    let lines = lines(&made(&copy, data("bin.000002:4711", "10.11.6-MariaDB"), &TWO[..1], None));
    let at = |line: &str| lines.iter().position(|it| it.starts_with(line)).unwrap();
    let (known, checked) = (at(ON_THE_COPY), at("mariadb --host=db --delimiter=// "));
    assert!(lines[checked].contains("/back"), "{lines:?}");
    assert!(known < checked && checked < at("mariadb --host=db '--execute=SET GLOBAL"), "{lines:?}");
}

#[test]
fn over_a_dump_accounts_may_be_there_and_mysql_gives_transactions_new_numbers() {
    let mysqls = made(&mysql(MysqlMethod::Logical), data("bin.000002:157", "9.4.0"), &TWO[..1], None);
    let lines = lines(&mysqls);
    let sed = format!(
        "env LC_ALL=C sed --regexp-extended '{}' < log/read.sql > log/replay.sql",
        again(Flavour::MySql)
    );
    assert_eq!(
        lines,
        [
            "mkdir -m 700 log",
            "mkdir -m 700 log/01",
            "tar -xf out/02-data -C log/01",
            RIGHTS,
            "mysql --host=db '--execute=SET GLOBAL max_allowed_packet = 1073741824'",
            "env TZ=UTC mysqlbinlog --no-defaults --skip-gtids --start-position=157 log/01/bin.000002 log/01/bin.000003 > log/read.sql",
            &sed,
            "mysql --host=db --binary-mode --max-allowed-packet=1G < log/replay.sql",
        ]
    );
}

#[test]
fn a_cluster_replays_what_lies_in_it_over_to_the_timeline_that_the_log_ends_on() {
    let method = PostgresMethod::Physical { log: LogFrom::Archive, data_dir: None };
    let source = Source::Postgres(Postgres {
        server: server(),
        method,
        jobs: Jobs::ONE,
        counting: Counting::default(),
    });
    let first = ("0/300, timeline 1, system s", "0/500, timeline 1, system s");
    let second = ("0/500, timeline 1, system s", "0/900, timeline 2, after 1 until 0/600, system s");
    let base = || data("0/300, timeline 1, system s, begun at 0/200", "15.3");
    let at = Until::Moment("2026-11-20T10:35:50Z".parse().unwrap());
    let two = made(&source, base(), &[first, second], Some(&at));
    assert_eq!(
        lines(&two),
        [
            "rm -rf back/restored_wal",
            "mkdir -m 700 back/restored_wal",
            "tar -xf out/02-data -C back/restored_wal",
            "tar -xf out/03-data -C back/restored_wal",
            "dd status=none if=r.conf of=back/postgresql.auto.conf oflag=append,nofollow conv=notrunc",
            "dd status=none if=/dev/null of=back/recovery.signal oflag=nofollow conv=notrunc",
        ]
    );
    let content = |made: &MadeByHand| made.files[0].content.clone();
    for part in
        ["recovery_target_timeline = '2'\n", "recovery_target_time = '2026-11-20 10:35:50.000000+00'\n"]
    {
        assert!(content(&two).contains(part), "{part}: {}", content(&two));
    }
    let one = content(&made(&source, base(), &[first], None));
    assert!(
        one.contains("recovery_target_timeline = 'current'\n") && one.contains("recovery_target_time = ''\n"),
        "{one}"
    );
}
