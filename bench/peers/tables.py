"""The tables of a data directory at its newest epoch, as DuckDB views: what the other scripts share."""

import json
import os

import duckdb
from deltalake import DeltaTable


def manifest(directory):
    folder = os.path.join(directory, "manifests")
    names = [n for n in os.listdir(folder) if n.endswith(".json") and len(n) == 25]
    with open(os.path.join(folder, max(names))) as file:
        return json.load(file)


def files(directory):
    """The live files of each table, by the Delta log that every reader uses."""
    found = {}
    for name, version in manifest(directory)["tables"].items():
        table = DeltaTable(os.path.join(directory, "tables", name), version=version["delta"])
        found[name] = [uri.removeprefix("file://") for uri in table.file_uris()]
    return found


def connect(directory, name_of=lambda name: name):
    """A connection in which each table is a view over its Parquet files, under the name that `name_of` gives it."""
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'; set integer_division = true; set enable_progress_bar = false")
    for name, paths in files(directory).items():
        # A table without rows has no files, and so no columns that DuckDB could know.
        if paths:
            listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
            connection.execute(f"create view {name_of(name)} as select * from read_parquet([{listed}])")
    return connection
