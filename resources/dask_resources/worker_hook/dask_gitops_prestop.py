"""Before a worker is stopped: have the scheduler retire it, and wait until it says so.

    python -c "$(cat dask_gitops_prestop.py)" HOST PORT WORKER SECONDS PID

The kubelet runs this in the worker's container before it sends SIGTERM to process PID, whoever deletes the Pod. The
standard library must do, of any Python that distributed runs on. Whatever goes wrong, the worker is then stopped as
without it.
"""

import http.client
import json
import os
import socket
import sys
import time

host, port, worker, seconds, pid = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]), sys.argv[5]
deadline = time.monotonic() + seconds
gone = 0
while time.monotonic() < deadline and gone < 3:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.connect()
        body = {"workers": [{"name": worker, "ip": connection.sock.getsockname()[0]}]}
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/dask-gitops/v1/retire", json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status != 200:
            break  # a scheduler that cannot be asked
        if json.load(answer)["workers"][worker] in ("retired", "unknown"):
            break
        gone = 0
    except (ConnectionRefusedError, socket.gaierror):
        gone += 1  # nobody is there; results are worth nothing once their scheduler is gone
    except (OSError, http.client.HTTPException):
        gone = 0  # too busy to answer, or out of reach for the moment
    finally:
        connection.close()
    time.sleep(0.5)


for number in (15, 2, 2, 2, 2) if gone == 3 else ():
    os.kill(int(pid), number)  # a Nanny whose worker cannot connect hangs on SIGTERM, and heeds a repeated SIGINT
    time.sleep(3 if number == 15 else 1)


def heeds_sigterm() -> bool:
    """Whether the process catches or blocks SIGTERM; the first one of a container ignores it otherwise."""
    with open(f"/proc/{pid}/status") as status:
        masks = {name: value for name, _, value in (line.partition(":") for line in status)}
    return bool((int(masks["SigCgt"], 16) | int(masks["SigBlk"], 16)) >> 14 & 1)


deadline = time.monotonic() + 30
while not heeds_sigterm() and time.monotonic() < deadline:
    time.sleep(0.5)  # a worker that is starting has no handler yet
if not heeds_sigterm():  # a shell: then it is for us to tell the worker
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        for child in children.read().split():
            os.kill(int(child), 15)
