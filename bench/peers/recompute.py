"""DuckDB computes every view from the fact tables in one batch, by the views' own oracles, and compares the rows.

Usage: recompute.py DIRECTORY < {"views": [{"name", "sql", "columns"}], "helpers": […], "model": […]}
One {"secs"} for computing all of them, then one {"name", "rows", "differ"} a view.
"""

import json
import re
import sys
import time

from tables import connect



def dialect(sql):
    """In DuckDB AT is a keyword: as a name it is quoted. Texts, which stand between single quotes, stay."""
    parts = sql.split("'")
    parts[::2] = [re.sub(r"\bat\b", '"at"', part) for part in parts[::2]]
    return "'".join(parts)


directory = sys.argv[1]
given = json.load(sys.stdin)
# The fact tables under their names, the views as FlowSync holds them beside.
base = connect(directory, lambda name: name if name.startswith("fact_") else f"held_{name}")
base.execute("create macro to_char(d, f) as strftime(d, f)")
base.execute("create macro array_sort(l) as list_sort(l)")
base.execute(
    "create table model (kind varchar, weight bigint, spread bigint, prior bigint, at_least bigint, below bigint)"
)
base.executemany("insert into model values (?, ?, ?, ?, ?, ?)", given["model"])

started = time.perf_counter()
todo = given["helpers"] + given["views"]
while todo:
    later, reasons = [], []
    for view in todo:
        # An oracle may read other views: those first whose inputs are there.
        try:
            base.execute(f"create table {view['name']} as {dialect(view['sql'])}")
        except Exception as error:
            later.append(view)
            reasons.append(f"{view['name']}: {error}")
    if len(later) == len(todo):
        sys.exit("DuckDB cannot compute these: " + "\n".join(reasons))
    todo = later
print(json.dumps({"secs": time.perf_counter() - started}))

there = {name for (name,) in base.execute("select view_name from duckdb_views()").fetchall()}
for view in given["views"]:
    name, columns = view["name"], ", ".join(f'"{column}"' for column in view["columns"])
    count = lambda sql: base.execute(f"select count(*) from ({sql})").fetchone()[0]
    computed, held = f"select {columns} from {name}", f"select {columns} from held_{name}"
    rows = count(computed)
    if f"held_{name}" in there:
        differ = count(f"{computed} except all {held}") + count(f"{held} except all {computed}")
    else:
        differ = rows
    print(json.dumps({"name": name, "rows": rows, "differ": differ}))
