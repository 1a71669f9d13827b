//! Tests against real servers, which they start themselves.

#[path = "../conformance/sources.rs"]
mod source_conformance;
#[path = "../conformance/stores.rs"]
mod store_conformance;

mod lab;

mod buckets;
mod git;
mod local;
mod main_job;
mod mongodb;
mod mongodb_job;
mod mysql;
mod mysql_log;
mod postgres;
mod postgres_job;
mod postgres_wal;
mod s3;
mod schedulers;
mod sftp;
