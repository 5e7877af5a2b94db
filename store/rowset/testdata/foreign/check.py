"""Reads every Parquet file of a directory with pyarrow and with DuckDB, and compares each value with the
model beside it (NAME.json: columns, and rows as texts). Exits 1 and says what differs, if anything does."""
import decimal
import glob
import json
import struct
import sys

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

FLOATS = {"float32": "<f", "float64": "<d"}
problems = []
compared = 0


def cells(kind, scale, array):
    """The values of an Arrow array as the model writes them: text, or None."""
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if kind == "timestamp":
        array = array.cast(pa.int64())
    elif kind == "date":
        array = array.cast(pa.int32())
    values = array.to_pylist()
    if kind in FLOATS:
        return [None if v is None else bits(kind, v) for v in values]
    if kind == "decimal":
        return [None if v is None else str(int(v.scaleb(scale))) for v in values]
    if kind == "bool":
        return [None if v is None else str(int(v)) for v in values]
    if kind in ("string", "json"):
        return [None if v is None else v.encode().hex() for v in values]
    if kind in ("binary", "uuid"):
        return [None if v is None else v.hex() for v in values]
    return [None if v is None else str(v) for v in values]


def bits(kind, v):
    if v != v:
        return "nan"
    return struct.pack(FLOATS[kind], v)[::-1].hex()


ARROW = {
    "bool": "bool", "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64", "float32": "float", "float64": "double",
    "string": "string", "binary": "binary", "date": "date32[day]", "timestamp": "timestamp[us, tz=UTC]",
}
DUCKDB = {
    "bool": "BOOLEAN", "int8": "TINYINT", "int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT", "float32": "FLOAT", "float64": "DOUBLE",
    "string": "VARCHAR", "binary": "BLOB", "date": "DATE", "timestamp": "TIMESTAMP WITH TIME ZONE", "uuid": "UUID", "json": "JSON",
}


def compare(file, engine, column, got, want):
    global compared
    compared += len(want)
    if len(got) != len(want):
        problems.append(f"{file} {engine} {column}: {len(got)} rows, want {len(want)}")
        return
    for i, (g, w) in enumerate(zip(got, want)):
        if g != w:
            problems.append(f"{file} {engine} {column} row {i}: got {str(g)[:80]}, want {str(w)[:80]}")
            return


def select(column):
    """A DuckDB expression that Arrow hands over without loss."""
    name = '"' + column["name"] + '"'
    if column["kind"] == "uuid":
        return f"unhex(replace({name}::varchar, '-', '')) as {name}"
    if column["kind"] == "json":
        return f"{name}::varchar as {name}"
    return name


def order(kind, text):
    """A key that orders values as the engines do."""
    if kind in FLOATS:
        return float("nan") if text == "nan" else struct.unpack(FLOATS[kind], bytes.fromhex(text)[::-1])[0]
    if kind in ("string", "json", "binary", "uuid"):
        return bytes.fromhex(text)
    return int(text)


def literal(kind, scale, key):
    if kind == "decimal":
        return f"{decimal.Decimal(key).scaleb(-scale)}::decimal(18,{scale})"
    if kind in FLOATS:
        return f"'{key!r}'::{DUCKDB[kind]}"
    if kind == "timestamp":
        return f"make_timestamptz({key})"
    if kind == "date":
        return f"(date '1970-01-01' + {key})::date"
    if kind == "binary":
        return f"unhex('{key.hex()}')"
    if kind == "uuid":
        return f"'{key.hex()}'::uuid"
    if kind == "bool":
        return "true" if key else "false"
    if kind == "string":
        return "decode(unhex('" + key.hex() + "'))"
    return str(key)


def scalar(kind, scale, key, t):
    if kind == "decimal":
        return pa.scalar(decimal.Decimal(key).scaleb(-scale), t)
    if kind == "string":
        return pa.scalar(key.decode(), t)
    if kind == "bool":
        return pa.scalar(bool(key), t)
    return pa.scalar(key, pa.int64()).cast(t) if kind == "timestamp" else pa.scalar(key, t)


def filters(path, file, column, want, arrow_type, con):
    """Range filters use statistics and page indexes: both engines must count what the model has."""
    kind, scale, name = column["kind"], column.get("scale", 0), column["name"]
    if kind == "json":
        return
    keys = sorted(k for k in (order(kind, w) for w in want if w is not None) if k == k)
    if not keys:
        return
    for lo, hi in ((keys[len(keys) // 10], keys[len(keys) * 9 // 10]), (keys[0], keys[0]), (keys[-1], keys[-1])):
        if isinstance(lo, bytes) and len(lo) + len(hi) > 4000:
            continue
        n = sum(1 for k in keys if lo <= k <= hi)
        a, b = literal(kind, scale, lo), literal(kind, scale, hi)
        got = con.execute(f"select count(*) from read_parquet('{path}') where \"{name}\" between {a} and {b}").fetchone()[0]
        if got != n:
            problems.append(f"{file} duckdb {name} between {a} and {b}: {got} rows, want {n}")
        if kind == "uuid":
            continue
        f = (pc.field(name) >= scalar(kind, scale, lo, arrow_type)) & (pc.field(name) <= scalar(kind, scale, hi, arrow_type))
        got = pq.read_table(path, columns=[name], filters=f).num_rows
        if got != n:
            problems.append(f"{file} pyarrow {name} between {a} and {b}: {got} rows, want {n}")
    if kind in FLOATS:  # a NaN is above all to DuckDB and must not be pruned away
        n = sum(1 for w in want if w == "nan")
        got = con.execute(f"select count(*) from read_parquet('{path}') where \"{name}\" > 'inf'::{DUCKDB[kind]}").fetchone()[0]
        if got != n:
            problems.append(f"{file} duckdb {name} NaN: {got} rows, want {n}")
    nulls = sum(1 for w in want if w is None)
    got = con.execute(f"select count(*) from read_parquet('{path}') where \"{name}\" is null").fetchone()[0]
    if got != nulls:
        problems.append(f"{file} duckdb {name} is null: {got} rows, want {nulls}")


def check(path):
    file = path.rsplit("/", 1)[-1]
    model = json.load(open(path[: -len("parquet")] + "json"))
    table = pq.ParquetFile(path, page_checksum_verification=True).read()
    con = duckdb.connect()
    con.execute("set timezone = 'UTC'")
    types = {r[0]: r[1] for r in con.execute(f"describe select * from read_parquet('{path}')").fetchall()}
    chosen = ", ".join(select(c) for c in model["columns"])
    result = con.sql(f"select {chosen} from read_parquet('{path}')").arrow()
    rows = result.read_all() if hasattr(result, "read_all") else result
    for i, c in enumerate(model["columns"]):
        want = [r[i] for r in model["rows"]]
        name, kind, scale = c["name"], c["kind"], c.get("scale", 0)
        arrow_type = table.schema.field(name).type
        expected = f"decimal128({c['precision']}, {scale})" if kind == "decimal" else ARROW.get(kind)
        if expected and str(arrow_type) != expected:
            problems.append(f"{file} pyarrow {name}: type {arrow_type}, want {expected}")
        expected = f"DECIMAL({c['precision']},{scale})" if kind == "decimal" else DUCKDB[kind]
        if types[name] != expected:
            problems.append(f"{file} duckdb {name}: type {types[name]}, want {expected}")
        field = table.schema.field(name)
        if field.metadata.get(b"PARQUET:field_id") != str(c["id"]).encode() or field.nullable != c["nullable"]:
            problems.append(f"{file} pyarrow {name}: field {field}, metadata {field.metadata}")
        compare(file, "pyarrow", name, cells(kind, scale, table[name]), want)
        compare(file, "duckdb", name, cells(kind, scale, rows[name]), want)
        filters(path, file, c, want, arrow_type, con)


for path in sorted(glob.glob(sys.argv[1] + "/*.parquet")):
    check(path)
    print(path.rsplit("/", 1)[-1], "read")
print(compared, "values compared,", len(problems), "problems")
for p in problems[:40]:
    print(p)
sys.exit(1 if problems or compared == 0 else 0)
