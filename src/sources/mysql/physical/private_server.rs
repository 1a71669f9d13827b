//! A server on a restored copy, for the time of a replay: on a socket that nobody else can reach, without the network.

use std::{path::Path, time::Duration};

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{data_folder::OPTIONS, programs::Copiers, setting};
use crate::{
    process::{Process, Program},
    scratch,
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

/// What a client says first: who is asked for a password is of no account here, but statements about accounts need them
/// loaded.
pub(in super::super) const OPENING: &[u8] = b"FLUSH PRIVILEGES;\n";
/// What a client says last.
pub(in super::super) const CLOSING: &[u8] = b"SHUTDOWN;\n";

/// A running server. Dropped, it is ended.
#[derive(Debug)]
pub(in super::super) struct PrivateServer {
    server: Process,
    /// How clients reach it.
    pub access: Access,
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
        let folder = scratch::folder().map_err(|error| Failure::Refused(error.to_string()))?;
        let socket = folder.path().join("s");
        let server = copiers.server.clone().map_err(Failure::NoCopier)?;
        let reached = Server {
            host: String::new(),
            port: None,
            socket: Some(socket),
            user: None,
            password: None,
            databases: Vec::new(),
            tls: Tls::Default,
        };
        let access = Access::new(&reached, None, programs)?;
        let server = program(&server, data, folder.path()).start()?;
        let mut started = Self { server, access, _folder: folder };
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

    /// Waits until the server, which was told to, has ended well: only then its files are whole.
    pub(in super::super) async fn ended(mut self) -> Result<(), Failure> {
        match tokio::time::timeout(STOP, self.server.end()).await {
            Ok(ended) => Ok(ended?),
            Err(_) => Err(Failure::Answer("the server on the restored folder does not end".to_owned())),
        }
    }
}

fn program(server: &Path, data: &Path, own: &Path) -> Program {
    // The copy tells what its files need; settings of servers on this host are no affair of its.
    let program = Program::new(server).argument(setting("--defaults-file=", &data.join(OPTIONS)));
    let program = program.argument(setting("--datadir=", data)).argument(setting("--tmpdir=", own));
    let program = program.argument(setting("--socket=", &own.join("s")));
    let program = program.argument(setting("--pid-file=", &own.join("pid")));
    let program = program.arguments(["--skip-networking", "--skip-grant-tables", "--skip-log-bin"]);
    let program =
        program.arguments(["--skip-slave-start", "--event-scheduler=OFF", "--max-allowed-packet=1G"]);
    let program =
        if rustix::process::geteuid().is_root() { program.argument("--user=root") } else { program };
    program.discard_output().grace(GRACE)
}
