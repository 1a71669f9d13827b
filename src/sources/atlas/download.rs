//! Snapshots that Atlas hands out, as the archive of a data folder that it makes of them (`download` of "Restore One Snapshot of One
//! Cluster").

use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};

use flate2::write::MultiGzDecoder;
use futures::TryStreamExt;
use reqwest::{Client, redirect};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::io::StreamReader;

use super::{
    AtlasSource, Failure,
    api::{causes, refuse_open_lines},
    failure::Patience,
    restore::{begun, can_be_restored},
    wire::JobState,
};
use crate::{
    secrets::Secret,
    sources::{Restored, aside::Aside},
};

/// The longest that Atlas may take to put an archive together.
const READY: Duration = Duration::from_secs(24 * 3600);

/// Pauses between two looks: the first, and the longest.
const LOOKS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Silence that ends a download.
const SILENCE: Duration = Duration::from_secs(120);

/// Fetches the archive of a snapshot into the file `to`, which does not exist yet; it is there once it is whole.
pub(super) async fn to_file(source: &AtlasSource, reference: &str, to: &Path) -> Result<Restored, Failure> {
    let refused = |error: io::Error| Failure::Refused(format!("{}: {error}", to.display()));
    let mut file = Aside::begin(to).map_err(refused)?;
    let at = can_be_restored(source, reference).await?;
    let before = source.api.jobs(&at.cluster).await?;
    let job = json!({ "deliveryType": "download", "snapshotId": at.id });
    let id = begun(source, &at.cluster, job, &before).await?;
    let url = wait_until_ready(source, &at.cluster, &id).await?;
    fetch(&url, &mut file).await?;
    file.place().map_err(refused)?;
    Ok(Restored { place: format!("file {}", to.display()) })
}

async fn wait_until_ready(source: &AtlasSource, from: &str, id: &str) -> Result<Secret, Failure> {
    let (deadline, mut pause, mut patience) = (Instant::now() + READY, LOOKS.0, Patience::default());
    loop {
        let look = source.api.job(from, id).await;
        let (state, mut urls) = match patience.with(look, Instant::now())? {
            Some(job) => (job.state(), job.urls()),
            None => (JobState::Running, Vec::new()),
        };
        match (state, urls.pop()) {
            (JobState::Ended(how), _) => {
                return Err(Failure::Refused(format!("the archive of job {id} was not made: {how}")));
            }
            (_, Some(url)) if urls.is_empty() => return Ok(url),
            (_, Some(_)) => {
                return Err(Failure::Wrong(format!(
                    "job {id} hands out several archives, and one is expected"
                )));
            }
            (JobState::Done(_), None) => {
                return Err(Failure::Wrong(format!(
                    "job {id} is done, and does not tell where its archive is"
                )));
            }
            (JobState::Running, None) if Instant::now() >= deadline => {
                return Err(Failure::NotReady(format!("the archive of job {id} is not there after a day")));
            }
            (JobState::Running, None) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOKS.1);
    }
}

/// Streams the archive, and looks on the way whether it is a whole one: each of its members ends with the checksum of what it holds.
async fn fetch(url: &Secret, file: &mut Aside) -> Result<(), Failure> {
    refuse_open_lines(url.expose())?;
    let unreached = |error: reqwest::Error| Failure::Unreached(format!("the download: {}", causes(error)));
    // The URL lets in whoever has it: the account's token is nobody's there.
    let http = Client::builder()
        .user_agent(concat!("backstay/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(SILENCE)
        .read_timeout(SILENCE)
        .build()
        .map_err(|error| Failure::Refused(causes(error)))?;
    let response = http.get(url.expose()).send().await.map_err(unreached)?;
    if !response.status().is_success() {
        return Err(Failure::Wrong(format!("the download was answered {}", response.status())));
    }
    let pieces = response.bytes_stream().map_err(|error| io::Error::other(causes(error)));
    let mut archive = MultiGzDecoder::new(io::sink());
    let mut fault = None;
    let filled = file
        .fill(&mut StreamReader::new(pieces), |piece| {
            if fault.is_none() {
                fault = archive.write_all(piece).err();
            }
        })
        .await;
    filled.map_err(|error| Failure::Unreached(format!("the download: {error}")))?;
    match fault.map_or_else(|| archive.try_finish(), Err) {
        Ok(()) => Ok(()),
        Err(error) => Err(Failure::Wrong(format!("what Atlas hands out is no whole gzip: {error}"))),
    }
}
