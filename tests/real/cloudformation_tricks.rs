//! Stacks that go as moto's never do: rolled back, stuck, protected, changed past their stack. A go-between says so.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use backstay::{
    inventory::{Machine, PreviewMark},
    provisioners::{Provisioner, cloudformation::CloudformationProvisioner},
    stores::Class,
};

use crate::{
    cloudformation::{provisioner, things},
    lab::moto::Moto,
    machine_conformance::{made, removed},
};

/// What becomes of an answer: its status and its text, and how often the operation was asked for before.
type Trick = Box<dyn Fn(StatusCode, String, usize) -> (StatusCode, String) + Send>;

/// Hands requests on to moto, and answers as it is told to.
#[derive(Clone)]
struct Between {
    behind: String,
    tricks: Arc<Mutex<HashMap<&'static str, Trick>>>,
    seen: Arc<Mutex<HashMap<String, usize>>>,
    /// Operations that are not handed on.
    held: Arc<Mutex<Vec<&'static str>>>,
}

impl Between {
    async fn start(moto: &Moto) -> (Self, CloudformationProvisioner) {
        let between = Self {
            behind: moto.endpoint(),
            tricks: Arc::default(),
            seen: Arc::default(),
            held: Arc::default(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(hand_on).with_state(between.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (between, provisioner(&endpoint, "aws", BODY))
    }

    fn play(
        &self,
        operation: &'static str,
        trick: impl Fn(StatusCode, String, usize) -> (StatusCode, String) + Send + 'static,
    ) {
        self.tricks.lock().unwrap().insert(operation, Box::new(trick));
    }

    /// Answers every request of an operation with this, and hands none on.
    fn answer(&self, operation: &'static str, status: u16, text: String) {
        self.held.lock().unwrap().push(operation);
        let status = StatusCode::from_u16(status).unwrap();
        self.play(operation, move |_, _, _| (status, text.clone()));
    }

    /// Replaces text in every answer of an operation.
    fn replace(&self, operation: &'static str, from: &'static str, to: &'static str) {
        self.play(operation, move |status, text, _| (status, text.replace(from, to)));
    }

    fn asked(&self, operation: &str) -> usize {
        self.seen.lock().unwrap().get(operation).copied().unwrap_or(0)
    }
}

async fn hand_on(State(between): State<Between>, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let form = String::from_utf8(body.to_vec()).unwrap();
    let operation = form.split('&').find_map(|pair| pair.strip_prefix("Action=")).unwrap().to_owned();
    let before = {
        let mut seen = between.seen.lock().unwrap();
        let count = seen.entry(operation.clone()).or_default();
        *count += 1;
        *count - 1
    };
    let (mut status, mut text) = (StatusCode::OK, String::new());
    let held = between.held.lock().unwrap().contains(&operation.as_str());
    if !held {
        let mut request = reqwest::Client::new().post(&between.behind).body(form);
        for name in ["content-type", "authorization"] {
            request = request.header(name, headers[name].to_str().unwrap());
        }
        let answer = request.send().await.unwrap();
        status = answer.status();
        text = answer.text().await.unwrap();
    }
    match between.tricks.lock().unwrap().get(operation.as_str()) {
        Some(trick) => trick(status, text, before),
        None => (status, text),
    }
}

const BODY: &str = r#"{"Resources": {"Network": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.9.0.0/24"}}},
                       "Outputs": {"Address": {"Value": "192.0.2.9"}}}"#;

fn answer(operation: &str, content: &str) -> String {
    format!(
        "<{operation}Response xmlns=\"http://cloudformation.amazonaws.com/doc/2010-05-15/\"><{operation}Result>{content}\
         </{operation}Result></{operation}Response>"
    )
}

fn refusal(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    )
}

/// Events, newest first as the server lists them: number, resource, status, reason.
fn events(events: &[(u32, &str, &str, &str)]) -> String {
    let member = |(number, resource, status, reason): &(u32, &str, &str, &str)| {
        format!(
            "<member><StackId>s</StackId><StackName>web</StackName><EventId>{number}</EventId>\
             <LogicalResourceId>{resource}</LogicalResourceId><PhysicalResourceId>{id}</PhysicalResourceId>\
             <ResourceType>T</ResourceType><Timestamp>2026-01-01T00:00:00Z</Timestamp>\
             <ResourceStatus>{status}</ResourceStatus><ResourceStatusReason>{reason}</ResourceStatusReason></member>",
            id = if *resource == "web" { "s" } else { "p" },
        )
    };
    let members: String = events.iter().rev().map(member).collect();
    answer("DescribeStackEvents", &format!("<StackEvents>{members}</StackEvents>"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_is_rolled_back_is_told_with_its_first_failure_and_what_is_left() {
    let moto = Moto::start();
    let (between, web) = Between::start(&moto).await;
    // First it is being made; then it is taken back.
    between.play("DescribeStacks", |status, text, before| {
        let now = if before < 3 { "CREATE_IN_PROGRESS" } else { "ROLLBACK_COMPLETE" };
        (status, text.replace("CREATE_COMPLETE", now))
    });
    let all = [
        (1, "web", "CREATE_IN_PROGRESS", "User Initiated"),
        (2, "Network", "CREATE_IN_PROGRESS", ""),
        (3, "Vm", "CREATE_FAILED", "no such image"),
        (4, "Network", "CREATE_FAILED", "Resource creation cancelled"),
        (5, "web", "ROLLBACK_IN_PROGRESS", "[Vm, Network] failed"),
    ];
    between.held.lock().unwrap().push("DescribeStackEvents");
    between.play("DescribeStackEvents", move |status, _, before| {
        (status, events(&all[..(2 + 2 * before).min(5)]))
    });
    let (error, said) = made(&web).await;
    let error = error.unwrap_err();
    for part in [
        "ROLLBACK_COMPLETE",
        "since Vm (T) CREATE_FAILED: no such image",
        "left are Network (AWS::EC2::VPC) vpc-",
    ] {
        assert!(error.message.contains(part), "{part}: {error}");
    }
    assert_eq!(error.class, Class::Stalled);
    let told: Vec<&str> = said.iter().map(String::as_str).collect();
    assert_eq!(
        told,
        [
            "web (T) CREATE_IN_PROGRESS: User Initiated",
            "Network (T) CREATE_IN_PROGRESS",
            "Vm (T) CREATE_FAILED: no such image",
            "Network (T) CREATE_FAILED: Resource creation cancelled",
            "web (T) ROLLBACK_IN_PROGRESS: [Vm, Network] failed",
        ],
        "each event once, in its order"
    );
    let Ok(Machine::Broken { why }) = web.observe().await else { panic!("it was taken back") };
    assert!(why.contains("ROLLBACK_COMPLETE"), "{why}");
    made(&web).await.0.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_hangs_is_told_with_the_resource_that_it_hangs_at() {
    let moto = Moto::start();
    let (between, web) = Between::start(&moto).await;
    between.replace("DescribeStacks", "CREATE_COMPLETE", "CREATE_IN_PROGRESS");
    let all = [
        (1, "web", "CREATE_IN_PROGRESS", ""),
        (2, "Vm", "CREATE_IN_PROGRESS", "Resource creation Initiated"),
    ];
    between.answer("DescribeStackEvents", 200, events(&all));
    let error = made(&web).await.0.unwrap_err().message;
    let hangs =
        "CREATE_IN_PROGRESS for 2s: it hangs at Vm (T) CREATE_IN_PROGRESS: Resource creation Initiated";
    assert!(error.contains(hangs), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_whose_making_was_not_answered_is_followed_all_the_same() {
    let moto = Moto::start();
    let (between, web) = Between::start(&moto).await;
    between.play("CreateStack", |_, _, _| (StatusCode::BAD_GATEWAY, String::new()));
    let running = made(&web).await.0.unwrap();
    assert_eq!(running.address.unwrap().host, "192.0.2.9");
    assert_eq!(between.asked("CreateStack"), 1, "nothing is made twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_somebody_else_made_meanwhile_is_left_alone() {
    let moto = Moto::start();
    let (between, web) = Between::start(&moto).await;
    made(&web).await.0.unwrap();
    let there = things(&moto).await;
    between.play("DescribeStacks", |status, text, before| match before {
        // At the first look of the second making nothing is there yet.
        2 => (StatusCode::BAD_REQUEST, refusal("ValidationError", "Stack with id web does not exist")),
        _ => (status, text),
    });
    assert_eq!(between.asked("DescribeStacks"), 2);
    let error = made(&web).await.0.unwrap_err().message;
    assert!(error.contains("AlreadyExistsException"), "{error}");
    assert_eq!(things(&moto).await, there);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_stack_is_not_removed() {
    let moto = Moto::start();
    let (between, web) = Between::start(&moto).await;
    made(&web).await.0.unwrap();
    let there = things(&moto).await;
    let protection = "EnableTerminationProtection>";
    between.play("DescribeStacks", move |status, text, _| {
        (status, text.replace(&format!("<{protection}false"), &format!("<{protection}true")))
    });
    let error = removed(&web).await.0.unwrap_err();
    assert!(error.message.contains("update-termination-protection"), "{error}");
    assert_eq!((error.class, between.asked("DeleteStack")), (Class::Stalled, 0));
    assert_eq!(things(&moto).await, there);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_deleted_is_told_with_its_reason() {
    let moto = Moto::start();
    let (between, web) = Between::start(&moto).await;
    made(&web).await.0.unwrap();
    between.answer("DeleteStack", 200, answer("DeleteStack", ""));
    between.replace("DescribeStacks", "CREATE_COMPLETE", "DELETE_FAILED");
    let made_with = between.asked("DescribeStackEvents");
    let all =
        [(9, "Network", "DELETE_FAILED", "it is in use"), (10, "web", "DELETE_FAILED", "[Network] failed")];
    between.held.lock().unwrap().push("DescribeStackEvents");
    between.play("DescribeStackEvents", move |status, _, before| {
        (status, events(if before == made_with { &[(8, "web", "CREATE_COMPLETE", "")] } else { &all }))
    });
    let error = removed(&web).await.0.unwrap_err().message;
    for part in [
        "DELETE_FAILED",
        "since Network (T) DELETE_FAILED: it is in use",
        "left are Network (AWS::EC2::VPC) vpc-",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_somebody_else_is_waited_for_before_a_stack_is_removed() {
    let moto = Moto::start();
    let (between, web) = Between::start(&moto).await;
    made(&web).await.0.unwrap();
    let made_with = between.asked("DescribeStacks");
    between.play("DescribeStacks", move |status, text, before| {
        let going_on = before < made_with + 3;
        (status, if going_on { text.replace("CREATE_COMPLETE", "UPDATE_IN_PROGRESS") } else { text })
    });
    let (gone, said) = removed(&web).await;
    gone.unwrap();
    assert!(said[0].contains("waiting for what goes on already: UPDATE_IN_PROGRESS"), "{said:?}");
    assert_eq!(web.observe().await, Ok(Machine::Gone));
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_that_changed_past_their_stack_are_drift_and_a_lost_one_is_no_machine() {
    let moto = Moto::start();
    let (between, web) = Between::start(&moto).await;
    made(&web).await.0.unwrap();
    let detection = "<StackDriftDetectionId>d1</StackDriftDetectionId>";
    between.answer("DetectStackDrift", 200, answer("DetectStackDrift", detection));
    between.held.lock().unwrap().push("DescribeStackDriftDetectionStatus");
    between.play("DescribeStackDriftDetectionStatus", move |status, _, before| {
        let far = if before == 0 { "DETECTION_IN_PROGRESS" } else { "DETECTION_COMPLETE" };
        let told = format!(
            "<StackId>s</StackId>{detection}<DetectionStatus>{far}</DetectionStatus><Timestamp>2026-01-01T00:00:00Z</Timestamp>"
        );
        (status, answer("DescribeStackDriftDetectionStatus", &told))
    });
    let drifts = |status: &str| {
        let drift = format!(
            "<StackResourceDrifts><member><StackId>s</StackId><LogicalResourceId>Network</LogicalResourceId>\
             <PhysicalResourceId>vpc-1</PhysicalResourceId><ResourceType>AWS::EC2::VPC</ResourceType>\
             <PropertyDifferences><member><PropertyPath>/EnableDnsSupport</PropertyPath><ExpectedValue>true</ExpectedValue>\
             <ActualValue>false</ActualValue><DifferenceType>NOT_EQUAL</DifferenceType></member></PropertyDifferences>\
             <StackResourceDriftStatus>{status}</StackResourceDriftStatus><Timestamp>2026-01-01T00:00:00Z</Timestamp>\
             </member></StackResourceDrifts>"
        );
        answer("DescribeStackResourceDrifts", &drift)
    };
    between.answer("DescribeStackResourceDrifts", 200, drifts("MODIFIED"));
    let Ok(Machine::Running(running)) = web.observe().await else { panic!("it runs") };
    assert_eq!(
        running.drift,
        ["Network (AWS::EC2::VPC) vpc-1: /EnableDnsSupport is false; the stack has true"]
    );
    between.answer("DescribeStackResourceDrifts", 200, drifts("DELETED"));
    let Ok(Machine::Broken { why }) = web.observe().await else { panic!("a resource is lost") };
    assert!(why.contains("vpc-1 was deleted past its stack"), "{why}");
}

/// Page by page: so many resources that are there, and then one that is not.
fn resources(page: usize, pages: usize) -> String {
    let member = |n: usize, status: &str| {
        format!(
            "<member><LogicalResourceId>Part{n}</LogicalResourceId><PhysicalResourceId>p-{n}</PhysicalResourceId>\
             <ResourceType>T</ResourceType><LastUpdatedTimestamp>2026-01-01T00:00:00Z</LastUpdatedTimestamp>\
             <ResourceStatus>{status}</ResourceStatus></member>"
        )
    };
    let (all, next) = match page + 1 < pages {
        true => (
            (0..100).map(|n| member(100 * page + n, "CREATE_COMPLETE")).collect(),
            format!("<NextToken>{page}</NextToken>"),
        ),
        false => (member(100 * page, "DELETE_FAILED"), String::new()),
    };
    answer("ListStackResources", &format!("<StackResourceSummaries>{all}</StackResourceSummaries>{next}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn all_resources_of_a_large_stack_are_seen_and_one_without_end_is_no_machine() {
    let moto = Moto::start();
    let (between, web) = Between::start(&moto).await;
    made(&web).await.0.unwrap();
    let asked = between.asked("ListStackResources");
    between.held.lock().unwrap().push("ListStackResources");
    between.play("ListStackResources", move |status, _, before| (status, resources(before - asked, 3)));
    let Ok(Machine::Broken { why }) = web.observe().await else { panic!("one of them is not there") };
    assert_eq!(why, "Part200 (T) is DELETE_FAILED");
    assert_eq!(between.asked("ListStackResources"), asked + 3);

    between.play("ListStackResources", move |status, _, before| (status, resources(before, usize::MAX)));
    let unknown = web.observe().await.unwrap_err();
    assert!(unknown.message.contains("resources on over 200 pages"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_compare_resources_learns_that_their_drift_is_not_known() {
    let moto = Moto::start();
    let (between, web) = Between::start(&moto).await;
    made(&web).await.0.unwrap();
    between.answer("DetectStackDrift", 403, refusal("AccessDenied", "not you"));
    let Ok(Machine::Running(running)) = web.observe().await else { panic!("it runs") };
    assert_eq!(running.drift.len(), 1);
    assert!(running.drift[0].contains("is not known") && running.drift[0].contains("not you"), "{running:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_one_answer_that_says_so_makes_a_machine_gone() {
    let moto = Moto::start();
    let (between, web) = Between::start(&moto).await;
    assert_eq!(web.observe().await, Ok(Machine::Gone));
    let nothing = answer("DescribeStacks", "<Stacks></Stacks>");
    let another = answer(
        "DescribeStacks",
        "<Stacks><member><StackName>other</StackName><StackId>o</StackId><CreationTime>2026-01-01T00:00:00Z</CreationTime>\
         <StackStatus>DELETE_COMPLETE</StackStatus></member></Stacks>",
    );
    for (status, text) in [
        (403, refusal("AccessDenied", "User does not exist")),
        (400, refusal("ValidationError", "the name is too long")),
        (503, refusal("ServiceUnavailable", "later")),
        (200, nothing),
        (200, another),
    ] {
        between.answer("DescribeStacks", status, text.clone());
        web.observe().await.expect_err(&text);
        made(&web).await.0.unwrap_err();
        removed(&web).await.0.unwrap_err();
    }
    assert_eq!((between.asked("CreateStack"), between.asked("DeleteStack")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_set_that_can_not_be_made_is_told_with_its_reason_and_leaves_nothing() {
    let moto = Moto::start();
    let (between, web) = Between::start(&moto).await;
    let before = things(&moto).await;
    between.play("DescribeChangeSet", |status, text, _| {
        let failed = text.replace("CREATE_COMPLETE", "FAILED");
        (status, failed.replace("<Status>", "<StatusReason>no such parameter</StatusReason><Status>"))
    });
    let error = web.preview(&PreviewMark::drawn(7)).await.unwrap_err().message;
    assert!(error.contains("its change set is FAILED: no such parameter"), "{error}");
    between.play("CreateChangeSet", |_, _, _| (StatusCode::BAD_GATEWAY, String::new()));
    web.preview(&PreviewMark::drawn(7)).await.unwrap_err();
    assert_eq!(things(&moto).await, before);
}
