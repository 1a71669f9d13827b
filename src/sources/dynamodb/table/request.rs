//! From a description to the request that makes the table. Pure.

use aws_sdk_dynamodb::{
    operation::create_table::builders::CreateTableInputBuilder,
    types::{
        AttributeDefinition, GlobalSecondaryIndex, KeySchemaElement, LocalSecondaryIndex,
        OnDemandThroughput as SdkOnDemand, Projection as SdkProjection, ProvisionedThroughput,
        SseSpecification, StreamSpecification, Tag as SdkTag,
    },
};

use super::{Encryption, Index, Key, OnDemand, Projection, Stream, Table, Throughput};
use crate::sources::dynamodb::Failure;

impl Table {
    /// The request that makes the table as `name`. It can be deleted again: protection is switched on later.
    pub(in crate::sources::dynamodb) fn create(
        &self,
        name: &str,
    ) -> Result<CreateTableInputBuilder, Failure> {
        let attributes = all(&self.attribute_definitions, |it| {
            let attribute = AttributeDefinition::builder().attribute_name(&it.attribute_name);
            attribute.attribute_type(it.attribute_type.as_str().into()).build().ok()
        });
        let tags = all(&self.tags, |it| SdkTag::builder().key(&it.key).value(&it.value).build().ok());
        Ok(CreateTableInputBuilder::default()
            .table_name(name)
            .set_attribute_definitions(attributes?)
            .set_key_schema(keys(&self.key_schema)?)
            .set_local_secondary_indexes(all(&self.local_secondary_indexes, local)?)
            .set_global_secondary_indexes(all(&self.global_secondary_indexes, global)?)
            .billing_mode(self.billing_mode.as_str().into())
            .set_provisioned_throughput(self.provisioned_throughput.as_ref().and_then(throughput))
            .set_on_demand_throughput(self.on_demand_throughput.as_ref().map(on_demand))
            .set_stream_specification(self.stream_specification.as_ref().and_then(stream))
            .set_sse_specification(self.sse_specification.as_ref().map(encryption))
            .set_table_class(self.table_class.as_deref().map(Into::into))
            .set_tags(tags?))
    }
}

/// What is made of all of them; `None` where there are none, for a request takes no empty list.
fn all<From, To>(from: &[From], one: impl Fn(&From) -> Option<To>) -> Result<Option<Vec<To>>, Failure> {
    let made: Option<Vec<To>> = from.iter().map(one).collect();
    let made = made.ok_or_else(|| Failure::malformed("the description of the table is incomplete"))?;
    Ok((!made.is_empty()).then_some(made))
}

fn keys(keys: &[Key]) -> Result<Option<Vec<KeySchemaElement>>, Failure> {
    all(keys, |key| {
        let element = KeySchemaElement::builder().attribute_name(&key.attribute_name);
        element.key_type(key.key_type.as_str().into()).build().ok()
    })
}

fn local(index: &Index) -> Option<LocalSecondaryIndex> {
    LocalSecondaryIndex::builder()
        .index_name(&index.index_name)
        .set_key_schema(keys(&index.key_schema).ok()?)
        .projection(projection(&index.projection))
        .build()
        .ok()
}

fn global(index: &Index) -> Option<GlobalSecondaryIndex> {
    GlobalSecondaryIndex::builder()
        .index_name(&index.index_name)
        .set_key_schema(keys(&index.key_schema).ok()?)
        .projection(projection(&index.projection))
        .set_provisioned_throughput(index.provisioned_throughput.as_ref().and_then(throughput))
        .set_on_demand_throughput(index.on_demand_throughput.as_ref().map(on_demand))
        .build()
        .ok()
}

fn projection(of: &Projection) -> SdkProjection {
    let attributes = Some(of.non_key_attributes.clone()).filter(|attributes| !attributes.is_empty());
    SdkProjection::builder()
        .projection_type(of.projection_type.as_str().into())
        .set_non_key_attributes(attributes)
        .build()
}

fn throughput(of: &Throughput) -> Option<ProvisionedThroughput> {
    ProvisionedThroughput::builder()
        .read_capacity_units(of.read_capacity_units)
        .write_capacity_units(of.write_capacity_units)
        .build()
        .ok()
}

fn on_demand(of: &OnDemand) -> SdkOnDemand {
    SdkOnDemand::builder()
        .set_max_read_request_units(of.max_read_request_units)
        .set_max_write_request_units(of.max_write_request_units)
        .build()
}

fn stream(of: &Stream) -> Option<StreamSpecification> {
    StreamSpecification::builder()
        .stream_enabled(of.stream_enabled)
        .set_stream_view_type(of.stream_view_type.as_deref().map(Into::into))
        .build()
        .ok()
}

fn encryption(of: &Encryption) -> SseSpecification {
    SseSpecification::builder()
        .enabled(of.enabled)
        .set_sse_type(of.sse_type.as_deref().map(Into::into))
        .set_kms_master_key_id(of.kms_master_key_id.clone())
        .build()
}

#[cfg(test)]
mod tests {
    use crate::sources::dynamodb::table::tests::orders;

    #[test]
    fn a_table_is_made_of_all_that_its_description_says() {
        let made = orders().create("copy").unwrap().build().unwrap();
        assert_eq!(made.table_name(), Some("copy"));
        assert_eq!(made.attribute_definitions().len(), 3);
        assert_eq!(made.key_schema()[1].attribute_name(), "at");
        assert_eq!(made.local_secondary_indexes()[0].index_name(), "by-total");
        let global = &made.global_secondary_indexes()[0];
        assert_eq!(global.projection().unwrap().non_key_attributes(), ["note"]);
        assert_eq!(global.provisioned_throughput().unwrap().write_capacity_units(), 7);
        assert!(made.stream_specification().unwrap().stream_enabled());
        assert_eq!(made.sse_specification().unwrap().enabled(), Some(true));
        assert_eq!(made.tags()[0].value(), "shop");
        assert_eq!(made.deletion_protection_enabled(), None, "what is made can be removed again");
    }
}
