//! A cadence as calendar events of systemd.time(7).

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::{
    schedulers::calendar::{self, Field, Fields, Times},
    spec::{Cadence, Cron},
};

const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// The events of a cadence; the timer elapses at each moment that one of them names.
pub(super) fn of(cadence: &Cadence, zone: &TimeZone) -> Result<Vec<String>, String> {
    match cadence {
        Cadence::Cron(cron) => of_cron(cron, zone),
        Cadence::Every(period) => of_every(*period).map_err(|why| {
            format!(
                "systemd can't express `every {}`: {why}; use a cron expression",
                humantime::format_duration(*period)
            )
        }),
    }
}

fn of_cron(cron: &Cron, zone: &TimeZone) -> Result<Vec<String>, String> {
    let fields = Fields::of(cron).ok_or_else(|| format!("systemd can't express `{cron}`"))?;
    let zone = zone.iana_name().ok_or("systemd needs a zone by its IANA name; set fleet.timezone")?;
    let (months, times) =
        (number_list(&fields.months), format!("{}:{}:00", hours(&fields), fields.minutes.ranges("..")));
    let event = |weekdays: &str, days: &str| format!("{weekdays}*-{months}-{days} {times} {zone}");
    let (weekdays, days) = (weekdays(&fields.weekdays), number_list(&fields.days));
    // In one event the day and the weekday must both match.
    Ok(match fields.either_day() && !fields.days.every && !fields.weekdays.every {
        true => vec![event("", &days), event(&weekdays, "*")],
        false if fields.either_day() => vec![event("", "*")],
        false => vec![event(&weekdays, &days)],
    })
}

fn of_every(period: Duration) -> Result<Vec<String>, String> {
    let seconds = period.as_secs();
    if period == WEEK {
        // The epoch was a Thursday.
        return Ok(vec!["Thu *-*-* 00:00:00 UTC".to_owned()]);
    }
    if (1..60).contains(&seconds) && 60 % seconds == 0 && period.subsec_nanos() == 0 {
        return Ok(vec![format!("*-*-* *:*:00/{seconds} UTC")]);
    }
    let event = |times: &Times| format!("*-*-* {}:{}:00 UTC", times.hours(".."), times.minutes(".."));
    Ok(calendar::every(period)?.iter().map(event).collect())
}

fn hours(fields: &Fields) -> String {
    number_list(&fields.hours)
}

fn number_list(field: &Field) -> String {
    if field.every { "*".to_owned() } else { field.ranges("..") }
}

/// `Mon,Tue `, or nothing for every day.
fn weekdays(field: &Field) -> String {
    if field.every {
        return String::new();
    }
    let names: Vec<&str> = field.values.iter().map(|day| WEEKDAYS[usize::from(*day % 7)]).collect();
    format!("{} ", names.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(cron: &str) -> Vec<String> {
        of(&Cadence::Cron(cron.parse().unwrap()), &TimeZone::get("Europe/Stockholm").unwrap()).unwrap()
    }

    #[test]
    fn a_day_of_the_month_or_a_weekday_makes_two_events_and_both_of_them_make_one() {
        let zone = "Europe/Stockholm";
        assert_eq!(events("0 1 * * *"), [format!("*-*-* 1:0:00 {zone}")]);
        assert_eq!(
            events("0 0 1,15 * mon-wed"),
            [format!("*-*-1,15 0:0:00 {zone}"), format!("Mon,Tue,Wed *-*-* 0:0:00 {zone}")]
        );
        assert_eq!(
            events("0 0 */2 1-3 5")[0],
            format!("Fri *-1..3-1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31 0:0:00 {zone}")
        );
        assert_eq!(events("0 0 1-31 * mon"), [format!("*-*-* 0:0:00 {zone}")]);
    }

    #[test]
    fn every_counts_in_utc() {
        let event = |seconds| of(&Cadence::Every(Duration::from_secs(seconds)), &TimeZone::UTC);
        assert_eq!(event(900).unwrap(), ["*-*-* *:0,15,30,45:00 UTC"]);
        assert_eq!(event(30).unwrap(), ["*-*-* *:*:00/30 UTC"]);
        assert_eq!(event(7 * 24 * 3600).unwrap(), ["Thu *-*-* 00:00:00 UTC"]);
        assert!(event(7 * 3600).unwrap_err().contains("does not divide a day"));
        assert!(event(90).is_err());
    }
}
