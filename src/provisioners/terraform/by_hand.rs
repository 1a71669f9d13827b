//! A module by hand: the same files, planned and applied by whoever types.

use super::{Module, file_of, variables};
use crate::{
    plan::by_hand::{Hand, Line, MadeByHand, Prepared},
    spec::TerraformState,
};

/// What is typed to make the machine of a module, with its files in `folder`.
pub(super) fn made(module: &Module, folder: &str) -> MadeByHand {
    let program = module.declared.program.as_str();
    let typed = |rest: &[&str]| {
        let words = [program.to_owned(), format!("-chdir={folder}")];
        Hand::Type(Line::of(words.into_iter().chain(rest.iter().map(ToString::to_string))))
    };
    let mut hands = vec![
        typed(&["init", "-input=false"]),
        typed(&["plan", "-input=false", "-out=plan"]),
        Hand::Know("read what is planned: it must make the machine, and change or remove nothing".to_owned()),
        typed(&["apply", "-input=false", "plan"]),
        typed(&["output"]),
    ];
    if module.declared.state == TerraformState::Local {
        let kept = format!(
            "its state is kept in {folder} alone: keep that folder. Backstay looks for the state on its controller's host, and \
             takes the machine for gone until it is there"
        );
        hands.push(Hand::Know(kept));
    }
    let file = |name: &str, content: String| Prepared { path: format!("{folder}/{name}"), content };
    let files = vec![
        file(file_of(&module.body), module.body.clone()),
        file("terraform.tfvars.json", variables(&module.declared.variables)),
    ];
    MadeByHand { files, hands }
}
