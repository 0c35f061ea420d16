"""The tables of a data directory at its newest epoch, as DuckDB views: what the other scripts share."""

import json
import os

import duckdb
import pyarrow
from deltalake import DeltaTable


def manifest(directory):
    folder = os.path.join(directory, "manifests")
    names = [n for n in os.listdir(folder) if n.endswith(".json") and len(n) == 25]
    with open(os.path.join(folder, max(names))) as file:
        return json.load(file)


def tables(directory):
    """The tables, by the Delta log that every reader uses."""
    listed = manifest(directory)["tables"].items()
    return {name: DeltaTable(os.path.join(directory, "tables", name), version=v["delta"]) for name, v in listed}


def paths(table):
    """The live files of a table."""
    return [uri.removeprefix("file://") for uri in table.file_uris()]


def files(directory):
    """The live files of each table."""
    return {name: paths(table) for name, table in tables(directory).items()}


def connect(directory, name_of=lambda name: name):
    """A connection in which each table is a view over its Parquet files, under the name that `name_of` gives it."""
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'; set integer_division = true; set enable_progress_bar = false")
    for name, table in tables(directory).items():
        listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths(table))
        if listed:
            connection.execute(f"create view {name_of(name)} as select * from read_parquet([{listed}])")
        else:
            # A table without rows has no files: its columns are in the Delta log alone.
            connection.register("empty", pyarrow.schema(table.schema().to_arrow()).empty_table())
            connection.execute(f"create table {name_of(name)} as select * from empty")
            connection.unregister("empty")
    return connection
