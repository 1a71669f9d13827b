use super::*;
use crate::adopt::words::Unclosed;

fn server_of(line: &str) -> Server {
    let dump = told(line).unwrap().dumps.pop().unwrap_or_else(|| panic!("{line}"));
    let Source::Server(server) = dump.source else { panic!("{line}") };
    server
}

/// `engine user@host:port/socket databases`
fn shown(line: &str) -> String {
    let server = server_of(line);
    let place = server.socket.or(server.host).unwrap_or_default();
    let user = server.user.map(|user| format!("{user}@")).unwrap_or_default();
    let port = server.port.map(|port| format!(":{port}")).unwrap_or_default();
    let rpc = server.rpc_port.map(|port| format!(" rpc={port}")).unwrap_or_default();
    format!("{} {user}{place}{port}{rpc} {}", server.engine.table(), server.databases.join(","))
        .trim_end()
        .to_owned()
}

fn files_of(line: &str) -> String {
    match told(line).unwrap().dumps.pop().unwrap_or_else(|| panic!("{line}")).source {
        Source::Files { paths, exclude } if exclude.is_empty() => paths.join(" "),
        Source::Files { paths, exclude } => format!("{} without {}", paths.join(" "), exclude.join(" ")),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn servers_are_read_off_the_options_of_each_program() {
    for (line, expected) in [
        (
            "mysqldump -h db1 -ubackup -P 3307 --databases shop crm | gzip > /b/x.gz",
            "mysql backup@db1:3307 crm,shop",
        ),
        (
            "/usr/bin/mysqldump --host=db1 --user backup --single-transaction shop orders",
            "mysql backup@db1 shop",
        ),
        ("mariadb-dump --all-databases --socket=/run/m.sock -u root", "mysql root@/run/m.sock"),
        ("mysqldump -h $DB -p shop", "mysql localhost"),
        ("mariabackup --backup --target-dir /b --user=root --host 10.0.0.5", "mysql root@10.0.0.5"),
        ("pg_dump -Fc -p 5433 -U app -h db2 -f /b/x shop", "postgres app@db2:5433 shop"),
        ("pg_dump --dbname=postgresql://app@db2:5433/shop?sslmode=require -Fc", "postgres app@db2:5433 shop"),
        ("pg_dump 'host=db2 port=5433 user=app dbname=shop'", "postgres app@db2:5433 shop"),
        ("pg_dumpall -h db2 --clean -U postgres", "postgres postgres@db2"),
        ("pg_basebackup -h db2 -D /b/base -U rep -X stream -P", "postgres rep@db2"),
        (
            "mongodump --host rs0/m1:27018,m2 -u backup --db shop --gzip --archive=/b/x",
            "mongodb backup@m1:27018 shop",
        ),
        ("mongodump --uri=mongodb://backup@m1,m2/shop?replicaSet=rs0 -o /b", "mongodb backup@m1 shop"),
        ("influxd backup -portable -host tsdb:8088 -database tele /b/i", "influxdb tsdb tele"),
        ("influxd backup -portable -host tsdb:9088 -database tele /b/i", "influxdb tsdb rpc=9088 tele"),
        ("redis-cli -h r1 -p 6380 --user backup --rdb /b/dump.rdb", "redis backup@r1:6380"),
        ("redis-cli -u redis://backup@r1:6380/2 --rdb -", "redis backup@r1:6380"),
        ("redis-cli --rdb /b/dump.rdb", "redis localhost"),
        ("influx backup --host https://tsdb:8086 -b metrics -t x /b/i", "influxdb tsdb:8086 metrics"),
    ] {
        assert_eq!(shown(line), expected, "{line}");
    }
}

#[test]
fn what_stands_around_a_dump_is_looked_through() {
    for (line, expected) in [
        ("nice -n 10 ionice -c3 mysqldump -h db1 shop", "mysql db1 shop"),
        ("cd /b && umask 077; sudo -u postgres pg_dump -h db2 shop", "postgres db2 shop"),
        ("flock -n /run/lock/dump timeout 1h sh -c 'pg_dump -h db2 shop | gzip > /b/x'", "postgres db2 shop"),
        ("su - postgres -c \"pg_dump -h db2 shop\"", "postgres db2 shop"),
        ("[ -d /b ] && if true; then mysqldump -h db1 shop; fi", "mysql db1 shop"),
        ("for db in a b; do mysqldump -h db1 $db > /b/$db; done", "mysql db1"),
    ] {
        assert_eq!(shown(line), expected, "{line}");
    }
    for (line, said) in [
        ("docker exec -i db mysqldump shop", "container"),
        ("ssh -p 22 root@db1 mysqldump shop | gzip > /b/x", "another machine"),
        ("ssh db1 'mysqldump shop | gzip' > /b/x", "another machine"),
    ] {
        let told = told(line).unwrap();
        assert_eq!(told.dumps.len(), 1, "{line}");
        assert!(told.dumps[0].remarks.iter().any(|remark| remark.contains(said)), "{line}: {told:?}");
    }
}

#[test]
fn secrets_are_noticed_and_never_passed_on() {
    for line in [
        "mysqldump -uroot -phunter2 shop",
        "mysqldump --password=hunter2 shop",
        "MYSQL_PWD=hunter2 mysqldump shop",
        "PGPASSWORD='hunter2' pg_dump shop",
        "env PGPASSWORD=hunter2 pg_dump shop",
        "pg_dump postgresql://u:hunter2@h/db",
        "pg_dump postgresql://u:hun/ter2@h/db",
        "pg_dump 'host=h password=hunter2 dbname=shop'",
        "pg_dump 'postgresql://h/db?user=u&password=hunter2'",
        "mongodump --uri mongodb://u:hunter2@h/db",
        "mongodump mongodb://u:hunter2@h/db",
        "mongodump -u x -p hunter2 --db shop",
        "mongodump -u x --password hunter2 --db shop",
        "influx backup -t hunter2 /b",
        "sh -c 'mysqldump -phunter2 shop'",
        "docker exec -e MYSQL_PWD=hunter2 db mysqldump shop",
    ] {
        let told = told(line).unwrap();
        let shown = format!("{told:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("ter2"), "{line}: {shown}");
        assert!(
            told.dumps[0].remarks.iter().any(|remark| remark.contains("a secret stands")),
            "{line}: {shown}"
        );
    }
}

#[test]
fn what_may_be_a_secret_is_not_passed_on_either() {
    for line in [
        "mysqldump -u root -p hunter2",
        "mysqldump --pass hunter2 -A",
        "mysqldump --new-option hunter2",
        "pg_dump --new-option hunter2 -h db2",
        "mongodump --new-option hunter2",
        "mongodump -x hunter2",
        "mongodump 'mongodb://h/db?x=@hunter2'",
        "sshpass -p hunter2 rsync -a /srv nas:/b",
        "restic --password-file /p backup /srv && curl -u hunter2 https://example.org",
        "openssl-enc -k hunter2",
        "tar cz /srv | openssl enc -k hunter2",
        "redis-cli -a hunter2 --rdb /b/dump.rdb",
        "etcdctl --user root:hunter2 snapshot save /b/x",
        "rsync -a /srv rsync://u:hunter2@h/x",
        "aws s3 sync https://u:hunter2@h/ /b",
        "aws s3 sync s3://bucket /b --endpoint-url https://u:hunter2@h",
        "'mysqldump -phunter2 shop'",
    ] {
        let shown = format!("{:?}", told(line).unwrap());
        assert!(!shown.contains("hunter2"), "{line}: {shown}");
    }
}

#[test]
fn folders_are_read_off_archivers_and_copiers() {
    for (line, expected) in [
        ("tar czf /b/etc.tgz /etc /srv/www/", "/etc /srv/www"),
        ("tar -C /srv -cf /b/x.tar ./www", "/srv/www"),
        (
            "tar --create --file=/b/x.tar --exclude='*.tmp' --exclude=/srv/cache /srv",
            "/srv without *.tmp cache",
        ),
        ("tar czvf - /srv /srv/www", "/srv"),
        (
            "rsync -a --delete --exclude node_modules -e 'ssh -p 22' /home/ backup@nas:/b/home",
            "/home without **/node_modules",
        ),
        ("restic -r sftp:x:/r backup --exclude '*.tmp' /srv", "/srv without *.tmp"),
        ("borg create -C lz4 /r::{now} /etc /srv", "/etc /srv"),
        ("aws s3 sync /srv/media s3://bucket/media --delete", "/srv/media"),
        ("etcdctl --endpoints=https://e1:2379 snapshot save /b/etcd.db", "/b/etcd.db"),
    ] {
        assert_eq!(files_of(line), expected, "{line}");
    }
    for line in [
        "tar xzf /b/etc.tgz -C /srv",
        "tar tf /b/x",
        "rsync /srv",
        "restic check",
        "influx query x",
        "aws s3 ls",
    ] {
        assert_eq!(told(line).unwrap().dumps, [], "{line}");
    }
}

#[test]
fn copies_beside_a_dump_are_doubted() {
    let told = told("pg_dump -h db2 shop > /b/shop && rsync -a /b/ nas:/b").unwrap();
    assert!(
        told.dumps[1].remarks[0].contains("leave it out") && told.dumps[0].remarks.is_empty(),
        "{told:?}"
    );
}

#[test]
fn files_and_buckets_of_their_own_kind_are_such_sources() {
    let source = |line: &str| told(line).unwrap().dumps.pop().unwrap().source;
    let path = "/srv/app.db".to_owned();
    assert_eq!(source("sqlite3 /srv/app.db \".backup '/b/app.db'\""), Source::Sqlite { path: path.clone() });
    assert_eq!(source("sqlite3 -readonly /srv/app.db .dump | gzip > /b/x"), Source::Sqlite { path });
    assert_eq!(
        source("aws s3 sync s3://photos/raw/ /b/photos --endpoint-url https://s3.example.org"),
        Source::Bucket {
            bucket: "photos".to_owned(),
            prefix: Some("raw".to_owned()),
            endpoint: Some("https://s3.example.org".to_owned())
        }
    );
    assert_eq!(source("tar cz $DIRS"), Source::Unclear);
    assert_eq!(source("rsync -a web1:/srv/www /b"), Source::Unclear);
}

#[test]
fn retention_is_read_off_what_deletes() {
    let days = |line: &str| told(line).unwrap().keep.days;
    assert_eq!(
        days("mysqldump -A > /b/$(date +%F).sql && find /b -name '*.sql' -mtime +14 -delete"),
        Some(15)
    );
    assert_eq!(days("find /b -mtime +7 -exec rm {} \\;"), Some(8));
    assert_eq!(days("find /b -mmin +1440 -delete"), Some(1));
    assert_eq!(days("find /b -mtime +7 -print"), None);
    let line = "restic backup /srv && restic forget --keep-daily 7 --keep-weekly=4 --prune";
    assert_eq!(told(line).unwrap().keep.counts, [("daily", 7), ("weekly", 4)]);
}

#[test]
fn programs_that_are_not_known_are_told_by_their_names() {
    assert_eq!(
        told("/usr/local/bin/backup.sh --all; cd /x; echo done").unwrap().others,
        ["/usr/local/bin/backup.sh"]
    );
    assert_eq!(told("mysqldump 'x"), Err(Unclosed));
}
