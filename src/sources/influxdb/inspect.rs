//! Questions about what is there, in a sandbox: by a user who may read, and nothing else.

use super::{
    Failure,
    api::{Api, Series},
    names::identifier,
};
use crate::{secrets::Secret, sources::influxql};

/// The only value that `influxql` gives a new reader, who is gone afterwards.
pub(super) async fn ask(api: &Api, database: Option<&str>, influxql: &str) -> Result<String, Failure> {
    let reader = format!("backstay_drill_{:032x}", rand::random::<u128>());
    let password = format!("{:032x}", rand::random::<u128>());
    let user = identifier(&reader);
    api.ask(&format!("CREATE USER {user} WITH PASSWORD '{password}'")).await?;
    let answer = async {
        for name in api.databases().await? {
            api.ask(&format!("GRANT READ ON {} TO {user}", identifier(&name))).await?;
        }
        api.with_user(&reader, Secret::new(password)).ask_in(database, influxql).await
    };
    let answer = answer.await;
    api.ask(&format!("DROP USER {user}")).await?;
    only_value(&answer?)
        .ok_or_else(|| Failure::Answer(format!("the server did not give one value for `{influxql}`")))
}

/// The value of an answer that has one, beside its time.
fn only_value(answer: &[Series]) -> Option<String> {
    let [Series { columns, values, .. }] = answer else { return None };
    let [row] = values.as_slice() else { return None };
    influxql::only_value(columns, row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_one_value_is_one_row_of_one_column_beside_the_time() {
        let check = |answer: &str, expect: Option<&str>| {
            let series: Vec<Series> = serde_json::from_str(answer).unwrap();
            assert_eq!(only_value(&series).as_deref(), expect, "{answer}");
        };
        check(
            r#"[{"name": "m", "columns": ["time", "count"], "values": [["1970-01-01T00:00:00Z", 5]]}]"#,
            Some("5"),
        );
        check(r#"[{"name": "m", "columns": ["time", "last"], "values": [["…", "ok"]]}]"#, Some("ok"));
        check(r#"[{"name": "m", "columns": ["time", "a", "b"], "values": [["…", 1, 2]]}]"#, None);
        check(r#"[{"name": "m", "columns": ["time", "a"], "values": [["…", 1], ["…", 2]]}]"#, None);
        check(r#"[{"columns": ["a"], "values": [[1]]}, {"columns": ["a"], "values": [[1]]}]"#, None);
        check("[]", None);
    }
}
