//! A machine by hand: the same disk, seed and domain, with a host key that whoever types makes, for none may stand in a document.
//! The domain bears the same metadata, so that the machine is Backstay's own afterwards.
//!
//! What holds the key is a form: words stand in it where the templates put the key, and `jq` puts the key there.

use super::{LibvirtOptions, LibvirtProvisioner, Rendered};
use crate::{
    plan::by_hand::{Hand, Line, MadeByHand, Prepared, reach},
    provisioners::ProvisionError,
    templates::machines::ContextHostKey,
};

/// What a seed's writer is called by hand.
const WRITER: &str = "genisoimage";

/// Words that stand for a key: the first and the last line of its private half, and its public half.
struct Words {
    first: &'static str,
    last: &'static str,
    public: &'static str,
}

/// Those that are printed.
const WORDS: Words = Words {
    first: "FIRST-LINE-OF-THE-HOST-KEY",
    last: "LAST-LINE-OF-THE-HOST-KEY",
    public: "PUBLIC-HALF-OF-THE-HOST-KEY",
};

/// Others, to see whether a template does with a key what can be undone.
const OTHERS: Words = Words { first: "ONE", last: "OTHER", public: "PUBLIC" };

/// What is typed to make the machine, with its files in `folder`.
pub(super) async fn made(of: &LibvirtProvisioner, folder: &str) -> Result<MadeByHand, ProvisionError> {
    let LibvirtOptions { fleet, vm, libvirt, .. } = &of.options;
    let forms = rendered(of, &WORDS).await?;
    let others = rendered(of, &OTHERS).await?;
    let path = |name: &str| format!("{folder}/{name}");
    let key = path("host-key");
    let filled = |name: &str, form: &str, other: &str| {
        let filter = filter(form, other).ok_or_else(|| {
            ProvisionError::stalled(format!(
                "its template does more with the host key than to write it down, which nobody can do by hand: {name}"
            ))
        })?;
        let public = format!("{key}.pub");
        let jq = ["jq", "-Rsj", "--rawfile", "private", &key, "--rawfile", "public", &public, &filter];
        let form = path(&format!("{name}.form"));
        Ok::<_, ProvisionError>(Hand::Type(Line::of(jq).reading(form).writing(path(name))))
    };
    let (disk, seed) = (of.disks.disk.display().to_string(), of.disks.seed.display().to_string());
    let image = libvirt.image.display().to_string();
    let mut create =
        Line::of(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &image, &disk]);
    create.program.extend(libvirt.disk.map(|size| size.to_string()));
    let (user_data, meta_data) = (path("user-data"), path("meta-data"));
    let iso = ["-quiet", "-volid", "cidata", "-joliet", "-rock", "-output", &seed, &user_data, &meta_data];
    let virsh = |words: &[&str]| {
        Hand::Type(Line::of(["virsh", "-c", libvirt.uri.as_str()].iter().chain(words).copied()))
    };
    let mut hands = vec![
        Hand::Know("what is made holds a key: nobody else may read it".to_owned()),
        Hand::Type(Line::of(["umask", "077"])),
        Hand::Know("go on only where neither file is there: it would be lost".to_owned()),
        Hand::Type(Line::of(["test", "!", "-e", &disk])),
        Hand::Type(Line::of(["test", "!", "-e", &seed])),
        Hand::Type(Line::of(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", &key])),
        filled("user-data", &forms.user_data, &others.user_data)?,
        filled("domain.xml", &forms.domain, &others.domain)?,
        Hand::Type(create),
        Hand::Type(Line::of([WRITER].iter().chain(&iso).copied())),
        virsh(&["define", "--validate", "--file", &path("domain.xml")]),
        virsh(&["start", "--domain", vm.name.as_str()]),
    ];
    if let Some(ssh) = &vm.ssh {
        if ssh.host_key.is_none() {
            let entry = format!("\"{} \" + .", vm.name);
            let known = Line::of(["jq", "-Rr", &entry]).reading(format!("{key}.pub"));
            hands.push(Hand::Type(known.writing(reach::known_hosts(folder))));
        }
        if ssh.host.is_none() {
            hands.push(virsh(&["domifaddr", "--domain", vm.name.as_str()]));
        }
    }
    let meta_data =
        serde_json::json!({ "instance-id": format!("{fleet}-{}", vm.name), "local-hostname": vm.name });
    let files = [
        ("user-data.form", forms.user_data),
        ("meta-data", format!("{meta_data}\n")),
        ("domain.xml.form", forms.domain),
    ];
    let files = files.into_iter().map(|(name, content)| Prepared { path: path(name), content }).collect();
    Ok(MadeByHand { files, hands })
}

async fn rendered(of: &LibvirtProvisioner, words: &Words) -> Result<Rendered, ProvisionError> {
    let private = format!("{}\n{}\n", words.first, words.last);
    let made = of.made(words.public.to_owned()).await?;
    of.render(&made, ContextHostKey { private: &private, public: words.public }).await
}

/// The filter of jq(1) that puts the key into a form; `None` where `other`, rendered with other words, shows that the template
/// does more with it than to write its lines one after the other.
fn filter(form: &str, other: &str) -> Option<String> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut filter = String::from(
        r#"($public | split(" ")[:2] | join(" ") | rtrimstr("\n")) as $public | ($private | rtrimstr("\n") | split("\n")) as $lines | ."#,
    );
    let mut undone = form.to_owned();
    // What a template writes between two lines tells how it writes lines.
    if let Some((_, rest)) = form.split_once(WORDS.first) {
        let (between, _) = rest.split_once(WORDS.last)?;
        let whole = format!("{}{between}{}", WORDS.first, WORDS.last);
        undone = undone.replace(&whole, &format!("{}{between}{}", OTHERS.first, OTHERS.last));
        filter += &format!(" | split({}) | join($lines | join({}))", quoted(&whole), quoted(between));
    }
    undone = undone.replace(WORDS.public, OTHERS.public);
    filter += &format!(" | split({}) | join($public)", quoted(WORDS.public));
    (undone == other).then_some(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(words: &Words, written: impl Fn(&str) -> String) -> String {
        let private = format!("{}\n{}\n", words.first, words.last);
        format!("a: {}\nb: {}\n", written(&private), words.public)
    }

    fn filter_of(written: impl Fn(&str) -> String) -> Option<String> {
        filter(&form(&WORDS, &written), &form(&OTHERS, &written))
    }

    #[test]
    fn a_key_is_put_where_the_template_wrote_it_in_the_way_it_wrote_it() {
        let in_json = filter_of(|key| serde_json::Value::from(key).to_string()).unwrap();
        assert!(in_json.contains(r#"$lines | join("\\n")"#), "{in_json}");
        let in_block = filter_of(|key| format!("|\n  {}", key.replace('\n', "\n  "))).unwrap();
        assert!(in_block.contains(r#"$lines | join("\n  ")"#), "{in_block}");
        let without = filter_of(|_| String::new()).unwrap();
        assert!(!without.contains("$lines | join"), "{without}");
    }

    #[test]
    fn a_template_that_hides_the_key_is_told_apart() {
        assert_eq!(filter_of(|key| hex::encode(key)), None);
        let two_ways = |key: &str| format!("{} {key}", serde_json::Value::from(key));
        assert_eq!(filter_of(two_ways), None);
    }
}
