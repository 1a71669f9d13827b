//! Any crontab or folder of units is declared without a panic, in a way that the front end takes. The first byte says
//! which of them the rest is.
#![no_main]

use std::collections::BTreeMap;

use backstay::{
    adopt::{self, Adopted, Form},
    diagnostic::Severity,
    spec::parse::parse,
};
use libfuzzer_sys::fuzz_target;

const FLEET: &[u8] = b"[fleet]\nname = \"f\"\n\
    recipients = [\"age1mz893hld2gl76fjq3qawwlwjvkze8kezax6x0crg04cwcqq63feqtxzxlm\"]\n\
    [store.s.local]\npath = \"/s\"\n";

/// Stands between two units of one input; the first line of each is its name.
const NEXT_UNIT: &str = "\n#---\n";

fuzz_target!(|input: &[u8]| {
    let Some((form, text)) = input.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    let entries = match form {
        b's' => adopt::crontab("dumps", &text, Form::System),
        b't' => adopt::timers("units", &units(&text)),
        _ => adopt::crontab("dumps", &text, Form::User),
    };
    let adopted = adopt::declare(&entries, &["s".parse().expect("a name")]);
    taken_by_the_front_end(&adopted);
});

fn units(text: &str) -> BTreeMap<String, String> {
    let unit = |unit: &str| unit.split_once('\n').map(|(name, text)| (name.to_owned(), text.to_owned()));
    text.split(NEXT_UNIT).filter_map(unit).collect()
}

fn taken_by_the_front_end(adopted: &Adopted) {
    let files = BTreeMap::from([
        ("fleet.toml".to_owned(), FLEET.to_vec()),
        ("adopted.toml".to_owned(), adopted.declaration.clone().into_bytes()),
    ]);
    let parsed = parse(&files);
    let errors: Vec<_> =
        parsed.diagnostics.iter().filter(|found| found.severity == Severity::Error).collect();
    assert!(errors.is_empty() || adopted.backups == 0, "{errors:?}\n{}", adopted.declaration);
    let declared = parsed.spec.map_or(0, |spec| spec.backups.len());
    assert_eq!(declared, adopted.backups, "a backup is lost\n{}", adopted.declaration);
}
