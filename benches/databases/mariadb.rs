//! A private MariaDB with its binary log.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{Engine, free_port, measure::run, shop, shop::Shop, wait_until};

/// A server on `data` of its folder; killed when dropped.
pub struct Server {
    folder: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl Server {
    /// A server that has the orders.
    pub fn filled(folder: &Path, shop: &Shop) -> Self {
        fs::create_dir_all(folder.join("tmp")).expect("the folder is made");
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.args(["--skip-name-resolve", "--user=root"]);
        install.arg(format!("--datadir={}", folder.join("data").display()));
        install.arg(format!("--tmpdir={}", folder.join("tmp").display()));
        run(install.stdout(Stdio::null()));
        let server = Self::on(folder.to_owned(), &["--log-bin=bin", "--binlog-format=ROW"]);
        server.sql("mysql", "CREATE DATABASE shop");
        server.run(&format!("CREATE TABLE orders ({}) ENGINE=InnoDB", shop::COLUMNS));
        // The first backup follows: no log needs to tell of this.
        server.run(&format!(
            "SET sql_log_bin = 0; LOAD DATA LOCAL INFILE '{}' INTO TABLE orders",
            shop.file.display()
        ));
        server
    }

    /// A server on data that were brought back.
    pub fn restored(folder: PathBuf) -> Self {
        Self::on(folder, &["--skip-log-bin"])
    }

    fn on(folder: PathBuf, options: &[&str]) -> Self {
        let port = free_port();
        let mut command = Command::new("mariadbd");
        command.args(["--no-defaults", "--bind-address=127.0.0.1", "--server-id=7", "--skip-name-resolve"]);
        command.args(["--user=root", "--innodb-buffer-pool-size=512M", "--innodb-flush-log-at-trx-commit=0"]);
        command.args(options).arg(format!("--port={port}"));
        fs::create_dir_all(folder.join("tmp")).expect("the folder is made");
        for (name, file) in
            [("datadir", "data"), ("tmpdir", "tmp"), ("socket", "socket"), ("pid-file", "pid")]
        {
            command.arg(format!("--{name}={}", folder.join(file).display()));
        }
        command.arg(format!("--log-error={}", folder.join("log").display()));
        let process =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("mariadbd is installed");
        let server = Self { folder, port, process: Some(process) };
        wait_until("the server answers", || {
            let asked = server.client("mysql").args(["-e", "SELECT 1"]).output();
            asked.expect("mariadb is installed").status.success()
        });
        server
    }

    /// Has it end well, and hands over its process.
    pub fn shut_down(mut self) -> Child {
        self.sql("mysql", "SHUTDOWN");
        self.process.take().expect("only this takes it")
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The client program as root, on a database.
    pub fn client(&self, database: &str) -> Command {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "--user=root", "--default-character-set=utf8mb4", "--local-infile=1"]);
        client.arg(format!("--socket={}", self.socket().display())).arg(database).stderr(Stdio::null());
        client
    }

    fn sql(&self, database: &str, statements: &str) -> String {
        let mut client = self.client(database);
        let output =
            client.args(["--batch", "--skip-column-names", "-e", statements]).stderr(Stdio::piped()).output();
        let output = output.expect("mariadb is installed");
        assert!(output.status.success(), "{statements}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Engine for Server {
    fn name(&self) -> &'static str {
        "MariaDB"
    }

    fn run(&self, statement: &str) {
        self.sql("shop", statement);
    }

    fn settle(&self) {
        self.run("SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0; SET GLOBAL innodb_max_dirty_pages_pct = 0");
        wait_until("every change is written down", || {
            let age = self.sql("shop", "SHOW GLOBAL STATUS LIKE 'Innodb_checkpoint_age'");
            age.split('\t').nth(1).is_some_and(|age| age.parse::<u64>().is_ok_and(|age| age < 1000))
        });
    }

    fn orders(&self) -> String {
        let row = "CONCAT_WS('|', id, customer, mail, placed, state, price, words, token, note)";
        self.sql("shop", &format!("SELECT COUNT(*), SUM(CRC32({row})) FROM orders"))
    }

    fn clock(&self) -> i64 {
        self.sql("mysql", "SELECT UNIX_TIMESTAMP()").parse().expect("it is a number")
    }

    fn lose(&self) {
        self.sql("mysql", "DROP TABLE IF EXISTS shop.orders");
    }
}
