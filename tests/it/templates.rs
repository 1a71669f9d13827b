//! Templates that whoever may commit has written to harm the host that renders them.

use std::time::{Duration, Instant};

use backstay::templates::{
    Remembered, TemplateError, Templates,
    apart::{Bound, by_program},
};
use serde_json::json;

/// What a bound may cost, on a host with other work.
const PATIENCE: Duration = Duration::from_secs(90);

fn templates(all: &[(&str, &str)]) -> Templates {
    by_program(env!("CARGO_BIN_EXE_backstay"));
    Templates::of(all.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
}

/// The bound that a template breaks.
async fn broken(text: &str) -> (Bound, String) {
    let templates = templates(&[("evil.tera", text)]);
    let mut tries = 3;
    let error = loop {
        let began = Instant::now();
        let error = templates.render("evil.tera", &json!({})).await.unwrap_err();
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        tries -= 1;
        // A host that has no time for it finds out nothing.
        if tries == 0 || !matches!(error, TemplateError::CouldNotRun { .. }) {
            break error;
        }
    };
    let TemplateError::Unbounded { name, bound } = &error else { panic!("{text}: {error}") };
    assert_eq!(name, "evil.tera");
    (*bound, error.to_string())
}

#[tokio::test]
async fn what_a_template_may_is_what_it_rendered_to_before() {
    let context =
        json!({ "vm": { "name": "web" }, "vars": { "n": 4, "on": true, "ratio": 1.5, "list": ["a", 1] } });
    let text = "{{ vm.name }} {{ vars.n + 1 }} {{ vars.on }} {{ vars.ratio }} {% for a in vars.list %}{{ a }},{% endfor %}";
    let rendered = templates(&[("a.tera", text)]).render("a.tera", &context).await;
    assert_eq!(rendered.as_deref(), Ok("web 5 true 1.5 a,1,"));
    let faulty = templates(&[("a.tera", "\n{{ vars.none }}")]).render("a.tera", &context).await.unwrap_err();
    assert!(
        matches!(faulty, TemplateError::Faulty { .. }) && faulty.to_string().contains("none"),
        "{faulty}"
    );
}

#[tokio::test]
async fn a_template_that_repeats_itself_and_writes_nothing_is_ended() {
    let nested = "{% for a in range(end=100000) %}{% for b in range(end=100000) %}{% endfor %}{% endfor %}";
    let (bound, said) = broken(nested).await;
    assert_eq!(bound, Bound::Time);
    assert!(
        said.contains("evil.tera") && said.contains("10s") && said.contains("make that smaller"),
        "{said}"
    );
}

#[tokio::test]
async fn a_template_that_gathers_memory_is_ended() {
    let doubled = "{% set_global x = '0123456789abcdef' %}{% for a in range(end=64) %}{% set_global x = x ~ x %}{% endfor %}done";
    assert_eq!(broken(doubled).await.0, Bound::Memory);
}

#[tokio::test]
async fn a_template_that_writes_without_end_is_ended_at_the_bound_of_its_text() {
    let long = "{% for a in range(end=100000) %}{% for b in range(end=100000) %}0123456789abcdef0123456789abcdef0123456789abcdef{% endfor %}{% endfor %}";
    assert_eq!(broken(long).await.0, Bound::Text);
}

#[tokio::test]
async fn what_broke_a_bound_is_not_tried_again_and_after_some_nothing_else_is() {
    let long = "{% for a in range(end=100000) %}{% for b in range(end=100000) %}0123456789abcdef0123456789abcdef{% endfor %}{% endfor %}";
    let all = templates(&[("a.tera", long), ("b.tera", long), ("c.tera", long), ("good.tera", "good")]);
    assert_eq!(all.render("good.tera", &json!({})).await.as_deref(), Ok("good"));
    for name in ["a.tera", "b.tera", "c.tera"] {
        let error = all.render(name, &json!({})).await.unwrap_err();
        assert_eq!(error, TemplateError::Unbounded { name: name.to_owned(), bound: Bound::Text });
    }
    let refused = all.clone().render("good.tera", &json!({})).await.unwrap_err();
    assert!(refused.to_string().contains("a.tera, b.tera, c.tera"), "{refused}");
    let began = Instant::now();
    assert!(all.render("a.tera", &json!({})).await.is_err());
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn what_broke_a_bound_is_not_rendered_again_until_it_is_another() {
    let nested =
        "{% for a in range(end=vars.n) %}{% for b in range(end=100000) %}{% endfor %}{% endfor %}done";
    let remembered = Remembered::default();
    // Each time as a pass reads them anew.
    let read = |text: &str| templates(&[("a.tera", text)]).remembering(remembered.clone());
    let many = json!({ "vars": { "n": 100_000 } });
    let unbounded = TemplateError::Unbounded { name: "a.tera".to_owned(), bound: Bound::Time };
    let began = Instant::now();
    let first = loop {
        match read(nested).render("a.tera", &many).await {
            // A host that has no time for it finds out nothing.
            Err(TemplateError::CouldNotRun { .. }) if began.elapsed() < 3 * PATIENCE => {}
            rendered => break rendered,
        }
    };
    assert_eq!(first, Err(unbounded.clone()));
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(read(nested).render("a.tera", &many).await, Err(unbounded.clone()));
    }
    assert!(began.elapsed() < Duration::from_secs(5), "each would take its whole time");
    let few = json!({ "vars": { "n": 1 } });
    assert_eq!(read(nested).render("a.tera", &few).await.as_deref(), Ok("done"));
    assert_eq!(read("good").render("a.tera", &many).await.as_deref(), Ok("good"));
}

#[tokio::test]
async fn a_template_that_is_too_much_to_parse_keeps_no_other_from_being_rendered() {
    let huge = "{{ a }}{% if a %}b{% endif %}".repeat(300_000);
    let all = templates(&[
        ("huge.tera", &huge),
        ("good.tera", "{% include \"part.tera\" %}"),
        ("part.tera", "good"),
    ]);
    assert_eq!(all.render("good.tera", &json!({})).await.as_deref(), Ok("good"));
    let refused = all.render("huge.tera", &json!({ "a": 1 })).await.unwrap_err();
    assert!(matches!(refused, TemplateError::Unbounded { .. }), "{refused}");
}
