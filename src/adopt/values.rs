//! Values that a declaration takes: what is anything else is not passed on.

use jiff::tz::TimeZone;

use super::words::Word;

/// No name of a host, user, database or file of this length is meant.
const LONGEST: usize = 255;

/// A host, user, database or bucket.
pub(super) fn word(word: &Word) -> Option<String> {
    (word.is_literal && is_word(&word.text)).then(|| word.text.clone())
}

/// Whether a text could be a host, user, database or bucket. Narrower than what engines take: what is quoted, or put
/// together by a program, is left to a person.
pub(super) fn is_word(text: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.len() <= LONGEST && !text.starts_with('-') && text.chars().all(plain)
}

/// An absolute path, as short as it can be written.
pub(super) fn path(word: &Word) -> Option<String> {
    let text = &word.text;
    let sound = word.is_literal
        && text.starts_with('/')
        && text.len() <= 4096
        && !text.chars().any(char::is_control)
        && !text.split('/').any(|part| part == "..");
    sound.then(|| {
        let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        format!("/{}", parts.join("/"))
    })
}

/// A glob relative to the folders of a source, from what archivers and copiers exclude by `pattern`.
pub(super) fn glob(pattern: &Word, paths: &[String]) -> Option<String> {
    let text = pattern.text.trim_end_matches('/');
    let below = paths.iter().find_map(|path| text.strip_prefix(path.as_str())?.strip_prefix('/'));
    let glob = match (below, text.strip_prefix('/')) {
        (Some(below), _) => below.to_owned(),
        // Of no folder that is backed up.
        (None, Some(_)) => return None,
        // Matches at any depth, as it does there.
        (None, None) if text.starts_with('*') => text.to_owned(),
        (None, None) => format!("**/{}", text.trim_start_matches("./")),
    };
    // A shell would look for files that match, and hand the pattern on where it finds none.
    let sound = !pattern.text.contains(['$', '~'])
        && !glob.is_empty()
        && !glob.starts_with('/')
        && glob.len() <= LONGEST
        && !glob.chars().any(char::is_control)
        && globset::Glob::new(&glob).is_ok();
    sound.then_some(glob)
}

/// The zone of that name in the IANA database.
pub(super) fn zone(name: &str) -> Option<String> {
    let known = name != "local" && name.chars().all(|c| c.is_ascii_alphanumeric() || "/_+-".contains(c));
    (known && TimeZone::get(name).is_ok()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Word {
        Word { text: text.to_owned(), is_literal: true }
    }

    #[test]
    fn only_plain_values_are_passed_on() {
        assert_eq!(word(&literal("db-1.example.org")).as_deref(), Some("db-1.example.org"));
        for bad in ["", "-x", "a b", "a=b", "u:p@h", "a\"", "a\nb"] {
            assert_eq!(word(&literal(bad)), None, "{bad:?}");
        }
        assert_eq!(word(&Word { text: "$HOST".to_owned(), is_literal: false }), None);
        assert_eq!(path(&literal("/srv//www/./x/")).as_deref(), Some("/srv/www/x"));
        assert_eq!(path(&literal("/")).as_deref(), Some("/"));
        for bad in ["srv", "/srv/../etc", "/srv/\n"] {
            assert_eq!(path(&literal(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn patterns_are_relative_to_the_folders_and_match_at_any_depth() {
        let glob = |text: &str| glob(&literal(text), &["/srv/www".to_owned()]);
        assert_eq!(glob("*.tmp").as_deref(), Some("*.tmp"));
        assert_eq!(glob("cache/").as_deref(), Some("**/cache"));
        assert_eq!(glob("/srv/www/cache").as_deref(), Some("cache"));
        assert_eq!(glob("/var/cache"), None);
        assert_eq!(glob("["), None);
    }
}
