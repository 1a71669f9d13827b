//! Traffic by hand: the same change that Backstay makes, by the service's own program.

mod aws;
pub mod nsupdate;

use super::{MadeByHand, reach::Folders};
use crate::spec::{
    Spec,
    names::TrafficName,
    traffic::{LedBy, Side},
};

/// What leads users to a side. A record is changed only where it leads to the other side until then.
pub fn by_hand(spec: &Spec, name: &TrafficName, to: Side, folders: &Folders) -> MadeByHand {
    let Some(traffic) = spec.traffic.get(name) else { return MadeByHand::default() };
    let (before, wanted) = (traffic.values(to.other()), traffic.values(to));
    let path = |by: &str| folders.switch(by, name, to);
    match &traffic.led_by {
        LedBy::Dns(record, dns) => nsupdate::by_hand(record, dns, before, wanted, path("nsupdate")),
        LedBy::Route53(record, zone) => aws::record(record, zone, before, wanted, &path("route53")),
        LedBy::LoadBalancer(balancer) => aws::target_group(balancer, wanted, &path("elbv2")),
    }
}
