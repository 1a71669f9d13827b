//! The stream: a line that says what the table is, a line for each item, and a line that says how many those were, without
//! which it was cut off.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

use super::{
    Failure,
    table::{PointInTimeRecovery, Table, TimeToLive},
    value::{self, Item, WrittenItem},
};

/// Name and version of the format.
const FORMAT: &str = "backstay.dynamodb/1";

/// Bytes of a line at most. An item has 400 KiB at most, of which an escape makes six times as much.
const LONGEST: u64 = 8 << 20;

/// What a table is, in the words of DynamoDB's requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Description {
    pub format: String,
    /// What `CreateTable` takes.
    pub table: Table,
    /// What `UpdateTimeToLive` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_live_specification: Option<TimeToLive>,
    /// What `UpdateContinuousBackups` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point_in_time_recovery_specification: Option<PointInTimeRecovery>,
}

impl Description {
    /// Of a table that was captured now.
    pub(super) fn new(
        table: Table,
        time_to_live: Option<TimeToLive>,
        recovery: Option<PointInTimeRecovery>,
    ) -> Self {
        Self {
            format: FORMAT.to_owned(),
            table,
            time_to_live_specification: time_to_live,
            point_in_time_recovery_specification: recovery,
        }
    }

    pub(super) fn has_point_in_time_recovery(&self) -> bool {
        self.point_in_time_recovery_specification.as_ref().is_some_and(|it| it.point_in_time_recovery_enabled)
    }
}

/// A line that is written.
pub(super) enum Line<'a> {
    Description(&'a Description),
    Item(&'a Item),
    /// How many items there were.
    End(u64),
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ItemLine<'a> {
    item: WrittenItem<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EndLine {
    items: u64,
}

impl Line<'_> {
    pub(super) fn bytes(&self) -> Result<Bytes, Failure> {
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        Ok(bytes.into())
    }

    pub(super) fn write(&self, into: &mut Vec<u8>) -> Result<(), Failure> {
        let written = match self {
            Line::Description(description) => serde_json::to_writer(&mut *into, description),
            Line::Item(item) => serde_json::to_writer(&mut *into, &ItemLine { item: WrittenItem(item) }),
            Line::End(items) => serde_json::to_writer(&mut *into, &EndLine { items: *items }),
        };
        into.push(b'\n');
        written.map_err(|error| Failure::Wrong(error.to_string()))
    }
}

/// A stream that is read back.
pub(super) struct Lines<'a> {
    reader: BufReader<&'a mut (dyn AsyncRead + Send + Unpin)>,
    items: u64,
}

impl<'a> Lines<'a> {
    /// Reads what the table is.
    pub(super) async fn open(
        stream: &'a mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<(Description, Self), Failure> {
        let mut lines = Self { reader: BufReader::new(stream), items: 0 };
        let Some(first) = lines.line().await? else { return Err(cut_off()) };
        let format: Option<String> = serde_json::from_slice::<Map<String, Value>>(&first)
            .ok()
            .and_then(|first| Some(first.get("Format")?.as_str()?.to_owned()));
        match format.as_deref() {
            Some(FORMAT) => {}
            Some(other) => {
                let other = other.escape_debug();
                return Err(Failure::malformed(format!(
                    "it has the format `{other}`, which is not known here"
                )));
            }
            None => return Err(Failure::malformed("it does not begin with the description of a table")),
        }
        let description = serde_json::from_slice(&first);
        let wrong =
            |error| Failure::malformed(format!("the description of the table can't be read: {error}"));
        Ok((description.map_err(wrong)?, lines))
    }

    /// The next item; `None` once the stream ended where it should.
    pub(super) async fn next(&mut self) -> Result<Option<Item>, Failure> {
        let Some(line) = self.line().await? else { return Err(cut_off()) };
        let wrong = || Failure::malformed(format!("line {} holds no item", self.items + 2));
        let mut line: Map<String, Value> = serde_json::from_slice(&line).map_err(|_| wrong())?;
        match line.remove("Item") {
            Some(Value::Object(attributes)) => {
                let item = value::item(attributes).ok_or_else(wrong)?;
                self.items += 1;
                Ok(Some(item))
            }
            Some(_) => Err(wrong()),
            None => {
                let end: EndLine = serde_json::from_value(Value::Object(line)).map_err(|_| wrong())?;
                self.end(&end).await.map(|()| None)
            }
        }
    }

    async fn end(&mut self, end: &EndLine) -> Result<(), Failure> {
        if end.items != self.items {
            let (told, read) = (end.items, self.items);
            return Err(Failure::malformed(format!("it holds {read} items and says that it holds {told}")));
        }
        match self.line().await? {
            None => Ok(()),
            Some(_) => Err(Failure::malformed("it goes on after its end")),
        }
    }

    async fn line(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut line = Vec::new();
        let read = (&mut self.reader).take(LONGEST).read_until(b'\n', &mut line).await;
        match read.map_err(Failure::Stream)? {
            0 => Ok(None),
            _ if line.last() == Some(&b'\n') => Ok(Some(line)),
            length if length as u64 == LONGEST => {
                Err(Failure::malformed(format!("line {} is too long", self.items + 2)))
            }
            _ => Err(cut_off()),
        }
    }
}

fn cut_off() -> Failure {
    Failure::malformed("it is cut off: its last line does not say how many items it holds")
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;
    use crate::sources::dynamodb::table::tests::orders;

    fn stream(items: &[&str], end: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        Line::Description(&Description::new(orders(), None, None)).write(&mut bytes).unwrap();
        for id in items {
            let item = Item::from([("id".to_owned(), AttributeValue::S((*id).to_owned()))]);
            Line::Item(&item).write(&mut bytes).unwrap();
        }
        Line::End(end).write(&mut bytes).unwrap();
        bytes
    }

    async fn read(mut bytes: &[u8]) -> Result<(Description, usize), Failure> {
        let (description, mut lines) = Lines::open(&mut bytes).await?;
        let mut count = 0;
        while lines.next().await?.is_some() {
            count += 1;
        }
        Ok((description, count))
    }

    #[tokio::test]
    async fn a_whole_stream_is_read_back() {
        let (description, count) = read(&stream(&["a", "b"], 2)).await.unwrap();
        assert_eq!((description.table, count), (orders(), 2));
        assert_eq!(read(&stream(&[], 0)).await.unwrap().1, 0);
    }

    #[tokio::test]
    async fn a_stream_that_is_cut_off_anywhere_is_no_stream() {
        let whole = stream(&["a", "b"], 2);
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).await.is_err(), "{length} bytes");
        }
        for wrong in [stream(&["a"], 2), [whole.clone(), b"\n".to_vec()].concat(), stream(&["a", "b"], 1)] {
            assert!(matches!(read(&wrong).await, Err(Failure::Stream(_))));
        }
    }

    #[tokio::test]
    async fn another_format_is_told_by_its_name() {
        let error = read(b"{\"Format\":\"backstay.dynamodb/9\"}\n").await.unwrap_err();
        assert!(matches!(error, Failure::Stream(why) if why.to_string().contains("backstay.dynamodb/9")));
        let error = read(b"{\"Item\":{}}\n{\"Items\":1}\n").await.unwrap_err();
        assert!(matches!(error, Failure::Stream(why) if why.to_string().contains("does not begin")));
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused_before_it_fills_the_memory() {
        let mut endless = tokio::io::repeat(b'x');
        let error = Lines::open(&mut endless).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, Failure::Stream(why) if why.to_string().contains("too long")));
    }
}
