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
