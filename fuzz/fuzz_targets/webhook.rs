//! Whatever comes as a webhook is answered without a panic, and makes the controller look only if it proves to know the
//! secret; with a proof it does so once.
//!
//! An input is a request without its first line: the forge, then headers, an empty line, and the body.
#![no_main]

use std::{
    collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc, sync::LazyLock,
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use backstay::{
    config::{Forge, HostSecret},
    web::Webhooks,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use sha2::Sha256;
use tokio::sync::Notify;

const NOW: i64 = 1_795_201_200;
const TOKEN: &str = "It's a Secret to Everybody";
/// GitLab's other kind of secret, and its key.
const SIGNING: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const SIGNING_KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

static SECRETS: LazyLock<(tempfile::TempDir, [PathBuf; 2])> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let files = [("token", TOKEN), ("signing", SIGNING)].map(|(name, secret)| {
        let path = folder.path().join(name);
        fs::write(&path, secret).expect("a secret can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("and kept to oneself");
        path
    });
    (folder, files)
});

fuzz_target!(|input: &[u8]| {
    let Some(delivery) = Delivery::read(input) else { return };
    for (secret, signing) in SECRETS.1.iter().zip([false, true]) {
        let hooks = hooks(secret);
        let answer = delivery.sent_to(&hooks);
        let proves = delivery.may_prove(signing);
        assert!(proves || matches!(answer, 401 | 404), "{answer} without any proof");
        let Some(proven) = delivery.proven(signing) else { continue };
        assert!(matches!(proven.sent_to(&hooks), 200 | 202 | 409) || proves, "a good proof is refused");
        let replayed = proven.sent_to(&hooks);
        assert!(replayed == 409 || !proven.is_signed(signing) && replayed == 202, "{replayed} for a replay");
    }
});

fn hooks(secret: &PathBuf) -> Webhooks {
    let secrets: BTreeMap<_, _> = Forge::ALL.map(|forge| (forge, HostSecret::File(secret.clone()))).into();
    Webhooks::open(secrets, Arc::new(Notify::new())).expect("secrets that can be read")
}

#[derive(Clone)]
struct Delivery {
    forge: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Delivery {
    fn read(input: &[u8]) -> Option<Self> {
        let mut rest = input;
        let mut line = || {
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            let line = &rest[..end];
            rest = &rest[end + 1..];
            Some(line)
        };
        let forge = String::from_utf8_lossy(line()?).into_owned();
        let mut headers = HeaderMap::new();
        while let Some(header) = line().filter(|line| !line.is_empty()) {
            let colon = header.iter().position(|byte| *byte == b':')?;
            let name = HeaderName::from_bytes(&header[..colon]).ok()?;
            headers.append(name, HeaderValue::from_bytes(header[colon + 1..].trim_ascii()).ok()?);
        }
        Some(Self { forge, headers, body: rest.to_vec() })
    }

    fn sent_to(&self, hooks: &Webhooks) -> u16 {
        let now = Timestamp::from_second(NOW).expect("a moment");
        hooks.take(&self.forge, &self.headers, Ok(self.body.clone().into()), now).as_u16()
    }

    /// Whether any header holds the secret or a digest that only who knows it can make.
    fn may_prove(&self, signing: bool) -> bool {
        let key = if signing { SIGNING.as_bytes() } else { TOKEN.as_bytes() };
        let text = |name: &str| self.headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
        let signed =
            [text("webhook-id"), b".", text("webhook-timestamp"), b".", self.body.as_slice()].concat();
        let proofs = [
            key.to_vec(),
            hex::encode(digest(key, &self.body)).into_bytes(),
            STANDARD.encode(digest(SIGNING_KEY, &signed)).into_bytes(),
        ];
        let holds = |value: &HeaderValue, proof: &[u8]| {
            value.as_bytes().windows(proof.len()).any(|part| part.eq_ignore_ascii_case(proof))
        };
        self.headers.values().any(|value| proofs.iter().any(|proof| holds(value, proof)))
    }

    fn is_signed(&self, signing: bool) -> bool {
        match self.forge.as_str() {
            "git" => false,
            "gitlab" => signing || self.headers.contains_key("idempotency-key"),
            _ => true,
        }
    }

    /// The same, with the proof that its forge gives.
    fn proven(&self, signing: bool) -> Option<Self> {
        let key = if signing { SIGNING } else { TOKEN };
        let hex = hex::encode(digest(key.as_bytes(), &self.body));
        let mut proven = self.clone();
        let mut set = |name: &'static str, value: String| {
            proven.headers.insert(name, HeaderValue::from_str(&value).expect("plain text"));
        };
        match self.forge.as_str() {
            "github" => set("x-hub-signature-256", format!("sha256={hex}")),
            "bitbucket" => set("x-hub-signature", format!("sha256={hex}")),
            "forgejo" | "gitea" => set("x-forgejo-signature", hex),
            "git" => set("authorization", format!("Bearer {key}")),
            "gitlab" if signing => {
                let signed = [format!("1.{NOW}.").as_bytes(), self.body.as_slice()].concat();
                set("webhook-id", "1".to_owned());
                set("webhook-timestamp", NOW.to_string());
                set("webhook-signature", format!("v1,{}", STANDARD.encode(digest(SIGNING_KEY, &signed))));
            }
            "gitlab" => set("x-gitlab-token", key.to_owned()),
            _ => return None,
        }
        Some(proven)
    }
}

fn digest(key: &[u8], text: &[u8]) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key)
        .expect("any length")
        .chain_update(text)
        .finalize()
        .into_bytes()
        .to_vec()
}
