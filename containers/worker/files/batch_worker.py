"""A job runner: takes jobs from a queue in Redis on db and writes each one's result to PostgreSQL there.

    python3 batch_worker.py NAME

A job is JSON: {"batch": 1, "id": 17, "amount_cents": 1250, "rounds": 200}. Its result is a row of the table

    results(batch int, id int, amount_cents bigint, digest text, worker text, PRIMARY KEY (batch, id))

where digest is the SHA-256 of "batch:id:amount_cents", hashed `rounds` times in all: honest work for a processor.

At least once, with results that do not mind: a job moves from the list `jobs` to `processing:NAME`, its result is
committed with ON CONFLICT DO NOTHING, and only then is it taken off `processing:NAME`. What a worker that died had taken
is put back by the first worker that finds its `alive:NAME` gone.

What it can reach and what not stands in /run/batch-worker-NAME/state.json: {"state": "working" | "idle" | "degraded",
"lacking": ["redis", "postgresql"], "since": UNIX_TIME, "done": N}.
"""

import hashlib
import json
import os
import pathlib
import select
import signal
import socket
import sys
import time

import psycopg2
import psycopg2.extensions
import psycopg2.extras
import redis

HOST = "db"
# Jobs that are taken, committed and taken off together.
CHUNK = 25
# How long a worker may be silent before the others take over its jobs.
ALIVE_MS = 3000
# How long an unreachable service is waited for before it counts as lacking.
PATIENCE_S = 1
PAUSE_S = 0.1

stopping = False


def main(name):
    signal.signal(signal.SIGTERM, stop)
    psycopg2.extensions.set_wait_callback(wait_for_server)
    status = Status(name)
    queue = redis.Redis(
        HOST, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S, decode_responses=True
    )
    results = Results()
    notify_systemd("READY=1")
    while not stopping:
        try:
            jobs = take(queue, name)
        except redis.RedisError as error:
            status.lacks("redis", error)
            time.sleep(PAUSE_S)
            continue
        status.has("redis")
        if not jobs:
            status.set("idle")
            time.sleep(PAUSE_S)
            continue
        status.set("working")
        rows = [result(json.loads(job), name) for job in jobs]
        while not stopping:
            try:
                results.store(rows)
                break
            except psycopg2.Error as error:
                status.lacks("postgresql", error)
                results.disconnect()
                stay_alive(queue, name)
                time.sleep(PAUSE_S)
        else:
            break  # what was taken stays in processing:NAME, for whoever comes next
        status.has("postgresql")
        try:
            acknowledge(queue, name, jobs)
        except redis.RedisError as error:
            status.lacks("redis", error)  # they will be done again, which changes nothing
        status.did(len(jobs))


def stop(_signal, _frame):
    global stopping
    stopping = True


def take(queue, name):
    """Moves up to CHUNK jobs to this worker's own list, those of the dead first."""
    stay_alive_or_fail(queue, name)
    for key in queue.scan_iter("processing:*"):
        owner = key.split(":", 1)[1]
        if owner != name and not queue.exists(f"alive:{owner}"):
            while queue.lmove(key, "jobs", "LEFT", "RIGHT"):
                pass
    left = queue.lrange(f"processing:{name}", 0, CHUNK - 1)
    if left:
        return left  # of a life of its own before this one
    with queue.pipeline() as pipe:
        for _ in range(CHUNK):
            pipe.lmove("jobs", f"processing:{name}", "RIGHT", "LEFT")
        return [job for job in pipe.execute() if job is not None]


def acknowledge(queue, name, jobs):
    with queue.pipeline() as pipe:
        for job in jobs:
            pipe.lrem(f"processing:{name}", 1, job)
        pipe.execute()


def stay_alive_or_fail(queue, name):
    queue.set(f"alive:{name}", "1", px=ALIVE_MS)


def stay_alive(queue, name):
    try:
        stay_alive_or_fail(queue, name)
    except redis.RedisError:
        pass  # the others may take its jobs over: results do not mind


def result(job, name):
    digest = f"{job['batch']}:{job['id']}:{job['amount_cents']}".encode()
    for _ in range(job["rounds"]):
        digest = hashlib.sha256(digest).digest()
    return (job["batch"], job["id"], job["amount_cents"], digest.hex(), name)


def wait_for_server(connection):
    """Waits for PostgreSQL as long as it may take: a server that is frozen keeps its connections and says nothing."""
    end = time.monotonic() + PATIENCE_S
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        left = max(0, end - time.monotonic())
        reads, writes = [], [connection.fileno()]
        if state == psycopg2.extensions.POLL_READ:
            reads, writes = writes, reads
        if not any(select.select(reads, writes, [], left)):
            raise psycopg2.OperationalError(f"no answer within {PATIENCE_S} s")


class Results:
    """The table on db, connected when it is first needed and again after each failure."""

    def __init__(self):
        self.connection = None

    def store(self, rows):
        if self.connection is None:
            self.connection = psycopg2.connect(host=HOST, dbname="mancer", user="mancer")
        with self.connection, self.connection.cursor() as cursor:
            psycopg2.extras.execute_values(
                cursor,
                "INSERT INTO results (batch, id, amount_cents, digest, worker) VALUES %s ON CONFLICT DO NOTHING",
                rows,
            )

    def disconnect(self):
        if self.connection is not None:
            try:
                self.connection.close()
            except psycopg2.Error:
                pass
            self.connection = None


class Status:
    """What this worker can do, for whoever looks at state.json; written when it changes."""

    def __init__(self, name):
        self.path = pathlib.Path(f"/run/batch-worker-{name}/state.json")
        self.lacking = {}
        self.state = "idle"
        self.done = 0
        self.write()

    def set(self, state):
        if not self.lacking and state != self.state:
            self.state = state
            self.write()

    def lacks(self, service, error):
        if service not in self.lacking:
            print(f"lacking {service}: {error}", file=sys.stderr, flush=True)
            self.lacking[service] = time.time()
            self.state = "degraded"
            self.write()

    def has(self, service):
        if self.lacking.pop(service, None) is not None:
            print(f"{service} is back", file=sys.stderr, flush=True)
            self.state = "degraded" if self.lacking else "working"
            self.write()

    def did(self, count):
        self.done += count
        self.write()

    def write(self):
        new = self.path.with_suffix(".new")
        lacking = sorted(self.lacking)
        new.write_text(
            json.dumps({"state": self.state, "lacking": lacking, "since": time.time(), "done": self.done})
        )
        new.rename(self.path)


def notify_systemd(message):
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(message.encode(), address.replace("@", "\0", 1))


if __name__ == "__main__":
    main(sys.argv[1])
