//! What an RDB file holds, one after another: databases, keys with what is stored under them, libraries of functions. Values are not
//! understood, only measured: a server takes each as it stands in the file. Source of the format: Redis, `src/rdb.h` and `src/rdb.c`
//! (`rdbSaveObject`, `rdbLoadRioWithLoadingCtx`).

use std::{
    fmt,
    io::{self, Read},
};

/// The header: `REDIS`, and four digits.
const HEADER: u64 = 9;

/// Opcodes: what follows is no key.
const FUNCTION: u8 = 0xf5;
const FUNCTION_PRE_GA: u8 = 0xf6;
const SLOT: u8 = 0xf4;
const MODULE_AUX: u8 = 0xf7;
const IDLE: u8 = 0xf8;
const FREQUENCY: u8 = 0xf9;
const AUXILIARY: u8 = 0xfa;
const SIZES: u8 = 0xfb;
const EXPIRES_MILLISECONDS: u8 = 0xfc;
const EXPIRES_SECONDS: u8 = 0xfd;
const DATABASE: u8 = 0xfe;
const END: u8 = 0xff;

/// The longest name of a key and the longest library, bytes: Redis allows no more by default.
const LONGEST: u64 = 512 << 20;

/// Something in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// The keys that follow are in this database.
    Database(u64),
    Key(Key),
    /// The code of a library of functions.
    Library(Vec<u8>),
    /// What a module keeps beside its keys: a server takes it from a file only.
    OfModule,
}

/// A key, and where what is stored under it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub name: Vec<u8>,
    /// How the value is written.
    pub kind: u8,
    /// Where the value begins, bytes from the file's beginning.
    pub at: u64,
    /// How long it is, bytes.
    pub length: u64,
    /// When it expires, milliseconds of Unix time.
    pub expires: Option<u64>,
    /// Which module's type it is of.
    pub module: Option<Module>,
}

/// A module's type, by the number that files know it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Module(pub u64);

/// Its name (Redis, `src/module.c`, `moduleTypeNameByID`): nine characters of six bits each, above ten bits of a version.
impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        (0..9).rev().try_for_each(|place| {
            let letter = self.0 >> (10 + 6 * place) & 0x3f;
            write!(f, "{}", char::from(LETTERS[letter as usize]))
        })
    }
}

/// Reads items off a file whose checksum was proved.
pub(super) struct Items<R> {
    file: R,
    at: u64,
    /// Which module's type the last value was of.
    module: Option<Module>,
}

impl<R: Read> Items<R> {
    /// From the beginning of the file.
    ///
    /// # Errors
    /// As the file's.
    pub(super) fn of(file: R) -> io::Result<Self> {
        let mut items = Self { file, at: 0, module: None };
        items.skip(HEADER)?;
        Ok(items)
    }

    /// The next item; `None` at the end of the data.
    ///
    /// # Errors
    /// What this build does not understand, or does not end as it must.
    pub(super) fn next(&mut self) -> io::Result<Option<Item>> {
        let mut expires = None;
        loop {
            match self.byte()? {
                END => return Ok(None),
                DATABASE => return Ok(Some(Item::Database(self.length()?))),
                SIZES => self.lengths(2)?,
                AUXILIARY => self.strings(2)?,
                FREQUENCY => self.skip(1)?,
                IDLE => self.lengths(1)?,
                SLOT => self.lengths(3)?,
                EXPIRES_SECONDS => expires = Some(u64::from(u32::from_le_bytes(self.array()?)) * 1000),
                EXPIRES_MILLISECONDS => expires = Some(u64::from_le_bytes(self.array()?)),
                FUNCTION => return Ok(Some(Item::Library(self.string()?))),
                FUNCTION_PRE_GA => return Err(unknown("functions of a release candidate of Redis 7")),
                MODULE_AUX => {
                    self.lengths(1)?;
                    self.of_module()?;
                    return Ok(Some(Item::OfModule));
                }
                kind => return self.key(kind, expires).map(|key| Some(Item::Key(key))),
            }
        }
    }

    fn key(&mut self, kind: u8, expires: Option<u64>) -> io::Result<Key> {
        let name = self.string()?;
        let at = self.at;
        self.value(kind)?;
        Ok(Key { name, kind, at, length: self.at - at, expires, module: self.module.take() })
    }

    /// Passes by a value (`RDB_TYPE_…`).
    fn value(&mut self, kind: u8) -> io::Result<()> {
        match kind {
            // A string, or a collection that is packed into one.
            0 | 9..=13 | 16 | 17 | 20 => self.strings(1),
            // Lists, sets, lists of packed nodes.
            1 | 2 | 14 => self.each(|it| it.strings(1)),
            3 => self.each(|it| {
                it.strings(1)?;
                it.written_number()
            }),
            4 => self.each(|it| it.strings(2)),
            5 => self.each(|it| {
                it.strings(1)?;
                it.skip(8)
            }),
            7 => {
                self.module = Some(Module(self.length()?));
                self.of_module()
            }
            15 => self.stream(Stream::First),
            18 => self.each(|it| {
                it.lengths(1)?;
                it.strings(1)
            }),
            19 => self.stream(Stream::Second),
            21 => self.stream(Stream::Third),
            // Hashes whose fields expire: the earliest moment, and then moments, names and values.
            24 => {
                self.skip(8)?;
                self.each(|it| {
                    it.lengths(1)?;
                    it.strings(2)
                })
            }
            25 => {
                self.skip(8)?;
                self.strings(1)
            }
            other => Err(unknown(&format!("a value of kind {other}"))),
        }
    }

    fn stream(&mut self, version: Stream) -> io::Result<()> {
        let is_newer = version != Stream::First;
        self.each(|it| it.strings(2))?;
        // How many entries, and the newest; then the oldest, the newest that was deleted, and how many there ever were.
        self.lengths(if is_newer { 8 } else { 3 })?;
        self.each(|it| {
            it.strings(1)?;
            it.lengths(if is_newer { 3 } else { 2 })?;
            it.each(|it| {
                it.skip(24)?;
                it.lengths(1)
            })?;
            it.each(|it| {
                it.strings(1)?;
                it.skip(if version == Stream::Third { 16 } else { 8 })?;
                it.each(|it| it.skip(16))
            })
        })
    }

    /// Passes by what a module wrote, up to its end.
    fn of_module(&mut self) -> io::Result<()> {
        loop {
            match self.length()? {
                0 => return Ok(()),
                1 | 2 => self.lengths(1)?,
                3 => self.skip(4)?,
                4 => self.skip(8)?,
                5 => self.strings(1)?,
                other => return Err(unknown(&format!("what a module wrote as {other}"))),
            }
        }
    }

    /// A number as text, behind its length; three lengths stand for numbers that are none.
    fn written_number(&mut self) -> io::Result<()> {
        match self.byte()? {
            253..=255 => Ok(()),
            length => self.skip(u64::from(length)),
        }
    }

    fn each(&mut self, mut pass: impl FnMut(&mut Self) -> io::Result<()>) -> io::Result<()> {
        let count = self.length()?;
        (0..count).try_for_each(|_| pass(self))
    }

    fn lengths(&mut self, count: usize) -> io::Result<()> {
        (0..count).try_for_each(|_| self.length().map(drop))
    }

    fn strings(&mut self, count: usize) -> io::Result<()> {
        (0..count).try_for_each(|_| {
            let written = self.written()?;
            self.skip(written.stored())
        })
    }

    /// A string that is kept: short, and unpacked where it is packed.
    fn string(&mut self) -> io::Result<Vec<u8>> {
        let written = self.written()?;
        let stored = self.take(written.stored())?;
        match written {
            Written::Plain(_) => Ok(stored),
            Written::Number(_) => {
                let negative = stored.last().is_some_and(|byte| byte & 0x80 != 0);
                let mut wide = [if negative { 0xff } else { 0 }; 8];
                wide[..stored.len()].copy_from_slice(&stored);
                Ok(i64::from_le_bytes(wide).to_string().into_bytes())
            }
            Written::Packed { length, .. } => {
                let length = usize::try_from(length).ok().filter(|length| *length as u64 <= LONGEST);
                let unpacked = length.and_then(|length| unpack(&stored, length));
                unpacked.ok_or_else(|| unknown("a name that can't be unpacked"))
            }
        }
    }

    fn written(&mut self) -> io::Result<Written> {
        match self.first()? {
            First::Length(length) => Ok(Written::Plain(length)),
            First::Special(0) => Ok(Written::Number(1)),
            First::Special(1) => Ok(Written::Number(2)),
            First::Special(2) => Ok(Written::Number(4)),
            First::Special(3) => {
                let (packed, length) = (self.length()?, self.length()?);
                Ok(Written::Packed { packed, length })
            }
            First::Special(other) => Err(unknown(&format!("a string of kind {other}"))),
        }
    }

    fn length(&mut self) -> io::Result<u64> {
        match self.first()? {
            First::Length(length) => Ok(length),
            First::Special(_) => Err(unknown("a length that is none")),
        }
    }

    fn first(&mut self) -> io::Result<First> {
        let first = self.byte()?;
        let low = first & 0x3f;
        Ok(match (first >> 6, first) {
            (0, _) => First::Length(u64::from(low)),
            (1, _) => First::Length(u64::from(low) << 8 | u64::from(self.byte()?)),
            (2, 0x80) => First::Length(u64::from(u32::from_be_bytes(self.array()?))),
            (2, 0x81) => First::Length(u64::from_be_bytes(self.array()?)),
            (3, _) => First::Special(low),
            _ => return Err(unknown("a length that is none")),
        })
    }

    fn byte(&mut self) -> io::Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn take(&mut self, length: u64) -> io::Result<Vec<u8>> {
        if length > LONGEST {
            return Err(unknown("a name that is longer than Redis allows"));
        }
        let mut bytes = Vec::new();
        self.file.by_ref().take(length).read_to_end(&mut bytes)?;
        self.at += bytes.len() as u64;
        if bytes.len() as u64 == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        let passed = io::copy(&mut self.file.by_ref().take(length), &mut io::sink())?;
        self.at += passed;
        if passed == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// How streams are written, by the releases that changed it: 5.0, 7.0 and 7.2.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    First,
    Second,
    Third,
}

enum First {
    Length(u64),
    Special(u8),
}

/// How a string is written.
enum Written {
    /// So many bytes.
    Plain(u64),
    /// A number of so many bytes that stands for its digits.
    Number(u64),
    /// By LZF: so many bytes that stand for so many.
    Packed { packed: u64, length: u64 },
}

impl Written {
    /// How many bytes stand in the file.
    fn stored(&self) -> u64 {
        match self {
            Written::Plain(length) | Written::Number(length) => *length,
            Written::Packed { packed, .. } => *packed,
        }
    }
}

/// Undoes LZF: pieces that stand as they are, and pieces that were there before (LibLZF, `lzf_d.c`).
fn unpack(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut out: Vec<u8> = Vec::new();
    let mut rest = packed.iter().copied();
    while let Some(control) = rest.next() {
        if control < 32 {
            for _ in 0..=control {
                out.push(rest.next()?);
            }
        } else {
            let mut run = usize::from(control >> 5);
            if run == 7 {
                run += usize::from(rest.next()?);
            }
            let back = usize::from(control & 0x1f) << 8 | usize::from(rest.next()?);
            let from = out.len().checked_sub(back + 1)?;
            for at in from..from + run + 2 {
                out.push(out[at]);
            }
        }
        if out.len() > length {
            return None;
        }
    }
    (out.len() == length).then_some(out)
}

fn unknown(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the file holds {what}, which this build does not know"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(data: &[u8]) -> io::Result<Vec<Item>> {
        let file = [b"REDIS0010".as_slice(), data].concat();
        let mut items = Items::of(file.as_slice())?;
        let mut all = Vec::new();
        while let Some(item) = items.next()? {
            all.push(item);
        }
        Ok(all)
    }

    fn key(name: &str, kind: u8, at: u64, length: u64, expires: Option<u64>) -> Item {
        Item::Key(Key { name: name.into(), kind, at, length, expires, module: None })
    }

    #[test]
    fn keys_are_found_with_their_database_and_the_moment_that_they_expire() {
        let data = b"\xfa\x01a\x01b\xfe\x07\xfb\x02\x01\xfc\x01\0\0\0\0\0\0\0\xf9\x05\0\x01k\x02vv\xf8\x03\x04\xc0\x07\x01\x01f\xc1\x10\x20\
            \xfd\x02\0\0\0\x05\x01z\x01\x01m12345678\xff";
        assert_eq!(
            items(data).unwrap(),
            [
                Item::Database(7),
                key("k", 0, 33, 3, Some(1)),
                key("7", 4, 41, 6, None),
                key("z", 5, 55, 11, Some(2000)),
            ]
        );
    }

    #[test]
    fn names_that_are_packed_come_back() {
        // `abc`, and nine bytes of it again.
        let packed = b"\x02abc\xe0\0\x02";
        assert_eq!(unpack(packed, 12).unwrap(), b"abcabcabcabc");
        assert_eq!(unpack(packed, 11), None);
        assert_eq!(unpack(b"\x20\x05", 3), None, "nothing stands before it");
        assert_eq!(unpack(b"\x05a", 6), None);
        let data = [b"\0\xc3\x07\x0c".as_slice(), packed, b"\x01x\xff"].concat();
        assert_eq!(items(&data).unwrap(), [key("abcabcabcabc", 0, 20, 2, None)]);
    }

    #[test]
    fn functions_and_modules_stand_between_the_keys() {
        let data = b"\xf5\x04code\xf7\x81\0\0\0\0\0\0\0\x09\x02\x01\x05\x01x\0\x07\x01m\x05\x01\x01\x03abcd\x04abcdefgh\x05\x02ab\0\xff";
        let all = items(data).unwrap();
        assert_eq!(all[..2], [Item::Library(b"code".to_vec()), Item::OfModule]);
        let Item::Key(of_module) = &all[2] else { panic!("{all:?}") };
        assert_eq!(Item::Key(Key { module: None, ..of_module.clone() }), key("m", 7, 34, 22, None));
        assert_eq!(of_module.module, Some(Module(5)));
    }

    #[test]
    fn modules_are_called_as_their_types_are() {
        // `MBbloom--`, version 4 of its format, as RedisBloom registers it.
        let number = b"MBbloom--".iter().fold(0_u64, |number, letter| {
            let place = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
                .iter()
                .position(|it| it == letter);
            number << 6 | place.unwrap() as u64
        }) << 10
            | 4;
        assert_eq!(Module(number).to_string(), "MBbloom--");
    }

    #[test]
    fn what_is_not_known_and_what_is_cut_short_is_an_error() {
        for odd in [&b"\x1a\x01k\x01v\xff"[..], b"\xf6\xff", b"\0\x01k\xc4\xff", b"\x06\x01k\x01v\xff"] {
            assert_eq!(items(odd).unwrap_err().kind(), io::ErrorKind::InvalidData, "{odd:?}");
        }
        let whole = b"\xfe\0\xfc\x01\0\0\0\0\0\0\0\x04\x01k\x02\x01f\x01v\x01g\x01w\xff";
        assert_eq!(items(whole).unwrap().len(), 2);
        for length in 0..whole.len() {
            items(&whole[..length]).expect_err("it is cut short");
        }
        // A length that nothing can have takes no memory.
        items(b"\0\x81\xff\xff\xff\xff\xff\xff\xff\xff").expect_err("it is too long");
        items(b"\x01\x01k\x81\xff\xff\xff\xff\xff\xff\xff\xff\x01a").expect_err("it is cut short");
    }
}
