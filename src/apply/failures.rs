//! From the errors of the families to what happens next.

use std::time::Duration;

use super::{
    capture::CaptureError, delete::DeleteError, executor::Failure, lease::LeaseError, restore::RestoreError,
    stream::StreamError, sweep::SweepError, transfer::TransferError, verify::VerifyError,
};
use crate::{
    committed::ReadError,
    drivers::Refusal,
    git::push::PushError,
    provisioners::ProvisionError,
    records::AppendError,
    schedulers::SchedulerError,
    sources::SourceError,
    stores::{Class, StoreError},
};

/// Work of others that a later pass will find ended.
const LATER: Class = Class::Wait(Duration::from_secs(60));

macro_rules! failures {
    ($($error:ty: $class:expr),+ $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                let class: fn(&$error) -> Class = $class;
                Failure { class: class(&error), message: error.to_string() }
            }
        }
    )+};
}

failures! {
    StoreError: StoreError::class,
    CaptureError: CaptureError::class,
    ReadError: of_read,
    LeaseError: LeaseError::class,
    TransferError: of_transfer,
    StreamError: of_stream,
    // What was restored in part is for a person to look at: nothing is tried again over it.
    RestoreError: |_| Class::Stalled,
    SourceError: |error| error.class,
    VerifyError: of_verify,
    SweepError: of_sweep,
    DeleteError: of_delete,
    AppendError: of_append,
    // A mirror is another host; whatever keeps us from it may end.
    PushError: |_| Class::Retry,
    Refusal: |_| Class::Stalled,
    SchedulerError: |_| Class::Stalled,
    ProvisionError: |error| error.class,
}

fn of_read(error: &ReadError) -> Class {
    match error {
        ReadError::Store(error) => error.class(),
        ReadError::Missing { .. } | ReadError::Untrusted { .. } | ReadError::Malformed { .. } => {
            Class::Stalled
        }
    }
}

fn of_transfer(error: &TransferError) -> Class {
    match error {
        TransferError::Store(error) => error.class(),
        TransferError::Read(error) => of_read(error),
        TransferError::Lease(error) => error.class(),
        _ => Class::Stalled,
    }
}

fn of_stream(error: &StreamError) -> Class {
    match error {
        StreamError::Store(error) => error.class(),
        _ => Class::Stalled,
    }
}

fn of_verify(error: &VerifyError) -> Class {
    match error {
        VerifyError::Store(error) => error.class(),
        VerifyError::Manifest(error) => of_read(error),
        VerifyError::Plaintext(error) => of_stream(error),
    }
}

fn of_sweep(error: &SweepError) -> Class {
    match error {
        SweepError::Store(error) => error.class(),
        SweepError::Withheld { .. } => LATER,
    }
}

fn of_delete(error: &DeleteError) -> Class {
    match error {
        DeleteError::Store(error) => error.class(),
        DeleteError::Needed { .. } => LATER,
    }
}

fn of_append(error: &AppendError) -> Class {
    match error {
        AppendError::Store(error) => error.class(),
        AppendError::Contended { .. } | AppendError::Spoiled { .. } => Class::Retry,
        AppendError::Unrepaired { .. } => Class::Stalled,
    }
}
