"""A job runner: takes jobs from a queue in Redis on db and writes each one's result to PostgreSQL there.

    python3 batch_worker.py NAME

A job is JSON: {"batch": 1, "id": 17, "amount_cents": 1250, "rounds": 200}. Its result is a row of the table

    results(batch int, id int, amount_cents bigint, digest text, worker text, PRIMARY KEY (batch, id))

where digest is the SHA-256 of "batch:id:amount_cents", hashed `rounds` times in all: honest work for a processor.

At least once, with results that do not mind: a job moves from the list `jobs` to `processing:NAME`, its result is
committed with ON CONFLICT DO NOTHING, and only then is it taken off `processing:NAME`. A worker that is stopped puts back
what it had taken. What a worker that died had taken is done by itself when it is started again, or put back by another
that finds its `alive:NAME` gone, whichever comes first.

What it can reach and what not stands in /run/batch-worker-NAME/state.json: {"state": "working" | "idle" | "degraded",
"lacking": ["redis", "postgresql"], "since": UNIX_TIME, "done": N}, where since is when it came into that state.
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
# Factor of what follows where a time is a bound, for machines that are slow: `PATIENCE=` in /etc/batch-worker.env.
PATIENCE = float(os.environ.get("PATIENCE", "1"))
# How long a worker may be silent before the others take over its jobs, and how often it speaks and listens.
ALIVE_MS = int(3000 * PATIENCE)
BEAT_S = 0.5
# How long an unreachable service is waited for before it counts as lacking.
PATIENCE_S = PATIENCE
# Between two attempts to reach what is lacking.
PAUSE_S = 0.1
# How long an empty queue is waited at; a stop waits as long.
WAIT_S = 0.2

stopping = False


def main(name):
    signal.signal(signal.SIGTERM, stop)
    psycopg2.extensions.set_wait_callback(wait_for_server)
    status, queue, results = Status(name), Queue(name), Results()
    notify_systemd("READY=1")
    while not stopping:
        try:
            jobs = queue.take()
        except redis.RedisError as error:
            status.lacks("redis", error)
            time.sleep(PAUSE_S)
            continue
        status.has("redis")
        if not jobs:
            status.set("idle")
            continue
        status.set("working")
        rows = work(jobs, name, queue)
        while not stopping:
            try:
                results.store(rows)
                break
            except psycopg2.Error as error:
                status.lacks("postgresql", error)
                results.disconnect()
                queue.stay_alive()
                time.sleep(PAUSE_S)
        else:
            break
        status.has("postgresql")
        try:
            queue.acknowledge(jobs)
        except redis.RedisError as error:
            status.lacks("redis", error)  # they will be done again, which changes nothing
        status.did(len(jobs))
    queue.give_back()
    results.disconnect()


def stop(_signal, _frame):
    global stopping
    stopping = True


def work(jobs, name, queue):
    """The rows of these jobs; of fewer when the worker is to stop."""
    rows = []
    for job in jobs:
        if stopping:
            break
        rows.append(result(json.loads(job), name))
        queue.stay_alive()
    return rows


def result(job, name):
    digest = f"{job['batch']}:{job['id']}:{job['amount_cents']}".encode()
    for _ in range(job["rounds"]):
        digest = hashlib.sha256(digest).digest()
    return (job["batch"], job["id"], job["amount_cents"], digest.hex(), name)


class Queue:
    """The lists in Redis on db. Jobs are put in at the left and taken at the right."""

    def __init__(self, name):
        self.redis = redis.Redis(
            HOST, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S, decode_responses=True
        )
        self.mine, self.alive = f"processing:{name}", f"alive:{name}"
        self.next_beat = 0.0

    def take(self):
        """Up to CHUNK jobs, which are on this worker's own list now; none after a moment's wait."""
        if time.monotonic() >= self.next_beat:
            self.beat()
            self.take_over()
        # What is there already is of a life before this one, or could not be taken off.
        if not self.redis.exists(self.mine):
            if self.redis.blmove("jobs", self.mine, WAIT_S, "RIGHT", "LEFT") is None:
                return []
            with self.redis.pipeline() as pipe:
                for _ in range(CHUNK - 1):
                    pipe.lmove("jobs", self.mine, "RIGHT", "LEFT")
                pipe.execute()
        return self.redis.lrange(self.mine, 0, CHUNK - 1)

    def acknowledge(self, jobs):
        with self.redis.pipeline() as pipe:
            for job in jobs:
                pipe.lrem(self.mine, 1, job)
            pipe.execute()

    def stay_alive(self):
        if time.monotonic() >= self.next_beat:
            try:
                self.beat()
            except redis.RedisError:
                self.next_beat = time.monotonic() + BEAT_S  # the others may take its jobs over: results do not mind

    def beat(self):
        self.redis.set(self.alive, "1", px=ALIVE_MS)
        self.next_beat = time.monotonic() + BEAT_S

    def take_over(self):
        """Puts back what the dead had taken."""
        for key in self.redis.scan_iter("processing:*"):
            owner = key.split(":", 1)[1]
            if key != self.mine and not self.redis.exists(f"alive:{owner}"):
                self.put_back(key)

    def give_back(self):
        """Puts back what this worker had taken, and nobody waits for it any more."""
        try:
            self.put_back(self.mine)
            self.redis.delete(self.alive)
        except redis.RedisError:
            pass  # the others will, when it has been silent long enough

    def put_back(self, key):
        while self.redis.lmove(key, "jobs", "LEFT", "RIGHT"):
            pass


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
        self.lacking = set()
        self.done = 0
        self.become("idle")

    def set(self, state):
        if not self.lacking and state != self.state:
            self.become(state)

    def lacks(self, service, error):
        if service not in self.lacking:
            print(f"lacking {service}: {error}", file=sys.stderr, flush=True)
            self.lacking.add(service)
            self.become("degraded")

    def has(self, service):
        if service in self.lacking:
            print(f"{service} is back", file=sys.stderr, flush=True)
            self.lacking.remove(service)
            self.become("degraded" if self.lacking else "working")

    def did(self, count):
        self.done += count
        self.write()

    def become(self, state):
        self.state, self.since = state, time.time()
        self.write()

    def write(self):
        new = self.path.with_suffix(".new")
        lacking = sorted(self.lacking)
        new.write_text(
            json.dumps({"state": self.state, "lacking": lacking, "since": self.since, "done": self.done})
        )
        new.rename(self.path)


def notify_systemd(message):
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(message.encode(), address.replace("@", "\0", 1))


if __name__ == "__main__":
    main(sys.argv[1])
