//! What the controller measured, for commands that ask no controller.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use anyhow::{Context, anyhow, bail};

use crate::{
    clock::{Clock as _, SystemClock},
    diagnostic::Diagnostic,
    spec::parse::Parsed,
    status::measured::{Measured, findings, stale},
};

/// The longest status that is read, bytes.
const LONGEST: u64 = 64 << 20;

/// Reads what `backstay status -o json` printed, from a file or from stdin (`-`).
pub(super) fn read(file: &Path) -> anyhow::Result<Measured> {
    let name = if file == Path::new("-") { "stdin".to_owned() } else { file.display().to_string() };
    let mut json = Vec::new();
    let from: Box<dyn Read> = match file == Path::new("-") {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(file).with_context(|| format!("failed to read {name}"))?),
    };
    from.take(LONGEST + 1).read_to_end(&mut json).with_context(|| format!("failed to read {name}"))?;
    if json.len() as u64 > LONGEST {
        bail!("failed to read {name}: it is longer than {LONGEST} bytes, and no status is");
    }
    Measured::read(&json).map_err(|why| anyhow!("failed to read {name}: {why}"))
}

/// Refuses measurements of another fleet than the declared one.
pub(super) fn must_be_of(measured: &Measured, parsed: &Parsed) -> anyhow::Result<()> {
    match &parsed.spec {
        Some(spec) if spec.fleet.name != measured.fleet => bail!(
            "what was measured is of fleet {}, and fleet {} is declared; name the status of that fleet's controller",
            measured.fleet,
            spec.fleet.name
        ),
        _ => Ok(()),
    }
}

/// Why what was measured is old, if it is.
pub(super) fn age(measured: &Measured, parsed: &Parsed) -> Option<Diagnostic> {
    let spec = parsed.spec.as_ref().filter(|spec| spec.fleet.name == measured.fleet)?;
    stale(spec, measured, SystemClock.now())
}

/// Adds what the measurements put in doubt to what is wrong with a declaration of the same fleet.
pub(super) fn tell(parsed: &mut Parsed, measured: &Measured) {
    if let Some(spec) = parsed.spec.as_ref().filter(|spec| spec.fleet.name == measured.fleet) {
        parsed.diagnostics.extend(findings(spec, &parsed.places, measured));
    }
}
