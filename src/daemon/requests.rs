//! What commands ask of a controller that runs on the same state directory, through a Unix socket that only its user may
//! open. One JSON object a line: one [`Request`] from the command, then [`Answer`]s from the controller, the last of
//! which is [`Answer::Ended`].

use std::{
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::{Notify, mpsc},
};

use crate::{artifact::Kind, spec::names::BackupName};

/// A line is never longer than this, bytes.
const LONGEST_LINE: u64 = 1 << 20;
/// How long the other side may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a command hears whose request comes too late to be taken.
pub(super) const ENDING: &str = "the controller is ending, and has not begun what was asked; ask again";

/// What a command says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Call {
    /// It asks for something, and waits for it.
    Request(Request),
    /// It says that there may be something to look at, and waits for nothing.
    Wake,
}

/// A manual backup, asked of a running controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The backups.
    pub backups: Vec<BackupName>,
    /// What is made.
    pub kind: Kind,
    /// Why, in the person's words.
    pub reason: Option<String>,
    /// Whether the artifacts are kept whatever the retention says.
    pub keep: Keep,
}

/// How long a manual artifact is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// As the retention says.
    ByPolicy,
    /// Until the hold is released.
    Held,
}

/// What the controller says to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// Something to show while it lasts: `capture full of agama into vault`.
    Progress(String),
    /// The end of it.
    Ended {
        /// What failed or was held back, each to be shown; empty when all was done.
        faults: Vec<String>,
    },
}

/// A failed exchange with a running controller.
#[derive(Debug, thiserror::Error)]
#[error("failed to {operation} {path}: {reason}; see whether the controller still runs", path = .path.display())]
pub struct RequestError {
    operation: &'static str,
    path: PathBuf,
    reason: io::Error,
}

/// A request on its way, and where its answers go. The command has gone away once answers can't be sent.
#[derive(Debug)]
pub struct Asked {
    /// What is asked.
    pub request: Request,
    /// Where answers go. Dropping it without [`Answer::Ended`] tells the command that the controller has ended.
    pub answers: mpsc::UnboundedSender<Answer>,
}

/// Asks the controller behind `socket`, and shows its answers as they come. `None` when none runs, or when it ended before it took what
/// was asked.
pub async fn ask(
    socket: &Path,
    request: &Request,
    show: impl FnMut(&str),
) -> Result<Option<Vec<String>>, RequestError> {
    call(socket, &Call::Request(request.clone()), show).await
}

/// Tells the controller behind `socket` to look, and does not wait for that. `None` when none runs.
pub async fn wake(socket: &Path) -> Result<Option<()>, RequestError> {
    let silent = io::Error::new(io::ErrorKind::TimedOut, "it does not answer");
    let failed = RequestError { operation: "wake", path: socket.to_owned(), reason: silent };
    let answered = tokio::time::timeout(PATIENCE, call(socket, &Call::Wake, |_| ())).await;
    Ok(answered.map_err(|_| failed)??.map(drop))
}

async fn call(
    socket: &Path,
    call: &Call,
    mut show: impl FnMut(&str),
) -> Result<Option<Vec<String>>, RequestError> {
    let failed = |operation| move |reason| RequestError { operation, path: socket.to_owned(), reason };
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(e) if was_not_taken(&e) => return Ok(None),
        Err(e) => return Err(failed("connect to")(e)),
    };
    let (read, mut write) = stream.into_split();
    match send(&mut write, call).await {
        Err(e) if was_not_taken(&e) => return Ok(None),
        sent => sent.map_err(failed("ask"))?,
    }
    let (mut lines, mut is_taken) = (BufReader::new(read), false);
    loop {
        let answer = match receive(&mut lines).await {
            Err(e) if !is_taken && was_not_taken(&e) => return Ok(None),
            answer => answer.map_err(failed("hear"))?,
        };
        is_taken = true;
        match answer {
            Some(Answer::Progress(text)) => show(&text),
            Some(Answer::Ended { faults }) => return Ok(Some(faults)),
            None => {
                let gone = io::Error::new(io::ErrorKind::UnexpectedEof, "it ended before the answer came");
                return Err(failed("hear")(gone));
            }
        }
    }
}

/// Whether the other side was closed with what was sent to it unread: it was never accepted, or nobody listened to it (unix(7)).
fn was_not_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Listens on `socket`. Whoever calls holds the controller's lock, so that a socket that is there is one left by a process
/// that died. Must be called within a Tokio runtime.
pub fn bind(socket: &Path) -> Result<UnixListener, RequestError> {
    let failed = |operation| move |reason| RequestError { operation, path: socket.to_owned(), reason };
    match std::fs::remove_file(socket) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove")(e)),
        _ => {}
    }
    // The folder is private, so that nobody connects before the mode is set.
    let listener = UnixListener::bind(socket).map_err(failed("listen on"))?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).map_err(failed("protect"))?;
    Ok(listener)
}

/// Takes requests and hands them to `asked`, for as long as somebody receives there; and tells `woken` of commands that
/// say "look".
pub async fn serve(listener: UnixListener, asked: mpsc::Sender<Asked>, woken: Arc<Notify>) {
    while !asked.is_closed() {
        tokio::select! {
            () = asked.closed() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(attend(stream, asked.clone(), woken.clone()));
                }
                Err(error) => tracing::warn!(%error, "a request could not be taken"),
            },
        }
    }
}

/// Serves one command to its end.
async fn attend(stream: UnixStream, asked: mpsc::Sender<Asked>, woken: Arc<Notify>) {
    let (read, mut write) = stream.into_split();
    let call = tokio::time::timeout(PATIENCE, receive(&mut BufReader::new(read))).await;
    let request = match call {
        Ok(Ok(Some(Call::Request(request)))) => request,
        Ok(Ok(Some(Call::Wake))) => {
            woken.notify_one();
            let _ = end(&mut write, Vec::new()).await;
            return;
        }
        _ => {
            let unknown = "the request is not one that this version knows; use the same version";
            let _ = end(&mut write, vec![unknown.to_owned()]).await;
            return;
        }
    };
    let (answers, mut to_send) = mpsc::unbounded_channel();
    if asked.send(Asked { request, answers }).await.is_err() {
        let _ = end(&mut write, vec![ENDING.to_owned()]).await;
        return;
    }
    while let Some(answer) = to_send.recv().await {
        // A command that has gone away hears nothing; what it asked for goes on.
        if send(&mut write, &answer).await.is_err() {
            return;
        }
    }
}

async fn end(write: &mut OwnedWriteHalf, faults: Vec<String>) -> io::Result<()> {
    send(write, &Answer::Ended { faults }).await
}

async fn send<T: Serialize>(write: &mut OwnedWriteHalf, message: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    write.write_all(&line).await
}

async fn receive<T: DeserializeOwned>(
    lines: &mut BufReader<impl AsyncRead + Unpin>,
) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    (&mut *lines).take(LONGEST_LINE).read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            backups: vec!["agama".parse().unwrap()],
            kind: Kind::Full,
            reason: Some("before the upgrade".into()),
            keep: Keep::Held,
        }
    }

    #[tokio::test]
    async fn a_request_is_answered_line_by_line_and_the_socket_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("controller.sock");
        std::fs::write(&socket, "left by a process that died").unwrap();
        let (send, mut receive) = mpsc::channel(1);
        let woken = Arc::new(Notify::new());
        let server = serve(bind(&socket).unwrap(), send, woken.clone());
        let controller = async {
            let asked = receive.recv().await.unwrap();
            assert_eq!(asked.request, request());
            asked.answers.send(Answer::Progress("capture".into())).unwrap();
            asked.answers.send(Answer::Ended { faults: vec!["the store is full".into()] }).unwrap();
            receive.close();
        };
        let command = async {
            assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
            let mut shown = Vec::new();
            let faults = ask(&socket, &request(), |text| shown.push(text.to_owned())).await.unwrap();
            assert_eq!(shown, ["capture"]);
            assert_eq!(faults, Some(vec!["the store is full".to_owned()]));
        };
        tokio::join!(server, controller, command);
    }

    #[tokio::test]
    async fn a_wake_is_answered_at_once_and_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("controller.sock");
        let (send, mut receive) = mpsc::channel(1);
        let woken = Arc::new(Notify::new());
        let server = serve(bind(&socket).unwrap(), send, woken.clone());
        let command = async {
            assert_eq!(wake(&socket).await.unwrap(), Some(()));
            woken.notified().await;
            receive.close();
        };
        tokio::join!(server, command);
        assert_eq!(wake(&dir.path().join("none.sock")).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_was_asked_of_one_that_is_ending_was_not_asked_of_anybody() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("controller.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let command = async { ask(&socket, &request(), |_| ()).await.unwrap() };
        let ending = async {
            // The command has connected by now, and is in the queue of those to be accepted.
            tokio::task::yield_now().await;
            drop(listener);
        };
        assert_eq!(tokio::join!(command, ending).0, None);
    }

    #[tokio::test]
    async fn nobody_is_asked_where_no_controller_runs() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("controller.sock");
        assert_eq!(ask(&socket, &request(), |_| ()).await.unwrap(), None);
        drop(UnixListener::bind(&socket).unwrap());
        assert_eq!(ask(&socket, &request(), |_| ()).await.unwrap(), None);
    }
}
