"""What moto's own stacks leave out though its services have it: properties that they ignore, a resource that they never delete, and the
tags of a change set."""

from moto.cloudformation.responses import CloudFormationResponse, transform_dict
from moto.ec2.models import ec2_backends
from moto.ec2.models.instances import Instance
from moto.ec2.models.internet_gateways import InternetGateway
from moto.ec2.models.route_tables import RouteTable
from moto.ec2.models.subnets import Subnet
from moto.elbv2.models import FakeLoadBalancer, FakeTargetGroup, elbv2_backends


def extended(cls, extend):
    plain = cls.create_from_cloudformation_json.__func__

    def create(cls, resource_name, cloudformation_json, account_id, region_name, **kwargs):
        properties = cloudformation_json["Properties"]
        return extend(
            lambda: plain(cls, resource_name, cloudformation_json, account_id, region_name, **kwargs),
            properties, resource_name, account_id, region_name,
        )

    cls.create_from_cloudformation_json = classmethod(create)


def subnet(plain, properties, name, account, region):
    made = plain()
    public = str(properties.get("MapPublicIpOnLaunch", "false")).lower() == "true"
    ec2_backends[account][region].modify_subnet_attribute(made.id, "map_public_ip_on_launch", public)
    return made


def instance(plain, properties, name, account, region):
    made = plain()
    backend = ec2_backends[account][region]
    groups = [backend.get_security_group_from_id(group) for group in properties.get("SecurityGroupIds", [])]
    if groups:
        made.security_groups = groups
        made.nics[0]._group_set = groups
    if made.nics[0].subnet.map_public_ip_on_launch is True:
        made.nics[0].public_ip_auto_assign = True
        made.nics[0].check_auto_public_ip()
    return made


def balancer(plain, properties, name, account, region):
    return elbv2_backends[account][region].create_load_balancer(
        name,
        properties.get("SecurityGroups"),
        properties.get("Subnets"),
        scheme=properties.get("Scheme", "internet-facing"),
        loadbalancer_type=properties.get("Type"),
    )


def delete_gateway(cls, resource_name, cloudformation_json, account_id, region_name):
    backend = ec2_backends[account_id][region_name]
    network = backend.get_internet_gateway(resource_name).vpc
    if network:
        backend.detach_internet_gateway(resource_name, network.id)
    backend.delete_internet_gateway(resource_name)


def delete_targets(cls, resource_name, cloudformation_json, account_id, region_name):
    elbv2_backends[account_id][region_name].delete_target_group(resource_name)


def delete_routes(cls, resource_name, cloudformation_json, account_id, region_name):
    ec2_backends[account_id][region_name].delete_route_table(resource_name)


extended(Subnet, subnet)
extended(Instance, instance)
extended(FakeLoadBalancer, balancer)
InternetGateway.delete_from_cloudformation_json = classmethod(delete_gateway)
FakeTargetGroup.delete_from_cloudformation_json = classmethod(delete_targets)
RouteTable.delete_from_cloudformation_json = classmethod(delete_routes)
CloudFormationResponse.RESPONSE_KEY_PATH_TO_TRANSFORMER["DescribeChangeSetOutput.Tags"] = transform_dict
