//! S3: MinIO as a process, and s3s on a folder in this process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use aws_credential_types::Credentials;
use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Config, Region},
};
use backstay::{
    aws::{AwsCredentials, DEFAULT_SILENCE, S3Options},
    spec::Addressing,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::{Server, free_port, run, tmpfs::Tmpfs};

pub const KEY_ID: &str = "backstay-tests";
pub const SECRET: &str = "not-a-secret-but-long-enough";
pub const BUCKET: &str = "backups";

pub fn options(address: impl std::fmt::Display) -> S3Options {
    S3Options {
        bucket: BUCKET.into(),
        region: "us-east-1".into(),
        endpoint: Some(format!("http://{address}")),
        prefix: "below/this".into(),
        addressing: Addressing::Path,
        credentials: AwsCredentials::Key { id: KEY_ID.into(), secret: SECRET.to_owned().into() },
        silence: DEFAULT_SILENCE,
    }
}

/// What somebody with a key of the bucket's owner uses.
pub fn client(options: &S3Options) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(options.region.clone()))
        .credentials_provider(Credentials::new(KEY_ID, SECRET, None, None, "tests"))
        .force_path_style(true)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(options.endpoint.as_ref().unwrap());
    Client::from_conf(config.build())
}

/// MinIO's server with one empty bucket.
pub struct Minio {
    folder: TempDir,
    data: PathBuf,
    port: u16,
    server: Server,
}

impl Minio {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let data = folder.path().join("data");
        Self::start_in(folder, data)
    }

    /// Starts it on a file system of its own.
    pub fn start_on(disk: &Tmpfs) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Self::start_in(folder, disk.path().join("data"))
    }

    fn start_in(folder: TempDir, data: PathBuf) -> Self {
        // A folder of MinIO's own is a bucket.
        std::fs::create_dir_all(data.join(BUCKET)).unwrap();
        let port = free_port();
        let mut server = Server::start(&mut command(&folder, &data, port));
        server.wait_until("it is ready", || is_ready(port));
        Self { folder, data, port, server }
    }

    /// Starts it with a certificate that nobody trusts.
    pub fn start_with_tls() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let (data, certificates) = (folder.path().join("data"), folder.path().join("certificates"));
        std::fs::create_dir_all(data.join(BUCKET)).unwrap();
        std::fs::create_dir(&certificates).unwrap();
        let request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1 \
                       -addext subjectAltName=IP:127.0.0.1 -keyout private.key -out public.crt";
        run(Command::new("openssl").args(request.split_ascii_whitespace()).current_dir(&certificates));
        let port = free_port();
        let mut server = Server::start(command(&folder, &data, port).arg("--certs-dir").arg(&certificates));
        server.wait_for_port(port);
        Self { folder, data, port, server }
    }

    pub fn kill(&mut self) {
        self.server.kill().unwrap();
    }

    /// Starts it again on the same port and data.
    pub fn restart(&mut self) {
        self.server = Server::start(&mut command(&self.folder, &self.data, self.port));
        let port = self.port;
        self.server.wait_until("it is ready", || is_ready(port));
    }

    /// How its bucket is reached.
    pub fn options(&self) -> S3Options {
        options(format_args!("127.0.0.1:{}", self.port))
    }

    /// Where its data is.
    pub fn data(&self) -> &Path {
        &self.data
    }
}

fn command(folder: &TempDir, data: &Path, port: u16) -> Command {
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut command = Command::new(program());
    command
        .env_clear()
        .env("HOME", folder.path())
        .env("MINIO_ROOT_USER", KEY_ID)
        .env("MINIO_ROOT_PASSWORD", SECRET)
        .env("MINIO_BROWSER", "off")
        .args(["server", "--quiet", "--address", &format!("127.0.0.1:{port}")])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    command
}

/// Whether MinIO serves requests: it listens, and calls itself ready, a moment before it does.
fn is_ready(port: u16) -> bool {
    use std::io::{Read, Write};
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else { return false };
    let request = format!("GET /{BUCKET} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.split_ascii_whitespace().nth(1) == Some("403")
}

/// MinIO's program: in `PATH`, or among the tools that `ci/test` installs.
fn program() -> PathBuf {
    let tools = std::env::var_os("BACKSTAY_TOOLS")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([tools.join("bin")])
        .map(|folder| folder.join("minio"))
        .find(|program| program.is_file())
        .expect("minio is in PATH or $BACKSTAY_TOOLS/bin; run ci/test, which installs it")
}

/// Serves `server` to whoever has the key, until the test's runtime ends.
pub async fn serve(server: impl s3s::S3) -> SocketAddr {
    let mut service = S3ServiceBuilder::new(server);
    service.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
    let service = service.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let builder = Builder::new(TokioExecutor::new());
                // A client may go away at any time.
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// s3s on a folder, with one empty bucket; ends with the test's runtime.
pub struct S3s {
    _folder: TempDir,
    address: SocketAddr,
}

impl S3s {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let address = serve(s3s_fs::FileSystem::new(folder.path()).unwrap()).await;
        Self { _folder: folder, address }
    }

    /// How its bucket is reached.
    pub fn options(&self) -> S3Options {
        options(self.address)
    }
}
