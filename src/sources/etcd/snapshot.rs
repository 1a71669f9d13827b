//! A snapshot on its way: one JSON message a line, each with bytes and how many of the database are still to come; the
//! last one has the SHA-256 of the database. Source: etcd, `server/etcdserver/api/v3rpc/maintenance.go` (`Snapshot`).

use std::{borrow::Cow, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use reqwest::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Failure,
    client::{piece, refusal, unexpected},
    file::{DIGEST, must_be_a_database},
    member::Member,
};

/// The longest message, bytes. etcd sends 32 KiB of the database in each.
const LONGEST_MESSAGE: usize = 8 * 1024 * 1024;

/// The API's method.
const CALL: &str = "maintenance/snapshot";

/// A snapshot that a member sends.
pub(super) struct Snapshot {
    response: Response,
    received: BytesMut,
    check: Check,
    stall: Duration,
}

impl Snapshot {
    /// Asks `member` for one. It may be silent for `stall`.
    pub(super) async fn begin(member: &Member, stall: Duration) -> Result<Self, Failure> {
        let (client, token) = (&member.client, member.token.as_ref());
        let response = client.begin(&member.endpoint, CALL, token, &json!({}), stall).await?;
        Ok(Self { response, received: BytesMut::new(), check: Check::default(), stall })
    }

    /// The next bytes of the file; `None` once all of it was sent and proved.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line = self.received.split_to(end + 1);
                return self.check.message(&line).map(Some);
            }
            if self.received.len() > LONGEST_MESSAGE {
                return Err(unexpected(CALL));
            }
            match piece(&mut self.response, self.stall).await? {
                Some(bytes) => self.received.extend_from_slice(&bytes),
                None if self.received.is_empty() => return self.check.finish().map(|()| None),
                None => return Err(Failure::Incomplete("the snapshot ends within a message".to_owned())),
            }
        }
    }
}

/// A line of the answer.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    result: Option<Part<'a>>,
    error: Option<Value>,
}

/// Fields that are zero or empty are left out.
#[derive(Deserialize)]
struct Part<'a> {
    #[serde(default)]
    remaining_bytes: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    blob: Cow<'a, str>,
}

/// What has come, and what must come.
#[derive(Debug, Default)]
struct Check {
    sum: Sha256,
    /// Bytes of the database that are still to come, once the first have.
    remaining: Option<u64>,
    is_proved: bool,
}

impl Check {
    /// The bytes that a message brings.
    fn message(&mut self, line: &[u8]) -> Result<Bytes, Failure> {
        let message: Message = serde_json::from_slice(line).map_err(|_| unexpected(CALL))?;
        let part = match message {
            Message { error: Some(error), .. } => {
                return Err(Failure::Answer(refusal(error.to_string().as_bytes())));
            }
            Message { result: Some(part), .. } => part,
            _ => return Err(unexpected(CALL)),
        };
        let remaining = match part.remaining_bytes.as_deref() {
            None => 0,
            Some(number) => number.parse().map_err(|_| unexpected(CALL))?,
        };
        let bytes = STANDARD.decode(part.blob.as_bytes()).map_err(|_| unexpected(CALL))?;
        self.part(&bytes, remaining).map_err(Failure::Incomplete)?;
        Ok(bytes.into())
    }

    fn part(&mut self, bytes: &[u8], remaining: u64) -> Result<(), String> {
        if self.is_proved {
            return Err("something follows the snapshot's digest".to_owned());
        }
        if self.remaining == Some(0) {
            return self.digest(bytes, remaining);
        }
        // A member whose own reading failed goes on sending nothing for ever.
        if bytes.is_empty() {
            return Err("the member has no more to send, but the snapshot is not complete".to_owned());
        }
        let was_announced =
            self.remaining.is_none_or(|before| before.checked_sub(bytes.len() as u64) == Some(remaining));
        if !was_announced {
            return Err("a part of the snapshot is missing".to_owned());
        }
        if self.remaining.is_none() {
            must_be_a_database(bytes)?;
        }
        self.sum.update(bytes);
        self.remaining = Some(remaining);
        Ok(())
    }

    fn digest(&mut self, bytes: &[u8], remaining: u64) -> Result<(), String> {
        if bytes.len() != DIGEST || remaining != 0 {
            return Err("the snapshot's digest is missing".to_owned());
        }
        if self.sum.clone().finalize().as_slice() != bytes {
            return Err("the snapshot is altered: its SHA-256 is not that of its content".to_owned());
        }
        self.is_proved = true;
        Ok(())
    }

    fn finish(&self) -> Result<(), Failure> {
        if self.is_proved {
            return Ok(());
        }
        Err(Failure::Incomplete("the snapshot ends without its digest".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Vec<u8> {
        let mut database = vec![7; 3072];
        database[16..20].copy_from_slice(&[0xed, 0xda, 0x0c, 0xed]);
        database
    }

    fn line(bytes: &[u8], remaining: u64) -> Vec<u8> {
        let blob = STANDARD.encode(bytes);
        match remaining {
            0 => format!("{{\"result\":{{\"blob\":\"{blob}\"}}}}\n").into_bytes(),
            n => format!("{{\"result\":{{\"remaining_bytes\":\"{n}\",\"blob\":\"{blob}\"}}}}\n").into_bytes(),
        }
    }

    /// What a member sends: three parts, and the digest.
    fn lines() -> Vec<Vec<u8>> {
        let database = database();
        let parts = database.chunks(1024).zip([2048, 1024, 0]).map(|(part, remaining)| line(part, remaining));
        parts.chain([line(&Sha256::digest(&database), 0)]).collect()
    }

    fn received(lines: &[Vec<u8>]) -> Result<Vec<u8>, Failure> {
        let mut check = Check::default();
        let mut all = Vec::new();
        for line in lines {
            all.extend_from_slice(&check.message(line)?);
        }
        check.finish().map(|()| all)
    }

    #[test]
    fn all_parts_and_the_digest_make_the_file() {
        let file = received(&lines()).unwrap();
        assert_eq!(file[..3072], database());
        assert_eq!(file[3072..], Sha256::digest(database())[..]);
    }

    #[test]
    fn what_is_left_out_twice_altered_or_more_fails() {
        let whole = lines();
        for number in 0..whole.len() {
            received(&whole[..number]).expect_err("the rest is missing");
            let mut missing = whole.clone();
            missing.remove(number);
            received(&missing).expect_err("a part is missing");
            let mut twice = whole.clone();
            twice.insert(number, whole[number].clone());
            received(&twice).expect_err("a part came twice");
            let mut altered = whole.clone();
            // The first characters of the blob, which are those of a byte.
            let at = altered[number].windows(8).position(|text| text == b"\"blob\":\"").unwrap() + 8;
            altered[number][at] = if altered[number][at] == b'B' { b'C' } else { b'B' };
            received(&altered).expect_err("a part is altered");
        }
        let empty = [whole[0].clone(), line(b"", 2048)];
        assert!(matches!(received(&empty), Err(Failure::Incomplete(_))), "it would go on for ever");
    }

    #[test]
    fn a_failure_in_the_middle_is_told_and_no_other_message_is_taken() {
        let failed =
            br#"{"error":{"grpc_code":14,"http_code":503,"message":"transport is closing"}}"#.to_vec();
        match received(&[lines()[0].clone(), failed]) {
            Err(Failure::Answer(said)) => assert_eq!(said, "transport is closing"),
            other => panic!("{other:?}"),
        }
        for odd in
            ["", "{}", "[]", "{\"result\":{\"blob\":\"*\"}}", "{\"result\":{\"remaining_bytes\":\"-1\"}}"]
        {
            let taken = received(&[odd.as_bytes().to_vec()]);
            assert!(matches!(taken, Err(Failure::Unexpected(_))), "{odd}: {taken:?}");
        }
    }
}
