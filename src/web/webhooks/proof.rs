//! How each forge proves that a delivery is its own. All of them rest on a secret that both sides know; whatever is
//! compared is compared in constant time, on the exact bytes that came, before anybody has parsed them.
//!
//! | forge | proof | source |
//! |---|---|---|
//! | GitHub | `X-Hub-Signature-256: sha256=‹hex›`, HMAC-SHA256 of the body | GitHub Docs, "Validating webhook deliveries" |
//! | Gitea, Forgejo | `X-Gitea-Signature` or `X-Forgejo-Signature: ‹hex›`, the same | their docs, "Webhooks" |
//! | Bitbucket | `X-Hub-Signature: sha256=‹hex›`, the same | Atlassian Support, "Manage webhooks" |
//! | GitLab, signing token | `webhook-signature: v1,‹base64›`, HMAC-SHA256 of `id.timestamp.body` | Standard Webhooks 1.0 |
//! | GitLab, secret token | `X-Gitlab-Token`: the secret itself | GitLab Docs, "Webhooks" |
//! | a plain Git server | `Authorization: Bearer`: the secret itself | RFC 6750, section 2.1 |

use axum::http::HeaderMap;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::{config::Forge, secrets::Secret};

/// How far a signed moment may be from ours (Standard Webhooks leaves the number to the receiver).
const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// GitLab's signing tokens begin like this; what follows is the key in base64 (Standard Webhooks 1.0).
const SIGNING_TOKEN: &str = "whsec_";

/// Something that no other delivery has: one that comes with the mark of another is that one, played again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark([u8; 32]);

impl Mark {
    fn of(forge: Forge, what: &str, bytes: &[u8]) -> Self {
        let head = format!("{forge}\n{what}\n");
        Self(Sha256::new().chain_update(head).chain_update(bytes).finalize().into())
    }

    #[cfg(test)]
    pub(super) fn numbered(number: u64) -> Self {
        Self::of(Forge::Git, "number", &number.to_le_bytes())
    }
}

/// A delivery as it came.
#[derive(Clone, Copy)]
pub(super) struct Delivery<'a> {
    pub forge: Forge,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

impl<'a> Delivery<'a> {
    /// The marks of a delivery that proves to know `secret`; `None` when it does not.
    pub(super) fn proven(self, secret: &Secret, now: Timestamp) -> Option<Vec<Mark>> {
        match self.forge {
            Forge::GitHub => {
                self.signed("x-hub-signature-256", "sha256=", secret)?;
                Some(self.marks_of_signed(&["x-github-delivery"]))
            }
            Forge::Gitea | Forge::Forgejo => {
                let header = self.first(&["x-forgejo-signature", "x-gitea-signature"])?;
                self.signed(header, "", secret)?;
                Some(self.marks_of_signed(&["x-forgejo-delivery", "x-gitea-delivery"]))
            }
            Forge::Bitbucket => {
                self.signed("x-hub-signature", "sha256=", secret)?;
                Some(self.marks_of_signed(&["x-request-uuid", "x-request-id"]))
            }
            Forge::GitLab => match secret.expose().strip_prefix(SIGNING_TOKEN) {
                Some(key) => self.signed_with_id_and_time(&STANDARD.decode(key).ok()?, now),
                None => {
                    same(self.header("x-gitlab-token")?, secret)?;
                    Some(self.marked_by(&["idempotency-key"]))
                }
            },
            Forge::Git => {
                same(self.header("authorization")?.strip_prefix("Bearer ")?, secret)?;
                Some(Vec::new())
            }
        }
    }

    /// Whether it only asks if anybody is there.
    pub(super) fn is_ping(self) -> bool {
        self.forge == Forge::GitHub && self.header("x-github-event") == Some("ping")
    }

    fn header(self, name: &str) -> Option<&'a str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn first(self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().copied().find(|name| self.headers.contains_key(*name))
    }

    /// Whether `header` is `prefix` and the HMAC-SHA256 of the body, in hexadecimal digits.
    fn signed(self, header: &str, prefix: &str, secret: &Secret) -> Option<()> {
        let mut claimed = [0; 32];
        hex::decode_to_slice(self.header(header)?.strip_prefix(prefix)?, &mut claimed).ok()?;
        hmac(secret.expose().as_bytes()).chain_update(self.body).verify_slice(&claimed).ok()
    }

    /// Standard Webhooks 1.0: a signature over the id, the moment and the body; there may be several, for keys old and
    /// new.
    fn signed_with_id_and_time(self, key: &[u8], now: Timestamp) -> Option<Vec<Mark>> {
        let (id, moment) = (self.header("webhook-id")?, self.header("webhook-timestamp")?);
        let sent = Timestamp::from_second(moment.parse().ok()?).ok()?;
        if now.duration_since(sent).abs() > TOLERANCE {
            return None;
        }
        let signed = hmac(key).chain_update(format!("{id}.{moment}.")).chain_update(self.body);
        let claims = self.header("webhook-signature")?.split(' ').filter_map(|one| one.strip_prefix("v1,"));
        let mut claims = claims.filter_map(|claimed| STANDARD.decode(claimed).ok());
        claims
            .any(|claimed| signed.clone().verify_slice(&claimed).is_ok())
            .then(|| vec![Mark::of(self.forge, "id", id.as_bytes())])
    }

    /// A signature over the body alone leaves the id open to change, so that the body is a mark as well.
    fn marks_of_signed(self, ids: &[&'static str]) -> Vec<Mark> {
        let mut marks = self.marked_by(ids);
        marks.push(Mark::of(self.forge, "body", self.body));
        marks
    }

    fn marked_by(self, ids: &[&'static str]) -> Vec<Mark> {
        let id = self.first(ids).and_then(|name| self.headers.get(name));
        id.map(|id| Mark::of(self.forge, "id", id.as_bytes())).into_iter().collect()
    }
}

fn hmac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// Whether `claimed` is the secret. Their HMACs are compared, so that not even its length can be learnt from the time.
fn same(claimed: &str, secret: &Secret) -> Option<()> {
    let keyed = |text: &str| hmac(secret.expose().as_bytes()).chain_update(text);
    let expected = keyed(secret.expose()).finalize().into_bytes();
    keyed(claimed).verify(&expected).ok()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const BODY: &[u8] = b"Hello, World!";

    fn proven(forge: Forge, secret: &str, headers: &[(&'static str, &str)], body: &[u8]) -> Option<usize> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let now = Timestamp::from_second(1_674_087_231).unwrap();
        let delivery = Delivery { forge, headers: &map, body };
        delivery.proven(&Secret::new(secret.to_owned()), now).map(|marks| marks.len())
    }

    #[test]
    fn github_is_known_by_the_example_of_its_own_documentation_and_by_nothing_else() {
        let secret = "It's a Secret to Everybody";
        let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let github = |header: &str, body| {
            proven(
                Forge::GitHub,
                secret,
                &[("x-hub-signature-256", header), ("x-github-delivery", "1")],
                body,
            )
        };
        assert_eq!(github(good, BODY), Some(2));
        assert_eq!(github(good, b"Hello, World?"), None);
        assert_eq!(github(&good.replace("757", "757a"), BODY), None);
        assert_eq!(github(&good[..60], BODY), None);
        assert_eq!(github(good.strip_prefix("sha256=").unwrap(), BODY), None);
        for bad in ["", "sha256=", "sha1=757107ea", "sha256=zz"] {
            assert_eq!(github(bad, BODY), None, "{bad}");
        }
        assert_eq!(proven(Forge::GitHub, secret, &[], BODY), None);
        assert_eq!(proven(Forge::GitHub, "another", &[("x-hub-signature-256", good)], BODY), None);
    }

    /// RFC 4231, test case 2.
    #[test]
    fn gitea_forgejo_and_bitbucket_sign_the_body_alone() {
        let (key, body) = ("Jefe", b"what do ya want for nothing?");
        let digest = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let of_bitbucket = format!("sha256={digest}");
        for (forge, header, value) in [
            (Forge::Gitea, "x-gitea-signature", digest),
            (Forge::Forgejo, "x-forgejo-signature", digest),
            (Forge::Forgejo, "x-gitea-signature", digest),
            (Forge::Bitbucket, "x-hub-signature", &of_bitbucket),
        ] {
            assert_eq!(proven(forge, key, &[(header, value)], body), Some(1), "{forge}");
            assert_eq!(proven(forge, key, &[(header, value)], BODY), None, "{forge}");
        }
        let both = [("x-forgejo-signature", "00"), ("x-gitea-signature", digest)];
        assert_eq!(proven(Forge::Forgejo, key, &both, body), None, "one good signature saves no bad one");
    }

    #[test]
    fn a_token_must_be_the_very_secret() {
        let secret = "0123456789abcdef";
        for (forge, header, before) in
            [(Forge::GitLab, "x-gitlab-token", ""), (Forge::Git, "authorization", "Bearer ")]
        {
            let with = |token: &str| proven(forge, secret, &[(header, &format!("{before}{token}"))], BODY);
            assert_eq!(with(secret), Some(0), "{forge}");
            for bad in ["", "0123456789abcde", "0123456789abcdeg", "0123456789abcdef0", "0123456789ABCDEF"] {
                assert_eq!(with(bad), None, "{forge} {bad}");
            }
        }
        let identified = [("x-gitlab-token", secret), ("idempotency-key", "1")];
        assert_eq!(proven(Forge::GitLab, secret, &identified, BODY), Some(1));
        let no_text = [("x-gitlab-token", secret), ("idempotency-key", "\u{e4}")];
        assert_eq!(proven(Forge::GitLab, secret, &no_text, BODY), Some(1), "an id that is no text is one");
        assert_eq!(proven(Forge::Git, secret, &[("authorization", secret)], BODY), None);
    }

    #[test]
    fn a_signing_token_of_gitlab_covers_id_moment_and_body_and_wears_off() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let body = br#"{"test": 2432232314}"#;
        let key = STANDARD.decode(&secret[SIGNING_TOKEN.len()..]).unwrap();
        let with = |id: &str, moment: &str, old: &str| {
            let signed = hmac(&key).chain_update("msg_1.1674087231.").chain_update(body);
            let good = format!("{old}v1,{}", STANDARD.encode(signed.finalize().into_bytes()));
            let headers = [("webhook-id", id), ("webhook-timestamp", moment), ("webhook-signature", &good)];
            proven(Forge::GitLab, secret, &headers, body)
        };
        assert_eq!(with("msg_1", "1674087231", ""), Some(1));
        assert_eq!(with("msg_1", "1674087231", "v1,AAAA v2,AAAA "), Some(1));
        assert_eq!(with("msg_2", "1674087231", ""), None);
        assert_eq!(with("msg_1", "1674087232", ""), None);
        assert_eq!(with("msg_1", "now", ""), None);
        let old = hmac(&key).chain_update("msg_1.1674086930.").chain_update(body);
        let old = format!("v1,{}", STANDARD.encode(old.finalize().into_bytes()));
        let headers =
            [("webhook-id", "msg_1"), ("webhook-timestamp", "1674086930"), ("webhook-signature", &old)];
        assert_eq!(proven(Forge::GitLab, secret, &headers, body), None, "five minutes and a second old");
        assert_eq!(proven(Forge::GitLab, secret, &[("x-gitlab-token", secret)], body), None);
    }
}
