//! A stack by hand: the same template, parameters and tags, by AWS's own command line.

use serde_json::{Value, json};

use super::Wanted;
use crate::plan::by_hand::{Hand, Line, MadeByHand, Prepared};

/// What is typed to make a stack, with its files in `folder`.
pub(super) fn made(wanted: &Wanted, endpoint: Option<&str>, folder: &str) -> MadeByHand {
    let pairs = |key: &str, value: &str, all: &mut dyn Iterator<Item = (&str, &str)>| -> Value {
        all.map(|(name, text)| json!({ key: name, value: text })).collect()
    };
    let parameters =
        &mut wanted.declared_parameters().iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let parameters = pairs("ParameterKey", "ParameterValue", parameters);
    let tags = pairs("Key", "Value", &mut wanted.marks().into_iter());
    let path = |name: &str| format!("{folder}/{name}");
    let files = [
        ("stack", wanted.body().to_owned()),
        ("parameters.json", format!("{parameters:#}\n")),
        ("tags.json", format!("{tags:#}\n")),
    ];
    let read = |name: &str| format!("file://{}", path(name));
    let mut create = aws(wanted, endpoint, &["create-stack"]);
    create.program.extend(["--template-body".to_owned(), read("stack")]);
    create.program.extend(["--parameters".to_owned(), read("parameters.json")]);
    create.program.extend(["--tags".to_owned(), read("tags.json")]);
    if !wanted.declared_capabilities().is_empty() {
        create.program.push("--capabilities".to_owned());
        create.program.extend(wanted.declared_capabilities().iter().cloned());
    }
    let mut outputs = aws(wanted, endpoint, &["describe-stacks"]);
    outputs.program.extend(["--query", "Stacks[0].Outputs", "--output", "table"].map(str::to_owned));
    let [_, (_, vm), _] = wanted.marks();
    let hands = vec![
        Hand::Type(create),
        Hand::Type(aws(wanted, endpoint, &["wait", "stack-create-complete"])),
        Hand::Type(outputs),
        Hand::Know(format!(
            "where the stack tells an Address, that is where its machine is; where it tells a HostKey, write `{vm} KEY` into \
             {folder}/known_hosts",
        )),
    ];
    MadeByHand {
        files: files.into_iter().map(|(name, content)| Prepared { path: path(name), content }).collect(),
        hands,
    }
}

fn aws(wanted: &Wanted, endpoint: Option<&str>, operation: &[&str]) -> Line {
    let head = ["aws", "cloudformation"].iter().chain(operation).map(ToString::to_string);
    let place = ["--region", wanted.region(), "--stack-name", wanted.name()].map(str::to_owned);
    let endpoint = endpoint.into_iter().flat_map(|url| ["--endpoint-url".to_owned(), url.to_owned()]);
    Line::of(head.chain(place).chain(endpoint))
}
