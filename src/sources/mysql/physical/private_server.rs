//! A server on a restored copy, for the time of a replay: on a socket that nobody else can reach, without the network.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{
    options::{self, OPTIONS},
    programs::Copiers,
    setting,
};
use crate::{
    process::{Process, Program},
    scratch,
    secrets::Secret,
    sources::mysql::{ANSWER, Failure, access::Access, programs::Programs, session::Session},
    spec::{Server, Tls},
};

/// How long the server may take to answer.
const START: Duration = Duration::from_secs(600);
/// How often it is asked until it does.
const ASKED_AGAIN: Duration = Duration::from_millis(50);
/// How long the server may take to end well.
const STOP: Duration = Duration::from_secs(3600);
/// How long it may take to end where what it was for has failed.
const GRACE: Duration = Duration::from_secs(30);

/// Where the engines put files that could lie elsewhere.
const OWN_FILES: [&str; 4] = [
    "--innodb-undo-directory=",
    "--innodb-data-home-dir=",
    "--innodb-log-group-home-dir=",
    "--aria-log-dir-path=",
];
/// Where statements may read and write files; in the server's own folder.
const FILES: &str = "files";
/// What the server runs first; in its own folder.
const INIT: &str = "init.sql";

/// A running server. Dropped, it is ended.
#[derive(Debug)]
pub(in super::super) struct PrivateServer {
    server: Process,
    /// How clients reach it.
    pub access: Access,
    /// The account that this server alone has; without it no event could be made, for the accounts were not loaded.
    account: Account,
    /// Where its socket is.
    _folder: TempDir,
}

impl PrivateServer {
    /// Starts a server on `data`, and waits until it answers.
    pub(in super::super) async fn start(
        copiers: &Copiers,
        programs: Programs,
        data: &Path,
    ) -> Result<Self, Failure> {
        settings_only_describe(&data.join(OPTIONS))?;
        let folder = scratch::folder().map_err(|error| Failure::Refused(error.to_string()))?;
        let account = Account::new();
        account
            .prepare(folder.path())
            .map_err(|error| Failure::Refused(format!("{}: {error}", folder.path().display())))?;
        let socket = folder.path().join("s");
        let server = copiers.server.clone().map_err(Failure::NoCopier)?;
        let reached = Server {
            host: String::new(),
            port: None,
            socket: Some(socket),
            user: Some(account.name.clone()),
            password: None,
            databases: Vec::new(),
            tls: Tls::Default,
        };
        let access = Access::new(&reached, Some(account.password.clone()), programs)?;
        let server = program(&server, data, folder.path()).start()?;
        let mut started = Self { server, access, account, _folder: folder };
        started.answers().await?;
        Ok(started)
    }

    async fn answers(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + START;
        let access = &self.access;
        let answered = async {
            loop {
                let answer = async { Session::open(access, None, ANSWER)?.one("SELECT 1").await };
                match answer.await {
                    Ok(_) => return Ok(()),
                    Err(failure) if Instant::now() > deadline => return Err(failure),
                    Err(_) => sleep(ASKED_AGAIN).await,
                }
            }
        };
        tokio::select! {
            biased;
            answered = answered => answered,
            ended = self.server.end() => {
                ended?;
                Err(Failure::Answer("the server on the restored folder ended before it answered".to_owned()))
            }
        }
    }

    /// What a client says last: the server is left as the log leaves it, and ends.
    pub(in super::super) fn closing(&self) -> String {
        format!("DROP USER {};\nSHUTDOWN;\n", self.account.in_sql())
    }

    /// Waits until the server, which was told to, has ended well: only then its files are whole.
    pub(in super::super) async fn ended(mut self) -> Result<(), Failure> {
        match tokio::time::timeout(STOP, self.server.end()).await {
            Ok(ended) => Ok(ended?),
            Err(_) => Err(Failure::Answer("the server on the restored folder does not end".to_owned())),
        }
    }
}

/// An account with all rights, whose name and password nobody can guess.
#[derive(Debug)]
struct Account {
    name: String,
    password: Secret,
}

impl Account {
    fn new() -> Self {
        // Plugins that judge passwords may be in the copy: one with letters of either case, digits and a sign.
        let password = format!("Aa1-{:032x}", rand::random::<u128>());
        Self { name: format!("backstay_{:032x}", rand::random::<u128>()), password: Secret::new(password) }
    }

    fn in_sql(&self) -> String {
        format!("'{}'@'localhost'", self.name)
    }

    /// Writes what makes it, one statement a line, and makes the folder for statements' files.
    fn prepare(&self, own: &Path) -> io::Result<()> {
        fs::create_dir(own.join(FILES))?;
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(own.join(INIT))?;
        let (account, password) = (self.in_sql(), self.password.expose());
        writeln!(file, "CREATE USER {account} IDENTIFIED BY '{password}';")?;
        writeln!(file, "GRANT ALL PRIVILEGES ON *.* TO {account} WITH GRANT OPTION;")
    }
}

/// The folder may have been written by another than this program.
fn settings_only_describe(path: &Path) -> Result<(), Failure> {
    let mut text = Vec::new();
    let read =
        fs::File::open(path).and_then(|file| file.take(options::LARGEST as u64).read_to_end(&mut text));
    read.map_err(|error| Failure::Refused(format!("{}: {error}", path.display())))?;
    Ok(options::describes(&text)?)
}

fn program(server: &Path, data: &Path, own: &Path) -> Program {
    // The copy tells what its files need; settings of servers on this host are no affair of its.
    let program = Program::new(server).argument(setting("--defaults-file=", &data.join(OPTIONS)));
    let program = program.argument(setting("--datadir=", data)).argument(setting("--tmpdir=", own));
    let program = program.argument(setting("--socket=", &own.join("s")));
    let program = program.argument(setting("--pid-file=", &own.join("pid")));
    let program = program.arguments(["--skip-networking", "--skip-log-bin", "--local-infile=0"]);
    let program = program.argument(setting("--init-file=", &own.join(INIT)));
    // The log may tell statements that read or write files: none but in a folder that goes with the server.
    let program = program.argument(setting("--secure-file-priv=", &own.join(FILES)));
    // Whatever the copy says: these files and no others.
    let program = OWN_FILES.iter().fold(program, |program, name| program.argument(setting(name, data)));
    let program =
        program.arguments(["--skip-slave-start", "--event-scheduler=OFF", "--max-allowed-packet=1G"]);
    let program =
        if rustix::process::geteuid().is_root() { program.argument("--user=root") } else { program };
    program.discard_output().grace(GRACE)
}
