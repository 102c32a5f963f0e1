"""Operations of a program that uses Mancer on app, performed on request while the scenario measures their time.

The program registers functions with `operation` and ends with `serve()`. It has finished its imports, and opened its SSH
connections, before it listens on PORT: a request costs no start of Python. A request is a line of JSON, the name of an
operation and its arguments; the answer is a line of JSON with what it `returned`, or how it `failed`.
"""

import json
import os
import socket
import socketserver
import traceback

from mancer.infrastructure.logging.mancer_logger import MancerLogger

PORT = 7070
#: Time limit of each read and write of a request, in seconds.
LIMIT_S = 10
OPERATIONS = {}


def operation(function):
    """Registers a function as the operation of its name."""
    OPERATIONS[function.__name__] = function
    return function


def output(result):
    """Returns the output of a command of Mancer's; raises the failure of one that did not succeed."""
    if not result.success:
        raise RuntimeError(f"exit code {result.exit_code}: {(result.error_message or '').strip()}")
    return result.raw_output


def answer(request):
    # Mancer looks through the history of all its commands after each one, so that it gets slower from call to call.
    MancerLogger.get_instance().clear_history()
    try:
        name, *arguments = json.loads(request)
        return {"returned": OPERATIONS[name](*arguments)}
    except BaseException:  # the drivers end with SystemExit where a command fails
        return {"failed": traceback.format_exc(limit=-3)}


class Request(socketserver.StreamRequestHandler):
    timeout = LIMIT_S

    def handle(self):
        try:
            self.wfile.write(f"{json.dumps(answer(self.rfile.readline()))}\n".encode())
        except OSError:
            pass  # whoever asked has gone


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


def serve():
    # Each runner that is made with its logging on sets the level anew.
    MancerLogger.get_instance().initialize(force_standard=True, log_level="critical")
    with Server(("127.0.0.1", PORT), Request) as server:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
        server.serve_forever()
