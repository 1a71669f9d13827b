//! `backstay trace`: from an artifact to the commit that asked for it.

use std::{fmt::Write, path::Path};

use clap::Args;
use jiff::tz::TimeZone;
use serde_json::json;

use super::{Output, controller, exit::Exit, explain::departed, terminal::Terminal};
use crate::{
    artifact::ArtifactId,
    reconcile::{Signature, Terms, Trace as Traced, TraceError},
    render::{Palette, moment, told},
};

/// Trace an artifact to the commit that declared it, its author, and why it was made
///
/// Of one that is gone the records still tell when, why and by whose word.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay trace 20261120T010000Z-3k7qz0m4xw")]
pub(super) struct Trace {
    /// The artifact
    artifact: ArtifactId,
}

impl Trace {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let controller = controller::open(config)?;
        let (survey, traced) = controller::block_on(async {
            let survey = controller.survey(&Terms::default()).await?;
            let traced = controller.trace(&survey, self.artifact).await;
            Ok((survey, traced))
        })?;
        let zone = &survey.spec.fleet.time_zone;
        let traced = match traced {
            Err(TraceError::NotFound(id)) => return departed(&controller, &survey, id, terminal),
            traced => traced?,
        };
        match terminal.output {
            Output::Text => terminal.data(&text(&traced, zone, terminal.stdout))?,
            Output::Json => terminal.json("backstay.trace/1", &data(&traced))?,
        }
        Ok(Exit::Done)
    }
}

fn text(traced: &Traced, zone: &TimeZone, palette: Palette) -> String {
    let manifest = &traced.manifest;
    let mut out = format!("{} {} of {}\n", palette.strong(manifest.artifact), manifest.kind, traced.backup);
    let mut line = |what: &str, text: &str| {
        let _ = writeln!(out, "  {what:9} {text}");
    };
    let moment = |time| moment(time, zone);
    if manifest.backup.as_str() != traced.backup.as_str() {
        line("stored as", manifest.backup.as_str());
    }
    line("because", &told(&manifest.reason, zone));
    if let Some(manual) = &manifest.manual {
        line("asked for", manual.reason.as_deref().unwrap_or("by a person, who gave no reason"));
    }
    line("data of", &moment(manifest.moment.newest()));
    line("captured", &format!("{} to {}", moment(manifest.started), moment(manifest.finished)));
    line("read in", traced.store.as_str());
    line("revision", &manifest.revision);
    match &traced.revision {
        Ok(revision) => {
            line("author", &revision.author);
            line("committed", &format!("{} by {}", moment(revision.time), revision.committer));
            line("subject", &revision.subject);
        }
        Err(why) => line("commit", &palette.warn(why)),
    }
    line("signed", &signature(&traced.signed_now, palette));
    if let Some(signer) = &traced.signed_then {
        line(
            "verified",
            &format!("when it came into force: {} with {}", signer.principal, signer.fingerprint),
        );
    }
    out
}

fn signature(now: &Signature, palette: Palette) -> String {
    match now {
        Signature::Counts(signer) => {
            palette.good(format!("by {} with {}", signer.principal, signer.fingerprint))
        }
        Signature::DoesNotCount(why) => palette.warn(why),
        Signature::NotVerified => "this host verifies no signatures".to_owned(),
    }
}

fn data(traced: &Traced) -> serde_json::Value {
    let commit = traced.revision.as_ref().ok().map(|revision| {
        json!({
            "author": revision.author,
            "committer": revision.committer,
            "time": revision.time,
            "subject": revision.subject,
        })
    });
    json!({
        "backup": traced.backup,
        "manifest": traced.manifest,
        "store": traced.store,
        "commit": commit,
        "signature": { "now": traced.signed_now, "then": traced.signed_then },
    })
}
