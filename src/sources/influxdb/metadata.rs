//! The server's metadata as a backup holds them: a protobuf message (InfluxDB's `services/meta/internal/meta.proto`) in the
//! first field of another (`cmd/influxd/backup_util/internal/data.proto`). Pure.

/// What is read of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    pub databases: Vec<String>,
    /// The highest number that a shard had when they were read: shards are numbered as they are made.
    pub newest_shard: u64,
}

/// In the outer message: the metadata.
const DATA: u64 = 1;

/// In the metadata: a database, and the highest number of a shard.
const DATABASE: u64 = 5;
const NEWEST_SHARD: u64 = 9;

/// In a database: its name.
const NAME: u64 = 1;

impl Metadata {
    /// Reads a file whose metadata are `size` bytes long; `None` when it is cut short or none.
    pub(super) fn read(file: &[u8], size: u64) -> Option<Self> {
        let outer = fields(file)?;
        let data = outer.iter().find_map(|field| field.bytes(DATA))?;
        if data.len() as u64 != size {
            return None;
        }
        let inner = fields(data)?;
        let databases = inner.iter().filter_map(|field| field.bytes(DATABASE));
        let databases = databases.map(|database| {
            let fields = fields(database)?;
            let name = fields.iter().find_map(|field| field.bytes(NAME))?;
            String::from_utf8(name.to_vec()).ok()
        });
        Some(Self {
            databases: databases.collect::<Option<_>>()?,
            newest_shard: inner.iter().find_map(|field| field.number(NEWEST_SHARD))?,
        })
    }
}

/// A field of a message, and what it holds.
struct Field<'a>(u64, Value<'a>);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// A number of fixed width, which nothing here is.
    Fixed,
}

impl<'a> Field<'a> {
    fn bytes(&self, number: u64) -> Option<&'a [u8]> {
        match self.1 {
            Value::Bytes(bytes) if self.0 == number => Some(bytes),
            _ => None,
        }
    }

    fn number(&self, number: u64) -> Option<u64> {
        match self.1 {
            Value::Number(value) if self.0 == number => Some(value),
            _ => None,
        }
    }
}

/// All fields of a message; `None` when it is cut short.
fn fields(mut message: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let (key, rest) = varint(message)?;
        let (value, rest) = match key & 7 {
            0 => varint(rest).map(|(number, rest)| (Value::Number(number), rest))?,
            1 => (Value::Fixed, rest.get(8..)?),
            2 => {
                let (length, rest) = varint(rest)?;
                let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                (Value::Bytes(bytes), rest)
            }
            5 => (Value::Fixed, rest.get(4..)?),
            _ => return None,
        };
        fields.push(Field(key >> 3, value));
        message = rest;
    }
    Some(fields)
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0u64;
    for (position, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f).checked_shl(7 * position as u32)?;
        if byte & 0x80 == 0 {
            return Some((number, &bytes[position + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of InfluxDB 1.6: two databases, 22 shards.
    const DATA: &[u8] = b"\x08\x00\x10\x20\x18\xa8\x86\xc8\xbb\x89\xf5\xb7\xb1\x3f\
        \x2a\x0c\x0a\x04tele\x12\x04long\x2a\x0a\x0a\x05empty\x12\x01a\x38\x00\x40\x16\x48\x16";

    fn file(data: &[u8]) -> Vec<u8> {
        [&[0x0a, data.len() as u8], data, &[0x10, 0x00]].concat()
    }

    #[test]
    fn databases_and_the_newest_shard_are_read() {
        let metadata = Metadata::read(&file(DATA), DATA.len() as u64).unwrap();
        assert_eq!(metadata.databases, ["tele", "empty"]);
        assert_eq!(metadata.newest_shard, 22);
    }

    #[test]
    fn what_is_cut_short_or_no_metadata_is_refused() {
        let whole = file(DATA);
        for length in 0..whole.len() - 2 {
            assert_eq!(Metadata::read(&whole[..length], DATA.len() as u64), None, "{length}");
            let data = &DATA[..length.min(DATA.len() - 1)];
            assert_eq!(Metadata::read(&file(data), data.len() as u64), None, "{length}");
        }
        assert_eq!(Metadata::read(&whole, DATA.len() as u64 + 1), None);
        for bad in [&[0x0a][..], &[0x0b, 1], &[0xff; 20], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
            assert_eq!(Metadata::read(bad, 0), None, "{bad:?}");
        }
    }
}
