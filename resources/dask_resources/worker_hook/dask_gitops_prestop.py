"""Before a worker is stopped: have the scheduler retire it, and wait until it says so.

    python -c "$(cat dask_gitops_prestop.py)" HOST PORT WORKER SECONDS PID [node]

The kubelet runs this in the worker's container before it sends SIGTERM to the first process there: PID, or 0 where
containers share their processes and it has to be found. With ``node`` the Pod is in its node's network, where an
address is no sign of anybody. The standard library must do, of any Python that distributed runs on. Whatever goes
wrong, the worker is then stopped as without it; it ends with 0, else Kubernetes tells of a failure.
"""

import http.client
import json
import os
import socket
import sys
import time
from typing import Any

host, usual, worker, seconds, pid, *node = sys.argv[1:]


def told(variable: str, otherwise: Any) -> int:
    """A port by the environment."""
    text = os.environ.get(variable, "").rpartition(":")[2]
    return int(text if text.isdigit() else otherwise)


# Of a Service that was there before the Pod, Kubernetes tells the port, which may be another one.
port = told(host.split(".")[0].upper().replace("-", "_") + "_SERVICE_PORT_HTTP_DASHBOARD", usual)
comm = f":{told('DASK_SCHEDULER_ADDRESS', 8786):04X}"
headers = {"Content-Type": "application/json", "Dask-Gitops-Own-Addresses": "1"}


def identity(sock: Any) -> Any:
    """The worker, with its address: one of IPv4 if it has any, as Dask prefers that, and that of a connection."""
    ips = [] if node else [sock.getsockname()[0]]
    if ips and sock.family == socket.AF_INET6:
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.connect(("8.8.8.8", 9))  # nothing is sent; distributed.utils.get_ip does the same
                ips.insert(0, other.getsockname()[0])
        except OSError:
            pass
    return {"name": worker, **({"ip": ips[0]} if ips else {}), **({"ips": ips} if ips[1:] else {})}


def connected() -> bool:
    """Whether anybody here is connected to the scheduler: then it lives, ready or not."""
    for table in [] if node else ["/proc/net/tcp", "/proc/net/tcp6"]:
        with open(table) as lines:
            if any(line.split()[2].endswith(comm) and line.split()[3] == "01" for line in lines):
                return True
    return False


def silent() -> bool:
    """Whether nobody here listens: a worker that has not begun yet, or has ended, has nothing that could be lost."""
    listening = set()
    for table in filter(os.path.exists, ["/proc/net/tcp", "/proc/net/tcp6"]):
        with open(table) as lines:
            listening |= {f"socket:[{line.split()[9]}]" for line in lines if line.split()[3] == "0A"}
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            files = [f"/proc/{process}/fd/{number}" for number in os.listdir(f"/proc/{process}/fd")]
            if not listening.isdisjoint(os.readlink(file) for file in files if os.path.islink(file)):
                return False
        except FileNotFoundError:
            pass  # it has ended
    return True


def drain() -> bool:
    """Wait for the scheduler's word; whether it is gone instead, and results are worth nothing any more."""
    deadline, lost, nameless, lives = time.monotonic() + float(seconds), None, None, False
    while time.monotonic() < deadline:
        over = carefully(silent)
        connection = http.client.HTTPConnection(host, port, timeout=0.5 if over else 5)
        sign = "no connection"
        try:
            connection.connect()
            sign = ""  # who is there and does not answer is busy
            body = json.dumps({"workers": [identity(connection.sock)]})
            connection.request("POST", "/dask-gitops/v1/retire", body, headers)
            answer = connection.getresponse()
            if answer.status == 200 and json.loads(answer.read(65536))["workers"][worker] in ("retired", "unknown"):
                return False
            if answer.status not in (200, 502, 503, 504):  # these by a proxy, of a scheduler that is not ready
                return False
        except socket.gaierror as error:
            sign = "no name" if error.errno == socket.EAI_NONAME else ""  # else it is the resolver that is gone
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        if over and carefully(silent):
            return True  # and it will not take long: it has lost its scheduler
        now = time.monotonic()
        for _ in range(5):
            lived, lives = lives, carefully(connected)
            if lived and not lives:
                return True  # whoever has lost its scheduler has lost all, and ends in a moment: before it we must
            time.sleep(0.1)
        if not sign or lives:
            lost = nameless = None
        else:
            lost = lost or now
            nameless = sign == "no name" and (nameless or now)
            # A scheduler that restarts or is not ready refuses, too; without a name there is no Service any more.
            if now - lost > 20 or (nameless and now - nameless > 5):
                return True
    return False


def stat(process: str) -> Any:
    """Of a process: who has started it, and when."""
    with open(f"/proc/{process}/stat") as text:
        fields = text.read().rpartition(")")[2].split()
    return fields[1], int(fields[19])


def first() -> str:
    """The container's first process where all are seen: the oldest of those with our files that came from outside."""
    ours, found, us = os.readlink("/proc/self/ns/mnt"), {}, str(os.getpid())
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{process}/ns/mnt") == ours:
                found[process] = stat(process)
        except OSError:
            pass
    while found[us][0] in found:
        us = found[us][0]
    return min((born, process) for process, (parent, born) in found.items() if parent not in found and process != us)[1]


def heeds(process: str) -> Any:
    """Whether a process catches or blocks SIGTERM; the first one of a container ignores it otherwise."""
    with open(f"/proc/{process}/status") as status:
        masks = {name: value for name, _, value in (line.partition(":") for line in status)}
    return (int(masks["SigCgt"], 16) | int(masks["SigBlk"], 16)) >> 14 & 1


def children(process: str) -> Any:
    """Those whom a process that does not heed SIGTERM has started, such as a shell."""
    if heeds(process):
        return []
    with open(f"/proc/{process}/task/{process}/children") as text:
        return text.read().split()


def stop(gone: bool) -> None:
    """See to it that SIGTERM is heeded."""
    process = first() if pid == "0" else pid
    born, deadline = stat(process), time.monotonic() + 30
    while not gone and not heeds(process) and time.monotonic() < deadline:
        time.sleep(0.5)  # a worker that is starting has no handler yet
    targets = children(process)  # a shell does not pass it on; now, as we are one of them when we go on from behind
    for child in [] if gone else targets:
        os.kill(int(child), 15)
    if gone and os.fork() == 0:
        # A Nanny whose worker cannot connect hangs on SIGTERM, and heeds a repeated SIGINT. It is sent from behind, as
        # we end with the container, and Kubernetes would tell of that as a failure.
        os.setsid()
        for number in range(3):
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        for pause, number in ((1, 15), (3, 2), (1, 2), (1, 2), (1, 2)):
            time.sleep(pause)
            for target in [process, *targets]:
                if stat(process) == born:
                    os.kill(int(target), number)


def carefully(step: Any, *arguments: Any) -> Any:
    """Carry out a step; whatever goes wrong is as if there were no such step."""
    try:
        return step(*arguments)
    except Exception:
        return False


carefully(stop, carefully(drain))
