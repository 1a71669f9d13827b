//! Deletions of an artifact, as text.

use std::fmt::Write;

use jiff::tz::TimeZone;

use super::{Palette, moment, told};
use crate::{artifact::ArtifactId, reconcile::Departure};

/// Where an artifact was that is gone, why it went and by whose word.
pub fn text(id: ArtifactId, departures: &[Departure], zone: &TimeZone, palette: Palette) -> String {
    let of = departures.first().map(|departure| format!(" of {}", departure.backup)).unwrap_or_default();
    let mut out = format!("{}{of} is gone\n", palette.strong(id));
    for departure in departures {
        let (store, at) = (&departure.store, moment(departure.at, zone));
        let _ = writeln!(out, "  deleted in {store} at {at}: {}", told(&departure.reason, zone));
        if let Some(warrant) = &departure.warrant {
            let _ = writeln!(out, "    a safety rule held it back; approved by {warrant}");
        }
    }
    out
}
