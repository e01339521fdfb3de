"""The messages of Flight SQL that are needed here, by the numbers of their fields in Apache Arrow's FlightSql.proto.

https://github.com/apache/arrow/blob/main/format/FlightSql.proto
"""

from __future__ import annotations

from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

_PACKAGE = "arrow.flight.protocol.sql"
_TEXT, _BYTES, _BOOL, _UINT32 = 9, 12, 8, 13
_FIELDS: dict[str, list[tuple[str, int, bool]]] = {
    "CommandGetSqlInfo": [("info", _UINT32, True)],
    "CommandGetCatalogs": [],
    "CommandGetDbSchemas": [("catalog", _TEXT, False), ("db_schema_filter_pattern", _TEXT, False)],
    "CommandGetTables": [
        ("catalog", _TEXT, False),
        ("db_schema_filter_pattern", _TEXT, False),
        ("table_name_filter_pattern", _TEXT, False),
        ("table_types", _TEXT, True),
        ("include_schema", _BOOL, False),
    ],
    "CommandGetTableTypes": [],
    "CommandGetPrimaryKeys": [("catalog", _TEXT, False), ("db_schema", _TEXT, False), ("table", _TEXT, False)],
    "CommandStatementQuery": [("query", _TEXT, False), ("transaction_id", _BYTES, False)],
    "CommandPreparedStatementQuery": [("prepared_statement_handle", _BYTES, False)],
    "TicketStatementQuery": [("statement_handle", _BYTES, False)],
    "ActionCreatePreparedStatementRequest": [("query", _TEXT, False), ("transaction_id", _BYTES, False)],
    "ActionCreatePreparedStatementResult": [
        ("prepared_statement_handle", _BYTES, False),
        ("dataset_schema", _BYTES, False),
        ("parameter_schema", _BYTES, False),
    ],
    "ActionClosePreparedStatementRequest": [("prepared_statement_handle", _BYTES, False)],
}
"""By message: name, type and whether it is repeated, of the fields from number 1 on; all may be left out."""


def _classes() -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(name="tideline/flight_sql.proto", package=_PACKAGE, syntax="proto2")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for number, (field, kind, repeated) in enumerate(fields, 1):
            message.field.add(name=field, number=number, type=kind, label=3 if repeated else 1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _FIELDS}


_CLASSES = _classes()


def unpack(data: bytes) -> tuple[str, Any]:
    """(name, message) of what an `Any` holds. Raises ValueError for what is not one of these messages."""
    packed = any_pb2.Any()
    try:
        packed.ParseFromString(data)
        name = packed.type_url.rpartition(".")[2]
        if name not in _CLASSES:
            raise ValueError(f"{name[:100] or 'nothing'} is not answered here")
        return name, _CLASSES[name].FromString(packed.value)
    except DecodeError:
        raise ValueError("this is no message of Flight SQL") from None


def pack(name: str, **fields: Any) -> bytes:
    """A message in an `Any`."""
    packed = any_pb2.Any(type_url=f"type.googleapis.com/{_PACKAGE}.{name}")
    packed.value = _CLASSES[name](**fields).SerializeToString()
    return bytes(packed.SerializeToString())
