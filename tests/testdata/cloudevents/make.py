"""Makes messages of CloudEvents with the SDK for Python, which is another hand's reading of the specification.

usage: pip install cloudevents==2.2.0; python make.py > events.json

Each vector has the headers and the payload (in base64) of a NATS message in one of the two modes, and what the event is:
its attributes, the type of its data, and the data.
"""

import base64
import json
from datetime import datetime, timezone

from cloudevents.core.bindings.http import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

PLAIN = {
    "id": "1234-1234-1234",
    "source": "/mycontext",
    "type": "com.example.someevent",
    "specversion": "1.0",
    "time": datetime(2026, 11, 26, 8, 0, 0, tzinfo=timezone.utc),
}

EVENTS = {
    "json": (PLAIN | {"datacontenttype": "application/json"}, {"id": 1, "name": "Zoë"}),
    "json of a kind": (PLAIN | {"datacontenttype": "application/geo+json; charset=utf-8"}, {"type": "Point"}),
    "text": (PLAIN | {"datacontenttype": "text/plain"}, "Euro € and \"quotes\""),
    "xml": (PLAIN | {"datacontenttype": "application/xml"}, "<much wow=\"xml\"/>"),
    "bytes": (PLAIN | {"datacontenttype": "application/octet-stream"}, bytes(range(256))),
    "all attributes": (
        PLAIN
        | {
            "datacontenttype": "application/json",
            "dataschema": "https://example.com/schema?version=1&kind=a%20b",
            "subject": "orders/eu 100% \"done\" – Größe 😀",
            "time": datetime(2018, 4, 5, 17, 31, 0, 123456, tzinfo=timezone.utc),
            "comexampleextension1": "value with spaces",
            "comexampleothervalue": "5",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        },
        {"list": [1, 2.5, None, True]},
    ),
    "no data": (PLAIN, None),
}


def told(value):
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)


def vectors():
    json_format = JSONFormat()
    for name, (attributes, data) in EVENTS.items():
        event = CloudEvent(dict(attributes), data)
        media_type = attributes.get("datacontenttype")
        for mode, write in [("binary", to_binary), ("structured", to_structured)]:
            message = write(event, json_format)
            headers = dict(message.headers)
            if mode == "binary" and media_type:
                # The NATS binding has this attribute among the others; HTTP's has it in a header of its own.
                yield vector(name + ", as in HTTP", mode, headers, message.body, attributes, media_type, data)
                headers = {key: value for key, value in headers.items() if key != "content-type"}
                headers["ce-datacontenttype"] = media_type
            yield vector(name, mode, headers, message.body, attributes, media_type, data)


def vector(name, mode, headers, body, attributes, media_type, data):
    body = body.encode() if isinstance(body, str) else body or b""
    return {
        "name": f"{name}, {mode}",
        "headers": headers,
        "payload": base64.b64encode(body).decode(),
        "attributes": {key: told(value) for key, value in attributes.items() if key != "datacontenttype"},
        "contentType": media_type,
        "json": data if data is not None and not isinstance(data, (bytes, str)) else None,
        "bytes": base64.b64encode(data if isinstance(data, bytes) else (data or "").encode()).decode()
        if data is None or isinstance(data, (bytes, str))
        else None,
    }


print(json.dumps(list(vectors()), indent=1, ensure_ascii=False))
