//! One connection to a server, in the first version of its protocol: commands are lists of words, answers are lines or
//! counted bytes.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use zeroize::Zeroizing;

use super::Failure;
use crate::{
    secrets::Secret,
    spec::{Redis, Tls},
};

/// The longest line, bytes.
const LONGEST_LINE: usize = 64 * 1024;

/// The largest counted answer to a question, bytes.
const LARGEST_ANSWER: usize = 1024 * 1024;

/// How much is read at once, bytes.
const CHUNK: usize = 128 * 1024;

/// What bytes go over.
pub(super) trait Channel: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Channel for T {}

/// A connection that is logged in.
pub(super) struct Connection {
    channel: Box<dyn Channel>,
    received: BytesMut,
    stall: Duration,
}

impl Connection {
    /// Connects to `server` and logs in. It may be silent for `stall`.
    pub(super) async fn open(
        server: &Redis,
        password: Option<&Secret>,
        stall: Duration,
    ) -> Result<Self, Failure> {
        let connecting = timeout(stall, connect(server)).await;
        let mut connection = Self::over(connecting.map_err(|_| Failure::Stalled(stall))??, stall);
        if let Some(password) = password {
            connection.log_in(server.user.as_deref(), password).await?;
        }
        Ok(connection)
    }

    /// Connects to the server at `socket`, which asks for no password, and has loaded what it loads when it starts.
    pub(super) async fn open_socket(socket: &Path, stall: Duration) -> Result<Self, Failure> {
        let connected = timeout(stall, UnixStream::connect(socket)).await;
        let connected = connected.map_err(|_| Failure::Stalled(stall))?;
        let stream = connected.map_err(|error| Failure::Connection(error.to_string()))?;
        let mut connection = Self::over(Box::new(stream), stall);
        match connection.ask(&["PING"]).await? {
            Line::Fine(_) => Ok(connection),
            Line::Refused(said) => Err(Failure::Answer(said)),
            Line::Counted(_) | Line::Number(_) => Err(unexpected("PING")),
        }
    }

    pub(super) fn over(channel: Box<dyn Channel>, stall: Duration) -> Self {
        Self { channel, received: BytesMut::new(), stall }
    }

    /// The same connection, whose server may be silent for `stall`.
    pub(super) fn patient(self, stall: Duration) -> Self {
        Self { stall, ..self }
    }

    async fn log_in(&mut self, user: Option<&str>, password: &Secret) -> Result<(), Failure> {
        let words: Vec<&str> = ["AUTH"].into_iter().chain(user).chain([password.expose()]).collect();
        self.send(&words).await?;
        match self.line().await? {
            Line::Fine(_) => Ok(()),
            // A server that does not know the command repeats what it was told.
            Line::Refused(said) if said.contains("unknown command") || said.contains(password.expose()) => {
                Err(Failure::Answer("the server does not know AUTH".to_owned()))
            }
            Line::Refused(said) => Err(Failure::Answer(said)),
            Line::Counted(_) | Line::Number(_) => Err(unexpected("AUTH")),
        }
    }

    /// The first line of the answer to a command that holds no secret.
    pub(super) async fn ask(&mut self, words: &[&str]) -> Result<Line, Failure> {
        self.send(words).await?;
        self.line().await
    }

    /// The text that a command answers with.
    pub(super) async fn text(&mut self, words: &[&str]) -> Result<String, Failure> {
        let answer = self.ask(words).await?;
        self.told(answer, words[0]).await
    }

    /// A setting of the server; `None` where it has none of that name, or does not tell this user.
    pub(super) async fn setting(&mut self, name: &str) -> Result<Option<String>, Failure> {
        self.send(&["CONFIG", "GET", name]).await?;
        let answer = self.whole_line().await?;
        match answer.as_slice() {
            b"*2" => {
                let called = self.line().await?;
                self.told(called, "CONFIG").await?;
                let value = self.line().await?;
                self.told(value, "CONFIG").await.map(Some)
            }
            b"*0" => Ok(None),
            refused if refused.starts_with(b"-") => Ok(None),
            _ => Err(unexpected("CONFIG")),
        }
    }

    /// The text that such a line begins.
    async fn told(&mut self, line: Line, command: &str) -> Result<String, Failure> {
        let length = match line {
            Line::Counted(length) => length.parse::<usize>().map_err(|_| unexpected(command))?,
            Line::Refused(said) => return Err(Failure::Answer(said)),
            Line::Fine(_) | Line::Number(_) => return Err(unexpected(command)),
        };
        if length > LARGEST_ANSWER {
            return Err(unexpected(command));
        }
        let received = self.at_least(length + 2).await?;
        let text = received.split_to(length);
        received.advance(2);
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Asks for something to be done.
    pub(super) async fn done(&mut self, words: &[&str]) -> Result<(), Failure> {
        match self.ask(words).await? {
            Line::Fine(_) | Line::Number(_) => Ok(()),
            Line::Refused(said) => Err(Failure::Answer(said)),
            Line::Counted(_) => Err(unexpected(words[0])),
        }
    }

    /// The number that a command answers with.
    pub(super) async fn number(&mut self, words: &[&str]) -> Result<u64, Failure> {
        match self.ask(words).await? {
            Line::Number(number) => Ok(number),
            Line::Refused(said) => Err(Failure::Answer(said)),
            Line::Fine(_) | Line::Counted(_) => Err(unexpected(words[0])),
        }
    }

    /// Sends a part of a command as it is; its answer is read by [`Connection::line`].
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let sending = async {
            self.channel.write_all(bytes).await?;
            self.channel.flush().await
        };
        let sent = timeout(self.stall, sending).await.map_err(|_| Failure::Stalled(self.stall))?;
        sent.map_err(|error| Failure::Connection(error.to_string()))
    }

    async fn send(&mut self, words: &[&str]) -> Result<(), Failure> {
        let length = words.iter().map(|word| word.len() + 32).sum::<usize>() + 32;
        // Never grows, and so leaves no copy of a secret behind.
        let mut command = Zeroizing::new(String::with_capacity(length));
        command.push_str(&format!("*{}\r\n", words.len()));
        for word in words {
            command.push_str(&format!("${}\r\n", word.len()));
            command.push_str(word);
            command.push_str("\r\n");
        }
        self.write(command.as_bytes()).await
    }

    /// The next line that is not empty: a server that is busy sends empty ones to show that it is alive.
    pub(super) async fn line(&mut self) -> Result<Line, Failure> {
        Line::read(&self.whole_line().await?)
    }

    async fn whole_line(&mut self) -> Result<Vec<u8>, Failure> {
        loop {
            let Some(end) = self.received.iter().position(|byte| *byte == b'\n') else {
                if self.received.len() > LONGEST_LINE {
                    return Err(Failure::Unexpected("the server sent a line without an end".to_owned()));
                }
                self.receive().await?;
                continue;
            };
            let line = self.received.split_to(end + 1);
            let line = line.trim_ascii();
            if !line.is_empty() {
                return Ok(line.to_vec());
            }
        }
    }

    /// What has come and was not taken yet, once it is at least so many bytes.
    pub(super) async fn at_least(&mut self, length: usize) -> Result<&mut BytesMut, Failure> {
        while self.received.len() < length {
            self.receive().await?;
        }
        Ok(&mut self.received)
    }

    async fn receive(&mut self) -> Result<(), Failure> {
        self.received.reserve(CHUNK);
        let read = timeout(self.stall, self.channel.read_buf(&mut self.received)).await;
        match read.map_err(|_| Failure::Stalled(self.stall))? {
            Ok(0) => Err(Failure::Connection("the server closed the connection".to_owned())),
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::Connection(error.to_string())),
        }
    }
}

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// It was done: `+…`.
    Fine(String),
    /// It was not: `-…`, in the server's own words.
    Refused(String),
    /// Bytes follow: `$…`, how many.
    Counted(String),
    /// How many: `:…`.
    Number(u64),
}

impl Line {
    fn read(line: &[u8]) -> Result<Self, Failure> {
        let text = String::from_utf8_lossy(&line[1..]).into_owned();
        match line[0] {
            b'+' => Ok(Line::Fine(text)),
            b'-' => Ok(Line::Refused(text.escape_debug().to_string())),
            b'$' => Ok(Line::Counted(text)),
            b':' => text.parse().map(Line::Number).map_err(|_| unexpected("a command")),
            _ => Err(Failure::Unexpected("the server's answer is not of Redis' protocol".to_owned())),
        }
    }
}

pub(super) fn unexpected(command: &str) -> Failure {
    Failure::Unexpected(format!("the server's answer to {command} is not the one that Redis gives"))
}

async fn connect(server: &Redis) -> Result<Box<dyn Channel>, Failure> {
    let failed = |error: std::io::Error| Failure::Connection(error.to_string());
    let plain = || async {
        let stream = TcpStream::connect((server.host.as_str(), server.port)).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok::<_, Failure>(stream)
    };
    let Tls::Verified { ca } = &server.tls else { return Ok(Box::new(plain().await?)) };
    let connector = trusting(ca)?;
    let name = ServerName::try_from(server.host.clone());
    let name =
        name.map_err(|_| Failure::Settings("the host is no name that a certificate can be for".to_owned()))?;
    let secured = connector
        .connect(name, plain().await?)
        .await
        .map_err(|error| Failure::Connection(format!("the connection can't be secured: {error}")))?;
    Ok(Box::new(secured))
}

/// TLS with servers whose certificate an authority in the PEM file `ca` signed.
fn trusting(ca: &std::path::Path) -> Result<TlsConnector, Failure> {
    let unusable = |why: String| Failure::Settings(format!("{}: {why}", ca.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| unusable(error.to_string()))? {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("it holds no certificate".to_owned()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions();
    let config = config.map_err(|error| unusable(error.to_string()))?;
    Ok(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    fn pair() -> (Connection, DuplexStream) {
        let (ours, theirs) = duplex(1024);
        (Connection::over(Box::new(ours), Duration::from_secs(5)), theirs)
    }

    #[tokio::test]
    async fn a_command_is_a_list_of_counted_words() {
        let (mut connection, mut server) = pair();
        server.write_all(b"\n\n$4\r\nT\xc3\xa4t\r\n+OK\r\n").await.unwrap();
        assert_eq!(connection.text(&["INFO", "a b\r\n"]).await.unwrap(), "Tät");
        assert_eq!(connection.line().await.unwrap(), Line::Fine("OK".to_owned()));
        let mut sent = [0; 25];
        server.read_exact(&mut sent).await.unwrap();
        assert_eq!(&sent, b"*2\r\n$4\r\nINFO\r\n$5\r\na b\r\n\r\n".as_slice());
    }

    #[tokio::test]
    async fn a_setting_is_told_or_not() {
        for (said, told) in [
            (&b"*2\r\n$4\r\nport\r\n$4\r\n6379\r\n"[..], Some("6379")),
            (b"*0\r\n", None),
            (b"-NOPERM no permissions\r\n", None),
        ] {
            let (mut connection, mut server) = pair();
            server.write_all(said).await.unwrap();
            server.write_all(b"+PONG\r\n").await.unwrap();
            assert_eq!(connection.setting("port").await.unwrap().as_deref(), told);
            assert_eq!(connection.line().await.unwrap(), Line::Fine("PONG".to_owned()));
        }
    }

    #[tokio::test]
    async fn no_answer_shows_the_password_and_none_is_taken_without_bounds() {
        let secret = Secret::new("s3cret".to_owned());
        let said = b"-ERR unknown command 'AUTH', with args beginning with: 's3c'\r\n".as_slice();
        for said in [said, b"-ERR s3cret\r\n"] {
            let (mut connection, mut server) = pair();
            server.write_all(said).await.unwrap();
            let error = connection.log_in(Some("me"), &secret).await.unwrap_err();
            assert!(!format!("{error:?}").contains("s3c"), "{error:?}");
        }
        for odd in
            [&b":1\r\n"[..], b"$99999999999999999999\r\n", b"$2000000\r\n", b"$-1\r\n", b"HTTP/1.1\r\n"]
        {
            let (mut connection, mut server) = pair();
            server.write_all(odd).await.unwrap();
            let answered = connection.text(&["INFO"]).await;
            assert!(matches!(answered, Err(Failure::Unexpected(_))), "{odd:?}: {answered:?}");
        }
        let (mut connection, mut server) = pair();
        let endless = async { while server.write_all(&[b'+'; 512]).await.is_ok() {} };
        let answered = async move { connection.line().await };
        let (answered, ()) = tokio::join!(answered, endless);
        assert!(matches!(answered, Err(Failure::Unexpected(_))), "{answered:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_not_waited_for_and_one_that_closes_fails() {
        let (mut connection, server) = pair();
        assert!(matches!(connection.line().await, Err(Failure::Stalled(_))));
        drop(server);
        assert!(matches!(connection.line().await, Err(Failure::Connection(_))));
    }
}
