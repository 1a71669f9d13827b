//! Programs that copy files: which folders, and what of them is left out.

use super::{Dump, Source};
use crate::adopt::{
    options::{Grammar, Options},
    values,
    words::Word,
};

/// The programs that are read here.
pub(super) const PROGRAMS: [&str; 8] = ["tar", "gtar", "bsdtar", "rsync", "restic", "borg", "sqlite3", "aws"];

/// What a program of that name copies; `None` when it does not.
pub(super) fn dump(program: &str, arguments: &[Word]) -> Option<Dump> {
    match program {
        "tar" | "gtar" | "bsdtar" => tar(arguments),
        "rsync" => rsync(arguments),
        "restic" => tool("restic", "backup", &RESTIC, arguments),
        "borg" => tool("borg", "create", &BORG, arguments),
        "sqlite3" => sqlite(arguments),
        "aws" => aws(arguments),
        _ => None,
    }
}

/// GNU tar's manual, section Option Summary.
const TAR: Grammar = Grammar {
    letters: "bCfFgHIKLNTVX",
    names: &[
        "after-date",
        "blocking-factor",
        "checkpoint-action",
        "directory",
        "exclude",
        "exclude-from",
        "exclude-ignore",
        "exclude-tag",
        "file",
        "files-from",
        "format",
        "group",
        "level",
        "listed-incremental",
        "mode",
        "mtime",
        "newer",
        "newer-mtime",
        "owner",
        "transform",
        "use-compress-program",
        "volno-file",
    ],
    ..Grammar::PLAIN
};

fn tar(arguments: &[Word]) -> Option<Dump> {
    // Letters may come first without a dash; their values follow in order.
    let mut arguments = arguments.to_vec();
    let first = arguments.first_mut()?;
    if !first.text.starts_with('-') {
        let letters = std::mem::take(&mut first.text);
        let takes_value = |letter: &char| TAR.letters.contains(*letter);
        let (with, without): (String, String) = letters.chars().partition(takes_value);
        arguments.remove(0);
        let values = arguments.drain(..with.chars().count().min(arguments.len())).collect::<Vec<_>>();
        let literal = |text: String| Word { text, is_literal: true };
        let mut spelt = vec![literal(format!("-{without}"))];
        for (letter, value) in with.chars().zip(values) {
            spelt.extend([literal(format!("-{letter}")), value]);
        }
        spelt.append(&mut arguments);
        arguments = spelt;
    }
    let options = Options::read(&TAR, &arguments);
    if !options.has(&["c", "create"]) {
        return None;
    }
    let folder = options.value(&["C", "directory"]);
    let paths = options.rest.iter().map(|path| below(folder, path)).collect();
    Some(files(paths, options.values(&["exclude"])))
}

/// A path as seen from the folder that tar changes to.
fn below(folder: Option<&Word>, path: &Word) -> Word {
    match folder {
        Some(folder) if !path.text.starts_with('/') => Word {
            text: format!("{}/{}", folder.text, path.text),
            is_literal: folder.is_literal && path.is_literal,
        },
        _ => path.clone(),
    }
}

/// rsync(1), section Option Summary.
const RSYNC: Grammar = Grammar {
    letters: "efMTB@",
    names: &[
        "address",
        "backup-dir",
        "block-size",
        "bwlimit",
        "chmod",
        "chown",
        "compare-dest",
        "compress-level",
        "config",
        "contimeout",
        "copy-dest",
        "debug",
        "exclude",
        "exclude-from",
        "files-from",
        "filter",
        "groupmap",
        "iconv",
        "include",
        "include-from",
        "info",
        "link-dest",
        "log-file",
        "log-file-format",
        "max-delete",
        "max-size",
        "min-size",
        "modify-window",
        "out-format",
        "partial-dir",
        "password-file",
        "port",
        "protocol",
        "rsh",
        "rsync-path",
        "skip-compress",
        "sockopts",
        "stop-after",
        "suffix",
        "temp-dir",
        "timeout",
        "usermap",
    ],
    ..Grammar::PLAIN
};

fn rsync(arguments: &[Word]) -> Option<Dump> {
    let options = Options::read(&RSYNC, arguments);
    // What comes last is where it goes.
    let (_, sources) = options.rest.split_last()?;
    (!sources.is_empty()).then(|| files(sources.to_vec(), options.values(&["exclude"])))
}

/// restic's manual, and `restic help backup`.
const RESTIC: Grammar = Grammar {
    letters: "reHopT",
    names: &[
        "cacert",
        "cache-dir",
        "compression",
        "exclude",
        "exclude-file",
        "exclude-if-present",
        "exclude-larger-than",
        "files-from",
        "files-from-raw",
        "files-from-verbatim",
        "group-by",
        "host",
        "iexclude",
        "iexclude-file",
        "key-hint",
        "limit-download",
        "limit-upload",
        "option",
        "pack-size",
        "parent",
        "password-command",
        "password-file",
        "read-concurrency",
        "repo",
        "repository-file",
        "retry-lock",
        "stdin-filename",
        "tag",
        "time",
        "tls-client-cert",
    ],
    ..Grammar::PLAIN
};

/// borg-create(1).
const BORG: Grammar = Grammar {
    letters: "eCcP",
    names: &[
        "checkpoint-interval",
        "chunker-params",
        "comment",
        "compression",
        "exclude",
        "exclude-from",
        "exclude-if-present",
        "files-cache",
        "keep-exclude-tags",
        "lock-wait",
        "pattern",
        "patterns-from",
        "remote-path",
        "remote-ratelimit",
        "rsh",
        "stdin-name",
        "timestamp",
        "umask",
        "upload-buffer",
        "upload-ratelimit",
    ],
    ..Grammar::PLAIN
};

fn tool(name: &str, command: &str, grammar: &Grammar, arguments: &[Word]) -> Option<Dump> {
    let options = Options::read(grammar, arguments);
    let at = options.rest.iter().position(|word| word.text == command)?;
    // borg names its archive first, which is no absolute path but in a repository on this machine.
    let archives =
        usize::from(name == "borg" && options.rest.get(at + 1).is_some_and(|word| word.text.contains("::")));
    let mut dump = files(options.rest[at + 1 + archives..].to_vec(), options.values(&["exclude", "e"]));
    dump.remarks
        .push(format!("what {name} has stored stays where it is: keep it until enough is stored here"));
    Some(dump)
}

/// The shell of SQLite: `sqlite3 FILE ".backup 'COPY'"`, `.dump`, `.clone` or `VACUUM INTO`.
fn sqlite(arguments: &[Word]) -> Option<Dump> {
    let words: Vec<&Word> = arguments.iter().filter(|word| !word.text.starts_with('-')).collect();
    let (file, commands) = words.split_first()?;
    let copies = commands.iter().any(|word| {
        let text = word.text.trim_start().to_ascii_lowercase();
        [".backup", ".dump", ".clone", ".save", "vacuum into"].iter().any(|command| text.starts_with(command))
    });
    if !copies {
        return None;
    }
    let source = values::path(file).map_or(Source::Unclear, |path| Source::Sqlite { path });
    Some(Dump { source, remarks: Vec::new() })
}

/// The AWS command line: `aws s3 sync FROM TO`.
const AWS: Grammar = Grammar {
    names: &[
        "acl",
        "ca-bundle",
        "cli-connect-timeout",
        "cli-read-timeout",
        "content-type",
        "endpoint-url",
        "exclude",
        "include",
        "output",
        "profile",
        "query",
        "region",
        "sse",
        "sse-kms-key-id",
        "storage-class",
    ],
    ..Grammar::PLAIN
};

fn aws(arguments: &[Word]) -> Option<Dump> {
    let options = Options::read(&AWS, arguments);
    let [s3, sync, from, ..] = options.rest.as_slice() else { return None };
    if s3.text != "s3" || !matches!(sync.text.as_str(), "sync" | "cp") {
        return None;
    }
    let Some(place) = from.text.strip_prefix("s3://") else {
        return Some(files(vec![from.clone()], options.values(&["exclude"])));
    };
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    let prefix = prefix.trim_matches('/');
    let plain = |text: &str| text.split('/').all(values::is_word) && !text.contains("..");
    let endpoint = options.value(&["endpoint-url"]).map(|url| url.text.clone());
    let is_host = |url: &String| {
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        host.is_some_and(|host| host.trim_end_matches('/').split(':').all(values::is_word))
    };
    let sound = from.is_literal
        && values::is_word(bucket)
        && (prefix.is_empty() || plain(prefix))
        && endpoint.as_ref().is_none_or(is_host);
    let prefix = Some(prefix.to_owned()).filter(|prefix| !prefix.is_empty());
    let source =
        if sound { Source::Bucket { bucket: bucket.to_owned(), prefix, endpoint } } else { Source::Unclear };
    Some(Dump { source, remarks: Vec::new() })
}

/// A source of these folders, of which none is inside another.
fn files<'a>(words: Vec<Word>, exclude: impl Iterator<Item = &'a Word>) -> Dump {
    let mut remarks = Vec::new();
    let mut paths: Vec<String> = words.iter().filter_map(values::path).collect();
    if paths.len() < words.len() {
        remarks.push(
            "some of what it copies is no plain absolute path of this machine: look at the line".to_owned(),
        );
    }
    paths.sort();
    paths.dedup();
    let all = paths.clone();
    paths.retain(|path| !all.iter().any(|outer| outer != path && is_below(path, outer)));
    let patterns: Vec<&Word> = exclude.collect();
    let mut globs: Vec<String> =
        patterns.iter().filter_map(|pattern| values::glob(pattern, &paths)).collect();
    globs.sort();
    globs.dedup();
    if globs.len() < patterns.len() {
        remarks.push("some of what it leaves out could not be taken over: look at the line".to_owned());
    }
    let source = if paths.is_empty() { Source::Unclear } else { Source::Files { paths, exclude: globs } };
    Dump { source, remarks }
}

fn is_below(path: &str, outer: &str) -> bool {
    outer == "/" || path.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
}
