//! A database of bbolt, read and never written: pages in a tree. Sources of the format: bbolt, `page.go`, `db.go` (`meta`), `bucket.go`.

use std::{fs::File, io, os::unix::fs::FileExt};

/// The header of a page, and of each of its elements, bytes.
const HEADER: usize = 16;

/// What a page is.
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;

/// An element of a leaf that is a bucket of its own.
const BUCKET: u32 = 0x01;

const MAGIC: u32 = 0xed0c_daed;
const VERSION: u32 = 2;

/// The length of what is summed of a page that describes the database, bytes.
const SUMMED: usize = 56;

/// The largest page, with all that overflows it, bytes.
const LARGEST: u64 = 1 << 30;

/// How deep a tree may be.
const DEEPEST: usize = 64;

/// A database.
pub(super) struct Bolt {
    file: File,
    length: u64,
    page_size: u64,
    /// The page of the bucket that holds the others.
    root: u64,
}

/// A bucket.
pub(super) enum Bucket {
    /// The page that its tree begins with.
    Tree(u64),
    /// A small one: a page that stands within the other bucket's.
    Inline(Page),
}

/// What is called for each pair of a bucket, in the order of their keys.
type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> io::Result<()>;

impl Bolt {
    /// # Errors
    /// Where neither of its two descriptions is whole.
    pub(super) fn open(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        // The second description stands where the first page ends, whose size only a description tells: sizes are powers of two.
        let places = std::iter::once(0).chain((9..=17).map(|power| 1u64 << power));
        let described = places.filter_map(|at| Description::read(&file, at));
        let newest = described.max_by_key(|it| it.transaction);
        let newest = newest.ok_or_else(|| damaged("neither of its descriptions is whole"))?;
        Ok(Self { file, length, page_size: newest.page_size, root: newest.root })
    }

    /// The bucket of that name.
    pub(super) fn bucket(&self, name: &str) -> io::Result<Option<Bucket>> {
        let mut found = None;
        self.walk_all(self.root, &mut |leaf, at| {
            let element = leaf.element(at)?;
            if element.flags & BUCKET != 0 && element.key == name.as_bytes() {
                found = Some(match u64_at(element.value, 0)? {
                    0 => Bucket::Inline(Page::of(element.value.get(HEADER..).unwrap_or_default().to_vec())?),
                    root => Bucket::Tree(root),
                });
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Calls `visit` for each pair.
    pub(super) fn each(&self, bucket: &Bucket, visit: Visit<'_>) -> io::Result<()> {
        let mut of_leaf = |leaf: &Page, at: usize| {
            let element = leaf.element(at)?;
            visit(element.key, element.value)
        };
        match bucket {
            Bucket::Tree(root) => self.walk_all(*root, &mut of_leaf),
            Bucket::Inline(page) if page.flags == LEAF => {
                (0..page.count).try_for_each(|at| of_leaf(page, at))
            }
            Bucket::Inline(_) => Err(damaged("a page is neither branch nor leaf")),
        }
    }

    /// Visits a tree, which has no more pages than the file: one that leads to a page more than once would have no end.
    fn walk_all(&self, root: u64, visit: &mut dyn FnMut(&Page, usize) -> io::Result<()>) -> io::Result<()> {
        self.walk(root, 0, &mut (self.length / self.page_size), visit)
    }

    fn walk(
        &self,
        page: u64,
        depth: usize,
        left: &mut u64,
        visit: &mut dyn FnMut(&Page, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(damaged("its tree has no end"));
        }
        *left = left.checked_sub(1).ok_or_else(|| damaged("its tree leads to a page more than once"))?;
        let page = self.page(page)?;
        match page.flags {
            LEAF => (0..page.count).try_for_each(|at| visit(&page, at)),
            BRANCH => (0..page.count).try_for_each(|at| self.walk(page.child(at)?, depth + 1, left, visit)),
            _ => Err(damaged("a page is neither branch nor leaf")),
        }
    }

    fn page(&self, number: u64) -> io::Result<Page> {
        let at = number.checked_mul(self.page_size).ok_or_else(|| damaged("a page lies outside"))?;
        let mut header = [0; HEADER];
        self.file.read_exact_at(&mut header, at)?;
        let overflow = u64::from(u32_at(&header, 12)?);
        let size = self.page_size.saturating_mul(overflow + 1);
        if u64_at(&header, 0)? != number || size > LARGEST || at.saturating_add(size) > self.length {
            return Err(damaged("a page is not the one that it should be"));
        }
        let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, at)?;
        Page::of(bytes)
    }
}

/// What a database says of itself.
struct Description {
    page_size: u64,
    root: u64,
    transaction: u64,
}

impl Description {
    /// What stands in the page at `at`; `None` where that is no whole description.
    fn read(file: &File, at: u64) -> Option<Self> {
        let mut bytes = [0; SUMMED + 8];
        file.read_exact_at(&mut bytes, at + HEADER as u64).ok()?;
        let is_one = u32_at(&bytes, 0).ok()? == MAGIC && u32_at(&bytes, 4).ok()? == VERSION;
        let is_whole = u64_at(&bytes, SUMMED).ok()? == fnv(&bytes[..SUMMED]);
        let page_size = u64::from(u32_at(&bytes, 8).ok()?);
        let is_at_its_place = page_size.is_power_of_two() && page_size >= 512 && (at == 0 || at == page_size);
        (is_one && is_whole && is_at_its_place).then_some(())?;
        let (root, transaction) = (u64_at(&bytes, 16).ok()?, u64_at(&bytes, 48).ok()?);
        Some(Self { page_size, root, transaction })
    }
}

/// A page with all that overflows it.
pub(super) struct Page {
    bytes: Vec<u8>,
    flags: u16,
    count: usize,
}

/// An element of a leaf.
struct Element<'a> {
    flags: u32,
    key: &'a [u8],
    value: &'a [u8],
}

impl Page {
    fn of(bytes: Vec<u8>) -> io::Result<Self> {
        let (flags, count) = (u16_at(&bytes, 8)?, usize::from(u16_at(&bytes, 10)?));
        Ok(Self { bytes, flags, count })
    }

    /// The page that a branch's element leads to.
    fn child(&self, number: usize) -> io::Result<u64> {
        u64_at(&self.bytes, HEADER + number * HEADER + 8)
    }

    fn element(&self, number: usize) -> io::Result<Element<'_>> {
        let at = HEADER + number * HEADER;
        let field = |offset: usize| u32_at(&self.bytes, at + offset).map(|it| it as usize);
        let (position, key, value) = (field(4)?, field(8)?, field(12)?);
        let piece = |from: usize, length: usize| self.bytes.get(from..from.checked_add(length)?);
        let key_at = at + position;
        let found = piece(key_at, key).zip(piece(key_at + key, value));
        let (key, value) = found.ok_or_else(|| damaged("an element lies outside of its page"))?;
        Ok(Element { flags: u32_at(&self.bytes, at)?, key, value })
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    found.copied().ok_or_else(|| damaged("a page is too short"))
}

fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> io::Result<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

/// FNV-1a of 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the database in the snapshot is damaged: {why}"))
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    const PAGE: usize = 512;

    fn page(number: u64, flags: u16, count: u16) -> Vec<u8> {
        let mut page = number.to_le_bytes().to_vec();
        page.extend(flags.to_le_bytes());
        page.extend(count.to_le_bytes());
        page.extend(0u32.to_le_bytes());
        page
    }

    pub(in crate::sources::etcd) fn leaf(number: u64, pairs: &[(u32, &[u8], &[u8])]) -> Vec<u8> {
        let mut page = page(number, LEAF, pairs.len() as u16);
        let mut content = Vec::new();
        for (at, (flags, key, value)) in pairs.iter().enumerate() {
            let position = (pairs.len() - at) * HEADER + content.len();
            for field in [*flags, position as u32, key.len() as u32, value.len() as u32] {
                page.extend(field.to_le_bytes());
            }
            content.extend([*key, *value].concat());
        }
        page.extend(content);
        page
    }

    fn branch(number: u64, children: &[u64]) -> Vec<u8> {
        let mut page = page(number, BRANCH, children.len() as u16);
        for child in children {
            page.extend([0; 8]);
            page.extend(child.to_le_bytes());
        }
        page
    }

    pub(in crate::sources::etcd) fn described(number: u64, root: u64, transaction: u64) -> Vec<u8> {
        let mut page = page(number, 0x04, 0);
        let mut description = MAGIC.to_le_bytes().to_vec();
        for field in [VERSION, PAGE as u32, 0] {
            description.extend(field.to_le_bytes());
        }
        for field in [root, 0, 0, 9, transaction] {
            description.extend(field.to_le_bytes());
        }
        page.extend(&description);
        page.extend(fnv(&description).to_le_bytes());
        page
    }

    pub(in crate::sources::etcd) fn file(pages: &[Vec<u8>]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        for page in pages {
            let mut page = page.clone();
            page.resize(PAGE, 0);
            file.write_all(&page).unwrap();
        }
        file
    }

    fn bucket_at(page: u64) -> Vec<u8> {
        [page.to_le_bytes(), [0; 8]].concat()
    }

    fn whole() -> Vec<Vec<u8>> {
        vec![
            described(0, 2, 7),
            described(1, 9, 6),
            leaf(2, &[(BUCKET, b"key", &bucket_at(3)), (0, b"x", b"y")]),
            branch(3, &[4, 5]),
            leaf(4, &[(0, b"a", b"1"), (0, b"b", b"")]),
            leaf(5, &[(0, b"c", b"3")]),
        ]
    }

    fn pairs(pages: &[Vec<u8>]) -> io::Result<Vec<String>> {
        let bolt = Bolt::open(file(pages))?;
        let bucket = bolt.bucket("key")?.ok_or_else(|| damaged("no bucket"))?;
        let mut all = Vec::new();
        bolt.each(&bucket, &mut |key, value| {
            all.push([key, b"=", value].concat());
            Ok(())
        })?;
        Ok(all.into_iter().map(|pair| String::from_utf8(pair).unwrap()).collect())
    }

    #[test]
    fn all_pairs_of_a_bucket_come_in_their_order() {
        assert_eq!(pairs(&whole()).unwrap(), ["a=1", "b=", "c=3"]);
        assert!(Bolt::open(file(&whole())).unwrap().bucket("lease").unwrap().is_none());
    }

    #[test]
    fn a_small_bucket_stands_within_another() {
        let mut pages = whole();
        let inline = [vec![0; HEADER], leaf(0, &[(0, b"k", b"v")])].concat();
        pages[2] = leaf(2, &[(BUCKET, b"key", &inline), (BUCKET, b"lease", &[0; 8])]);
        assert_eq!(pairs(&pages).unwrap(), ["k=v"]);
        assert!(Bolt::open(file(&pages)).unwrap().bucket("lease").is_err(), "it has no page");
    }

    #[test]
    fn the_newest_whole_description_counts() {
        let mut pages = whole();
        pages[0][20] ^= 1;
        pages[1] = described(1, 2, 6);
        assert_eq!(pairs(&pages).unwrap().len(), 3);
        pages[1][20] ^= 1;
        pairs(&pages).unwrap_err();
    }

    #[test]
    fn a_tree_that_leads_nowhere_is_an_error() {
        let mut circle = whole();
        circle[3] = branch(3, &[3]);
        pairs(&circle).unwrap_err();
        let mut again = whole();
        again[3] = branch(3, &[4, 4, 4, 4, 4, 4, 4]);
        let why = pairs(&again).unwrap_err().to_string();
        assert!(why.contains("more than once"), "{why}");
        let mut outside = whole();
        outside[3] = branch(3, &[4, 99]);
        pairs(&outside).unwrap_err();
        let mut odd = whole();
        odd[4][HEADER + 4] = 0xff;
        odd[4][HEADER + 5] = 0xff;
        pairs(&odd).unwrap_err();
        let mut other = whole();
        other[5] = leaf(4, &[]);
        pairs(&other).unwrap_err();
        pairs(&[]).unwrap_err();
    }
}
