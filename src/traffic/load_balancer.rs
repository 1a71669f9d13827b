//! Load balancers of AWS (Elastic Load Balancing, version 2): the target group that a listener, or one of its rules, forwards to.
//!
//! The service has no condition to change something only as it was found. What forwards is looked at again right before it is changed;
//! what somebody changes in that moment is overwritten.

use std::collections::BTreeSet;

use async_trait::async_trait;
use aws_sdk_elasticloadbalancingv2::{
    Client,
    types::{
        Action, ActionTypeEnum, TargetGroupTuple, TargetHealth, TargetHealthReasonEnum, TargetHealthStateEnum,
    },
};

use super::{SetError, Switch, SwitchError};
use crate::{
    aws::{self, Fault, ServiceOptions},
    spec::traffic::Forwards,
};

/// What the access key must be allowed.
const ACTIONS: &str = "elasticloadbalancing:DescribeListeners, DescribeRules, DescribeTargetHealth, and ModifyListener or ModifyRule";

/// The share of a target group in what is forwarded where it has no weight: all of it.
const WHOLE: i32 = 1;

/// A listener, or one of its rules.
#[derive(Debug)]
pub struct LoadBalancerSwitch {
    client: Client,
    forwards: Forwards,
}

/// What keeps it from being switched or told.
#[derive(Debug)]
enum Trouble {
    Aws(Fault),
    /// Why.
    Unusable(String),
}

impl<E: Into<Fault>> From<E> for Trouble {
    fn from(fault: E) -> Self {
        Trouble::Aws(fault.into())
    }
}

impl LoadBalancerSwitch {
    /// What `forwards`. Asks nobody.
    ///
    /// # Errors
    /// No access key where none is declared, or certificates that can't be read.
    pub fn new(options: &ServiceOptions, forwards: Forwards) -> Result<Self, SwitchError> {
        let client = aws::load_balancing(options);
        let client = client.map_err(|fault| failed("reach", &forwards, &Trouble::Aws(fault)))?;
        Ok(Self { client, forwards })
    }

    fn failed(&self, doing: &str, trouble: &Trouble) -> SwitchError {
        failed(doing, &self.forwards, trouble)
    }

    /// Its actions, in their order.
    async fn actions(&self) -> Result<Vec<Action>, Trouble> {
        let actions = match &self.forwards {
            Forwards::Listener(arn) => {
                let answer = self.client.describe_listeners().listener_arns(arn).send().await?;
                let [one] = answer.listeners() else { return Err(not_one()) };
                one.default_actions().to_vec()
            }
            Forwards::Rule(arn) => {
                let answer = self.client.describe_rules().rule_arns(arn).send().await?;
                let [one] = answer.rules() else { return Err(not_one()) };
                one.actions().to_vec()
            }
        };
        Ok(actions)
    }

    async fn seen(&self) -> Result<BTreeSet<String>, Trouble> {
        forwarded(&self.actions().await?).map_err(Trouble::Unusable)
    }

    async fn change(&self, before: &BTreeSet<String>, wanted: &str) -> Result<(), Trouble> {
        let actions = self.actions().await?;
        if forwarded(&actions).map_err(Trouble::Unusable)? != *before {
            let why = "somebody changed it since it was asked for; look at it, and try again";
            return Err(Trouble::Unusable(why.to_owned()));
        }
        let actions = Some(actions.into_iter().map(|action| leading_to(action, wanted)).collect());
        match &self.forwards {
            Forwards::Listener(arn) => {
                self.client.modify_listener().listener_arn(arn).set_default_actions(actions).send().await?;
            }
            Forwards::Rule(arn) => {
                self.client.modify_rule().rule_arn(arn).set_actions(actions).send().await?;
            }
        }
        Ok(())
    }

    async fn health(&self, group: &str) -> Result<Vec<TargetHealth>, Trouble> {
        let answer = self.client.describe_target_health().target_group_arn(group).send().await?;
        let targets = answer.target_health_descriptions().iter();
        Ok(targets.map(|target| target.target_health().cloned().unwrap_or_else(untold)).collect())
    }
}

fn untold() -> TargetHealth {
    TargetHealth::builder().build()
}

fn not_one() -> Trouble {
    Trouble::Unusable("the server knows none of that ARN".to_owned())
}

fn failed(doing: &str, forwards: &Forwards, trouble: &Trouble) -> SwitchError {
    let why = match trouble {
        Trouble::Aws(fault) => match fault.hint(ACTIONS) {
            Some(hint) => format!("{fault}; {hint}"),
            None => fault.to_string(),
        },
        Trouble::Unusable(why) => why.clone(),
    };
    SwitchError(format!("failed to {doing} {}: {why}", forwards.arn()))
}

#[async_trait]
impl Switch for LoadBalancerSwitch {
    async fn observe(&self) -> Result<BTreeSet<String>, SwitchError> {
        self.seen().await.map_err(|trouble| self.failed("ask for", &trouble))
    }

    async fn ready(&self, wanted: &BTreeSet<String>) -> Result<Option<String>, SwitchError> {
        let mut untold = Vec::new();
        for group in wanted {
            let targets = self
                .health(group)
                .await
                .map_err(|trouble| self.failed("ask who would serve users of", &trouble))?;
            match health_of(&targets) {
                Health::Serves => {}
                Health::Unknown => {
                    untold.push(format!("nothing tells whether the targets of {group} are well"))
                }
                Health::Fails(why) => {
                    return Err(self.failed(
                        "change",
                        &Trouble::Unusable(format!(
                            "nobody would serve users by {group}: {why}; see to its targets first"
                        )),
                    ));
                }
            }
        }
        Ok(Some(untold.join("; ")).filter(|untold| !untold.is_empty()))
    }

    async fn set(&self, before: &BTreeSet<String>, wanted: &BTreeSet<String>) -> Result<(), SetError> {
        let one = wanted.iter().next().filter(|_| wanted.len() == 1);
        let one = one.ok_or_else(|| {
            let why = "users are led to exactly one target group".to_owned();
            self.failed("change", &Trouble::Unusable(why))
        })?;
        self.change(before, one).await.map_err(|trouble| self.failed("change", &trouble).into())
    }
}

/// The target groups that actions forward to; why they forward nowhere.
fn forwarded(actions: &[Action]) -> Result<BTreeSet<String>, String> {
    let forwards: Vec<&Action> = actions.iter().filter(|action| is_forward(action)).collect();
    let [forward] = forwards.as_slice() else {
        let kinds: Vec<&str> = actions.iter().filter_map(|action| Some(action.r#type()?.as_str())).collect();
        return Err(format!(
            "it does not forward to a target group: its action is {}; it is left alone",
            kinds.join(", ")
        ));
    };
    let groups = forward.forward_config().map(|config| config.target_groups()).unwrap_or_default();
    let has_share = |group: &&TargetGroupTuple| group.weight().unwrap_or(WHOLE) > 0;
    let found: BTreeSet<String> = match groups.is_empty() {
        true => forward.target_group_arn().map(str::to_owned).into_iter().collect(),
        false => groups
            .iter()
            .filter(has_share)
            .filter_map(|group| Some(group.target_group_arn()?.to_owned()))
            .collect(),
    };
    Ok(found)
}

fn is_forward(action: &Action) -> bool {
    action.r#type() == Some(&ActionTypeEnum::Forward)
}

/// The same action, where it forwards to `group` alone; any other one as it is.
fn leading_to(mut action: Action, group: &str) -> Action {
    if is_forward(&action) {
        let forward = Action::builder().r#type(ActionTypeEnum::Forward).target_group_arn(group);
        return forward.set_order(action.order()).build();
    }
    // The secret is never told: it stays what it is.
    if let Some(login) = &mut action.authenticate_oidc_config {
        login.client_secret = None;
        login.use_existing_client_secret = Some(true);
    }
    action
}

/// Whether targets would serve users.
#[derive(Debug, PartialEq, Eq)]
enum Health {
    /// One of them at least is well.
    Serves,
    /// Their health is not looked at.
    Unknown,
    /// None of them would.
    Fails(String),
}

fn health_of(targets: &[TargetHealth]) -> Health {
    let is_healthy = |target: &TargetHealth| target.state() == Some(&TargetHealthStateEnum::Healthy);
    if targets.iter().any(is_healthy) {
        return Health::Serves;
    }
    // A group that nothing forwards to is not looked at; neither is one whose checks are switched off.
    let is_not_looked_at = |target: &TargetHealth| {
        let reason = target.reason();
        reason == Some(&TargetHealthReasonEnum::NotInUse)
            || reason == Some(&TargetHealthReasonEnum::HealthCheckDisabled)
    };
    if !targets.is_empty() && targets.iter().all(is_not_looked_at) {
        return Health::Unknown;
    }
    let told = |target: &TargetHealth| {
        let state = target.state().map_or("untold", TargetHealthStateEnum::as_str);
        match target.reason() {
            Some(reason) => format!("{state} ({})", reason.as_str()),
            None => state.to_owned(),
        }
    };
    let states: BTreeSet<String> = targets.iter().map(told).collect();
    match states.is_empty() {
        true => Health::Fails("it has no targets".to_owned()),
        false => {
            Health::Fails(format!("its targets are {}", states.into_iter().collect::<Vec<_>>().join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_elasticloadbalancingv2::types::{AuthenticateOidcActionConfig, ForwardActionConfig};

    use super::*;

    fn target(state: TargetHealthStateEnum, reason: Option<TargetHealthReasonEnum>) -> TargetHealth {
        TargetHealth::builder().state(state).set_reason(reason).build()
    }

    #[test]
    fn users_are_led_only_where_somebody_serves_them_or_nothing_can_tell() {
        use TargetHealthStateEnum::*;
        let healthy = || target(Healthy, None);
        let failing = || target(Unhealthy, Some(TargetHealthReasonEnum::FailedHealthChecks));
        assert_eq!(health_of(&[failing(), healthy()]), Health::Serves);
        assert_eq!(health_of(&[target(Unused, Some(TargetHealthReasonEnum::NotInUse))]), Health::Unknown);
        let off = target(Unavailable, Some(TargetHealthReasonEnum::HealthCheckDisabled));
        assert_eq!(health_of(&[off]), Health::Unknown);
        for (targets, why) in [
            (vec![], "no targets"),
            (vec![failing()], "unhealthy (Target.FailedHealthChecks)"),
            (vec![target(Initial, Some(TargetHealthReasonEnum::InitialHealthChecking))], "initial"),
            (
                vec![target(Unused, Some(TargetHealthReasonEnum::InvalidState))],
                "unused (Target.InvalidState)",
            ),
            (vec![untold()], "untold"),
            (
                vec![failing(), target(Unused, Some(TargetHealthReasonEnum::NotInUse))],
                "unhealthy (Target.FailedHealthChecks), unused (Target.NotInUse)",
            ),
        ] {
            let Health::Fails(told) = health_of(&targets) else { panic!("{targets:?}") };
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn what_comes_before_users_are_led_stays_as_it_is() {
        let oidc =
            AuthenticateOidcActionConfig::builder().issuer("https://id.example.org").client_id("c").build();
        let login = Action::builder()
            .r#type(ActionTypeEnum::AuthenticateOidc)
            .order(1)
            .authenticate_oidc_config(oidc);
        let share =
            |group: &str, weight| TargetGroupTuple::builder().target_group_arn(group).weight(weight).build();
        let shares =
            ForwardActionConfig::builder().target_groups(share("a", 9)).target_groups(share("b", 0)).build();
        let forward =
            Action::builder().r#type(ActionTypeEnum::Forward).order(2).forward_config(shares).build();
        let actions = vec![login.build(), forward];
        assert_eq!(forwarded(&actions), Ok(BTreeSet::from(["a".to_owned()])));
        let led: Vec<Action> = actions.into_iter().map(|action| leading_to(action, "c")).collect();
        assert_eq!(forwarded(&led), Ok(BTreeSet::from(["c".to_owned()])));
        assert_eq!(led[1].order(), Some(2));
        let login = led[0].authenticate_oidc_config().unwrap();
        assert_eq!(
            (login.issuer(), login.use_existing_client_secret()),
            (Some("https://id.example.org"), Some(true))
        );
        let redirect = Action::builder().r#type(ActionTypeEnum::Redirect).build();
        assert!(forwarded(&[redirect]).unwrap_err().contains("redirect"));
    }
}
