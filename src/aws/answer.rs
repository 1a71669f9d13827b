//! What answers say of objects.

use aws_sdk_s3::primitives::DateTime;
use jiff::Timestamp;

use super::Fault;

/// Bytes of an object.
pub(crate) fn size_of(length: Option<i64>) -> Result<u64, Fault> {
    let size = length.and_then(|length| u64::try_from(length).ok());
    size.ok_or_else(|| Fault::Protocol("the server gives no length".into()))
}

/// A moment, as requests give it.
pub(crate) fn date_time(at: Timestamp) -> DateTime {
    DateTime::from_secs_and_nanos(at.as_second(), at.subsec_nanosecond().unsigned_abs())
}

/// When an object was written.
pub(crate) fn timestamp(time: Option<&DateTime>) -> Result<Timestamp, Fault> {
    let time = time.and_then(|time| Timestamp::new(time.secs(), time.subsec_nanos() as i32).ok());
    time.ok_or_else(|| Fault::Protocol("the server does not date an object".into()))
}

/// The account that a resource is in, by its name ("Amazon Resource Names": `arn:partition:service:region:account:resource`).
pub(crate) fn account_of(arn: &str) -> Option<String> {
    let account = arn.strip_prefix("arn:")?.split(':').nth(3)?;
    (!account.is_empty() && account.bytes().all(|byte| byte.is_ascii_digit())).then(|| account.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_told_by_the_names_of_what_is_in_it() {
        let account = |arn: &str| account_of(arn);
        assert_eq!(
            account("arn:aws-cn:rds:cn-north-1:123456789012:db:shop").as_deref(),
            Some("123456789012")
        );
        for other in ["", "arn:aws:s3:::bucket", "123456789012", "arn:aws:rds:eu-north-1:self:db:shop"] {
            assert_eq!(account(other), None, "{other}");
        }
    }
}
