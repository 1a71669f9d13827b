//! Numbers and lengths of time as people say them.

use std::time::Duration;

/// `1 copy`, `2 copies`.
pub fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A length of time in its two largest units, seconds the smallest: `2h 5m`, `1 day`, `142 days`.
pub fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    let days = seconds / 86_400;
    let units = [(days, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let said = units.iter().filter(|(number, _)| *number > 0).take(2).map(|(number, unit)| match *unit {
        "d" => count(usize::try_from(*number).unwrap_or(usize::MAX), "day", "days"),
        unit => format!("{number}{unit}"),
    });
    // Beside weeks, hours say nothing.
    let said: Vec<String> = said.take(if days >= 14 { 1 } else { 2 }).collect();
    if said.is_empty() { "0s".to_owned() } else { said.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_said_in_their_two_largest_units() {
        let check = |seconds, expect| assert_eq!(duration(Duration::from_secs(seconds)), expect);
        check(0, "0s");
        check(65, "1m 5s");
        check(2 * 3_600, "2h");
        check(24 * 3_600, "1 day");
        check(7 * 86_400 + 3_605, "7 days 1h");
        check(142 * 86_400 + 11 * 3_600, "142 days");
    }
}
