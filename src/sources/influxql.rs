//! Answers in InfluxQL, which InfluxDB 1.x and 2.x give alike.

use serde_json::Value;

/// The name of the engine's column of times, which every answer has.
const TIME: &str = "time";

/// The only value of a row, beside its time.
pub(super) fn only_value(columns: &[String], row: &[Value]) -> Option<String> {
    let mut cells = columns.iter().zip(row).filter(|(column, _)| *column != TIME).map(|(_, cell)| cell);
    match (cells.next()?, cells.next()) {
        (Value::String(text), None) => Some(text.clone()),
        (Value::Null, None) => Some(String::new()),
        (number_or_truth @ (Value::Number(_) | Value::Bool(_)), None) => Some(number_or_truth.to_string()),
        _ => None,
    }
}
