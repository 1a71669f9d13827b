//! What the access key's policy lacks for captures of a bucket: each call of a capture is tried, with the first object.

use super::{
    Failure,
    listing::{self, Depth, Listed, Listing, What},
    reach::Reach,
};
use crate::{aws::policy, sources::Lack};

/// Looks for what is missing, all of it at once.
pub(super) async fn lacks(reach: &Reach, region: &str, prefix: &str) -> Result<Vec<Lack>, Failure> {
    let (mut of_bucket, mut of_objects) = (Vec::new(), Vec::new());
    let depth = allowed(listing::depth(reach).await, "s3:GetBucketVersioning", &mut of_bucket)?;
    let listed = match depth {
        Some(Depth::Versions) => listed(reach, prefix, Depth::Versions, &mut of_bucket).await?,
        _ => None,
    };
    let newest = listed_newest(reach, prefix, &mut of_bucket).await?;
    match (depth, listed.or(newest)) {
        (Some(Depth::Versions), Some(first)) => version(reach, &first, &mut of_objects).await?,
        (_, Some(first)) => object(reach, &first, &mut of_objects).await?,
        (_, None) => {}
    }
    let bucket = format!("arn:{}:s3:::{}", policy::partition(region), reach.bucket);
    let lacks = [(of_bucket, bucket.clone()), (of_objects, format!("{bucket}/{prefix}*"))];
    let lacks = lacks.into_iter().filter(|(denied, _)| !denied.is_empty());
    let lack = |(denied, resource): (Vec<&str>, String)| {
        let what = format!("the access key's policy does not allow {}", denied.join(", "));
        Lack::error(what, policy::allowing(&denied, &resource))
    };
    Ok(lacks.map(lack).collect())
}

async fn listed_newest(
    reach: &Reach,
    prefix: &str,
    denied: &mut Vec<&'static str>,
) -> Result<Option<Listed>, Failure> {
    let first = Listing::new(reach, prefix.to_owned(), Depth::Newest).next().await;
    Ok(allowed(first, "s3:ListBucket", denied)?.flatten())
}

/// The first version that is no deletion, of the first page.
async fn listed(
    reach: &Reach,
    prefix: &str,
    depth: Depth,
    denied: &mut Vec<&'static str>,
) -> Result<Option<Listed>, Failure> {
    let mut listing = Listing::new(reach, prefix.to_owned(), depth);
    for _ in 0..MOST_LOOKED_AT {
        match allowed(listing.next().await, "s3:ListBucketVersions", denied)?.flatten() {
            Some(marker) if marker.what == What::Marker => {}
            found => return Ok(found),
        }
    }
    Ok(None)
}

/// How many versions are looked at for one that can be read.
const MOST_LOOKED_AT: usize = 1000;

async fn object(reach: &Reach, first: &Listed, denied: &mut Vec<&'static str>) -> Result<(), Failure> {
    let get = || reach.client.get_object().bucket(&reach.bucket).key(&first.key).send();
    allowed(read(reach.again(get).await), "s3:GetObject", denied)?;
    let tags = || reach.client.get_object_tagging().bucket(&reach.bucket).key(&first.key).send();
    allowed(read(reach.again(tags).await), "s3:GetObjectTagging", denied)?;
    Ok(())
}

async fn version(reach: &Reach, first: &Listed, denied: &mut Vec<&'static str>) -> Result<(), Failure> {
    let version = || first.version.clone();
    let get = || {
        let get = reach.client.get_object().bucket(&reach.bucket).key(&first.key);
        get.set_version_id(version()).send()
    };
    allowed(read(reach.again(get).await), "s3:GetObjectVersion", denied)?;
    let tags = || {
        let tags = reach.client.get_object_tagging().bucket(&reach.bucket).key(&first.key);
        tags.set_version_id(version()).send()
    };
    allowed(read(reach.again(tags).await), "s3:GetObjectVersionTagging", denied)?;
    Ok(())
}

/// Whether it was refused; whatever else hinders that it is read is not for a policy to mend. The content is not read.
fn read<T>(answer: Result<T, Failure>) -> Result<(), Failure> {
    match answer {
        Err(Failure::S3(fault)) if !fault.is_denial() && fault.is_refusal() => Ok(()),
        answer => answer.map(drop),
    }
}

/// Notes an action that is denied; `None` then.
fn allowed<T>(
    answer: Result<T, Failure>,
    action: &'static str,
    denied: &mut Vec<&'static str>,
) -> Result<Option<T>, Failure> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Failure::S3(fault)) if fault.is_denial() => {
            denied.push(action);
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}
