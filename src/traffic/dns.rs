//! Records of DNS, by dynamic updates (RFC 2136) that are signed (TSIG): with `nsupdate` and `dig`, as a person would.
//!
//! The key is in a private file, never in arguments. An update names what it found as its prerequisite, so that the server takes it
//! only where nobody has changed the record since. Both programs ask the zone's own server, over TCP, and have its answer signed.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;

use super::{SetError, Switch, SwitchError};
use crate::{
    plan::by_hand::switch::nsupdate::update,
    process::{self, PrivateFile, ProcessError, Program},
    secrets::Secret,
    spec::{
        names::TrafficName,
        traffic::{DynamicDns, Record, RecordKind},
    },
};

/// The longest that one program may take.
const LONGEST: Duration = Duration::from_secs(30);

/// The most that one program may print, bytes.
const MOST: usize = 1 << 20;

/// A record, and the key to change it.
pub struct DnsSwitch {
    record: Record,
    dns: DynamicDns,
    secret: Secret,
}

impl DnsSwitch {
    /// The record of the traffic `name`, at the server `dns`, whose key is `secret`. Asks nobody.
    ///
    /// # Errors
    /// A key that is no base64.
    pub fn new(
        name: &TrafficName,
        record: Record,
        dns: DynamicDns,
        secret: Secret,
    ) -> Result<Self, SwitchError> {
        let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
        let text = secret.expose().trim();
        if text.is_empty() || !text.chars().all(is_base64) {
            return Err(SwitchError(format!(
                "failed to use traffic.{name}.dns.key.secret: it is no base64; `tsig-keygen` makes such keys"
            )));
        }
        Ok(Self { record, dns, secret })
    }

    /// The key as `named.conf` has it, which both programs read.
    fn key_file(&self) -> Result<PrivateFile, SwitchError> {
        let dns = &self.dns;
        let (key, algorithm, secret) = (&dns.key, dns.algorithm.as_str(), self.secret.expose().trim());
        let text = format!("key \"{key}\" {{\n  algorithm {algorithm};\n  secret \"{secret}\";\n}};\n");
        PrivateFile::new(&text)
            .map_err(|error| SwitchError(format!("failed to write a temporary file: {error}; make room")))
    }

    async fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<String, SwitchError> {
        let found = process::find(&[program], &process::search_path());
        let found = found.map_err(|error| SwitchError(format!("{error} (Debian: bind9-dnsutils)")))?;
        let key = self.key_file()?;
        let program = Program::new(found).variable("LC_ALL", "C").redact(&self.secret);
        let program = program.argument("-k").argument(key.path()).arguments(arguments).timeout(LONGEST);
        let printed = program.output(input.as_bytes(), MOST).await.map_err(|error| self.failed(&error))?;
        Ok(String::from_utf8_lossy(&printed).into_owned())
    }

    fn failed(&self, error: &ProcessError) -> SwitchError {
        let (record, dns) = (&self.record.name, &self.dns);
        let error = error.to_string();
        // The prerequisites of an update (RFC 2136, 3.2): the record is not as it was found.
        let hint = match ["NXRRSET", "YXRRSET"].iter().any(|code| error.contains(code)) {
            true => "somebody changed it since it was asked for; look at it, and try again".to_owned(),
            false => format!(
                "it must be reached by TCP, and take updates of the zone {} that the key {} signs",
                dns.zone, dns.key
            ),
        };
        SwitchError(format!("failed to change or ask for {record} at {}: {error}; {hint}", dns.server))
    }
}

#[async_trait]
impl Switch for DnsSwitch {
    async fn observe(&self) -> Result<BTreeSet<String>, SwitchError> {
        let (Record { name: record, kind, .. }, dns) = (&self.record, &self.dns);
        let (server, port) = (format!("@{}", dns.server), dns.port.to_string());
        let question = [server.as_str(), "-p", &port, record, kind.as_str()];
        let how = ["+tcp", "+norecurse", "+time=5", "+tries=2", "+noall", "+comments", "+answer"];
        // The first argument after the key: nothing of anybody's own settings.
        let arguments = [&["-r"][..], &question, &how].concat();
        let printed = self.run("dig", &arguments, "").await?;
        answered(&printed, record, *kind)
            .map_err(|why| SwitchError(format!("failed to ask {} for {record}: {why}", dns.server)))
    }

    async fn set(&self, before: &BTreeSet<String>, wanted: &BTreeSet<String>) -> Result<(), SetError> {
        let update = update(&self.record, &self.dns, before, wanted);
        self.run("nsupdate", &["-v", "-t", "10"], &update).await?;
        Ok(())
    }
}

/// The values that `dig` printed; why they are none to go by.
fn answered(printed: &str, record: &str, kind: RecordKind) -> Result<BTreeSet<String>, String> {
    let says = |part: &str| printed.lines().any(|line| line.starts_with(";") && line.contains(part));
    if says("TSIG could not be validated") || says("Couldn't verify signature") {
        return Err("its answer is not signed as it must be".to_owned());
    }
    if !says("status: NOERROR,") && !says("status: NXDOMAIN,") {
        let status = printed.lines().find_map(|line| line.split_once("status: ")?.1.split(',').next());
        return Err(format!("it answered {}", status.unwrap_or("nothing that could be read")));
    }
    let flags = printed.lines().find_map(|line| line.strip_prefix(";; flags:")?.split(';').next());
    if !flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "aa")) {
        return Err("it does not decide of that zone: name the zone's primary server".to_owned());
    }
    let mut values = BTreeSet::new();
    for line in printed.lines().filter(|line| !line.starts_with(';') && !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, _, "IN", has, value] = words.as_slice() else {
            return Err(format!("it answered `{line}`"));
        };
        if !name.trim_end_matches('.').eq_ignore_ascii_case(record) || *has != kind.as_str() {
            return Err(format!("it answered a record of another kind: `{}`", line.escape_debug()));
        }
        values.insert(kind.value(value).ok_or_else(|| format!("it answered `{}`", line.escape_debug()))?);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        ";; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 1\n;; flags: qr aa; QUERY: 1, ANSWER: 1\n";

    fn set(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_an_answer_of_the_zones_own_server_tells_where_users_are_led() {
        let ask = |text: &str| answered(text, "www.example.org", RecordKind::A);
        let line = "www.example.org.\t60\tIN\tA\t192.0.2.10\nWWW.example.org. 60 IN A 192.0.2.9\n";
        assert_eq!(
            ask(&format!("{HEAD}\n;; ANSWER SECTION:\n{line}")),
            Ok(set(&["192.0.2.9", "192.0.2.10"]))
        );
        assert_eq!(ask(&HEAD.replace("NOERROR", "NXDOMAIN")), Ok(set(&[])));
        for (text, why) in [
            (String::new(), "nothing that could be read"),
            (HEAD.replace("NOERROR", "REFUSED"), "REFUSED"),
            (HEAD.replace(" aa", ""), "primary server"),
            (format!("{HEAD};; WARNING -- Some TSIG could not be validated\n{line}"), "not signed"),
            (format!("{HEAD}www.example.org. 60 IN CNAME elsewhere.example.org.\n"), "another kind"),
        ] {
            let error = ask(&text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
