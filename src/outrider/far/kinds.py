"""What the data codec carries besides plain data: each value as a name and plain data. Sent when first needed.

Standard types, numpy arrays and scalars, dataclasses and enums. The receiver builds what it knows, and of classes only
those that it has registered.
"""

from .data import DataError


def described(value):
    """(name, state) of a value. Raises DataError, naming the type, for what cannot be described."""
    kind = type(value)
    name = kind.__module__ + "." + kind.__qualname__
    if kind.__module__ == "numpy":
        return _numpy(value, name)
    if name in ("datetime.datetime", "datetime.date", "datetime.time"):
        return name, value.isoformat()
    if name == "datetime.timedelta":
        return name, (value.days, value.seconds, value.microseconds)
    if name == "decimal.Decimal" or name == "uuid.UUID":
        return name, str(value)
    if name.startswith("pathlib") and name.endswith("Path"):
        return "pathlib.Path", str(value)
    if hasattr(kind, "__dataclass_fields__"):
        return "%s:%s" % (kind.__module__, kind.__qualname__), _fields(value)
    if hasattr(kind, "__members__") and hasattr(kind, "_member_map_"):
        return "%s:%s" % (kind.__module__, kind.__qualname__), _members(value, kind)
    raise DataError("%s is not plain data" % name)


def _fields(value):
    fields = [
        field for field in type(value).__dataclass_fields__.values() if str(field._field_type) == "_FIELD"
    ]
    return {field.name: getattr(value, field.name) for field in fields if hasattr(value, field.name)}


def _members(value, kind):
    """Names of the members that make up `value`: one, or those of a combined flag."""
    if value._name_ in kind.__members__:
        return [value._name_]
    return [member._name_ for member in kind if member.value and member.value & value.value == member.value]


def _numpy(value, name):
    if name != "numpy.ndarray" and getattr(value, "shape", None) != ():
        raise DataError("%s is not plain data" % name)
    if value.dtype.kind not in "biufcmM" or value.dtype.fields is not None:
        raise DataError("a numpy array of %s is not plain data" % value.dtype)
    if name != "numpy.ndarray":
        return "numpy.scalar", (value.dtype.str, value.tobytes())
    turned = value.flags.f_contiguous and not value.flags.c_contiguous
    flat = (value.T if turned else value).reshape(-1)
    body = memoryview(flat.view("u1")) if flat.size else bytearray()
    return "numpy.ndarray", (value.dtype.str, list(value.shape), turned, body)
