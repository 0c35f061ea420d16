"""Pathway does the job that it shares with FlowSync: a git history becomes the stated links of each ticket.

Usage: stated_links.py deliveries|rows INPUT.jsonl OUT.jsonl PROJECT…
INPUT has one delivery of a push a line, as GitHub sends it, or one {"sha", "message"}; OUT one {"ticket", "commits"} a ticket. Prints
{"secs"} from the first line read to the last row written, importing Pathway not counted.
"""

import json
import re
import sys
import time

import pathway as pw

shape, source, out, projects = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
key = re.compile(rf"\b(?:{'|'.join(projects)})-[0-9]+\b")


class Push(pw.Schema):
    # A push that deletes a branch brings none.
    commits: pw.Json = pw.column_definition(default_value=pw.Json([]))


class Commit(pw.Schema):
    sha: str = pw.column_definition(primary_key=True)
    message: str


def of_deliveries():
    """Each commit once, however many pushes bring it. Pathway reads the JSON itself, not in Python."""
    pushed = pw.io.jsonlines.read(source, schema=Push, mode="static").flatten(pw.this.commits)
    told = pushed.select(sha=pw.this.commits["id"].as_str(), message=pw.this.commits["message"].as_str())
    commits = told.groupby(pw.this.sha).reduce(pw.this.sha, message=pw.reducers.any(pw.this.message))
    return commits.select(sha=pw.unwrap(pw.this.sha), message=pw.unwrap(pw.this.message))


@pw.udf
def keys(message: str) -> list[str]:
    return sorted(set(key.findall(message)))


started = time.perf_counter()
if shape == "deliveries":
    commits = of_deliveries()
else:
    commits = pw.io.jsonlines.read(source, schema=Commit, mode="static")
mentions = commits.select(commits.sha, ticket=keys(commits.message)).flatten(pw.this.ticket)
tickets = mentions.groupby(mentions.ticket).reduce(mentions.ticket, commits=pw.reducers.count())
pw.io.jsonlines.write(tickets, out)
pw.run(monitoring_level=pw.MonitoringLevel.NONE)
print(json.dumps({"secs": time.perf_counter() - started}))
