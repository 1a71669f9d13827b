//! `backstay adopt --crontab --system-crontab --timers`: the declaration of what is dumped already.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;

use crate::{
    adopt::{self, Adopted, Entry, Form},
    cli::{Output, exit::Exit, terminal::Terminal},
    spec::names::StoreName,
};

/// No crontab and no unit is longer, bytes.
const LARGEST: u64 = 1 << 20;

/// Crontabs and timers that dump already.
#[derive(Debug, Args)]
#[group(id = "dumps")]
pub(super) struct Dumps {
    /// Crontabs of users, as `crontab -l` prints them; `-` is stdin
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present_any = ["refused", "system_crontab", "timers"])]
    crontab: Vec<PathBuf>,
    /// Crontabs with a user in each line, as /etc/crontab, and folders of such, as /etc/cron.d
    #[arg(long, value_name = "FILE|DIR", num_args = 1..)]
    system_crontab: Vec<PathBuf>,
    /// Folders of systemd's units, as /etc/systemd/system
    #[arg(long, value_name = "DIR", num_args = 1..)]
    timers: Vec<PathBuf>,
    /// Where the backups are to be stored, the first store first [default: choose-a-store, which validate asks you to name]
    #[arg(long, value_name = "NAME", conflicts_with = "refused")]
    store: Vec<StoreName>,
    /// Write the declaration into this new file
    #[arg(long, value_name = "FILE", conflicts_with = "refused")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Declared<'a> {
    declaration: &'a str,
    backups: usize,
    notes: Vec<Noted<'a>>,
}

#[derive(Serialize)]
struct Noted<'a> {
    place: &'a str,
    text: &'a str,
}

impl Dumps {
    pub(super) fn run(self, terminal: &Terminal) -> anyhow::Result<Exit> {
        let entries = self.entries()?;
        let mut stores = self.store;
        if stores.is_empty() {
            stores.push("choose-a-store".parse()?);
        }
        let adopted = adopt::declare(&entries, &stores);
        for note in &adopted.notes {
            terminal.note(&format!("{} {}: {}", terminal.stderr.warn("!"), note.place, note.text));
        }
        if let Some(path) = &self.out {
            write_new(path, &adopted.declaration)?;
        }
        show(&adopted, self.out.as_deref(), terminal)?;
        Ok(Exit::Done)
    }

    fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for path in &self.crontab {
            let (name, text) = if path == Path::new("-") {
                ("stdin".to_owned(), stdin()?)
            } else {
                (named(path), read(path)?)
            };
            entries.extend(adopt::crontab(&name, &text, Form::User));
        }
        for path in
            self.system_crontab.iter().map(|path| crontabs(path)).collect::<Result<Vec<_>, _>>()?.concat()
        {
            entries.extend(adopt::crontab(&named(&path), &read(&path)?, Form::System));
        }
        for folder in &self.timers {
            entries.extend(adopt::timers(&named(folder), &units(folder)?));
        }
        Ok(entries)
    }
}

fn show(adopted: &Adopted, written: Option<&Path>, terminal: &Terminal) -> anyhow::Result<()> {
    match (terminal.output, written) {
        (Output::Json, _) => {
            let notes =
                adopted.notes.iter().map(|note| Noted { place: &note.place, text: &note.text }).collect();
            let declared = Declared { declaration: &adopted.declaration, backups: adopted.backups, notes };
            terminal.json("backstay.adopted-dumps/1", &declared)
        }
        (Output::Text, None) => Ok(terminal.data(&adopted.declaration)?),
        (Output::Text, Some(path)) => {
            terminal.note(&format!(
                "Wrote {} with {} backups. Next: backstay validate",
                path.display(),
                adopted.backups
            ));
            Ok(())
        }
    }
}

fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let failed = || format!("failed to write {}; name a file that does not exist yet", path.display());
    let mut file = File::create_new(path).with_context(failed)?;
    file.write_all(text.as_bytes()).with_context(failed)
}

/// The file, or the files of the folder whose names cron reads: no dots in them (cron(8)).
fn crontabs(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let files = files_of(path)?.into_iter().filter(|(name, _)| plain(name)).map(|(_, path)| path);
    Ok(files.collect())
}

/// The timers and services of a folder by name, each with its drop-ins behind it (systemd.unit(5)).
fn units(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let is_unit = |name: &str| name.ends_with(".timer") || name.ends_with(".service");
    let mut units = BTreeMap::new();
    for (name, path) in files_of(folder)?.into_iter().filter(|(name, _)| is_unit(name)) {
        let mut text = read(&path)?;
        let aside = folder.join(format!("{name}.d"));
        let drop_ins = if aside.is_dir() { files_of(&aside)? } else { BTreeMap::new() };
        for (_, path) in drop_ins.into_iter().filter(|(name, _)| name.ends_with(".conf")) {
            text.push('\n');
            text.push_str(&read(&path)?);
        }
        units.insert(name, text);
    }
    Ok(units)
}

/// The files of a folder by name; what a link leads to counts.
fn files_of(folder: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let failed =
        || format!("failed to read the folder {}; name one that this user may read", folder.display());
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && path.is_file()
        {
            files.insert(name.to_owned(), path);
        }
    }
    Ok(files)
}

fn read(path: &Path) -> anyhow::Result<String> {
    let failed = || format!("failed to read {}; name a file that this user may read", path.display());
    bounded(File::open(path).with_context(failed)?).with_context(failed)
}

fn stdin() -> anyhow::Result<String> {
    bounded(io::stdin().lock()).context("failed to read stdin; give it what `crontab -l` prints")
}

fn bounded(from: impl Read) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    from.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        bail!("it is longer than {LARGEST} bytes");
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn named(path: &Path) -> String {
    path.display().to_string()
}
