"""DuckDB answers the named questions over the same Parquet files.

Usage: questions.py DIRECTORY REPETITIONS < questions.json; one {"name", "rows", "millis"} a line.
"""

import json
import sys
import time

from tables import connect, files

directory, repetitions = sys.argv[1], int(sys.argv[2])
print(json.dumps({"files": {name: len(paths) for name, paths in files(directory).items()}}))
connection = connect(directory)
for question in json.load(sys.stdin):
    millis = []
    for _ in range(repetitions):
        started = time.perf_counter()
        rows = connection.sql(question["sql"]).to_arrow_table()
        millis.append(1000 * (time.perf_counter() - started))
    print(json.dumps({"name": question["name"], "rows": rows.num_rows, "millis": millis}))
