//! Traffic that a recovery leads elsewhere by Route 53 and by a load balancer, as moto plays them.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use aws_credential_types::Credentials;
use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, FixedResponseActionConfig, RuleCondition, TargetDescription, TargetTypeEnum,
};
use aws_sdk_route53::{
    config::{BehaviorVersion, Region},
    types::{AliasTarget, Change, ChangeAction, ChangeBatch, ResourceRecord, ResourceRecordSet, RrType},
};
use backstay::{
    aws::{AwsCredentials, DEFAULT_SILENCE, ServiceOptions},
    plan::by_hand::{Hand, reach::Folders, switch::by_hand},
    spec::{
        Fleet, Spec,
        traffic::{AwsReach, Forwards, HostedZone, LedBy, LoadBalancer, Record, RecordKind, Side, Traffic},
    },
    traffic::{Switch, load_balancer::LoadBalancerSwitch, route53::Route53Switch},
};
use tempfile::TempDir;

use crate::lab::{
    moto::{KEY_ID, Moto, REGION, SECRET, elements},
    run, schedules,
};

fn set(values: &[&str]) -> BTreeSet<String> {
    values.iter().map(ToString::to_string).collect()
}

/// An account with a zone, and a load balancer with two target groups.
struct Account {
    moto: Moto,
    zone: String,
    listener: String,
    groups: [String; 2],
}

impl Account {
    async fn new() -> Self {
        let moto = Moto::with_traffic();
        let made = route53(&moto).create_hosted_zone().name("example.org").caller_reference("one");
        let zone = made.send().await.unwrap().hosted_zone().unwrap().id().to_owned();
        let mut account = Self {
            moto,
            zone: zone.trim_start_matches("/hostedzone/").to_owned(),
            listener: String::new(),
            groups: Default::default(),
        };
        account
            .change(
                ChangeAction::Create,
                plain("www.example.org", RrType::A, 300, &["192.0.2.10", "192.0.2.11"]),
            )
            .await;
        account.make_balancer().await;
        account
    }

    /// A load balancer whose listener leads to the first group, which serves; of the second nobody is there yet.
    async fn make_balancer(&mut self) {
        let told = self.moto.query("ec2", "2016-11-15", &[("Action", "DescribeSubnets")]).await;
        let (subnets, vpc) = (elements(&told, "subnetId"), elements(&told, "vpcId")[0].clone());
        let elb = balancing(&self.moto);
        let made = elb.create_load_balancer().name("web").set_subnets(Some(subnets[..2].to_vec()));
        let balancer = made.send().await.unwrap().load_balancers()[0].load_balancer_arn().unwrap().to_owned();
        for (group, name) in self.groups.iter_mut().zip(["site-a", "site-b"]) {
            let made = elb.create_target_group().name(name).vpc_id(&vpc).port(80);
            let made = made.protocol("HTTP".into()).target_type(TargetTypeEnum::Ip).send().await.unwrap();
            *group = made.target_groups()[0].target_group_arn().unwrap().to_owned();
        }
        let made = elb.create_listener().load_balancer_arn(balancer).port(80).protocol("HTTP".into());
        let made = made.default_actions(forward(&self.groups[0])).send().await.unwrap();
        self.listener = made.listeners()[0].listener_arn().unwrap().to_owned();
        self.register(0, "10.0.0.1").await;
    }

    async fn register(&self, group: usize, address: &str) {
        let target = TargetDescription::builder().id(address).build();
        let made = balancing(&self.moto).register_targets().target_group_arn(&self.groups[group]);
        made.targets(target).send().await.unwrap();
    }

    async fn change(&self, action: ChangeAction, record: ResourceRecordSet) {
        let change = Change::builder().action(action).resource_record_set(record).build().unwrap();
        let batch = ChangeBatch::builder().changes(change).build().unwrap();
        let made = route53(&self.moto).change_resource_record_sets().hosted_zone_id(&self.zone);
        made.change_batch(batch).send().await.unwrap();
    }

    /// The values of a record, and its TTL, as the account's owner sees them.
    async fn record(&self, name: &str) -> (BTreeSet<String>, i64) {
        let told = route53(&self.moto).list_resource_record_sets().hosted_zone_id(&self.zone);
        let told = told.send().await.unwrap();
        let found = told.resource_record_sets().iter().find(|set| set.name() == format!("{name}.")).unwrap();
        (found.resource_records().iter().map(|it| it.value().to_owned()).collect(), found.ttl().unwrap())
    }

    /// Where the listener leads by default.
    async fn leads_to(&self) -> String {
        let told =
            balancing(&self.moto).describe_listeners().listener_arns(&self.listener).send().await.unwrap();
        told.listeners()[0].default_actions()[0].target_group_arn().unwrap().to_owned()
    }

    fn options(&self) -> ServiceOptions {
        ServiceOptions {
            region: REGION.to_owned(),
            endpoint: Some(self.moto.endpoint()),
            credentials: AwsCredentials::Key { id: KEY_ID.to_owned(), secret: SECRET.to_owned().into() },
            silence: DEFAULT_SILENCE,
        }
    }

    fn reach(&self) -> AwsReach {
        AwsReach { region: REGION.to_owned(), endpoint: Some(self.moto.endpoint()), credentials: None }
    }

    fn hosted_zone(&self, name: &str) -> HostedZone {
        HostedZone { name: name.to_owned(), id: self.zone.clone(), reach: self.reach() }
    }

    fn switch(&self, name: &str, kind: RecordKind) -> Route53Switch {
        let record = Record { name: name.to_owned(), kind, ttl: 60 };
        Route53Switch::new(&self.options(), record, self.hosted_zone("example.org")).unwrap()
    }

    fn balancer(&self, forwards: Forwards) -> LoadBalancerSwitch {
        LoadBalancerSwitch::new(&self.options(), forwards).unwrap()
    }
}

fn route53(moto: &Moto) -> aws_sdk_route53::Client {
    let config = aws_sdk_route53::config::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new(KEY_ID, SECRET, None, None, "tests"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(moto.endpoint());
    aws_sdk_route53::Client::from_conf(config.build())
}

fn balancing(moto: &Moto) -> aws_sdk_elasticloadbalancingv2::Client {
    let config = aws_sdk_elasticloadbalancingv2::config::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new(KEY_ID, SECRET, None, None, "tests"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(moto.endpoint());
    aws_sdk_elasticloadbalancingv2::Client::from_conf(config.build())
}

fn forward(group: &str) -> Action {
    Action::builder().r#type(ActionTypeEnum::Forward).target_group_arn(group).build()
}

fn plain(name: &str, kind: RrType, ttl: i64, values: &[&str]) -> ResourceRecordSet {
    let records = values.iter().map(|value| ResourceRecord::builder().value(*value).build().unwrap());
    let set = ResourceRecordSet::builder().name(name).r#type(kind).ttl(ttl);
    set.set_resource_records(Some(records.collect())).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_route_53_is_led_to_the_other_side_and_back() {
    let account = Account::new().await;
    let (primary, standby) = (set(&["192.0.2.10", "192.0.2.11"]), set(&["198.51.100.1"]));
    let it = account.switch("www.example.org", RecordKind::A);
    assert_eq!(it.observe().await.as_ref(), Ok(&primary));
    assert_eq!(it.ready(&standby).await, Ok(None));
    it.set(&primary, &standby).await.unwrap();
    assert_eq!(account.record("www.example.org").await, (standby.clone(), 60));
    assert_eq!(it.observe().await.as_ref(), Ok(&standby));
    // Somebody has changed it since it was looked at: its values, or how long they hold.
    let raced = it.set(&primary, &standby).await.unwrap_err().to_string();
    assert!(raced.contains("somebody changed it"), "{raced}");
    it.set(&standby, &primary).await.unwrap();
    assert_eq!(account.record("www.example.org").await.0, primary);

    for (kind, name, sides) in [
        (RecordKind::Aaaa, "www.example.org", [&["2001:db8::1"][..], &["2001:db8::2"][..]]),
        (RecordKind::Cname, "app.example.org", [&["www.example.org"][..], &["spare.example.net"][..]]),
    ] {
        let it = account.switch(name, kind);
        assert_eq!(it.observe().await, Ok(set(&[])), "nothing of that name and kind is there");
        it.set(&set(&[]), &set(sides[0])).await.unwrap();
        it.set(&set(sides[0]), &set(sides[1])).await.unwrap();
        assert_eq!(it.observe().await, Ok(set(sides[1])), "{name}");
    }
    assert_eq!(
        account.switch("www.example.org", RecordKind::A).observe().await,
        Ok(primary),
        "it is as it was"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_plain_record_of_the_declared_zone_is_left_alone() {
    let account = Account::new().await;
    let alias =
        AliasTarget::builder().hosted_zone_id("Z2").dns_name("lb.example.net").evaluate_target_health(false);
    let alias = ResourceRecordSet::builder()
        .name("lb.example.org")
        .r#type(RrType::A)
        .alias_target(alias.build().unwrap());
    account.change(ChangeAction::Create, alias.build().unwrap()).await;
    account
        .change(ChangeAction::Create, plain("as.example.org", RrType::Cname, 60, &["www.example.org"]))
        .await;
    for (name, why) in [("lb.example.org", "an alias"), ("as.example.org", "another kind, CNAME")] {
        let it = account.switch(name, RecordKind::A);
        let wanted = set(&["192.0.2.1"]);
        for error in [it.observe().await.unwrap_err().into(), it.set(&set(&[]), &wanted).await.unwrap_err()] {
            assert!(error.to_string().contains(why), "{error}");
        }
    }
    let record = Record { name: "www.example.net".to_owned(), kind: RecordKind::A, ttl: 60 };
    let other = Route53Switch::new(&account.options(), record, account.hosted_zone("example.net")).unwrap();
    let error = other.observe().await.unwrap_err().to_string();
    assert!(error.contains("the zone of that id is example.org"), "{error}");
    let away = ServiceOptions { endpoint: Some("http://127.0.0.1:1".to_owned()), ..account.options() };
    let record = Record { name: "www.example.org".to_owned(), kind: RecordKind::A, ttl: 60 };
    let away = Route53Switch::new(&away, record, account.hosted_zone("example.org")).unwrap();
    let error = away.observe().await.unwrap_err().to_string();
    assert!(error.contains("check the endpoint") && !error.contains(SECRET), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_and_a_rule_lead_to_the_other_target_group_and_back() {
    let account = Account::new().await;
    let [a, b] = account.groups.each_ref().map(|group| set(&[group]));
    let it = account.balancer(Forwards::Listener(account.listener.clone()));
    assert_eq!(it.observe().await.as_ref(), Ok(&a));
    it.set(&a, &b).await.unwrap();
    assert_eq!(account.leads_to().await, account.groups[1]);
    assert_eq!(it.observe().await.as_ref(), Ok(&b));
    let raced = it.set(&a, &b).await.unwrap_err().to_string();
    assert!(raced.contains("somebody changed it"), "{raced}");
    it.set(&b, &a).await.unwrap();
    assert_eq!(account.leads_to().await, account.groups[0]);

    let elb = balancing(&account.moto);
    let shop = RuleCondition::builder().field("path-pattern").values("/shop/*").build();
    let made = elb.create_rule().listener_arn(&account.listener).priority(5).conditions(shop);
    let made = made.actions(forward(&account.groups[0])).send().await.unwrap();
    let rule = made.rules()[0].rule_arn().unwrap().to_owned();
    let it = account.balancer(Forwards::Rule(rule.clone()));
    it.set(&a, &b).await.unwrap();
    assert_eq!(it.observe().await.as_ref(), Ok(&b));
    assert_eq!(account.leads_to().await, account.groups[0], "the rule alone leads elsewhere");

    // What does not forward is left alone.
    let fixed = FixedResponseActionConfig::builder()
        .status_code("503")
        .content_type("text/plain")
        .message_body("m")
        .build();
    let fixed = Action::builder().r#type(ActionTypeEnum::FixedResponse).fixed_response_config(fixed).build();
    elb.modify_rule().rule_arn(&rule).actions(fixed).send().await.unwrap();
    let error = it.observe().await.unwrap_err().to_string();
    assert!(error.contains("its action is fixed-response"), "{error}");
    let gone = account.balancer(Forwards::Rule(rule.replace(&rule[rule.len() - 4..], "0000")));
    assert!(gone.observe().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_led_only_to_whom_somebody_serves_or_nothing_can_tell() {
    let account = Account::new().await;
    let [a, b] = account.groups.each_ref().map(|group| set(&[group]));
    let it = account.balancer(Forwards::Listener(account.listener.clone()));
    assert_eq!(it.ready(&a).await, Ok(None), "its target is healthy");
    let error = it.ready(&b).await.unwrap_err().to_string();
    assert!(error.contains("it has no targets"), "{error}");
    account.register(1, "10.0.1.66").await;
    let untold = it.ready(&b).await.unwrap().unwrap();
    assert!(untold.contains("nothing tells"), "of a group that nothing leads to nothing is known: {untold}");
    it.set(&a, &b).await.unwrap();
    let error = it.ready(&b).await.unwrap_err().to_string();
    assert!(error.contains("unhealthy (Target.FailedHealthChecks)"), "{error}");
    account.register(1, "10.0.1.2").await;
    assert_eq!(it.ready(&b).await, Ok(None), "one of them serves");
}

/// Types what the runbook prints for a switch to the standby side, in a new folder; whether all of it succeeded.
fn typed(traffic: Traffic) -> Result<(), String> {
    let fleet =
        Fleet { name: "f".parse().unwrap(), time_zone: jiff::tz::TimeZone::UTC, recipients: Vec::new() };
    let mut spec = Spec::of(fleet);
    let name = traffic.name.clone();
    spec.traffic.insert(name.clone(), traffic);
    let made = by_hand(&spec, &name, Side::Standby, &Folders::of(&"site".parse().unwrap()));
    let folder = tempfile::tempdir().unwrap();
    for file in &made.files {
        let path = folder.path().join(&file.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &file.content).unwrap();
    }
    let lines = made.hands.iter().filter(|hand| !matches!(hand, Hand::Know(_)));
    let lines: Vec<String> = lines.map(ToString::to_string).collect();
    let mut shell = Command::new("timeout");
    shell
        .args(["300", "sh", "-euc", &lines.join("\n")])
        .current_dir(folder.path())
        .env_remove("AWS_CA_BUNDLE");
    shell.env("HOME", folder.path()).env("AWS_ACCESS_KEY_ID", KEY_ID).env("AWS_SECRET_ACCESS_KEY", SECRET);
    let output = shell.env("PYTHONPATH", "").env("PYENV_ROOT", pyenv()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    output.status.success().then_some(()).ok_or(format!("{}\n{out}\n{err}", lines.join("\n")))
}

/// Where pyenv is, whose shim may be what is called `aws`: it looks below the home folder otherwise.
fn pyenv() -> String {
    let home = std::env::var("HOME").unwrap_or_default();
    std::env::var("PYENV_ROOT").unwrap_or_else(|_| format!("{home}/.pyenv"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_switched_by_what_the_runbook_prints_and_only_where_it_leads_to_the_other_side() {
    let account = Account::new().await;
    let www = |primary: &[&str]| Traffic {
        name: "www".parse().unwrap(),
        primary: set(primary),
        standby: set(&["198.51.100.1"]),
        led_by: LedBy::Route53(
            Record { name: "www.example.org".to_owned(), kind: RecordKind::A, ttl: 300 },
            account.hosted_zone("example.org"),
        ),
    };
    let refused = typed(www(&["192.0.2.99"])).unwrap_err();
    assert!(refused.contains("InvalidChangeBatch"), "{refused}");
    assert_eq!(account.record("www.example.org").await.0.len(), 2, "nothing was changed");
    typed(www(&["192.0.2.10", "192.0.2.11"])).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(account.record("www.example.org").await.0, set(&["198.51.100.1"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_is_switched_by_what_the_runbook_prints() {
    let account = Account::new().await;
    let [primary, standby] = account.groups.each_ref().map(|group| set(&[group]));
    let forwards = Forwards::Listener(account.listener.clone());
    let led_by = LedBy::LoadBalancer(LoadBalancer { forwards, reach: account.reach() });
    typed(Traffic { name: "web".parse().unwrap(), primary, standby, led_by })
        .unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(account.leads_to().await, account.groups[1]);
}

/// An infra repo with a recovery that leads users away by both, and a controller.
struct Site {
    root: TempDir,
}

impl Site {
    fn new(account: &Account, allowed: &str) -> Self {
        let site = Self { root: tempfile::tempdir().unwrap() };
        let root = site.root.path().display();
        let recipient = backstay::keys::identity::generate(jiff::Timestamp::now()).recipient;
        let (zone, listener, endpoint) = (&account.zone, &account.listener, account.moto.endpoint());
        let [primary, standby] = &account.groups;
        let key = format!(
            "endpoint = \"{endpoint}\", access_key_id = {{ file = \"{root}/id\" }}, secret_access_key = {{ file = \"{root}/secret\" }}"
        );
        let nightly = schedules::nightly();
        let declared = format!(
            r#"
            [fleet]
            name = "pavroto"
            recipients = ["{recipient}"]
            [store.here.local]
            path = "{root}/store"
            [policy.nightly]
            full = "{nightly}"
            [backup.data]
            policy = "nightly"
            stores = ["here"]
            files = {{ paths = ["{root}/data"] }}
            [traffic.www]
            record = "www.example.org"
            primary = ["192.0.2.10", "192.0.2.11"]
            standby = ["198.51.100.1"]
            route53 = {{ zone = "example.org", id = "{zone}", {key} }}
            [traffic.web]
            primary = ["{primary}"]
            standby = ["{standby}"]
            load_balancer = {{ listener = "{listener}", {key} }}
            [recovery.away]
            steps = [{{ switch = "web", to = "standby" }}, {{ switch = "www", to = "standby" }}]
            "#
        );
        let config = format!(
            r#"
            state_dir = "{root}/state"
            [repo]
            url = "{root}/infra"
            path = "backup"
            [keys]
            dir = "{root}/keys"
            [allow]
            read = ["{root}/data"]
            write = ["{root}/store"]
            secrets = [{{ path = "{root}/id", hosts = ["127.0.0.1"] }}, {{ path = "{root}/secret", hosts = ["127.0.0.1"] }}]
            traffic = [{allowed}]
            "#
        );
        for folder in ["store", "data", "infra/backup"] {
            fs::create_dir_all(site.root.path().join(folder)).unwrap();
        }
        for (name, content) in [
            ("infra/backup/fleet.toml", declared.as_str()),
            ("backstay.toml", &config),
            ("id", KEY_ID),
            ("secret", SECRET),
            ("data/a", "a"),
        ] {
            fs::write(site.root.path().join(name), content).unwrap();
        }
        for secret in ["id", "secret"] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(site.root.path().join(secret), mode).unwrap();
        }
        site.commit();
        site
    }

    fn commit(&self) {
        let infra = self.root.path().join("infra");
        let git = |arguments: &[&str]| {
            let author = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
            run(Command::new("git").arg("-C").arg(&infra).args(author).args(arguments));
        };
        git(&["init", "-q", "-b", "main"]);
        git(&["add", "--all"]);
        git(&["commit", "-q", "-m", "Declare traffic"]);
    }

    fn backstay(&self, arguments: &[&str], code: i32) -> (String, String) {
        let config: &Path = &self.root.path().join("backstay.toml");
        let output =
            Command::new(env!("CARGO_BIN_EXE_backstay")).args(arguments).arg("--config").arg(config).output();
        let output = output.unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{out}\n{err}");
        assert!(!out.contains(SECRET) && !err.contains(SECRET), "the key is told");
        (out.into_owned(), err.into_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_leads_users_away_by_both_once_somebody_serves_them_there() {
    let account = Account::new().await;
    let site = Site::new(&account, &format!("\"www.example.org\", \"{}\"", account.listener));
    let (planned, _) = site.backstay(&["rebuild", "--recovery", "away", "--dry-run"], 0);
    assert!(planned.contains("switch traffic www to standby (198.51.100.1)"), "{planned}");
    // Nobody is there yet: nothing leads there.
    let rebuild = ["rebuild", "--recovery", "away", "-o", "json"];
    let (told, _) = site.backstay(&rebuild, 4);
    assert!(told.contains("it has no targets"), "{told}");
    assert_eq!(account.leads_to().await, account.groups[0]);
    account.register(1, "10.0.1.2").await;
    let (told, _) = site.backstay(&rebuild, 0);
    assert!(told.contains("198.51.100.1") && told.contains("nothing tells whether"), "{told}");
    assert_eq!(account.leads_to().await, account.groups[1]);
    assert_eq!(account.record("www.example.org").await.0, set(&["198.51.100.1"]));
    let (told, _) = site.backstay(&[&rebuild[..], &["--anew"]].concat(), 0);
    assert!(told.contains("198.51.100.1 already"), "{told}");
    let (page, _) = site.backstay(&["runbook"], 0);
    for part in
        ["aws route53 change-resource-record-sets", "aws elbv2 modify-listener", "\"Action\": \"DELETE\""]
    {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_switches_only_the_records_and_listeners_that_the_host_names() {
    let account = Account::new().await;
    account.register(1, "10.0.1.2").await;
    let listener = account.listener.as_str();
    for (allowed, refused) in [("mail.example.org", listener), (listener, "www.example.org")] {
        let site = Site::new(&account, &format!("\"{allowed}\""));
        let (_, err) = site.backstay(&["rebuild", "--recovery", "away"], 1);
        assert!(err.contains(&format!("add \"{refused}\" to `traffic` in [allow]")), "{err}");
    }
    assert_eq!(account.leads_to().await, account.groups[0]);
    assert_eq!(account.record("www.example.org").await.0.len(), 2);
}
