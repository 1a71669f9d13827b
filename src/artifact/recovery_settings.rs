//! What a server of PostgreSQL is told so that it replays its log up to a place (PostgreSQL's documentation, "Archive Recovery" and
//! "Recovery Target"). Pure.

use jiff::tz::TimeZone;

use super::{position::LogPosition, until::Until};

/// The setting of where recovery ends, and its value.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    setting: &'static str,
    value: String,
}

/// All settings of where recovery ends.
const TARGETS: [&str; 5] = [
    "recovery_target",
    "recovery_target_name",
    "recovery_target_xid",
    "recovery_target_lsn",
    "recovery_target_time",
];

/// A place that no write-ahead log has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a write-ahead log has no {0}")]
pub struct NotInLog(Until);

impl Target {
    fn of(until: &Until) -> Result<Self, NotInLog> {
        let not_in_log = || NotInLog(until.clone());
        let (setting, value) = match until {
            Until::Moment(at) => {
                let in_utc = at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S%.6f+00").to_string();
                ("recovery_target_time", in_utc)
            }
            Until::Named(name) => ("recovery_target_name", quoted(name.as_str())),
            Until::Place(place) => match place.position() {
                Some(LogPosition::Wal(place)) => ("recovery_target_lsn", place.lsn.to_string()),
                _ => return Err(not_in_log()),
            },
            Until::Transaction(_) => return Err(not_in_log()),
        };
        Ok(Self { setting, value })
    }
}

/// Text between the quotes of a settings file (PostgreSQL's documentation, "Parameter Interaction via the Configuration File").
fn quoted(text: &str) -> String {
    text.replace('\\', r"\\").replace('\'', "''")
}

/// The last lines of a data folder's settings: the server replays what lies in the folder `logs` of it, all of it where `until` is
/// `None`, over to `timeline`, or on that of the data. Lines that come last count: what the data's own server was told of recovery, or
/// of another server to follow, counts no more.
///
/// # Errors
/// Where no write-ahead log has the place.
pub fn recovery_settings(
    logs: &str,
    timeline: Option<u32>,
    until: Option<&Until>,
) -> Result<String, NotInLog> {
    let target = until.map(Target::of).transpose()?;
    let timeline = timeline.map_or("current".to_owned(), |timeline| timeline.to_string());
    // The target last: a server that has one takes no other setting of one, not even an empty one.
    let others = TARGETS.iter().filter(|name| target.as_ref().is_none_or(|target| target.setting != **name));
    let others = others.map(|name| format!("{name} = ''\n"));
    let target = target.iter().map(|Target { setting, value }| format!("{setting} = '{value}'\n"));
    let targets: String = others.chain(target).collect();
    Ok(format!(
        "\n# What was restored is replayed up to here. These lines may go once the server is up.\n\
         restore_command = 'cp \"{logs}/%f\" \"%p\"'\nprimary_conninfo = ''\n\
         recovery_target_timeline = '{timeline}'\n{targets}\
         recovery_target_inclusive = off\nrecovery_target_action = 'promote'\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_ends_before_the_moment_whatever_the_server_was_told_before() {
        let settings = |timeline, until: Option<Until>| {
            recovery_settings("restored_wal", timeline, until.as_ref()).unwrap()
        };
        let at = Until::Moment("2026-11-20T10:35:50.25Z".parse().unwrap());
        let text = settings(Some(10), Some(at));
        assert!(text.contains("\nrestore_command = 'cp \"restored_wal/%f\" \"%p\"'\n"), "{text}");
        assert!(text.contains("\nrecovery_target_time = '2026-11-20 10:35:50.250000+00'\n"), "{text}");
        assert!(text.contains("\nrecovery_target_inclusive = off\n"), "{text}");
        assert!(text.contains("\nrecovery_target_timeline = '10'\n"), "{text}");
        let newest = settings(None, None);
        assert!(newest.contains("\nrecovery_target_time = ''\n"), "the newest has no target: {newest}");
        assert!(newest.contains("\nrecovery_target_timeline = 'current'\n"), "{newest}");
        let place = settings(None, Some(Until::Place("16/B374D848, timeline 2".parse().unwrap())));
        assert!(place.contains("\nrecovery_target_lsn = '16/B374D848'\n"), "{place}");
        let named = settings(None, Some(Until::Named("o'clock".parse().unwrap())));
        assert!(named.contains("\nrecovery_target_name = 'o''clock'\n"), "{named}");
    }

    #[test]
    fn what_another_engine_names_is_no_target() {
        for until in
            [Until::Place("bin.000001:4".parse().unwrap()), Until::Transaction("0-1-2".parse().unwrap())]
        {
            assert!(recovery_settings("w", None, Some(&until)).is_err(), "{until}");
        }
    }
}
