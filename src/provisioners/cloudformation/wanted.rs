//! What is declared of a stack, and whose it is.

use std::{collections::BTreeMap, fmt};

use aws_sdk_cloudformation::types::{Capability, Parameter, Stack, Tag};
use sha2::{Digest, Sha256};

use super::super::ProvisionError;
use crate::spec::{
    Cloudformation,
    names::{FleetName, VmName},
};

/// The longest body of a template that a request may hold, bytes ("CloudFormation quotas" of its guide).
const LARGEST_BODY: usize = 51_200;

/// The longest name of a stack here, bytes; CloudFormation's is 128, and a preview adds to it.
const LONGEST_NAME: usize = 100;

/// Tags that tell whose a stack is, and what it was made of.
const FLEET: &str = "backstay:fleet";
const VM: &str = "backstay:vm";
const STANDS_FOR: &str = "backstay:stands-for";

/// The tag that tells which controller's drill made it.
const CONTROLLER: &str = "backstay:controller";
const DIGEST: &str = "backstay:digest";

/// A declared stack, with its template rendered.
#[derive(Clone, Copy, Debug)]
pub struct Declared<'a> {
    /// Whose it is.
    pub fleet: &'a FleetName,
    /// The machine.
    pub vm: &'a VmName,
    /// The machine that it stands in for, where a drill makes it.
    pub stands_for: Option<&'a VmName>,
    /// The controller, by which the machines of its drills are told from those of another's.
    pub controller: &'a str,
    /// Its stack.
    pub stack: &'a Cloudformation,
    /// What the template renders to.
    pub body: &'a str,
}

/// The stack that is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    name: String,
    region: String,
    fleet: FleetName,
    vm: VmName,
    stands_for: Option<VmName>,
    controller: String,
    body: String,
    parameters: BTreeMap<String, String>,
    capabilities: Vec<String>,
    digest: String,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stack {} of CloudFormation in {}", self.name, self.region)
    }
}

impl Wanted {
    /// The stack of a declaration.
    ///
    /// # Errors
    /// A name that no stack can have, and a body that is empty or too large.
    pub fn of(declared: Declared<'_>) -> Result<Self, ProvisionError> {
        let Declared { fleet, vm, stands_for, controller, stack, body } = declared;
        let name = stack.stack.clone().unwrap_or_else(|| vm.as_str().to_owned());
        let refused =
            |why: String| ProvisionError::stalled(format!("failed to use the stack of vm.{vm}: {why}"));
        if !is_name(&name) {
            return Err(refused(format!(
                "`{}` is no name of a stack; declare as `stack` one of up to {LONGEST_NAME} letters, digits and `-` that \
                 begins with a letter",
                name.escape_debug()
            )));
        }
        match body.len() {
            _ if body.trim().is_empty() => return Err(refused("its template renders to nothing".to_owned())),
            size if size > LARGEST_BODY => {
                return Err(refused(format!(
                    "its template renders to {size} bytes, and CloudFormation takes {LARGEST_BODY} at most; shorten it, \
                     or have the machine fetch what is long"
                )));
            }
            _ => {}
        }
        Ok(Self {
            digest: digest(body, stack),
            name,
            region: stack.region.clone(),
            fleet: fleet.clone(),
            vm: vm.clone(),
            stands_for: stands_for.cloned(),
            controller: controller.to_owned(),
            body: body.to_owned(),
            parameters: stack.parameters.clone(),
            capabilities: stack.capabilities.clone(),
        })
    }

    /// The stack's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The template.
    pub(super) fn body(&self) -> &str {
        &self.body
    }

    pub(super) fn region(&self) -> &str {
        &self.region
    }

    /// The parameters as they are declared.
    pub(super) fn declared_parameters(&self) -> &BTreeMap<String, String> {
        &self.parameters
    }

    /// What the stack may do beyond making machines, as it is declared.
    pub(super) fn declared_capabilities(&self) -> &[String] {
        &self.capabilities
    }

    /// The tags that tell whose it is, by their keys.
    pub(super) fn marks(&self) -> [(&'static str, &str); 3] {
        [(FLEET, self.fleet.as_str()), (VM, self.vm.as_str()), (DIGEST, &self.digest)]
    }

    pub(super) fn parameters(&self) -> Vec<Parameter> {
        let parameter = |(key, value): (&String, &String)| {
            Parameter::builder().parameter_key(key).parameter_value(value).build()
        };
        self.parameters.iter().map(parameter).collect()
    }

    pub(super) fn capabilities(&self) -> Vec<Capability> {
        self.capabilities.iter().map(|capability| Capability::from(capability.as_str())).collect()
    }

    pub(super) fn tags(&self) -> Vec<Tag> {
        let of_drill =
            self.stands_for.iter().flat_map(|vm| [(STANDS_FOR, vm.as_str()), (CONTROLLER, &self.controller)]);
        let tag = |(key, value): (&str, &str)| Tag::builder().key(key).value(value).build();
        self.marks().into_iter().chain(of_drill).map(tag).collect()
    }

    /// Whether another controller's drill made a stack. What was made before they told so is this one's.
    pub(super) fn is_anothers(&self, stack: &Stack) -> bool {
        self.has_anothers(stack.tags())
    }

    fn has_anothers(&self, tags: &[Tag]) -> bool {
        self.stands_for.is_some() && tag(tags, CONTROLLER).is_some_and(|it| it != self.controller)
    }

    /// Whether tags say that what bears them is this machine's; `None` where they say nothing of that.
    pub(super) fn is_marked(&self, tags: &[Tag]) -> Option<bool> {
        let (fleet, vm) = (tag(tags, FLEET), tag(tags, VM));
        let says = [fleet, vm, tag(tags, STANDS_FOR), tag(tags, CONTROLLER)].iter().any(Option::is_some);
        says.then(|| {
            fleet == Some(self.fleet.as_str())
                && vm == Some(self.vm.as_str())
                && tag(tags, STANDS_FOR) == self.stands_for.as_ref().map(VmName::as_str)
                && !self.has_anothers(tags)
        })
    }

    /// Whether a stack is this machine's.
    ///
    /// # Errors
    /// Whose it is instead, for people.
    pub(super) fn owns(&self, stack: &Stack) -> Result<(), String> {
        match (tag(stack.tags(), FLEET), tag(stack.tags(), VM)) {
            (Some(fleet), Some(_)) if fleet == self.fleet.as_str() && self.is_anothers(stack) => {
                Err(format!(
                    "there is a stack {} already, of a drill of another controller of the fleet; it is left alone: wait for that drill to \
                 end, or remove the stack by hand",
                    self.name
                ))
            }
            // A stand-in is never taken for a machine of its name, nor the other way round.
            (Some(fleet), Some(vm))
                if fleet == self.fleet.as_str()
                    && vm == self.vm.as_str()
                    && tag(stack.tags(), STANDS_FOR) == self.stands_for.as_ref().map(VmName::as_str) =>
            {
                Ok(())
            }
            (Some(fleet), Some(vm)) => Err(format!(
                "there is a stack {} already, of vm.{} of the fleet {}; it is left alone: declare another name as `stack`",
                self.name,
                vm.escape_debug(),
                fleet.escape_debug()
            )),
            _ => Err(format!(
                "there is a stack {} already that Backstay did not make; it is left alone: declare another name as `stack`",
                self.name
            )),
        }
    }

    /// How a stack that is this machine's differs from what is declared.
    pub(super) fn differs(&self, stack: &Stack) -> Vec<String> {
        let same = tag(stack.tags(), DIGEST) == Some(self.digest.as_str());
        let differs = "it was made of another template, or with other parameters or capabilities, than are declared now";
        if same { Vec::new() } else { vec![differs.to_owned()] }
    }
}

fn tag<'a>(tags: &'a [Tag], key: &str) -> Option<&'a str> {
    tags.iter().find(|tag| tag.key() == Some(key)).and_then(Tag::value)
}

/// As CloudFormation has it: `[a-zA-Z][-a-zA-Z0-9]*`.
fn is_name(text: &str) -> bool {
    text.len() <= LONGEST_NAME
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// SHA-256 of all that a stack is made of, every part with its length before it.
fn digest(body: &str, stack: &Cloudformation) -> String {
    let mut hasher = Sha256::new();
    let pairs = stack.parameters.iter().flat_map(|(key, value)| [key, value]);
    let parts = std::iter::once(body).chain(pairs.map(String::as_str));
    let parts = parts.chain(std::iter::once("capabilities"));
    for part in parts.chain(stack.capabilities.iter().map(String::as_str)) {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hex::encode(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cloudformation() -> Cloudformation {
        Cloudformation {
            region: "eu-north-1".to_owned(),
            endpoint: None,
            credentials: None,
            stack: None,
            parameters: BTreeMap::from([("Size".to_owned(), "small".to_owned())]),
            capabilities: vec!["CAPABILITY_IAM".to_owned()],
        }
    }

    fn wanted(fleet: &str, vm: &str, stack: &Cloudformation, body: &str) -> Result<Wanted, ProvisionError> {
        let (fleet, vm) = (fleet.parse().unwrap(), vm.parse().unwrap());
        Wanted::of(Declared { fleet: &fleet, vm: &vm, stands_for: None, controller: "c0", stack, body })
    }

    fn stack_of(wanted: &Wanted) -> Stack {
        Stack::builder().set_tags(Some(wanted.tags())).build()
    }

    #[test]
    fn a_stack_is_named_after_its_machine_unless_it_has_a_name_of_its_own() {
        let mut declared = cloudformation();
        assert_eq!(wanted("aws", "web-1", &declared, "x").unwrap().name(), "web-1");
        declared.stack = Some("Front".to_owned());
        assert_eq!(wanted("aws", "web.1", &declared, "x").unwrap().name(), "Front");
    }

    #[test]
    fn what_can_be_no_stack_is_refused_before_anything_is_asked_for() {
        let declared = cloudformation();
        for name in ["web.1", "web_1", "1web"] {
            let refused = wanted("aws", name, &declared, "x").unwrap_err().message;
            assert!(refused.contains("declare as `stack`"), "{refused}");
        }
        let refused = wanted("aws", "web", &declared, &"x".repeat(51_201)).unwrap_err().message;
        assert!(refused.contains("51201 bytes") && refused.contains("51200"), "{refused}");
        assert!(wanted("aws", "web", &declared, &"x".repeat(51_200)).is_ok());
        assert!(wanted("aws", "web", &declared, " \n").unwrap_err().message.contains("nothing"));
    }

    #[test]
    fn a_stack_is_owned_by_its_tags_and_by_nothing_else() {
        let declared = cloudformation();
        let ours = wanted("aws", "web", &declared, "x").unwrap();
        assert_eq!(ours.owns(&stack_of(&ours)), Ok(()));
        let another = wanted("other", "web", &declared, "x").unwrap();
        assert!(ours.owns(&stack_of(&another)).unwrap_err().contains("the fleet other"));
        let nobodys = Stack::builder().stack_name("web").build();
        assert!(ours.owns(&nobodys).unwrap_err().contains("did not make"));
    }

    #[test]
    fn the_stack_of_another_controller_s_drill_is_not_taken_for_one_s_own() {
        let (declared, fleet) = (cloudformation(), "aws".parse().unwrap());
        let (vm, stands_for) = ("drill-site-web".parse().unwrap(), "web".parse().unwrap());
        let of = |controller, stands_for| {
            let declared =
                Declared { fleet: &fleet, vm: &vm, stands_for, controller, stack: &declared, body: "x" };
            Wanted::of(declared).unwrap()
        };
        let (ours, other) = (of("c0", Some(&stands_for)), of("c1", Some(&stands_for)));
        assert_eq!(ours.owns(&stack_of(&ours)), Ok(()));
        assert!(ours.is_anothers(&stack_of(&other)) && !ours.is_anothers(&stack_of(&ours)));
        assert!(ours.owns(&stack_of(&other)).unwrap_err().contains("another controller"));
        // A machine is the fleet's, whichever controller made it.
        assert_eq!(of("c0", None).owns(&stack_of(&of("c1", None))), Ok(()));
        assert!(of("c0", None).owns(&stack_of(&ours)).is_err(), "a stand-in is no machine");
    }

    #[test]
    fn a_stack_differs_once_anything_that_it_is_made_of_is_declared_differently() {
        let declared = cloudformation();
        let first = wanted("aws", "web", &declared, "x").unwrap();
        assert_eq!(first.differs(&stack_of(&first)), Vec::<String>::new());
        let body = wanted("aws", "web", &declared, "y").unwrap();
        let mut other = cloudformation();
        other.parameters.insert("Size".to_owned(), "large".to_owned());
        let parameter = wanted("aws", "web", &other, "x").unwrap();
        let mut other = cloudformation();
        other.capabilities.clear();
        let capability = wanted("aws", "web", &other, "x").unwrap();
        for changed in [body, parameter, capability] {
            assert_eq!(changed.differs(&stack_of(&first)).len(), 1);
        }
    }
}
