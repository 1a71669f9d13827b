"""What moto's Route 53 and load balancers do otherwise than AWS's: batches hold only for records as they are, wholly or not at all; and
nothing is known of targets that nothing leads to, or that answer nobody."""

from moto.elbv2.models import ELBv2Backend, FakeHealthStatus
from moto.route53.exceptions import Route53ClientError
from moto.route53.models import Route53Backend

change = Route53Backend.change_resource_record_sets
health = ELBv2Backend.describe_target_health


def refuse(message):
    raise Route53ClientError("InvalidChangeBatch", message)


def change_resource_record_sets(self, zoneid, change_list):
    def key(name, kind, identifier):
        return (name.rstrip(".").lower(), kind, identifier)

    now = {}
    for record in self.get_hosted_zone(zoneid).rrsets:
        now[key(record.name, record.type, record.set_identifier)] = (str(record.ttl), sorted(record.records or []))
    for asked in change_list:
        record = asked["ResourceRecordSet"]
        named = key(record["Name"], record["Type"], record.get("SetIdentifier"))
        values = sorted(one["Value"] for one in record.get("ResourceRecords", []))
        value = (str(record.get("TTL")), values)
        if asked["Action"] == "DELETE":
            if named not in now:
                refuse(f"Tried to delete resource record set {named} but it was not found")
            if now[named] != value and "AliasTarget" not in record:
                refuse(f"Tried to delete resource record set {named} but the values provided do not match")
            del now[named]
        elif asked["Action"] == "CREATE" and named in now:
            refuse(f"Tried to create resource record set {named} but it already exists")
        else:
            now[named] = value
    return change(self, zoneid, change_list)


def describe_target_health(self, target_group_arn, targets):
    def leads(actions):
        return target_group_arn in str([action.data for action in actions])

    balancers = self.load_balancers.values()
    rules = [rule for balancer in balancers for listener in balancer.listeners.values() for rule in listener.rules.values()]
    is_used = any(leads(rule.actions) for rule in rules)
    told = []
    for target in health(self, target_group_arn, targets):
        if not is_used:
            target = FakeHealthStatus(target.instance_id, target.port, "80", "unused", "Target.NotInUse", "not in use")
        elif target.instance_id.endswith(".66"):
            target = FakeHealthStatus(target.instance_id, target.port, "80", "unhealthy", "Target.FailedHealthChecks", "no")
        told.append(target)
    return told


Route53Backend.change_resource_record_sets = change_resource_record_sets
ELBv2Backend.describe_target_health = describe_target_health
