//! Tests against real servers, which they start themselves.

#[path = "../conformance/machines.rs"]
mod machine_conformance;
#[path = "../conformance/providers.rs"]
mod provider_conformance;
#[path = "../conformance/sources.rs"]
mod source_conformance;
#[path = "../conformance/stores.rs"]
mod store_conformance;

mod lab;

mod atlas_kept;
mod buckets;
mod by_hand;
mod by_hand_stacks;
mod by_hand_waits;
mod checksums;
mod cloudformation;
mod cloudformation_tricks;
mod disaster;
mod drill;
mod drill_by_hand;
mod drill_checks;
mod drill_etcd;
mod drill_influxdb;
mod drill_influxdb2;
mod drill_isolation;
mod drill_mysql;
mod drill_redis;
mod dynamodb;
mod dynamodb_job;
mod dynamodb_kept;
mod etcd;
mod etcd_job;
mod faults;
mod full_disks;
mod git;
mod influxdb;
mod influxdb2;
mod influxdb2_job;
mod influxdb_faults;
mod influxdb_job;
mod lacks;
mod local;
mod machine_drill_killed;
mod machines;
mod main_job;
mod mongodb;
mod mongodb_job;
mod mongodb_oplog;
mod mysql;
mod mysql_log;
mod mysql_log_job;
mod mysql_physical;
mod mysql_physical_bounds;
mod mysql_physical_job;
mod mysql_reader;
mod mysql_server;
mod mysql_server_log;
mod native_drills;
mod native_recoveries;
mod parts;
mod postgres;
mod postgres_archive;
mod postgres_in_place;
mod postgres_job;
mod postgres_reader;
mod postgres_wal;
mod probe;
mod rds_kept;
mod reader_job;
mod redis;
mod redis_job;
mod s3;
mod s3_denials;
mod s3_source;
mod s3_source_hostile;
mod s3_source_job;
mod schedulers;
mod sftp;
mod stack_drill;
mod terraform;
mod terraform_killed;
mod traffic;
mod traffic_aws;
