"""Pathway does the job that it shares with FlowSync: a git history becomes the stated links of each ticket.

Usage: stated_links.py COMMITS.jsonl OUT.jsonl PROJECT…
COMMITS has one {"sha", "message"} a line; OUT one {"ticket", "commits"} a ticket. Prints {"secs"} from the first row read to
the last row written, importing Pathway not counted.
"""

import json
import re
import sys
import time

import pathway as pw

source, out, projects = sys.argv[1], sys.argv[2], sys.argv[3:]
key = re.compile(rf"\b(?:{'|'.join(projects)})-[0-9]+\b")


class Commit(pw.Schema):
    sha: str = pw.column_definition(primary_key=True)
    message: str


@pw.udf
def keys(message: str) -> list[str]:
    return sorted(set(key.findall(message)))


started = time.perf_counter()
commits = pw.io.jsonlines.read(source, schema=Commit, mode="static")
mentions = commits.select(commits.sha, ticket=keys(commits.message)).flatten(pw.this.ticket)
tickets = mentions.groupby(mentions.ticket).reduce(mentions.ticket, commits=pw.reducers.count())
pw.io.jsonlines.write(tickets, out)
pw.run(monitoring_level=pw.MonitoringLevel.NONE)
print(json.dumps({"secs": time.perf_counter() - started}))
