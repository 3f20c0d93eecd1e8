"""Route 53's wire: its REST paths and XML, in front of `HostedZones`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from certkeeper.sandbox.loopback import Request, Response
from certkeeper.sandbox.record_sets import TYPES, Change, RecordSet, Route53Error, canonical
from certkeeper.sandbox.route53 import ChangeInfo, HostedZone, HostedZones

NAMESPACE = "https://route53.amazonaws.com/doc/2013-04-01/"
ROUTES = (
    ("POST", r"hostedzone", "CreateHostedZone"),
    ("GET", r"hostedzone", "ListHostedZones"),
    ("GET", r"hostedzonesbyname", "ListHostedZonesByName"),
    ("GET", r"hostedzonecount", "GetHostedZoneCount"),
    ("GET", r"hostedzone/([^/]+)", "GetHostedZone"),
    ("DELETE", r"hostedzone/([^/]+)", "DeleteHostedZone"),
    ("GET", r"hostedzone/([^/]+)/rrset", "ListResourceRecordSets"),
    ("POST", r"hostedzone/([^/]+)/rrset", "ChangeResourceRecordSets"),
    ("GET", r"change/([^/]+)", "GetChange"),
)
ZONES_LIMIT = 100
RECORD_SETS_LIMIT = 300
ROUTING_MEMBERS = ("Weight", "Region", "Failover", "MultiValueAnswer")  # in the order of the schema, before TTL
ALIAS_MEMBERS = ("HostedZoneId", "DNSName", "EvaluateTargetHealth")

request_ids = itertools.count(1)


class Route53Api:
    """Answers the Route 53 requests of one account; `described` tells what one is about without doing it."""

    def __init__(self, hosted_zones: HostedZones, account: str = "") -> None:
        self._zones = hosted_zones
        self._account = account
        self._operations: dict[str, Callable[[Request, str], Response]] = {
            "CreateHostedZone": self._create_zone,
            "ListHostedZones": self._list_zones,
            "ListHostedZonesByName": self._list_zones_by_name,
            "GetHostedZoneCount": self._count_zones,
            "GetHostedZone": self._get_zone,
            "DeleteHostedZone": self._delete_zone,
            "ListResourceRecordSets": self._list_record_sets,
            "ChangeResourceRecordSets": self._change,
            "GetChange": self._get_change,
        }

    def described(self, request: Request) -> tuple[str, str, tuple[tuple[str, str], ...]]:
        """Operation, zone or change id, and for changes each one's name, type and action as IAM conditions see them."""
        operation, resource = routed(request)
        if operation != "ChangeResourceRecordSets":
            return operation, resource, ()
        try:
            changes = parsed_changes(request.body)
        except Route53Error:
            return operation, resource, ()
        context = [
            item
            for change in changes
            for item in (
                ("name", change.record_set.name.removesuffix(".")),
                ("type", change.record_set.type),
                ("action", change.action),
            )
        ]
        return operation, resource, tuple(context)

    def answer(self, request: Request) -> Response:
        operation, resource = routed(request)
        try:
            self._zones.admit()
            if operation not in self._operations:
                raise Route53Error("UnknownOperationException", "the sandbox does not know this request", 404)
            if "/hostedzone/" in request.path and self._zones.zone(resource).account != self._account:
                raise Route53Error("AccessDenied", "User is not authorized to access this resource", 403)
            return self._operations[operation](request, resource)
        except Route53Error as error:
            return error_response(error.code, error.message, error.status)

    def _create_zone(self, request: Request, _: str) -> Response:
        root = document(request.body)
        config = root.find("HostedZoneConfig")
        comment = text(config, "Comment") if config is not None else ""
        private = root.find("VPC") is not None or text(config, "PrivateZone") == "true"
        if not text(root, "Name") or not text(root, "CallerReference"):
            raise Route53Error("InvalidInput", "Invalid XML ; Name and CallerReference are required")
        zone, info = self._zones.create(
            text(root, "Name"), caller_reference=text(root, "CallerReference"), comment=comment, private=private
        )
        body = self._zone_xml(zone) + self._change_info_xml(info) + delegation_xml(zone)
        response = xml_response("CreateHostedZoneResponse", body, 201)
        response.headers.append(("Location", f"https://route53.amazonaws.com/2013-04-01/hostedzone/{zone.zone_id}"))
        return response

    def _list_zones(self, request: Request, _: str) -> Response:
        limit, marker = page_size(request, ZONES_LIMIT), request.query.get("marker", "")
        zones = [zone for zone in self._zones.zones(self._account) if zone.zone_id >= marker]
        if request.query.get("hostedzonetype") == "PrivateHostedZone":
            zones = [zone for zone in zones if zone.private]
        following = zones[limit].zone_id if len(zones) > limit else ""
        body = self._zones_xml(zones[:limit]) + optional("Marker", marker)
        body += element("IsTruncated", boolean(bool(following))) + optional("NextMarker", following)
        return xml_response("ListHostedZonesResponse", body + element("MaxItems", str(limit)))

    def _list_zones_by_name(self, request: Request, _: str) -> Response:
        limit, query = page_size(request, ZONES_LIMIT), request.query
        start_name, start_id = query.get("dnsname", ""), query.get("hostedzoneid", "")
        zones = self._zones.zones_by_name(start_name, start_id.rsplit("/", 1)[-1], self._account)
        body = self._zones_xml(zones[:limit]) + optional("DNSName", start_name) + optional("HostedZoneId", start_id)
        body += element("IsTruncated", boolean(len(zones) > limit))
        if len(zones) > limit:
            body += element("NextDNSName", zones[limit].name) + element("NextHostedZoneId", zones[limit].zone_id)
        return xml_response("ListHostedZonesByNameResponse", body + element("MaxItems", str(limit)))

    def _count_zones(self, _: Request, __: str) -> Response:
        count = element("HostedZoneCount", str(len(self._zones.zones(self._account))))
        return xml_response("GetHostedZoneCountResponse", count)

    def _get_zone(self, _: Request, zone_id: str) -> Response:
        zone = self._zones.zone(zone_id)
        vpc = element("VPC", element("VPCRegion", "eu-west-1") + element("VPCId", "vpc-0000000000000000f"))
        about = element("VPCs", vpc) if zone.private else delegation_xml(zone)
        return xml_response("GetHostedZoneResponse", self._zone_xml(zone) + about)

    def _delete_zone(self, _: Request, zone_id: str) -> Response:
        return xml_response("DeleteHostedZoneResponse", self._change_info_xml(self._zones.delete(zone_id)))

    def _list_record_sets(self, request: Request, zone_id: str) -> Response:
        query = request.query
        start = (query.get("name", ""), query.get("type", ""), query.get("identifier", ""))
        if start[1] and not start[0]:
            raise Route53Error("InvalidInput", "Invalid request: type may not be specified without name")
        limit = page_size(request, RECORD_SETS_LIMIT)
        page = self._zones.page(zone_id, start, limit)
        body = element("ResourceRecordSets", "".join(map(record_set_xml, page.record_sets)))
        body += element("IsTruncated", boolean(page.following is not None))
        if page.following is not None:
            body += element("NextRecordName", page.following.name) + element("NextRecordType", page.following.type)
            body += optional("NextRecordIdentifier", page.following.set_identifier)
        return xml_response("ListResourceRecordSetsResponse", body + element("MaxItems", str(limit)))

    def _change(self, request: Request, zone_id: str) -> Response:
        comment = text(document(request.body), "ChangeBatch/Comment")
        info = self._zones.change(zone_id, parsed_changes(request.body), comment)
        return xml_response("ChangeResourceRecordSetsResponse", self._change_info_xml(info))

    def _get_change(self, _: Request, change_id: str) -> Response:
        return xml_response("GetChangeResponse", self._change_info_xml(self._zones.change_info(change_id)))

    def _change_info_xml(self, info: ChangeInfo) -> str:
        submitted = datetime.fromtimestamp(info.submitted_at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        body = element("Id", f"/change/{info.change_id}")
        body += element("Status", "INSYNC" if self._zones.in_sync(info) else "PENDING")
        return element("ChangeInfo", body + element("SubmittedAt", submitted) + optional("Comment", info.comment))

    def _zone_xml(self, zone: HostedZone) -> str:
        config = optional("Comment", zone.comment) + element("PrivateZone", boolean(zone.private))
        body = element("Id", f"/hostedzone/{zone.zone_id}") + element("Name", zone.name)
        body += element("CallerReference", zone.caller_reference) + element("Config", config)
        count = len(self._zones.records(zone.zone_id))
        return element("HostedZone", body + element("ResourceRecordSetCount", str(count)))

    def _zones_xml(self, zones: Iterable[HostedZone]) -> str:
        return element("HostedZones", "".join(map(self._zone_xml, zones)))


def routed(request: Request) -> tuple[str, str]:
    path = request.path.removeprefix("/2013-04-01/").removesuffix("/")
    for method, pattern, operation in ROUTES:
        match = re.fullmatch(pattern, path)
        if match and method == request.method:
            return operation, unquote(match[1]) if match.groups() else ""
    return "Unknown", ""


def page_size(request: Request, limit: int) -> int:
    wanted = request.query.get("maxitems", str(limit))
    if not wanted.isdigit() or int(wanted) < 1:
        raise Route53Error("InvalidInput", f"Invalid value for maxitems: {wanted}")
    return min(int(wanted), limit)


# Reading


def document(body: bytes) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - our own client's request, on loopback
    except ElementTree.ParseError as error:
        raise Route53Error("InvalidInput", f"Invalid XML ; {error}") from error
    for node in root.iter():
        node.tag = node.tag.rsplit("}", 1)[-1]
    return root


def text(node: ElementTree.Element | None, path: str) -> str:
    return (node.findtext(path) or "") if node is not None else ""


def parsed_changes(body: bytes) -> list[Change]:
    changes = [parsed_change(node) for node in document(body).iterfind("ChangeBatch/Changes/Change")]
    if not changes:
        raise Route53Error("InvalidInput", "Invalid XML ; a change batch needs at least one change")
    return changes


def parsed_change(node: ElementTree.Element) -> Change:
    action, wanted = text(node, "Action"), node.find("ResourceRecordSet")
    name, kind, ttl = text(wanted, "Name"), text(wanted, "Type"), text(wanted, "TTL")
    if wanted is None or action not in ("CREATE", "DELETE", "UPSERT") or kind not in TYPES or not name:
        raise Route53Error("InvalidInput", f"Invalid XML ; not a change: {action} {kind} {name}")
    identifier, alias = text(wanted, "SetIdentifier"), wanted.find("AliasTarget")
    values = tuple(value.text or "" for value in wanted.iterfind("ResourceRecords/ResourceRecord/Value"))
    about = f"Change with [Action={action}, Name={name}, Type={kind}, SetIdentifier={identifier or 'null'}]"
    if alias is None and not ttl.isdigit():
        raise Route53Error("InvalidInput", f"Invalid request: Missing field 'TTL' in {about}")
    if (alias is None) != bool(values):
        expected = "exactly one of [AliasTarget, all of [TTL, and ResourceRecords], or TrafficPolicyInstanceId]"
        found = "more than one" if values else "none"
        raise Route53Error("InvalidInput", f"Invalid request: Expected {expected}, but found {found} in {about}")
    record_set = RecordSet(
        canonical(name),
        kind,
        int(ttl) if ttl else None,
        values,
        identifier,
        members(wanted, ROUTING_MEMBERS),
        members(alias, ALIAS_MEMBERS),
    )
    return Change(action, record_set)


def members(node: ElementTree.Element | None, names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, text(node, name)) for name in names if text(node, name))


# Writing


def element(name: str, content: str) -> str:
    """Content that is text of ours or already XML."""
    return f"<{name}>{content}</{name}>"


def optional(name: str, content: str) -> str:
    return element(name, escape(content)) if content else ""


def boolean(value: bool) -> str:
    return "true" if value else "false"


def record_set_xml(record_set: RecordSet) -> str:
    body = element("Name", record_set.name) + element("Type", record_set.type)
    body += optional("SetIdentifier", record_set.set_identifier)
    body += "".join(optional(name, value) for name, value in record_set.routing)
    if record_set.ttl is not None:
        body += element("TTL", str(record_set.ttl))
    records = [element("ResourceRecord", element("Value", escape(value))) for value in record_set.values]
    body += element("ResourceRecords", "".join(records)) if records else ""
    alias = "".join(optional(name, value) for name, value in record_set.alias)
    return element("ResourceRecordSet", body + (element("AliasTarget", alias) if alias else ""))


def delegation_xml(zone: HostedZone) -> str:
    if zone.private:
        return ""
    servers = "".join(element("NameServer", server) for server in zone.name_servers)
    return element("DelegationSet", element("NameServers", servers))


def xml_response(root: str, body: str, status: int = 200) -> Response:
    content = f'<?xml version="1.0"?>\n<{root} xmlns="{NAMESPACE}">{body}</{root}>'
    headers = [("Content-Type", "text/xml"), ("x-amzn-RequestId", f"sandbox-route53-{next(request_ids):06d}")]
    return Response(status, headers, content.encode())


def error_response(code: str, message: str, status: int) -> Response:
    kind = "Sender" if status < 500 else "Receiver"
    error = element("Type", kind) + element("Code", code) + element("Message", escape(message))
    request_id = element("RequestId", f"sandbox-route53-{next(request_ids):06d}")
    return xml_response("ErrorResponse", element("Error", error) + request_id, status)
