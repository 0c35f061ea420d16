"""DuckDB answers the named questions over the same Parquet files, and its rows are compared with those of FlowSync.

Usage: questions.py DIRECTORY REPETITIONS < questions.json, with {"name", "sql", "expected"} each, where `expected` is a file with the
rows of FlowSync as an Arrow stream. Prints one {"name", "rows", "differ", "millis"} a line.
"""

import collections
import datetime
import json
import sys
import time

import pyarrow

from tables import connect, files


def plain(value):
    """A value without what the engines tell differently: names of time zones, and the last digits of fractions."""
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=None).isoformat()
    if isinstance(value, datetime.date):
        return datetime.datetime.combine(value, datetime.time()).isoformat()
    if value is None or isinstance(value, (bool, str)):
        return value
    return float(f"{float(value):.9g}")


def rows_of(table):
    """The rows, and how often each is there, in any order."""
    columns = [[plain(value) for value in column.to_pylist()] for column in table.columns]
    return collections.Counter(zip(*columns))


directory, repetitions = sys.argv[1], int(sys.argv[2])
print(json.dumps({"files": {name: len(paths) for name, paths in files(directory).items()}}))
connection = connect(directory)
for question in json.load(sys.stdin):
    millis = []
    for _ in range(repetitions):
        started = time.perf_counter()
        rows = connection.sql(question["sql"]).to_arrow_table()
        millis.append(1000 * (time.perf_counter() - started))
    with pyarrow.ipc.open_stream(question["expected"]) as stream:
        expected = rows_of(stream.read_all())
    found = rows_of(rows)
    differ = (found - expected).total() + (expected - found).total()
    print(json.dumps({"name": question["name"], "rows": rows.num_rows, "differ": differ, "millis": millis}))
