//! AWS's services as moto plays them, and a go-between that plays the tricks that moto does not.

use std::{
    collections::HashMap,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, Config, Region},
};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use backstay::aws::{AwsCredentials, DEFAULT_SILENCE, DynamodbOptions, RdsOptions};
use serde_json::Value;
use tempfile::TempDir;

use super::{Server, free_port};

pub const KEY_ID: &str = "AKIABACKSTAYTESTS000";
pub const SECRET: &str = "not-a-secret-but-long-enough";
pub const REGION: &str = "eu-north-1";

/// How `table` is reached at `endpoint`.
pub fn options(endpoint: String, table: &str) -> DynamodbOptions {
    DynamodbOptions {
        table: table.to_owned(),
        region: REGION.to_owned(),
        endpoint: Some(endpoint),
        credentials: AwsCredentials::Key { id: KEY_ID.to_owned(), secret: SECRET.to_owned().into() },
        silence: DEFAULT_SILENCE,
    }
}

/// moto's server, with an account that holds nothing.
pub struct Moto {
    _folder: TempDir,
    #[allow(dead_code, reason = "it is there as long as the server")]
    module: Option<TempDir>,
    port: u16,
    server: Server,
}

impl Moto {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts it with variables in its environment.
    pub fn with(variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let port = free_port();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(program());
        command
            .env_clear()
            .env("HOME", folder.path())
            .envs(variables.iter().copied())
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut server = Server::start(&mut command);
        server.wait_for_port(port);
        Self { _folder: folder, module: None, port, server }
    }

    /// Starts it with stacks that make and delete what moto's leave out: see `moto_stacks.py`.
    pub fn with_stacks() -> Self {
        let module = tempfile::tempdir().unwrap();
        std::fs::write(module.path().join("sitecustomize.py"), include_str!("moto_stacks.py")).unwrap();
        let moto = Self::with(&[("PYTHONPATH", module.path().to_str().unwrap())]);
        Self { module: Some(module), ..moto }
    }

    /// Starts it with what its RDS leaves out: see `moto_rds.py`.
    pub fn with_rds() -> Self {
        let module = tempfile::tempdir().unwrap();
        std::fs::write(module.path().join("sitecustomize.py"), include_str!("moto_rds.py")).unwrap();
        let moto = Self::with(&[("PYTHONPATH", module.path().to_str().unwrap())]);
        Self { module: Some(module), ..moto }
    }

    /// Starts it with what its Route 53 and its load balancers do otherwise than AWS's: see `moto_traffic.py`.
    pub fn with_traffic() -> Self {
        let module = tempfile::tempdir().unwrap();
        std::fs::write(module.path().join("sitecustomize.py"), include_str!("moto_traffic.py")).unwrap();
        let moto = Self::with(&[("PYTHONPATH", module.path().to_str().unwrap())]);
        Self { module: Some(module), ..moto }
    }

    /// How an instance is reached.
    pub fn instance(&self, name: &str) -> RdsOptions {
        RdsOptions {
            instance: name.to_owned(),
            region: REGION.to_owned(),
            endpoint: Some(self.endpoint()),
            credentials: AwsCredentials::Key { id: KEY_ID.to_owned(), secret: SECRET.to_owned().into() },
            silence: DEFAULT_SILENCE,
        }
    }

    /// What the owner of the account uses of RDS.
    pub fn rds(&self) -> aws_sdk_rds::Client {
        let config = aws_sdk_rds::config::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(Credentials::new(KEY_ID, SECRET, None, None, "tests"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(self.endpoint());
        aws_sdk_rds::Client::from_conf(config.build())
    }

    pub fn kill(&mut self) {
        self.server.kill().unwrap();
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn options(&self, table: &str) -> DynamodbOptions {
        options(self.endpoint(), table)
    }

    /// What the owner of the account uses.
    pub fn client(&self) -> Client {
        self.client_in(REGION)
    }

    /// What the owner of the account uses in a region.
    pub fn client_in(&self, region: &'static str) -> Client {
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region))
            .credentials_provider(Credentials::new(KEY_ID, SECRET, None, None, "tests"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(self.endpoint());
        Client::from_conf(config.build())
    }
}

impl Moto {
    /// A key that may do what `policy` allows; from [`Self::guard`] on, nothing else.
    pub async fn key_for(&self, user: &str, policy: &Value) -> AwsCredentials {
        self.iam(&[("Action", "CreateUser"), ("UserName", user)]).await;
        let policy = policy.to_string();
        let put = [("Action", "PutUserPolicy"), ("PolicyName", "p"), ("PolicyDocument", policy.as_str())];
        self.iam(&[&put[..], &[("UserName", user)]].concat()).await;
        let key = self.iam(&[("Action", "CreateAccessKey"), ("UserName", user)]).await;
        let told = |tag: &str| {
            let (_, rest) = key.split_once(&format!("<{tag}>")).unwrap();
            rest.split('<').next().unwrap().to_owned()
        };
        AwsCredentials::Key { id: told("AccessKeyId"), secret: told("SecretAccessKey").into() }
    }

    /// A key that may do what documents of policies (`json` blocks of a page, by their places) allow: moto asks for every action on
    /// all resources.
    pub async fn key_by_page(&self, user: &str, page: &str, blocks: &[usize]) -> AwsCredentials {
        let all: Vec<&str> =
            page.split("```json").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        let statements = blocks.iter().flat_map(|block| {
            let policy: Value = serde_json::from_str(all[*block]).unwrap();
            policy["Statement"].as_array().unwrap().clone()
        });
        let mut statements: Vec<Value> = statements.collect();
        statements.iter_mut().for_each(|statement| statement["Resource"] = "*".into());
        let policy = serde_json::json!({ "Version": "2012-10-17", "Statement": statements });
        self.key_for(user, &policy).await
    }

    async fn iam(&self, form: &[(&str, &str)]) -> String {
        self.query("iam", "2010-05-08", form).await
    }

    /// A call of one of the services that speak the query protocol, as the owner of the account; the XML of its answer.
    pub async fn query(&self, service: &str, version: &str, form: &[(&str, &str)]) -> String {
        let form = [form, &[("Version", version)]].concat();
        let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let body: Vec<String> =
            form.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
        let scope = format!(
            "AWS4-HMAC-SHA256 Credential={KEY_ID}/20260101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=0"
        );
        let request = reqwest::Client::new().post(self.endpoint()).header("authorization", scope);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body(body.join("&")).send().await.unwrap();
        assert!(answer.status().is_success(), "{form:?}: {}", answer.text().await.unwrap());
        answer.text().await.unwrap()
    }

    /// Checks keys and what they may do from now on.
    pub async fn guard(&self) {
        let url = format!("{}/moto-api/reset-auth", self.endpoint());
        let answer = reqwest::Client::new().post(url).body("0").send().await.unwrap();
        assert!(answer.status().is_success());
    }
}

/// moto's program, among the tools that `ci/test` installs.
fn program() -> PathBuf {
    let tools = std::env::var_os("BACKSTAY_TOOLS")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools")));
    let program = tools.join("moto/bin/moto_server");
    assert!(program.is_file(), "moto is in $BACKSTAY_TOOLS/moto; run ci/test, which installs it");
    program
}

/// What a go-between does with a request of one operation.
pub enum Trick {
    /// Answers 400 with this code, and hands nothing on.
    Refuse(&'static str),
    /// Hands on what this makes of the request, and answers with what it makes of the answer.
    Alter(fn(&mut Value), fn(&Value, &mut Value)),
    /// Hands it on, and loses the answer.
    Lose,
    /// Hands it on, and never answers.
    Hold,
}

/// A server that hands requests on, and plays tricks, each once and in their order.
#[derive(Clone)]
pub struct GoBetween {
    behind: String,
    url: String,
    tricks: Arc<Mutex<HashMap<&'static str, Vec<Trick>>>>,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
}

impl GoBetween {
    /// In front of `moto`; returns its URL as well. Ends with the test's runtime.
    pub async fn start(moto: &Moto) -> (Self, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (tricks, seen) = (Arc::default(), Arc::default());
        let between = Self { behind: moto.endpoint(), url: endpoint.clone(), tricks, seen };
        let app = Router::new().fallback(hand_on).with_state(between.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (between, endpoint)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn play(&self, operation: &'static str, trick: Trick) {
        self.tricks.lock().unwrap().entry(operation).or_default().insert(0, trick);
    }

    /// Plays no more tricks with requests of `operation`.
    pub fn stop(&self, operation: &str) {
        self.tricks.lock().unwrap().remove(operation);
    }

    /// Whether a trick is still to be played with requests of `operation`.
    pub fn is_to_play(&self, operation: &str) -> bool {
        self.tricks.lock().unwrap().get(operation).is_some_and(|tricks| !tricks.is_empty())
    }

    /// What was asked for by requests of `operation`.
    pub fn requests(&self, operation: &str) -> Vec<Value> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(name, _)| name == operation).map(|(_, request)| request.clone()).collect()
    }

    fn next_trick(&self, operation: &str) -> Option<Trick> {
        self.tricks.lock().unwrap().get_mut(operation)?.pop()
    }
}

/// The operation of a request and what it asks for: of DynamoDB's JSON, or of the forms that RDS takes.
fn read(headers: &HeaderMap, body: &[u8]) -> (String, Value) {
    match headers.get("x-amz-target") {
        Some(target) => {
            let operation = target.to_str().unwrap().rsplit_once('.').unwrap().1.to_owned();
            (operation, serde_json::from_slice(body).unwrap())
        }
        None => {
            let form: HashMap<String, String> =
                reqwest::Url::parse(&format!("http://form/?{}", String::from_utf8_lossy(body)))
                    .unwrap()
                    .query_pairs()
                    .into_owned()
                    .collect();
            (form["Action"].clone(), serde_json::to_value(form).unwrap())
        }
    }
}

async fn hand_on(State(between): State<GoBetween>, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let (operation, asked) = read(&headers, &body);
    between.seen.lock().unwrap().push((operation.clone(), asked.clone()));
    let trick = between.next_trick(&operation);
    let (mut sent, mut alter) = (body, None);
    match &trick {
        Some(Trick::Refuse(code)) => {
            let said = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"no"}}"#);
            return (StatusCode::BAD_REQUEST, said);
        }
        Some(Trick::Alter(request, answer)) => {
            let mut changed = asked.clone();
            request(&mut changed);
            (sent, alter) = (changed.to_string().into(), Some(*answer));
        }
        Some(Trick::Lose | Trick::Hold) | None => {}
    }
    let mut request = reqwest::Client::new().post(&between.behind).body(sent);
    for name in ["x-amz-target", "content-type", "authorization"] {
        if let Some(value) = headers.get(name) {
            request = request.header(name, value.to_str().unwrap());
        }
    }
    let answer = request.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    match trick {
        Some(Trick::Lose) => return (StatusCode::BAD_GATEWAY, String::new()),
        Some(Trick::Hold) => std::future::pending().await,
        _ => {}
    }
    let Some(alter) = alter else { return (status, text) };
    let mut answer = serde_json::from_str(&text).unwrap();
    alter(&asked, &mut answer);
    (status, answer.to_string())
}

/// The contents of every element of this name in an answer, in their order.
pub fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(&open).skip(1).filter_map(|rest| Some(rest.split_once(&close)?.0.to_owned())).collect()
}
