//! The user of a URL, who may be a token: kept out of messages.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::git::url::RepoUrl;

/// The user that a URL names, who may be a token: in every form that `git` may write it in.
#[derive(Clone, Default)]
pub(super) struct User(Vec<String>);

/// What `git` writes of a user as it is (`strbuf_add_percentencode` of its source): letters, digits, and these.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Shorter users are no tokens, and parts of many a word.
const SHORTEST_TOKEN: usize = 8;

impl User {
    pub(super) fn of(url: &RepoUrl) -> Self {
        let Some(written) = url.user() else { return Self::default() };
        let decoded = percent_decode_str(written).decode_utf8_lossy().into_owned();
        let encoded = utf8_percent_encode(&decoded, PLAIN).to_string();
        let mut forms = vec![written.to_owned(), decoded, encoded];
        forms.retain(|form| !form.is_empty());
        // A shorter one may be a part of a longer one.
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        Self(forms)
    }

    /// A text without the user; of a text whose beginning `is_cut`, where half of them may stand, without its first line.
    pub(super) fn unsaid(&self, text: &str, is_cut: bool) -> String {
        let whole = match is_cut && !self.0.is_empty() {
            true => text.split_once('\n').map_or("", |(_, whole)| whole),
            false => text,
        };
        self.0.iter().fold(whole.to_owned(), |text, form| {
            let text = text.replace(&format!("{form}@"), "");
            if form.len() < SHORTEST_TOKEN { text } else { text.replace(form, "***") }
        })
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("User")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_user_is_in_no_message_either() {
        let user = User::of(&RepoUrl::parse("https://ghp_token@example.org/x").unwrap());
        assert_eq!(user.unsaid("_token@example.org\nfatal: no", true), "fatal: no");
        assert_eq!(user.unsaid("_token@example.org", true), "");
        let git = User::of(&RepoUrl::parse("https://git@example.org/x").unwrap());
        assert_eq!(git.unsaid("git: https://git@example.org", false), "git: https://example.org");
    }
}
