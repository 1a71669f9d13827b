//! Where an object stands in the archive and in a folder: its key, as a relative path that leads nowhere else. Pure.
//!
//! A key is any text of up to 1024 bytes. Slashes make folders; what a path can't hold is written in hexadecimal behind `%`,
//! so that different keys have different paths. The key itself stands beside it, and is never read off a path.

/// The name, in a folder that was restored to, of the file that describes its objects.
pub(super) const DESCRIPTION: &str = ".backstay-objects.jsonl";

/// The longest name that file systems hold, bytes.
const LONGEST: usize = 255;

/// What stands for the name between two slashes, and behind the last one.
const EMPTY: &str = "%";

/// Behind the name of a folder where an object has that very key.
const BESIDE_OBJECT: &str = "%+";

/// Behind the beginning of a name that is too long, in front of its hash.
const SHORTENED: &str = "%~";

/// Paths of objects whose keys come in ascending order.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Keys of objects that the last key begins with, shortest first.
    above: Vec<String>,
}

impl Places {
    /// The path of the object under `key`.
    pub(super) fn place(&mut self, key: &str) -> String {
        while self.above.last().is_some_and(|above| !key.starts_with(above.as_str())) {
            self.above.pop();
        }
        let folders = self.above.iter().filter(|above| key[above.len()..].starts_with('/'));
        let beside: Vec<usize> = folders.map(|above| above.matches('/').count()).collect();
        let last = key.matches('/').count();
        let names = key.split('/').enumerate().map(|(number, name)| match number {
            _ if number < last && beside.contains(&number) => named(name, BESIDE_OBJECT, number),
            _ => named(name, "", number),
        });
        let path = names.collect::<Vec<_>>().join("/");
        self.above.push(key.to_owned());
        path
    }
}

/// What a version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// One of an object.
    Object,
    /// The deletion of one.
    Marker,
}

/// The path of one version of what is under `key`.
pub(super) fn version(key: &str, id: &str, what: Version) -> String {
    let id = shorten(escaped(id, 0), LONGEST / 2);
    let suffix = match what {
        Version::Object => format!("?versionId={id}"),
        Version::Marker => format!("?versionId={id}&deleteMarker"),
    };
    let last = key.matches('/').count();
    let names = key.split('/').enumerate().map(|(number, name)| {
        if number == last { named(name, &suffix, number) } else { named(name, "", number) }
    });
    names.collect::<Vec<_>>().join("/")
}

fn named(name: &str, suffix: &str, number: usize) -> String {
    shorten(escaped(name, number), LONGEST - suffix.len()) + suffix
}

fn escaped(name: &str, number: usize) -> String {
    let escape = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    match name {
        "" => EMPTY.to_owned(),
        "." | ".." => escape(name),
        DESCRIPTION if number == 0 => format!("{}{}", escape("."), &DESCRIPTION[1..]),
        _ => name
            .chars()
            .map(|c| match c {
                '%' | '?' | '\\' => escape(c.encode_utf8(&mut [0; 4])),
                c if c.is_control() => escape(c.encode_utf8(&mut [0; 4])),
                c => c.to_string(),
            })
            .collect(),
    }
}

fn shorten(name: String, longest: usize) -> String {
    if name.len() <= longest {
        return name;
    }
    let hash = &blake3::hash(name.as_bytes()).to_hex()[..32];
    let mut kept = longest - SHORTENED.len() - hash.len();
    while !name.is_char_boundary(kept) {
        kept -= 1;
    }
    format!("{}{SHORTENED}{hash}", &name[..kept])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sources::pax::safe_name;

    fn place(key: &str) -> String {
        Places::default().place(key)
    }

    #[test]
    fn ordinary_keys_are_their_paths() {
        for key in ["a", "photos/2026/a b.jpg", "tõõ/😀+x=1&y", "..a/b..", ".hidden/.x"] {
            assert_eq!(place(key), key);
        }
        assert_eq!(version("a/b", "3HL4", Version::Object), "a/b?versionId=3HL4");
        assert_eq!(version("a/b", "null", Version::Marker), "a/b?versionId=null&deleteMarker");
    }

    #[test]
    fn hostile_keys_stay_inside() {
        let cases = [
            ("../../etc/passwd", "%2E%2E/%2E%2E/etc/passwd"),
            ("/etc/passwd", "%/etc/passwd"),
            ("a//b/", "a/%/b/%"),
            ("./a", "%2E/a"),
            ("a\0b\n", "a%00b%0A"),
            ("100%?", "100%25%3F"),
            (DESCRIPTION, "%2Ebackstay-objects.jsonl"),
            ("", "%"),
        ];
        for (key, path) in cases {
            assert_eq!(place(key), path, "{key:?}");
            assert!(safe_name(path.as_bytes()).is_some(), "{path}");
        }
        assert_eq!(place("a/.backstay-objects.jsonl"), "a/.backstay-objects.jsonl");
    }

    #[test]
    fn an_object_and_a_folder_of_one_name_stand_beside_each_other() {
        let mut places = Places::default();
        let keys = ["a", "a!", "a/b", "a/b/c", "a/c", "a0", "b/", "b//c", "b/c"];
        let paths: Vec<String> = keys.iter().map(|key| places.place(key)).collect();
        assert_eq!(paths, ["a", "a!", "a%+/b", "a%+/b%+/c", "a%+/c", "a0", "b/%", "b/%%+/c", "b/c"]);
    }

    #[test]
    fn names_that_no_file_system_holds_are_shortened_and_stay_different() {
        let (one, two) = ("ä".repeat(500) + "1", "ä".repeat(500) + "2");
        assert_ne!(place(&one), place(&two));
        for path in [place(&one), version(&one, &"v".repeat(1024), Version::Marker)] {
            assert!(path.len() <= LONGEST && safe_name(path.as_bytes()).is_some(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn keys_have_paths_of_their_own_that_lead_nowhere(keys in prop::collection::btree_set("[a/.%?\0é]{1,8}", 1..30)) {
            let mut places = Places::default();
            let paths: Vec<String> = keys.iter().map(|key| places.place(key)).collect();
            let files: std::collections::BTreeSet<&str> = paths.iter().map(String::as_str).collect();
            prop_assert_eq!(files.len(), keys.len());
            for path in &paths {
                prop_assert!(safe_name(path.as_bytes()).is_some());
                let folders = path.match_indices('/').map(|(end, _)| &path[..end]);
                for folder in folders {
                    prop_assert!(!files.contains(folder), "{} is a folder and a file", folder);
                }
            }
        }
    }
}
