//! Statements of an access key's policy.

use serde_json::json;

/// The statement that allows `actions` on `resource`, and nothing else ("IAM JSON policy elements").
pub(crate) fn allowing(actions: &[&str], resource: &str) -> String {
    json!({ "Effect": "Allow", "Action": actions, "Resource": resource }).to_string()
}

/// The partition that a region is in, as it stands in the names of resources ("Amazon Resource Names").
pub(crate) fn partition(region: &str) -> &'static str {
    match region {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        region if region.starts_with("eusc-") => "aws-eusc",
        region if region.starts_with("us-iso-") => "aws-iso",
        region if region.starts_with("us-isob-") => "aws-iso-b",
        region if region.starts_with("eu-isoe-") => "aws-iso-e",
        region if region.starts_with("us-isof-") => "aws-iso-f",
        _ => "aws",
    }
}

/// What the names of a region's endpoints end in ("AWS service endpoints"; `partitions.json` of the SDKs).
pub(crate) fn domain(region: &str) -> &'static str {
    match region {
        region if region.starts_with("cn-") => "amazonaws.com.cn",
        region if region.starts_with("eusc-") => "amazonaws.eu",
        region if region.starts_with("us-iso-") => "c2s.ic.gov",
        region if region.starts_with("us-isob-") => "sc2s.sgov.gov",
        region if region.starts_with("eu-isoe-") => "cloud.adc-e.uk",
        region if region.starts_with("us-isof-") => "csp.hci.ic.gov",
        // GovCloud has that of everybody else.
        _ => "amazonaws.com",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_allows_what_is_named_and_no_more() {
        let statement = allowing(&["s3:GetObject"], "arn:aws:s3:::uploads/*");
        assert_eq!(
            statement,
            r#"{"Action":["s3:GetObject"],"Effect":"Allow","Resource":"arn:aws:s3:::uploads/*"}"#
        );
        assert_eq!((partition("cn-north-1"), partition("eu-north-1")), ("aws-cn", "aws"));
    }
}
