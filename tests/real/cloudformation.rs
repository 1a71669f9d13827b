//! Stacks of CloudFormation, as moto plays them: what is really there is asked of the services that make it.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use backstay::{
    aws::{AwsCredentials, CloudformationOptions, DEFAULT_SILENCE},
    config::Config,
    drivers::{Drivers, Registry},
    inventory::{Machine, PreviewMark},
    provisioners::{
        Provisioner,
        cloudformation::{CloudformationProvisioner, Declared, Pace, Wanted},
    },
    spec::{self, Cloudformation, Provision, SecretRef, Vm},
    state::StateDir,
    stores::Class,
    templates::{Templates, apart::by_program},
};

use crate::{
    lab::{
        free_port,
        moto::{KEY_ID, Moto, REGION, SECRET, elements},
    },
    machine_conformance::{conforms, made, removed},
};

/// As quick as a test, and no less patient than a machine under load needs.
pub const PACE: Pace = Pace {
    poll: Duration::from_millis(20),
    quiet: Duration::from_secs(2),
    longest: Duration::from_secs(120),
    drift: Duration::from_secs(2),
};

/// What a machine of the built-in template is declared with.
const ONE: &str = r##"
image = "ami-12c6146b"
instance_type = "t3.medium"
cidr = "10.9.0.0/24"
disk = 12
data_disk = 30
ssh_from = ["192.0.2.0/24"]
ports = [{ port = 443, from = ["198.51.100.0/24", "203.0.113.0/24"] }]
user_data = "#cloud-config\nruncmd: [\"echo {{ 'x' }}\"]\n"
"##;

const MANY: &str = r#"
image = "ami-12c6146b"
ports = [{ port = 443, from = ["0.0.0.0/0"] }, { port = 80, from = ["0.0.0.0/0"] }]
group = { min = 2, max = 4 }
load_balancer = true
"#;

/// The least that a fleet declares.
const FLEET: &str = r#"
[fleet]
name = "aws"
recipients = ["age1mz893hld2gl76fjq3qawwlwjvkze8kezax6x0crg04cwcqq63feqtxzxlm"]
[store.a.local]
path = "/srv/a"
[infra]
stores = ["a"]
[policy.p]
rpo = "24h"
full = "0 1 * * *"
keep = { full = "7d" }
[backup.b]
policy = "p"
stores = ["a"]
sqlite = { path = "/srv/b" }
"#;

/// The machine `web` with these variables of the built-in template.
fn web(endpoint: &str, vars: &str) -> Vm {
    let declared = format!(
        "{FLEET}[vm.web]\ntemplate = \"cloudformation-vm.yaml.tera\"\n\
         [vm.web.cloudformation]\nregion = \"{REGION}\"\nendpoint = \"{endpoint}\"\n[vm.web.vars]\n{vars}"
    );
    let files = [("fleet.toml".to_owned(), declared.into_bytes())].into();
    let parsed = spec::parse::parse(&files);
    let spec = parsed.spec.unwrap_or_else(|| panic!("{:?}", parsed.diagnostics));
    spec.vms.into_values().next().unwrap()
}

async fn rendered(vm: &Vm) -> String {
    by_program(env!("CARGO_BIN_EXE_backstay"));
    let context = serde_json::json!({
        "fleet": "aws", "vm": { "name": vm.name }, "vars": vm.vars,
        "cloudformation": { "region": REGION, "stack": "web", "parameters": {} },
    });
    Templates::default().render(&vm.template, &context).await.unwrap()
}

pub fn options(endpoint: &str) -> CloudformationOptions {
    CloudformationOptions {
        region: REGION.to_owned(),
        endpoint: Some(endpoint.to_owned()),
        credentials: AwsCredentials::Key { id: KEY_ID.to_owned(), secret: SECRET.to_owned().into() },
        silence: DEFAULT_SILENCE,
    }
}

pub fn stack() -> Cloudformation {
    Cloudformation {
        region: REGION.to_owned(),
        endpoint: None,
        credentials: None,
        stack: None,
        parameters: Default::default(),
        capabilities: Vec::new(),
    }
}

/// The stack `web` of the fleet `fleet`, made of `body`.
pub fn provisioner(endpoint: &str, fleet: &str, body: &str) -> CloudformationProvisioner {
    let (fleet, vm) = (fleet.parse().unwrap(), "web".parse().unwrap());
    let wanted = Wanted::of(Declared {
        fleet: &fleet,
        vm: &vm,
        stands_for: None,
        controller: "c0",
        stack: &stack(),
        body,
    })
    .unwrap();
    CloudformationProvisioner::new(options(endpoint), wanted).unwrap().paced(PACE)
}

async fn built_in(moto: &Moto, vars: &str) -> CloudformationProvisioner {
    let endpoint = moto.endpoint();
    provisioner(&endpoint, "aws", &rendered(&web(&endpoint, vars)).await)
}

const EC2: &str = "2016-11-15";
const SCALING: &str = "2011-01-01";
const BALANCING: &str = "2015-12-01";
const STACKS: &str = "2010-05-15";

/// Everything that is there, by the services that hold it.
pub async fn things(moto: &Moto) -> BTreeSet<String> {
    let running = [("Action", "DescribeInstances"), ("Filter.1.Name", "instance-state-name")];
    let running =
        [&running[..], &[("Filter.1.Value.1", "running"), ("Filter.1.Value.2", "pending")]].concat();
    let mut found = elements(&moto.query("ec2", EC2, &running).await, "instanceId");
    for (action, id) in [
        ("DescribeVpcs", "vpcId"),
        ("DescribeSubnets", "subnetId"),
        ("DescribeVolumes", "volumeId"),
        ("DescribeSecurityGroups", "groupId"),
        ("DescribeInternetGateways", "internetGatewayId"),
        ("DescribeRouteTables", "routeTableId"),
        ("DescribeLaunchTemplates", "launchTemplateId"),
    ] {
        found.extend(elements(&moto.query("ec2", EC2, &[("Action", action)]).await, id));
    }
    for (service, version, action, id) in [
        ("autoscaling", SCALING, "DescribeAutoScalingGroups", "AutoScalingGroupARN"),
        ("elasticloadbalancing", BALANCING, "DescribeLoadBalancers", "LoadBalancerArn"),
        ("elasticloadbalancing", BALANCING, "DescribeTargetGroups", "TargetGroupArn"),
    ] {
        found.extend(elements(&moto.query(service, version, &[("Action", action)]).await, id));
    }
    // A stack that waits for somebody to review it holds nothing, and is left behind all the same.
    let stacks = moto.query("cloudformation", STACKS, &[("Action", "DescribeStacks")]).await;
    found.extend(elements(&stacks, "StackId"));
    found.into_iter().collect()
}

async fn new_things(moto: &Moto, before: &BTreeSet<String>, kind: &str) -> Vec<String> {
    things(moto).await.difference(before).filter(|id| id.starts_with(kind)).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_of_the_built_in_template_conform() {
    let moto = Moto::with_stacks();
    conforms(&built_in(&moto, ONE).await, async || things(&moto).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_behind_a_load_balancer_conform() {
    let moto = Moto::with_stacks();
    conforms(&built_in(&moto, MANY).await, async || things(&moto).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_built_in_template_makes_a_machine_with_a_network_a_firewall_and_encrypted_disks() {
    let moto = Moto::with_stacks();
    let before = things(&moto).await;
    let (running, _) = made(&built_in(&moto, ONE).await).await;
    let [instance] = &new_things(&moto, &before, "i-").await[..] else { panic!("one machine") };
    let told = moto.query("ec2", EC2, &[("Action", "DescribeInstances"), ("InstanceId.1", instance)]).await;
    assert_eq!(elements(&told, "instanceType"), ["t3.medium"]);
    assert_eq!(elements(&told, "imageId"), ["ami-12c6146b"]);
    let address = running.unwrap().address.unwrap();
    assert_eq!((Some(&address.host), address.port), (elements(&told, "ipAddress").first(), 22));
    let asked =
        [("Action", "DescribeInstanceAttribute"), ("InstanceId", instance), ("Attribute", "userData")];
    let given = moto.query("ec2", EC2, &asked).await;
    assert!(given.contains("I2Nsb3VkLWNvbmZpZwpydW5jbWQ6IFsiZWNobyB7eyAneCcgfX0iXQo"), "{given}");

    let disks = new_things(&moto, &before, "vol-").await;
    let mut sizes = BTreeSet::new();
    for disk in &disks {
        let told = moto.query("ec2", EC2, &[("Action", "DescribeVolumes"), ("VolumeId.1", disk)]).await;
        assert_eq!(elements(&told, "encrypted"), ["true"]);
        sizes.extend(elements(&told, "size"));
    }
    assert_eq!(sizes, BTreeSet::from(["12".to_owned(), "30".to_owned()]));
    for kind in ["vpc-", "subnet-", "igw-"] {
        assert_eq!(new_things(&moto, &before, kind).await.len(), 1, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_firewall_lets_in_what_is_declared_and_nothing_else() {
    let moto = Moto::with_stacks();
    let before = things(&moto).await;
    made(&built_in(&moto, ONE).await).await.0.unwrap();
    let mut rules = BTreeSet::new();
    for group in new_things(&moto, &before, "sg-").await {
        let told = [("Action", "DescribeSecurityGroups"), ("GroupId.1", group.as_str())];
        let told = moto.query("ec2", EC2, &told).await;
        let named = &elements(&told, "groupName")[0];
        let incoming = &elements(&told, "ipPermissions")[..];
        // A network comes with a group of its own, which no machine of the template is in.
        if named == "default" {
            continue;
        }
        for rule in incoming.iter().flat_map(|rules| rules.split("<ipProtocol>").skip(1)) {
            let (port, to) = (&elements(rule, "fromPort")[0], &elements(rule, "toPort")[0]);
            assert_eq!(port, to);
            rules.extend(elements(rule, "cidrIp").iter().map(|from| format!("{port} {from}")));
        }
    }
    let declared = ["22 192.0.2.0/24", "443 198.51.100.0/24", "443 203.0.113.0/24"];
    assert_eq!(rules, declared.map(str::to_owned).into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_keeps_its_machines_and_its_load_balancer_listens_on_every_port() {
    let moto = Moto::with_stacks();
    let before = things(&moto).await;
    let running = made(&built_in(&moto, MANY).await).await.0.unwrap();
    assert_eq!(new_things(&moto, &before, "i-").await.len(), 2);
    let groups = moto.query("autoscaling", SCALING, &[("Action", "DescribeAutoScalingGroups")]).await;
    assert_eq!(
        (elements(&groups, "MinSize"), elements(&groups, "MaxSize")),
        (vec!["2".into()], vec!["4".into()])
    );
    let balancers =
        moto.query("elasticloadbalancing", BALANCING, &[("Action", "DescribeLoadBalancers")]).await;
    assert_eq!(elements(&balancers, "DNSName"), [running.address.unwrap().host]);
    let arn = &elements(&balancers, "LoadBalancerArn")[0];
    let listeners = [("Action", "DescribeListeners"), ("LoadBalancerArn", arn)];
    let mut ports = elements(&moto.query("elasticloadbalancing", BALANCING, &listeners).await, "Port");
    ports.sort();
    assert_eq!(ports, ["443", "80"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_names_every_resource_that_comes() {
    let moto = Moto::with_stacks();
    let lines = built_in(&moto, ONE).await.preview(&PreviewMark::drawn(7)).await.unwrap();
    for line in [
        "Add Vm (AWS::EC2::Instance)",
        "Add Network (AWS::EC2::VPC)",
        "Add Firewall (AWS::EC2::SecurityGroup)",
    ] {
        assert!(lines.iter().any(|known| known == line), "{line}: {lines:?}");
    }
    let groups = built_in(&moto, MANY).await.preview(&PreviewMark::drawn(7)).await.unwrap();
    assert!(groups.iter().any(|line| line == "Add Group (AWS::AutoScaling::AutoScalingGroup)"), "{groups:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_of_somebody_else_is_never_touched() {
    let moto = Moto::with_stacks();
    let body = rendered(&web(&moto.endpoint(), ONE)).await;
    let foreign = [("Action", "CreateStack"), ("StackName", "web"), ("TemplateBody", body.as_str())];
    moto.query("cloudformation", STACKS, &foreign).await;
    let there = things(&moto).await;
    let ours = built_in(&moto, ONE).await;
    let Ok(Machine::Broken { why }) = ours.observe().await else { panic!("it is not ours") };
    assert!(why.contains("Backstay did not make"), "{why}");
    for refused in [
        made(&ours).await.0.map(drop),
        removed(&ours).await.0,
        ours.preview(&PreviewMark::drawn(7)).await.map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert!(refused.message.contains("declare another name as `stack`"), "{refused}");
        assert_eq!(refused.class, Class::Stalled);
    }
    assert_eq!(things(&moto).await, there);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_of_another_fleet_is_told_by_its_name() {
    let moto = Moto::with_stacks();
    let body = rendered(&web(&moto.endpoint(), ONE)).await;
    made(&provisioner(&moto.endpoint(), "other", &body)).await.0.unwrap();
    let there = things(&moto).await;
    let refused = removed(&built_in(&moto, ONE).await).await.0.unwrap_err().message;
    assert!(refused.contains("vm.web of the fleet other"), "{refused}");
    assert_eq!(things(&moto).await, there);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_template_than_the_one_that_a_stack_was_made_of_is_drift() {
    let moto = Moto::with_stacks();
    made(&built_in(&moto, ONE).await).await.0.unwrap();
    let changed = built_in(&moto, &ONE.replace("t3.medium", "t3.large")).await;
    let Ok(Machine::Running(running)) = changed.observe().await else { panic!("it runs") };
    assert_eq!(running.drift.len(), 1, "{running:?}");
    assert!(running.drift[0].contains("another template"), "{running:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_says_it_is_whole_without_a_resource_is_broken() {
    let moto = Moto::with_stacks();
    // Types that moto does not know are CREATE_COMPLETE with nothing made.
    let body = r#"{"Resources": {
        "Network": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.9.0.0/24"}},
        "Vault": {"Type": "AWS::Backup::Nothing", "Properties": {}}}}"#;
    let ours = provisioner(&moto.endpoint(), "aws", body);
    let error = made(&ours).await.0.unwrap_err().message;
    assert!(error.contains("was never made, though the stack says CREATE_COMPLETE"), "{error}");
    assert!(matches!(ours.observe().await, Ok(Machine::Broken { .. })));
    removed(&ours).await.0.unwrap();
    assert_eq!(ours.observe().await, Ok(Machine::Gone));
}

/// A subnet that is not in its network.
const FAILS: &str = r#"{"Resources": {
    "Network": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.9.0.0/24"}},
    "Subnet": {"Type": "AWS::EC2::Subnet", "Properties": {"CidrBlock": "10.99.0.0/24", "VpcId": {"Ref": "Network"}}}}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_is_never_done_is_told_of_in_bounded_time_and_can_be_removed() {
    let moto = Moto::with_stacks();
    let ours = provisioner(&moto.endpoint(), "aws", FAILS);
    let before = things(&moto).await;
    let error = tokio::time::timeout(Duration::from_secs(60), made(&ours))
        .await
        .expect("it is bounded")
        .0
        .unwrap_err();
    for part in ["CREATE_IN_PROGRESS for 2s", "when it began", "10.99.0.0/24"] {
        assert!(error.message.contains(part), "{part}: {error}");
    }
    let Ok(Machine::Broken { why }) = ours.observe().await else { panic!("it is half made") };
    assert!(why.contains("CREATE_IN_PROGRESS"), "{why}");
    removed(&ours).await.0.unwrap();
    assert_eq!(ours.observe().await, Ok(Machine::Gone));
    assert_eq!(things(&moto).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_is_none_makes_nothing() {
    let moto = Moto::with_stacks();
    let before = things(&moto).await;
    let ours = provisioner(&moto.endpoint(), "aws", "Resources: [");
    for refused in [made(&ours).await.0.map(drop), ours.preview(&PreviewMark::drawn(7)).await.map(drop)] {
        refused.unwrap_err();
    }
    assert_eq!((things(&moto).await, ours.observe().await), (before, Ok(Machine::Gone)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_is_no_machine_that_is_gone() {
    let ours = provisioner(&format!("http://127.0.0.1:{}", free_port()), "aws", FAILS);
    for failed in [ours.observe().await.map(drop), made(&ours).await.0.map(drop), removed(&ours).await.0] {
        let failed = failed.unwrap_err();
        assert_eq!(failed.class, Class::Retry, "{failed}");
        assert!(failed.message.contains("check the endpoint and the network"), "{failed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_not_is_told_what_its_policy_must_allow() {
    let moto = Moto::with_stacks();
    let else_where = serde_json::json!({ "Effect": "Allow", "Action": "s3:GetObject", "Resource": "*" });
    let policy = serde_json::json!({ "Version": "2012-10-17", "Statement": [else_where] });
    let key = moto.key_for("nobody", &policy).await;
    moto.guard().await;
    let (fleet, vm) = ("aws".parse().unwrap(), "web".parse().unwrap());
    let wanted = Wanted::of(Declared {
        fleet: &fleet,
        vm: &vm,
        stands_for: None,
        controller: "c0",
        stack: &stack(),
        body: FAILS,
    })
    .unwrap();
    let options = CloudformationOptions { credentials: key, ..options(&moto.endpoint()) };
    let ours = CloudformationProvisioner::new(options, wanted).unwrap();
    let refused = ours.observe().await.unwrap_err();
    assert_eq!(refused.class, Class::Stalled);
    assert!(refused.message.contains("its policy allows cloudformation:DescribeStacks"), "{refused}");
}

/// The drivers of a host whose configuration says this of what it allows.
pub fn drivers(folder: &Path, allow: &str) -> Drivers {
    let text = format!("state_dir = \"state\"\nrepo.url = \"r\"\nkeys.dir = \"k\"\n[allow]\n{allow}");
    let config = Config::parse("backstay.toml", text.as_bytes(), folder).unwrap();
    let state = StateDir::open(folder.join("state")).unwrap();
    Drivers::new(config, Vec::new(), &state)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_regions_that_the_host_allows_are_reached() {
    let folder = tempfile::tempdir().unwrap();
    let moto = Moto::with_stacks();
    let (vm, fleet) = (web(&moto.endpoint(), ONE), "aws".parse().unwrap());
    let elsewhere = drivers(folder.path(), "machines = [\"cloudformation:eu-west-1\"]");
    let refused = elsewhere.provisioner(&fleet, &vm, &Templates::default()).await;
    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains(r#"add "cloudformation:eu-north-1" to `machines` in [allow]"#), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_declared_comes_up_with_keys_that_the_host_lets_go_to_the_endpoint() {
    let (folder, moto) = (tempfile::tempdir().unwrap(), Moto::with_stacks());
    let secret = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        SecretRef::File(path)
    };
    let (mut vm, fleet) = (web(&moto.endpoint(), ONE), "aws".parse().unwrap());
    let Provision::Cloudformation(stack) = &mut vm.provision else { panic!("it is a stack") };
    stack.credentials = Some(spec::AwsCredentials {
        access_key_id: secret("id", KEY_ID),
        secret_access_key: secret("key", SECRET),
    });
    let allow = |host: &str| {
        let path = folder.path().display();
        format!(
            "machines = [\"cloudformation:{REGION}\"]\nsecrets = [{{ path = \"{path}\", hosts = [\"{host}\"] }}]"
        )
    };
    let elsewhere = drivers(folder.path(), &allow("cloudformation.eu-north-1.amazonaws.com"));
    let refused = elsewhere.provisioner(&fleet, &vm, &Templates::default()).await.err().unwrap().to_string();
    assert!(refused.contains("127.0.0.1"), "{refused}");
    let before = things(&moto).await;
    let host = drivers(folder.path(), &allow("127.0.0.1"));
    let ours = host.provisioner(&fleet, &vm, &Templates::default()).await;
    let ours = ours.unwrap_or_else(|refused| panic!("{refused}"));
    assert!(made(&*ours).await.0.unwrap().address.is_some());
    assert_eq!(new_things(&moto, &before, "i-").await.len(), 1);
    removed(&*ours).await.0.unwrap();
    assert_eq!(things(&moto).await, before);
}

/// The linter of CloudFormation's own templates, which comes with moto.
#[tokio::test]
async fn the_built_in_template_passes_the_linter_of_cloudformation() {
    let tools = std::env::var_os("BACKSTAY_TOOLS").map(std::path::PathBuf::from);
    let tools = tools.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools").into());
    let folder = tempfile::tempdir().unwrap();
    let least = "image = \"/aws/service/debian/release/12/latest/amd64\"\nhost_key = \"ssh-ed25519 AAAA\"\n";
    let named = "image = \"ami-0123456789abcdef0\"\nzone = \"eu-north-1b\"\nkey_name = \"k\"\ninstance_profile = \"p\"\n\
                 ports = [{ port = 443, from = [\"::/0\"] }]\n";
    for (number, vars) in [ONE, MANY, least, named].into_iter().enumerate() {
        let file = folder.path().join(format!("{number}.yaml"));
        std::fs::write(&file, rendered(&web("http://127.0.0.1:1", vars)).await).unwrap();
        let mut linter = std::process::Command::new(tools.join("moto/bin/cfn-lint"));
        // A zone of its own is what `zone` is for.
        let linter = linter.args(["--ignore-checks", "W3010", "--regions", REGION, "--template"]);
        let found = linter.arg(&file).output().unwrap();
        assert!(found.status.success(), "{vars}\n{}", String::from_utf8_lossy(&found.stdout));
    }
}
