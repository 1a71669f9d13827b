//! What a bucket says of an object beside its content: as records of its member in the archive, and as a line of the
//! description in a folder that was restored to. Pure.

use std::collections::BTreeMap;

use aws_sdk_s3::operation::{get_object::GetObjectOutput, head_object::HeadObjectOutput};
use jiff::Timestamp;
use serde::Serialize;
use tar::EntryType;

use super::{Failure, listing::Listed};
use crate::{
    aws::{Fault, timestamp},
    sources::pax::{Described, Head, Meta},
};

/// In front of the records of this source, in the manner of `SCHILY.xattr.`
const RECORD: &[u8] = b"BACKSTAY.";

/// In front of an object's own metadata, after [`RECORD`].
const OWN: &str = "meta.";

/// One version of an object, or its deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct About {
    pub key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    #[serde(skip)]
    pub delete_marker: bool,
    /// As the server writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    pub last_modified: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    #[serde(flatten)]
    pub headers: Headers,
    /// As they stand in a request: `key=value&key=value`, percent-encoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<String>,
}

/// What whoever put an object said of it, and gets back with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Headers {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub website_redirect: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// The headers of an answer, whichever of the two types the SDK gives it.
macro_rules! headers {
    ($answer:expr) => {{
        let answer = $answer;
        Headers {
            content_type: answer.content_type().map(str::to_owned),
            content_encoding: answer.content_encoding().map(str::to_owned),
            content_disposition: answer.content_disposition().map(str::to_owned),
            content_language: answer.content_language().map(str::to_owned),
            cache_control: answer.cache_control().map(str::to_owned),
            expires: answer.expires_string().map(str::to_owned),
            website_redirect: answer.website_redirect_location().map(str::to_owned),
            metadata: answer.metadata().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
        }
    }};
}

impl Headers {
    /// Of an object that was looked at.
    pub(super) fn looked_at(answer: &HeadObjectOutput) -> Self {
        headers!(answer)
    }

    fn named(&self) -> [(&'static str, &Option<String>); 7] {
        [
            ("content-type", &self.content_type),
            ("content-encoding", &self.content_encoding),
            ("content-disposition", &self.content_disposition),
            ("content-language", &self.content_language),
            ("cache-control", &self.cache_control),
            ("expires", &self.expires),
            ("website-redirect", &self.website_redirect),
        ]
    }

    fn slot(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name {
            "content-type" => &mut self.content_type,
            "content-encoding" => &mut self.content_encoding,
            "content-disposition" => &mut self.content_disposition,
            "content-language" => &mut self.content_language,
            "cache-control" => &mut self.cache_control,
            "expires" => &mut self.expires,
            "website-redirect" => &mut self.website_redirect,
            _ => return None,
        })
    }
}

impl About {
    /// Of an object that is being read.
    pub(super) fn read(listed: &Listed, answer: &GetObjectOutput) -> Result<Self, Fault> {
        Ok(Self {
            key: listed.key.clone(),
            version_id: listed.version.clone(),
            delete_marker: false,
            etag: answer.e_tag().map(str::to_owned),
            last_modified: timestamp(answer.last_modified())?,
            storage_class: answer.storage_class().map(|class| class.as_str().to_owned()),
            headers: headers!(answer),
            tags: None,
        })
    }

    /// Of a deletion.
    pub(super) fn marker(listed: &Listed) -> Self {
        Self {
            key: listed.key.clone(),
            version_id: listed.version.clone(),
            delete_marker: true,
            last_modified: listed.modified,
            ..Self::default()
        }
    }

    /// Bytes of the headers in front of its content in the archive.
    pub(super) fn blocks(&self, path: &str, size: u64) -> Vec<u8> {
        let modified =
            (self.last_modified.as_second(), self.last_modified.subsec_nanosecond().unsigned_abs());
        let meta = Meta { mode: 0o644, owner: (0, 0), modified };
        let records = self.records();
        let (kind, name) = (EntryType::Regular, path.as_bytes());
        Head { kind, name, link: None, size, meta, records: &records }.blocks()
    }

    fn records(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut records = Vec::new();
        let mut add = |name: &str, value: &str| {
            records.push(([RECORD, name.as_bytes()].concat(), value.as_bytes().to_vec()));
        };
        add("key", &self.key);
        if self.delete_marker {
            add("delete-marker", "true");
        }
        add("last-modified", &self.last_modified.to_string());
        let told = [
            ("version-id", &self.version_id),
            ("etag", &self.etag),
            ("storage-class", &self.storage_class),
            ("tags", &self.tags),
        ];
        for (name, value) in told.into_iter().chain(self.headers.named()) {
            if let Some(value) = value {
                add(name, value);
            }
        }
        for (name, value) in &self.headers.metadata {
            add(&format!("{OWN}{name}"), value);
        }
        records
    }

    /// Reads the records of a member back. What a later version adds is left out.
    pub(super) fn of(member: &Described) -> Result<Self, Failure> {
        let path = || String::from_utf8_lossy(&member.name).escape_debug().to_string();
        let malformed =
            |what: &str| Failure::Refused(format!("`{}` of the archive has no readable {what}", path()));
        let (mut about, mut key, mut modified) = (Self::default(), None, None);
        for (name, value) in member.records_under(RECORD) {
            let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
                return Err(malformed("records"));
            };
            let text = || Some(value.to_owned());
            match name {
                "key" => key = text(),
                "last-modified" => modified = value.parse().ok(),
                "delete-marker" => about.delete_marker = true,
                "version-id" => about.version_id = text(),
                "etag" => about.etag = text(),
                "storage-class" => about.storage_class = text(),
                "tags" => about.tags = text(),
                name => {
                    if let Some(own) = name.strip_prefix(OWN) {
                        about.headers.metadata.insert(own.to_owned(), value.to_owned());
                    } else if let Some(slot) = about.headers.slot(name) {
                        *slot = text();
                    }
                }
            }
        }
        about.key =
            key.filter(|key| !key.is_empty()).ok_or_else(|| malformed("key: it is no object of a bucket"))?;
        about.last_modified = modified.ok_or_else(|| malformed("time"))?;
        if member.kind != EntryType::Regular {
            return Err(malformed("content"));
        }
        Ok(about)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::pax::{Reader, TRAILER};

    fn about() -> About {
        let headers = Headers {
            content_type: Some("text/plain; charset=utf-8".into()),
            cache_control: Some("no-store".into()),
            expires: Some("Wed, 21 Oct 2026 07:28:00 GMT".into()),
            metadata: [("owner".to_owned(), "a=b\nc".to_owned())].into(),
            ..Headers::default()
        };
        About {
            key: "../a\0b/\u{e4}".into(),
            version_id: Some("3HL4".into()),
            etag: Some("\"0cc175b9c0f1b6a831c399e269772661\"".into()),
            last_modified: Timestamp::from_second(1_700_000_000).unwrap(),
            storage_class: Some("STANDARD_IA".into()),
            headers,
            tags: Some("k=v".into()),
            delete_marker: false,
        }
    }

    fn read_back(blocks: Vec<u8>) -> Result<About, Failure> {
        let bytes = [blocks, TRAILER.to_vec()].concat();
        About::of(&Reader::new(&bytes[..]).next().unwrap().unwrap())
    }

    #[test]
    fn all_that_is_said_of_an_object_comes_back() {
        assert_eq!(read_back(about().blocks("x", 0)).unwrap(), about());
        let marker = About {
            delete_marker: true,
            etag: None,
            storage_class: None,
            tags: None,
            headers: Headers::default(),
            ..about()
        };
        assert_eq!(read_back(marker.blocks("x", 0)).unwrap(), marker);
    }

    #[test]
    fn a_member_without_a_key_is_refused() {
        let meta = Meta { mode: 0o644, owner: (0, 0), modified: (0, 0) };
        let head =
            Head { kind: EntryType::Regular, name: b"etc/passwd", link: None, size: 0, meta, records: &[] };
        assert!(matches!(read_back(head.blocks()), Err(Failure::Refused(why)) if why.contains("key")));
    }
}
