//! Tags of objects: as they stand in a request and in the archive, and how those of an object that is there are read and put.

use aws_sdk_s3::types::{Tag, Tagging};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{Failure, reach::Reach};
use crate::aws::Fault;

/// The tags of the object under `key`. A server that knows no tags has none.
pub(super) async fn there(reach: &Reach, key: &str) -> Result<Option<String>, Failure> {
    let request = || reach.client.get_object_tagging().bucket(&reach.bucket).key(key).send();
    match reach.again(request).await {
        Ok(answer) => Ok(tags(answer.tag_set())),
        Err(Failure::S3(Fault::Service { status: 501, .. })) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Gives the object under `key` these tags, and no others.
pub(super) async fn put(reach: &Reach, key: &str, tags: Option<&str>) -> Result<(), Failure> {
    let tagging = tagging(tags)?;
    let request = || {
        let put = reach.client.put_object_tagging().bucket(&reach.bucket).key(key);
        put.tagging(tagging.clone()).send()
    };
    reach.again(request).await.map(|_| ())
}

/// Tags as they stand in a request; `None` where there are none.
pub(super) fn tags(tags: &[Tag]) -> Option<String> {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut pairs: Vec<String> =
        tags.iter().map(|tag| format!("{}={}", encode(tag.key()), encode(tag.value()))).collect();
    pairs.sort_unstable();
    (!pairs.is_empty()).then(|| pairs.join("&"))
}

/// The same tags as a body: the reverse of [`tags`]. Empty where there are none.
fn tagging(tags: Option<&str>) -> Result<Tagging, Failure> {
    let malformed = || Failure::Refused("the archive has no readable tags for it".to_owned());
    let decode = |text: &str| percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).ok();
    let pairs = tags.into_iter().flat_map(|tags| tags.split('&')).filter(|pair| !pair.is_empty());
    let tags: Option<Vec<Tag>> = pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=')?;
            Tag::builder().key(decode(key)?).value(decode(value)?).build().ok()
        })
        .collect();
    let tagging = Tagging::builder().set_tag_set(Some(tags.ok_or_else(malformed)?)).build();
    tagging.map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_stand_as_a_request_wants_them() {
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build().unwrap();
        assert_eq!(tags(&[tag("b", "1 & 2"), tag("a=", "ä")]).unwrap(), "a%3D=%C3%A4&b=1%20%26%202");
        assert_eq!(tags(&[]), None);
    }

    #[test]
    fn tags_of_an_archive_are_put_as_they_were() {
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build().unwrap();
        let set = [tag("a=", "ä"), tag("b", "1 & 2"), tag("c", "")];
        assert_eq!(tagging(tags(&set).as_deref()).unwrap().tag_set(), set);
        assert_eq!(tagging(None).unwrap().tag_set(), []);
        for malformed in ["a", "a=%FF"] {
            assert!(matches!(tagging(Some(malformed)), Err(Failure::Refused(_))), "{malformed}");
        }
    }
}
