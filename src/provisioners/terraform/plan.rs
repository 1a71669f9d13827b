//! What the program tells in JSON of plans and states ("JSON Output Format" of Terraform's documentation; OpenTofu's is the same).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::flat;
use crate::inventory::{Machine, MachineAddress, Running};

/// The port of SSH, unless an output tells another.
const SSH: u16 = 22;

/// A plan: what is there, after a look at it, and what would be done.
#[derive(Debug, Deserialize)]
pub(super) struct Plan {
    format_version: String,
    prior_state: Option<State>,
    #[serde(default)]
    resource_changes: Vec<Change>,
    #[serde(default)]
    resource_drift: Vec<Change>,
}

#[derive(Debug, Deserialize)]
struct Change {
    address: String,
    mode: String,
    /// Where it stood in the state before it was moved.
    previous_address: Option<String>,
    change: Actions,
}

#[derive(Debug, Deserialize)]
struct Actions {
    actions: Vec<String>,
    /// What is taken into the state that was not made by it.
    importing: Option<Value>,
}

/// A state.
#[derive(Debug, Deserialize)]
pub(super) struct State {
    format_version: String,
    values: Option<Values>,
}

#[derive(Debug, Deserialize)]
struct Values {
    #[serde(default)]
    outputs: BTreeMap<String, Output>,
    #[serde(default)]
    root_module: Module,
}

#[derive(Debug, Deserialize)]
struct Output {
    value: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
struct Module {
    #[serde(default)]
    resources: Vec<Resource>,
    #[serde(default)]
    child_modules: Vec<Module>,
}

#[derive(Debug, Deserialize)]
struct Resource {
    address: String,
    mode: String,
    #[serde(default)]
    tainted: bool,
}

fn read<'a, T: Deserialize<'a>>(json: &'a [u8], version: impl Fn(&T) -> &str) -> Result<T, String> {
    let told: T =
        serde_json::from_slice(json).map_err(|error| format!("its JSON is not understood: {error}"))?;
    match version(&told).split('.').next() {
        Some("1") => Ok(told),
        _ => Err(format!("its JSON has the format {}, which this build does not know", flat(version(&told)))),
    }
}

impl Plan {
    /// Reads what `show -json FILE` prints.
    pub(super) fn read(json: &[u8]) -> Result<Self, String> {
        read(json, |plan: &Self| &plan.format_version)
    }

    /// What is there.
    pub(super) fn there(&self) -> Vec<String> {
        self.prior_state.as_ref().map(State::there).unwrap_or_default()
    }

    /// What would be done, a line for each resource.
    pub(super) fn lines(&self) -> Vec<String> {
        self.planned()
            .map(|change| format!("{} {}", told(&change.change.actions), flat(&change.address)))
            .collect()
    }

    /// The addresses of what would be made anew.
    pub(super) fn made(&self) -> Vec<String> {
        let makes = |change: &&Change| change.change.actions.iter().any(|action| action == "create");
        self.planned().filter(makes).map(|change| flat(&change.address)).collect()
    }

    /// Whether nothing is planned but to make what was not there.
    ///
    /// # Errors
    /// What else is, a line for each resource.
    pub(super) fn only_makes(&self) -> Result<(), Vec<String>> {
        let there = self.there().into_iter().map(|address| format!("find {address} there already"));
        let changes = self.resource_changes.iter().filter_map(|change| {
            let address = flat(&change.address);
            match (&change.change.importing, &change.previous_address) {
                (Some(_), _) => Some(format!("take over {address}")),
                (None, Some(_)) => Some(format!("move {address}")),
                // Data is read, at the latest when the plan is applied.
                (None, None)
                    if is(change, &["create"]) || is(change, &["no-op"]) || change.mode == "data" =>
                {
                    None
                }
                (None, None) => Some(format!("{} {address}", told(&change.change.actions))),
            }
        });
        let others: Vec<String> = there.chain(changes).collect();
        if others.is_empty() { Ok(()) } else { Err(others) }
    }

    fn planned(&self) -> impl Iterator<Item = &Change> {
        self.resource_changes.iter().filter(|change| change.mode == "managed" && !is(change, &["no-op"]))
    }

    /// How the machine stands.
    pub(super) fn machine(&self) -> Result<Machine, String> {
        let Some(state) = self.prior_state.as_ref().filter(|state| !state.there().is_empty()) else {
            return Ok(Machine::Gone);
        };
        if let Some(why) = self.broken(state) {
            return Ok(Machine::Broken { why });
        }
        Ok(Machine::Running(Running { drift: self.drift(), ..state.running()? }))
    }

    /// What of the machine is not there, or not whole.
    fn broken(&self, state: &State) -> Option<String> {
        let tainted = state.resources().into_iter().find(|resource| resource.tainted);
        if let Some(resource) = tainted {
            return Some(format!("{} was not made whole", flat(&resource.address)));
        }
        let lost =
            self.resource_drift.iter().find(|change| change.mode == "managed" && is(change, &["delete"]));
        if let Some(change) = lost {
            return Some(format!("{} was deleted past its module", flat(&change.address)));
        }
        let missing = self.planned().find(|change| is(change, &["create"]));
        missing.map(|change| format!("{} is declared, and is not there", flat(&change.address)))
    }

    fn drift(&self) -> Vec<String> {
        let changed = self.resource_drift.iter().filter(|change| change.mode == "managed");
        let changed = changed.map(|change| format!("{} was changed past its module", flat(&change.address)));
        let differs = self.planned();
        let differs = differs.map(|change| {
            format!("{} is not as declared: {} is due", flat(&change.address), told(&change.change.actions))
        });
        changed.chain(differs).collect()
    }
}

impl State {
    /// Reads what `show -json` prints.
    pub(super) fn read(json: &[u8]) -> Result<Self, String> {
        read(json, |state: &Self| &state.format_version)
    }

    fn resources(&self) -> Vec<&Resource> {
        let mut modules: Vec<&Module> = self.values.iter().map(|values| &values.root_module).collect();
        let mut found = Vec::new();
        while let Some(module) = modules.pop() {
            found.extend(module.resources.iter().filter(|resource| resource.mode == "managed"));
            modules.extend(&module.child_modules);
        }
        found
    }

    /// The addresses of what the state tells of.
    pub(super) fn there(&self) -> Vec<String> {
        self.resources().into_iter().map(|resource| flat(&resource.address)).collect()
    }

    /// The machine, by the outputs `address`, `port` and `host_key`.
    pub(super) fn running(&self) -> Result<Running, String> {
        let port = match self.output("port") {
            Some(port) => {
                port.parse().map_err(|_| format!("the output `port` is no port: {}", flat(&port)))?
            }
            None => SSH,
        };
        let address = self.output("address").map(|host| MachineAddress { host, port });
        Ok(Running { address, host_key: self.output("host_key"), drift: Vec::new() })
    }

    fn output(&self, name: &str) -> Option<String> {
        let text = match self.values.as_ref()?.outputs.get(name)?.value.as_ref()? {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        Some(text).filter(|text| !text.is_empty())
    }
}

fn is(change: &Change, actions: &[&str]) -> bool {
    change.change.actions == actions
}

fn told(actions: &[String]) -> String {
    match actions.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["delete", "create"] | ["create", "delete"] => "replace".to_owned(),
        _ => flat(&actions.join(" and ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(prior: Value, changes: Value, drift: Value) -> Plan {
        let told = serde_json::json!({
            "format_version": "1.2", "prior_state": prior, "resource_changes": changes, "resource_drift": drift,
        });
        Plan::read(told.to_string().as_bytes()).unwrap()
    }

    fn resource(address: &str, tainted: bool) -> Value {
        serde_json::json!({ "address": address, "mode": "managed", "type": "t", "name": "n", "tainted": tainted })
    }

    fn state(resources: Value) -> Value {
        serde_json::json!({ "format_version": "1.0", "values": {
            "outputs": {
                "address": { "sensitive": false, "value": "192.0.2.1" }, "port": { "value": 2222 },
                "host_key": { "sensitive": true, "value": "ssh-ed25519 AAAA\n" },
            },
            "root_module": { "resources": [{ "address": "data.x.y", "mode": "data" }],
                             "child_modules": [{ "address": "module.a", "resources": resources }] },
        } })
    }

    fn change(address: &str, actions: &[&str]) -> Value {
        serde_json::json!({ "address": address, "mode": "managed", "change": { "actions": actions, "before": null } })
    }

    fn none() -> Value {
        serde_json::json!([])
    }

    #[test]
    fn a_plan_is_a_line_for_each_resource_that_changes() {
        let changes = serde_json::json!([
            change("a.new", &["create"]),
            change("a.same", &["no-op"]),
            change("module.b.a.other[\"x\"]", &["create", "delete"]),
            { "address": "data.c.d", "mode": "data", "change": { "actions": ["read"] } },
            change("a.old", &["delete"]),
        ]);
        let lines = plan(Value::Null, changes, none()).lines();
        assert_eq!(lines, ["create a.new", "replace module.b.a.other[\"x\"]", "delete a.old"]);
    }

    #[test]
    fn a_drill_s_plan_makes_what_was_not_there_and_nothing_else() {
        let only = |prior: Value, changes: Value| plan(prior, changes, none()).only_makes();
        let makes = serde_json::json!([
            change("a.vm", &["create"]),
            { "address": "data.c.d", "mode": "data", "change": { "actions": ["read"] } },
        ]);
        assert_eq!(only(Value::Null, makes.clone()), Ok(()));
        let there = state(serde_json::json!([resource("a.vm", false)]));
        assert_eq!(only(there, makes), Err(vec!["find a.vm there already".to_owned()]));
        let importing = serde_json::json!([{
            "address": "a.vm", "mode": "managed", "change": { "actions": ["no-op"], "importing": { "id": "i-1" } },
        }]);
        assert_eq!(only(Value::Null, importing), Err(vec!["take over a.vm".to_owned()]));
        let moved = serde_json::json!([{
            "address": "a.vm", "mode": "managed", "previous_address": "a.old", "change": { "actions": ["create"] },
        }]);
        assert_eq!(only(Value::Null, moved), Err(vec!["move a.vm".to_owned()]));
        for (actions, expect) in [
            (&["update"][..], "update a.vm"),
            (&["delete", "create"], "replace a.vm"),
            (&["forget"], "forget a.vm"),
        ] {
            let changes = serde_json::json!([change("a.new", &["create"]), change("a.vm", actions)]);
            assert_eq!(only(Value::Null, changes), Err(vec![expect.to_owned()]));
        }
    }

    #[test]
    fn a_machine_is_gone_only_when_nothing_but_data_is_in_the_state() {
        for gone in [Value::Null, serde_json::json!({ "format_version": "1.0" }), state(none())] {
            let told = plan(gone, serde_json::json!([change("a.vm", &["create"])]), none()).machine();
            assert_eq!(told, Ok(Machine::Gone));
        }
    }

    #[test]
    fn a_machine_runs_where_its_outputs_say_and_what_differs_is_drift() {
        let there = state(serde_json::json!([resource("a.vm", false)]));
        let changes = serde_json::json!([change("a.vm", &["update"])]);
        let drift = serde_json::json!([change("a.vm", &["update"])]);
        let Ok(Machine::Running(running)) = plan(there, changes, drift).machine() else { panic!("it runs") };
        let address = MachineAddress { host: "192.0.2.1".to_owned(), port: 2222 };
        assert_eq!((running.address, running.host_key.as_deref()), (Some(address), Some("ssh-ed25519 AAAA")));
        assert_eq!(
            running.drift,
            ["a.vm was changed past its module", "a.vm is not as declared: update is due"]
        );
    }

    #[test]
    fn what_is_half_there_is_broken() {
        let there = |tainted| state(serde_json::json!([resource("a.vm", tainted)]));
        let missing = serde_json::json!([change("a.disk", &["create"])]);
        let lost = serde_json::json!([change("a.disk", &["delete"])]);
        for (plan, why) in [
            (plan(there(true), none(), none()), "a.vm was not made whole"),
            (plan(there(false), missing.clone(), lost), "a.disk was deleted past its module"),
            (plan(there(false), missing, none()), "a.disk is declared, and is not there"),
        ] {
            assert_eq!(plan.machine(), Ok(Machine::Broken { why: why.to_owned() }));
        }
    }

    #[test]
    fn json_of_another_format_is_not_guessed_at() {
        assert!(Plan::read(br#"{"format_version": "2.0"}"#).unwrap_err().contains("2.0"));
        assert!(State::read(b"{}").is_err());
    }
}
