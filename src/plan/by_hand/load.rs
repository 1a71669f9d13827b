//! What loads what was brought out into a source that is empty, by each engine's own programs.

use super::{
    Brought, Folders, Hand, Line, MadeByHand, Prepared,
    connection::{AS_IT_IS, Flavour, mysql_client, postgres_connection},
    line, made_new, typed, unpacked,
};
use crate::spec::{Influxdb, Influxdb2, MysqlMethod, Postgres, PostgresMethod, Server, Source, Tls};

/// What loads `data`, oldest first, into a source that is empty.
///
/// # Errors
/// Where commands can't be told: what a person goes by.
pub fn load(source: &Source, data: &[Brought], folders: &Folders) -> Result<MadeByHand, String> {
    let Some(newest) = data.last() else { return Err("nothing is brought out".to_owned()) };
    let (file, folder) = (newest.file.as_str(), folders.data.as_str());
    let hands = match source {
        Source::Mysql(mysql) => match mysql.method {
            MysqlMethod::Logical => mysql_dump(&mysql.server, newest),
            MysqlMethod::Physical { .. } => return Ok(mariadb_files(data, folders)),
        },
        Source::Postgres(postgres) => match (&postgres.method, postgres.server.databases.as_slice()) {
            (PostgresMethod::Logical, [one]) => postgres_archive(postgres, one, file),
            (PostgresMethod::Logical, _) => postgres_script(&postgres.server, file),
            (PostgresMethod::Physical { .. }, _) => postgres_cluster(file, folder),
        },
        Source::Sqlite { path } => {
            let name = path.file_name().map_or("database.sqlite".into(), |name| name.to_string_lossy());
            vec![made_new(folder), copied(file, &format!("{folder}/{name}"))]
        }
        Source::Files(_) => vec![made_new(folder), Hand::Type(line(["tar", "-xpf", file, "-C", folder]))],
        Source::Influxdb(influxdb) => influxdb_databases(influxdb, file, folder)?,
        Source::Mongodb(_) => vec![Hand::Type(line(["mongorestore", &format!("--archive={file}")]))],
        Source::S3(s3) => vec![
            made_new(folder),
            unpacked(file, folder),
            Hand::Know("a version's name ends in ?versionId=…, the newest of a name comes first".into()),
            Hand::Type(line(["aws", "s3", "sync", folder, &format!("s3://{}", s3.bucket)])),
        ],
        Source::Redis(_) => {
            let name = &newest.stored.stream;
            vec![made_new(folder), copied(file, &format!("{folder}/{name}"))]
        }
        Source::Etcd(_) => etcd_member(newest, folder),
        Source::Influxdb2(influxdb) => return Ok(influxdb2_buckets(influxdb, file, folders)),
        Source::Dynamodb(_) => return Err("see \"By hand\" in docs/dynamodb.md".into()),
        Source::Rds(_) => return Err("see docs/providers.md: its snapshots become new instances".into()),
        Source::Atlas(_) => {
            return Err("see docs/atlas.md: Atlas restores its snapshots into clusters".into());
        }
    };
    Ok(MadeByHand { files: Vec::new(), hands })
}

/// What has a server run on the files that were restored to `folder`, where that is what they are for.
pub fn started(source: &Source, data: &[Brought], folder: &str) -> Vec<Hand> {
    let on_files = |engine: &str| {
        Hand::Know(format!(
            "give {folder} to the server's user, and start {engine} of the same version on it"
        ))
    };
    match source {
        Source::Mysql(mysql) if mysql.method != MysqlMethod::Logical => vec![on_files("MariaDB")],
        Source::Postgres(postgres) if postgres.method != PostgresMethod::Logical => {
            vec![on_files("PostgreSQL")]
        }
        Source::Redis(_) => {
            let name = data.last().map_or("dump.rdb", |newest| newest.stored.stream.as_str());
            let settings = format!("--dir {folder} --dbfilename {name} --appendonly no");
            vec![Hand::Know(format!(
                "give {folder} to the server's user, and start Redis with {settings}: \"With a stop\" in docs/redis.md"
            ))]
        }
        Source::Etcd(_) => vec![Hand::Know(format!(
            "give {folder} to the server's user, and start etcd with it as its --data-dir; members of a cluster are told of each \
             other: \"As a new cluster\" in docs/etcd.md"
        ))],
        _ => Vec::new(),
    }
}

/// Into a folder that was just made: nothing is there that it could go over.
fn copied(file: &str, to: &str) -> Hand {
    Hand::Type(line(["cp", file, to]))
}

fn mysql_dump(server: &Server, dump: &Brought) -> Vec<Hand> {
    let client = |rest: &[&str]| mysql_client(Flavour::of(dump), server, rest);
    let with_dump = |rest: &[&str]| typed(client(&[&AS_IT_IS, rest].concat()), Some(&dump.file));
    match server.databases.as_slice() {
        [one] => {
            let create = format!("--execute=CREATE DATABASE `{}`", one.replace('`', "``"));
            vec![typed(client(&[&create]), None), with_dump(&[&format!("--database={one}")])]
        }
        _ => vec![with_dump(&[])],
    }
}

/// What looks at copies of MariaDB's files, and at how their preparation ends, by the rules of a restore by Backstay.
const MARIADB_FILES: &str = include_str!("../../../templates/by-hand/mariadb-files.pl");

/// What a person knows of copies of MariaDB's files who can't look at them that way.
const ONLY_DESCRIBES: &str = "a copy's `backup-my.cnf` may hold no more than `[mysqld]`, `innodb_…` without folders of their own, and the \
                              plugins that keep keys, out of /usr/; its stream names no file outside of its folder and none in `.isl`; \
                              and each `--prepare` ends with `completed OK!`: where the script that is typed next says otherwise, go no \
                              further, for a server could run code or write elsewhere by it";

/// Each copy is looked at before anything is done with it. The full is unpacked and made whole; then each increment is laid over it. An
/// increment that was prepared in part is of no use.
fn mariadb_files(copies: &[Brought], folders: &Folders) -> MadeByHand {
    let (folder, script) = (folders.data.as_str(), folders.prepared.as_str());
    let looked = copies.iter().map(|copy| Hand::Type(line(["perl", script, "look", &copy.file])));
    let copy = |number: usize, from: &Brought| {
        let into = if number == 0 { folder.to_owned() } else { format!("{folder}-{:02}", number + 1) };
        let unpack = Line { input: Some(from.file.clone()), ..line(["mbstream", "-x", "-C", &into]) };
        // The first word by the program's own rule: settings of servers on this host are no affair of the copy's.
        let program = ["mariadb-backup", "--no-defaults", "--prepare", &format!("--target-dir={folder}")];
        let mut prepare = Line::of(["perl", script, "whole"].iter().chain(&program).copied());
        if number > 0 {
            prepare.program.push(format!("--incremental-dir={into}"));
        }
        [made_new(&into), Hand::Type(unpack), Hand::Type(prepare)]
    };
    let restored = copies.iter().enumerate().flat_map(|(number, from)| copy(number, from));
    let known = [Hand::Know(ONLY_DESCRIBES.to_owned())].into_iter();
    MadeByHand {
        files: vec![Prepared { path: script.to_owned(), content: MARIADB_FILES.to_owned() }],
        hands: known.chain(looked).chain(restored).collect(),
    }
}

/// What a full of a standby brings along goes: the server would follow the one that it was of, past the moment to return to.
fn postgres_cluster(file: &str, folder: &str) -> Vec<Hand> {
    let [standby, recovery] = ["standby.signal", "recovery.signal"].map(|name| format!("{folder}/{name}"));
    let unsignalled = Hand::Type(line(["rm", "-f", &standby, &recovery]));
    vec![made_new(folder), unpacked(file, folder), unsignalled]
}

fn postgres_archive(postgres: &Postgres, database: &str, file: &str) -> Vec<Hand> {
    let connection = postgres_connection(&postgres.server);
    let program = |name: &str, rest: Vec<String>| {
        typed([name.to_owned()].into_iter().chain(connection.clone()).chain(rest).collect(), None)
    };
    let into = format!("--dbname={database}");
    let restore = |more: &[&str]| {
        let words = ["--no-owner", "--no-privileges", "--exit-on-error", &into];
        program("pg_restore", words.iter().chain(more).map(|word| (*word).to_owned()).collect())
    };
    let mut all = vec![
        Hand::Know(
            "an archive of one database holds no roles: it comes back without owners and grants".into(),
        ),
        program("createdb", vec!["--maintenance-db=postgres".to_owned(), database.to_owned()]),
    ];
    match file.strip_suffix(".tar") {
        // What several jobs have made is a directory, which several can load.
        Some(folder) => all.extend([
            made_new(folder),
            unpacked(file, folder),
            restore(&[&format!("--jobs={}", postgres.jobs.count()), folder]),
        ]),
        None => all.push(restore(&[file])),
    }
    all
}

fn postgres_script(server: &Server, file: &str) -> Vec<Hand> {
    let words = ["psql"].map(str::to_owned).into_iter().chain(postgres_connection(server));
    let rest = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname=postgres", "--file", file];
    vec![typed(words.chain(rest.map(str::to_owned)).collect(), None)]
}

fn influxdb_databases(influxdb: &Influxdb, file: &str, folder: &str) -> Result<Vec<Hand>, String> {
    let host = format!("{}:{}", influxdb.server.host, influxdb.rpc_port);
    if influxdb.server.databases.is_empty() {
        // Which there are only the archive tells.
        return Err(format!(
            "unpack {file} into a folder, and type influxd restore -portable -host {host} -db NAME FOLDER/NAME for each folder in \
             it; the commands are told where `databases` are declared"
        ));
    }
    let restored = influxdb.server.databases.iter().map(|name| {
        let from = format!("{folder}/{name}");
        Hand::Type(line(["influxd", "restore", "-portable", "-host", &host, "-db", name, &from]))
    });
    Ok([made_new(folder), unpacked(file, folder)].into_iter().chain(restored).collect())
}

/// What restores buckets over the server's API: which shards they are made with only its answers tell.
const INFLUXDB2: &str = include_str!("../../../templates/by-hand/influxdb2.sh");

fn influxdb2_buckets(influxdb: &Influxdb2, file: &str, folders: &Folders) -> MadeByHand {
    let (folder, login) = (folders.data.as_str(), folders.login.as_str());
    let authority = match &influxdb.tls {
        Tls::Default => Vec::new(),
        Tls::Verified { ca } => vec!["env".to_owned(), format!("CURL_CA_BUNDLE={}", ca.display())],
    };
    let script = ["sh", &folders.prepared, &influxdb.url, &influxdb.org, login, folder].map(str::to_owned);
    let restore = Line::of(authority.into_iter().chain(script).chain(influxdb.buckets.iter().cloned()));
    let needs = format!(
        "the server must be set up with the organization; put `Authorization: Token …`, with an operator token of it, into {login}, mode \
         0600. Users, tokens, dashboards and tasks do not come along: \"By hand\" in docs/influxdb2.md tells of them"
    );
    MadeByHand {
        files: vec![Prepared { path: folders.prepared.clone(), content: INFLUXDB2.to_owned() }],
        hands: vec![Hand::Know(needs), made_new(folder), unpacked(file, folder), Hand::Type(restore)],
    }
}

/// The first release of etcd whose `etcdctl` makes no folders of members any more (its changelog, 3.6).
const ETCDUTL: (u32, u32) = (3, 6);

fn etcd_member(snapshot: &Brought, folder: &str) -> Vec<Hand> {
    let release = snapshot.stored.server.as_deref().and_then(|version| {
        let mut numbers = version.trim_start_matches('v').split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    let program: &[&str] = match release {
        Some(release) if release < ETCDUTL => &["env", "ETCDCTL_API=3", "etcdctl"],
        _ => &["etcdutl"],
    };
    let restore = ["snapshot", "restore", &snapshot.file, "--data-dir", folder];
    vec![Hand::Type(Line::of(program.iter().copied().chain(restore)))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        artifact::manifest::{Counting, Moment},
        plan::by_hand::{Stored, brought},
        spec::{BinaryLogs, Etcd, Jobs, LogFrom, Mysql, SecretRef, Tls},
    };

    fn stored(stream: &str, server: &str) -> Stored {
        let moment = Moment::At { time: jiff::Timestamp::UNIX_EPOCH, position: None };
        Stored { stream: stream.to_owned(), moment, server: Some(server.to_owned()) }
    }

    fn lines(source: &Source, data: &[Brought]) -> Vec<String> {
        let [data_folder, log, prepared, login] = ["back", "log", "prepared", "login"].map(str::to_owned);
        let folders = Folders { data: data_folder, log, prepared, login };
        load(source, data, &folders).unwrap().hands.iter().map(ToString::to_string).collect()
    }

    fn mysql(method: MysqlMethod) -> Source {
        let server = Server {
            host: "pavroto-2".into(),
            port: Some(3306),
            socket: None,
            user: Some("backup".into()),
            password: Some(SecretRef::File("/etc/backstay/secrets/agama".into())),
            databases: vec!["a`b 'c".into()],
            tls: Tls::Default,
        };
        Source::Mysql(Mysql { server, method, binary_logs: BinaryLogs::Left, counting: Counting::default() })
    }

    #[test]
    fn words_are_quoted_as_a_shell_reads_them_back_and_no_password_is_printed() {
        for (version, client) in [("10.11.6-MariaDB", "mariadb"), ("9.4.0", "mysql")] {
            let connection = format!("{client} --user=backup --host=pavroto-2 --port=3306 --password");
            let as_it_is = "--binary-mode --max-allowed-packet=1G";
            assert_eq!(
                lines(&mysql(MysqlMethod::Logical), &brought("out", [stored("a b.sql", version)])),
                [
                    format!(r"{connection} '--execute=CREATE DATABASE `a``b '\''c`'"),
                    format!(r"{connection} {as_it_is} '--database=a`b '\''c' < 'out/01-a b.sql'"),
                ]
            );
        }
    }

    #[test]
    fn copies_of_files_are_made_whole_in_their_order_each_increment_in_a_folder_of_its_own() {
        let physical = mysql(MysqlMethod::Physical { data_dir: "/var/lib/mysql".into() });
        let copies = brought("out", ["s", "s"].map(|stream| stored(stream, "10.11.6-MariaDB")));
        let prepare = "perl prepared whole mariadb-backup --no-defaults --prepare --target-dir=back";
        assert_eq!(
            lines(&physical, &copies),
            [
                ONLY_DESCRIBES,
                "perl prepared look out/01-s",
                "perl prepared look out/02-s",
                "mkdir -m 700 back",
                "mbstream -x -C back < out/01-s",
                prepare,
                "mkdir -m 700 back-02",
                "mbstream -x -C back-02 < out/02-s",
                &format!("{prepare} --incremental-dir=back-02"),
            ]
        );
    }

    #[test]
    fn a_cluster_follows_no_other_server_and_what_is_restored_comes_into_a_new_folder() {
        let Source::Mysql(Mysql { server, .. }) = mysql(MysqlMethod::Logical) else { panic!("it is one") };
        let method = PostgresMethod::Physical { log: LogFrom::Archive, data_dir: None };
        let cluster =
            Source::Postgres(Postgres { server, method, jobs: Jobs::ONE, counting: Counting::default() });
        assert_eq!(
            lines(&cluster, &brought("out", [stored("base.tar", "15.3")])),
            [
                "mkdir -m 700 back",
                "tar -xf out/01-base.tar -C back",
                "rm -f back/standby.signal back/recovery.signal",
            ]
        );
        let sqlite = Source::Sqlite { path: "/srv/shop.db".into() };
        assert_eq!(
            lines(&sqlite, &brought("out", [stored("shop.db", "3")])),
            ["mkdir -m 700 back", "cp out/01-shop.db back/shop.db"]
        );
    }

    #[test]
    fn a_member_of_etcd_is_made_by_the_program_of_its_release() {
        let etcd = Etcd { endpoints: Vec::new(), login: None, ca: None, certificate: None };
        let etcd = Source::Etcd(etcd);
        for (version, program) in
            [("3.4.23", "env ETCDCTL_API=3 etcdctl"), ("3.6.1", "etcdutl"), ("unknown", "etcdutl")]
        {
            let made = lines(&etcd, &brought("out", [stored("snapshot.db", version)]));
            assert_eq!(made, [format!("{program} snapshot restore out/01-snapshot.db --data-dir back")]);
        }
    }
}
