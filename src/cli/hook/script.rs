//! The `post-receive` hook (githooks(5)) as text. POSIX sh; the push waits for nothing of it and hears nothing from it.

use std::path::{Path, PathBuf};

/// What only a hook of ours has, on a line of its own.
pub(super) const MARK: &str = "# Written by `backstay hook install`; `backstay hook remove` takes it away.";

/// What the hook that was there before is called now.
pub(super) const CHAINED: &str = "post-receive.chained";

/// How the hook reaches the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By `backstay wake` on the same host.
    Local {
        /// The program.
        program: PathBuf,
        /// The controller's configuration.
        config: PathBuf,
    },
    /// By the controller's webhook and `curl`.
    Web {
        /// Such as `https://backup.example.org/hooks/git`.
        url: String,
        /// The file of the secret, on the Git server.
        token: PathBuf,
    },
}

/// The hook's text.
pub(super) fn text(way: &Way) -> String {
    let call = match way {
        Way::Local { program, config } => {
            format!("{} wake --quiet --config {}", quoted_path(program), quoted_path(config))
        }
        // The token goes through a pipe: arguments can be read by everybody on the host.
        Way::Web { url, token } => format!(
            "token=$(cat {}) && printf 'header = \"Authorization: Bearer %s\"\\n' \"$token\" |\n    \
             curl --disable --silent --max-time 30 --request POST --config - {}",
            quoted_path(token),
            quoted(url)
        ),
    };
    format!(
        "#!/bin/sh\n\
         {MARK}\n\
         # Tells the controller that something was pushed. The push neither waits for it nor fails with it.\n\
         (\n\
         \x20   trap '' HUP\n\
         \x20   {call}\n\
         ) </dev/null >/dev/null 2>&1 &\n\
         \n\
         # The hook that was here before gets all that Git gives, and says how this one ends.\n\
         if [ -x \"${{0%/*}}/{CHAINED}\" ]; then\n\
         \x20   exec \"${{0%/*}}/{CHAINED}\" \"$@\"\n\
         fi\n\
         exit 0\n"
    )
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// One word of the shell, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn whatever_stands_in_a_path_stays_one_word() {
        for odd in ["/a b", "/it's", "/$(touch x)`y`", "/a\nb", "/\\", "/-\"-"] {
            let script = format!("printf %s {}", quoted(odd));
            let printed = Command::new("sh").args(["-c", &script]).output().unwrap().stdout;
            assert_eq!(String::from_utf8(printed).unwrap(), odd);
        }
    }

    #[test]
    fn the_text_is_a_script_that_a_plain_shell_can_read() {
        let local =
            Way::Local { program: "/usr/bin/backstay".into(), config: "/etc/b y/backstay.toml".into() };
        let web = Way::Web { url: "https://b.example.org/hooks/git".into(), token: "/etc/tok'en".into() };
        for way in [local, web] {
            let text = text(&way);
            let read = Command::new("sh").args(["-n", "-c", &text]).output().unwrap();
            assert!(read.status.success(), "{text}\n{}", String::from_utf8_lossy(&read.stderr));
            assert_eq!(text.lines().nth(1), Some(MARK));
        }
    }
}
