//! What the server says of a table.

use aws_sdk_dynamodb::types::{
    GlobalSecondaryIndexDescription, KeySchemaElement, LocalSecondaryIndexDescription,
    OnDemandThroughput as SdkOnDemand, Projection as SdkProjection, ProvisionedThroughputDescription,
    SseStatus, TableDescription, TableStatus, TimeToLiveStatus,
};

use super::{
    Attribute, Encryption, Index, Key, OnDemand, PointInTimeRecovery, Projection, Stream, Table, Tag,
    Throughput, TimeToLive,
};
use crate::{
    aws::Fault,
    sources::dynamodb::{Failure, lines::Description, reach::Reach},
};

/// In front of the names of tags that only AWS itself gives.
const RESERVED: &str = "aws:";

/// What the server says of a table.
pub(in crate::sources::dynamodb) struct Told {
    pub description: Description,
    /// Bytes, as of some hours ago at most.
    pub bytes: u64,
    /// What it has that the description can't say.
    pub omitted: Vec<String>,
    /// What tells it from another table that has its name later.
    id: Option<String>,
}

impl Told {
    /// Fails where the table was deleted meanwhile, also if another one has its name now.
    pub(in crate::sources::dynamodb) async fn is_still_there(
        &self,
        reach: &Reach,
        name: &str,
    ) -> Result<(), Failure> {
        let now = described(reach, name).await?;
        if now.table_id == self.id {
            Ok(())
        } else {
            Err(Failure::Wrong("another table has its name since the capture began".to_owned()))
        }
    }
}

/// Asks what the table is. Fails unless it can be read.
pub(in crate::sources::dynamodb) async fn describe(reach: &Reach, name: &str) -> Result<Told, Failure> {
    let table = described(reach, name).await?;
    let status = table.table_status().map(TableStatus::as_str).unwrap_or_default();
    if !matches!(table.table_status(), Some(TableStatus::Active | TableStatus::Updating)) {
        return Err(Failure::NotReady(format!("it is in the state {status}")));
    }
    let tags = match table.table_arn() {
        Some(arn) => tags(reach, arn).await?,
        None => Vec::new(),
    };
    let recovery = point_in_time_recovery(reach, name).await?;
    let made_of = made_of(&table, name, tags);
    let description = Description::new(made_of, time_to_live(reach, name).await?, recovery);
    Ok(Told {
        description,
        bytes: table.table_size_bytes().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default(),
        omitted: omitted(&table),
        id: table.table_id,
    })
}

async fn described(reach: &Reach, name: &str) -> Result<TableDescription, Failure> {
    let answer = reach.answer(reach.client.describe_table().table_name(name).send()).await?;
    answer.table.ok_or_else(|| Failure::Wrong("the server does not describe the table".to_owned()))
}

/// What the table is, where it exists.
pub(in crate::sources::dynamodb) async fn existing(
    reach: &Reach,
    name: &str,
) -> Result<Option<TableDescription>, Failure> {
    match described(reach, name).await {
        Ok(table) => Ok(Some(table)),
        Err(Failure::Aws(Fault::NoTable)) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The tags that somebody else than AWS gave it.
async fn tags(reach: &Reach, arn: &str) -> Result<Vec<Tag>, Failure> {
    let (mut tags, mut next) = (Vec::new(), None);
    loop {
        let list = reach.client.list_tags_of_resource().resource_arn(arn).set_next_token(next);
        let Some(page) = reach.answer_if_known(list.send()).await? else { return Ok(tags) };
        let own = page.tags().iter().filter(|tag| !tag.key().starts_with(RESERVED));
        tags.extend(own.map(|tag| Tag { key: tag.key().to_owned(), value: tag.value().to_owned() }));
        next = page.next_token;
        if next.is_none() {
            tags.sort_unstable();
            return Ok(tags);
        }
    }
}

async fn time_to_live(reach: &Reach, name: &str) -> Result<Option<TimeToLive>, Failure> {
    let asked = reach.client.describe_time_to_live().table_name(name).send();
    let answer = reach.answer_if_known(asked).await?;
    let Some(told) = answer.and_then(|answer| answer.time_to_live_description) else { return Ok(None) };
    let on =
        matches!(told.time_to_live_status(), Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling));
    let attribute_name = told.attribute_name.filter(|_| on);
    Ok(attribute_name.map(|attribute_name| TimeToLive { enabled: true, attribute_name }))
}

async fn point_in_time_recovery(reach: &Reach, name: &str) -> Result<Option<PointInTimeRecovery>, Failure> {
    let asked = reach.client.describe_continuous_backups().table_name(name).send();
    let answer = reach.answer_if_known(asked).await?;
    let told = answer.and_then(|answer| answer.continuous_backups_description);
    let Some(told) = told.and_then(|told| told.point_in_time_recovery_description) else { return Ok(None) };
    let on = told.point_in_time_recovery_status().is_some_and(|status| status.as_str() == "ENABLED");
    Ok(Some(PointInTimeRecovery {
        point_in_time_recovery_enabled: on,
        recovery_period_in_days: told.recovery_period_in_days.filter(|_| on),
    }))
}

fn made_of(table: &TableDescription, name: &str, tags: Vec<Tag>) -> Table {
    let billing_mode = table.billing_mode_summary().and_then(|summary| summary.billing_mode());
    let billing_mode = billing_mode.map_or("PROVISIONED", |mode| mode.as_str()).to_owned();
    let provisioned = billing_mode == "PROVISIONED";
    let throughput = |told: Option<&ProvisionedThroughputDescription>| {
        told.filter(|_| provisioned).map(|told| Throughput {
            read_capacity_units: told.read_capacity_units().unwrap_or(1),
            write_capacity_units: told.write_capacity_units().unwrap_or(1),
        })
    };
    let global = |index: &GlobalSecondaryIndexDescription| Index {
        index_name: index.index_name().unwrap_or_default().to_owned(),
        key_schema: keys(index.key_schema()),
        projection: projection(index.projection()),
        provisioned_throughput: throughput(index.provisioned_throughput()),
        on_demand_throughput: on_demand(index.on_demand_throughput()),
    };
    let local = |index: &LocalSecondaryIndexDescription| Index {
        index_name: index.index_name().unwrap_or_default().to_owned(),
        key_schema: keys(index.key_schema()),
        projection: projection(index.projection()),
        provisioned_throughput: None,
        on_demand_throughput: None,
    };
    let attribute = |attribute: &aws_sdk_dynamodb::types::AttributeDefinition| Attribute {
        attribute_name: attribute.attribute_name().to_owned(),
        attribute_type: attribute.attribute_type().as_str().to_owned(),
    };
    let mut attributes: Vec<Attribute> = table.attribute_definitions().iter().map(attribute).collect();
    attributes.sort_unstable();
    Table {
        table_name: table.table_name().unwrap_or(name).to_owned(),
        attribute_definitions: attributes,
        key_schema: keys(table.key_schema()),
        local_secondary_indexes: by_name(table.local_secondary_indexes().iter().map(local)),
        global_secondary_indexes: by_name(table.global_secondary_indexes().iter().map(global)),
        provisioned_throughput: throughput(table.provisioned_throughput()),
        on_demand_throughput: on_demand(table.on_demand_throughput()),
        stream_specification: table.stream_specification().filter(|it| it.stream_enabled()).map(|it| {
            Stream {
                stream_enabled: true,
                stream_view_type: it.stream_view_type().map(|view| view.as_str().to_owned()),
            }
        }),
        sse_specification: encryption(table),
        table_class: table
            .table_class_summary()
            .and_then(|it| it.table_class())
            .map(|it| it.as_str().to_owned()),
        deletion_protection_enabled: table.deletion_protection_enabled().unwrap_or_default(),
        billing_mode,
        tags,
    }
}

fn by_name(indexes: impl Iterator<Item = Index>) -> Vec<Index> {
    let mut indexes: Vec<Index> = indexes.collect();
    indexes.sort_by(|a, b| a.index_name.cmp(&b.index_name));
    indexes
}

/// The parts of a key.
pub(in crate::sources::dynamodb) fn keys(schema: &[KeySchemaElement]) -> Vec<Key> {
    let key = |it: &KeySchemaElement| Key {
        attribute_name: it.attribute_name().to_owned(),
        key_type: it.key_type().as_str().to_owned(),
    };
    schema.iter().map(key).collect()
}

fn projection(told: Option<&SdkProjection>) -> Projection {
    let kind = told.and_then(|told| told.projection_type()).map_or("ALL", |kind| kind.as_str());
    let mut attributes = told.map(|told| told.non_key_attributes().to_vec()).unwrap_or_default();
    attributes.sort_unstable();
    Projection { projection_type: kind.to_owned(), non_key_attributes: attributes }
}

/// Bounds, where there are any: the server writes -1 for none.
fn on_demand(told: Option<&SdkOnDemand>) -> Option<OnDemand> {
    let bound = |units: Option<i64>| units.filter(|units| *units > 0);
    let told = told?;
    let bounds = OnDemand {
        max_read_request_units: bound(told.max_read_request_units()),
        max_write_request_units: bound(told.max_write_request_units()),
    };
    (bounds.max_read_request_units.is_some() || bounds.max_write_request_units.is_some()).then_some(bounds)
}

fn encryption(table: &TableDescription) -> Option<Encryption> {
    let told = table.sse_description()?;
    let on = matches!(told.status(), Some(SseStatus::Enabled | SseStatus::Enabling | SseStatus::Updating));
    on.then(|| Encryption {
        enabled: true,
        sse_type: told.sse_type().map(|kind| kind.as_str().to_owned()),
        kms_master_key_id: told.kms_master_key_arn().map(str::to_owned),
    })
}

fn omitted(table: &TableDescription) -> Vec<String> {
    let replicas = table.replicas().iter().filter_map(|replica| replica.region_name());
    let replicas = replicas.map(|region| format!("the replica in {region}: it is made by hand"));
    let vectors = table.vector_indexes().iter().filter_map(|index| index.index_name());
    let vectors = vectors.map(|name| format!("the vector index {name}: it is made by hand"));
    replicas.chain(vectors).collect()
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::{
        AttributeDefinition, BillingMode, BillingModeSummary, KeyType, ProjectionType, ReplicaDescription,
        ScalarAttributeType,
    };

    use super::*;

    #[test]
    fn a_table_that_is_paid_by_use_has_no_throughput_and_what_is_left_out_is_named() {
        let kind = ScalarAttributeType::S;
        let attribute = AttributeDefinition::builder().attribute_name("id").attribute_type(kind);
        let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build().unwrap();
        let index = GlobalSecondaryIndexDescription::builder()
            .index_name("i")
            .key_schema(key.clone())
            .projection(SdkProjection::builder().projection_type(ProjectionType::All).build())
            .provisioned_throughput(
                ProvisionedThroughputDescription::builder().read_capacity_units(0).build(),
            );
        let summary = BillingModeSummary::builder().billing_mode(BillingMode::PayPerRequest).build();
        let bounds = SdkOnDemand::builder().max_read_request_units(-1).max_write_request_units(40).build();
        let table = TableDescription::builder()
            .table_name("sessions")
            .attribute_definitions(attribute.build().unwrap())
            .key_schema(key)
            .global_secondary_indexes(index.build())
            .billing_mode_summary(summary)
            .on_demand_throughput(bounds)
            .replicas(ReplicaDescription::builder().region_name("eu-west-1").build())
            .build();
        let made = made_of(&table, "sessions", Vec::new());
        assert_eq!(made.billing_mode, "PAY_PER_REQUEST");
        assert_eq!((&made.provisioned_throughput, &made.sse_specification), (&None, &None));
        assert_eq!(made.global_secondary_indexes[0].provisioned_throughput, None);
        let bounds = OnDemand { max_read_request_units: None, max_write_request_units: Some(40) };
        assert_eq!(made.on_demand_throughput, Some(bounds));
        assert_eq!(omitted(&table), ["the replica in eu-west-1: it is made by hand"]);
    }
}
