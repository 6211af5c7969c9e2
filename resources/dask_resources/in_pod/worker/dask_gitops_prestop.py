"""Before a worker is stopped: have the scheduler retire it, and wait until it says so.

    python -c "$(cat dask_gitops_prestop.py)" HOST DASHBOARD CONTROL WORKER SECONDS PID KEY [node]

The kubelet runs this in the worker's container before it sends SIGTERM to the first process there: PID, or 0 where
containers share their processes and it has to be found. KEY is a file; with it the request is signed and goes to the
port CONTROL, and without it, or where nobody is there, to that of the DASHBOARD. With ``node`` the Pod is in its node's
network, where an address identifies nobody. It must run with the standard library alone, of any Python that
distributed supports. Whatever goes wrong, the worker is then stopped as it would be without it. It always ends with 0,
because Kubernetes reports anything else as a failure.
"""

import hashlib
import hmac
import http.client
import json
import os
import secrets
import socket
import sys
import time
from typing import Any

host, dashboard, control, worker, seconds, pid, key_file, *node = sys.argv[1:]


def port_in(variable: str, otherwise: Any) -> int:
    """The port in a variable of the environment."""
    text = os.environ.get(variable, "").rpartition(":")[2]
    return int(text if text.isdigit() else otherwise)


# Kubernetes gives the port of a Service that is older than the Pod; it need not be the default.
service = host.split(".")[0].upper().replace("-", "_") + "_SERVICE_PORT_"
ports = port_in(f"{service}DASK_GITOPS", control), port_in(f"{service}HTTP_DASHBOARD", dashboard)
comm = f":{port_in('DASK_SCHEDULER_ADDRESS', 8786):04X}"
headers = {"Content-Type": "application/json", "Dask-Gitops-Own-Addresses": "1"}


def identity(sock: Any) -> Any:
    """The worker with its addresses: an IPv4 one if there is any, as Dask prefers that, and the connection's own."""
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
    """Whether any process here is connected to the scheduler: then that is alive, ready or not."""
    for table in [] if node else ["/proc/net/tcp", "/proc/net/tcp6"]:
        with open(table) as lines:
            if any(line.split()[2].endswith(comm) and line.split()[3] == "01" for line in lines):
                return True
    return False


def nobody_listens() -> bool:
    """Whether no process here listens: a worker that has not begun yet, or has ended, has nothing to lose."""
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


def key() -> Any:
    """That of the cluster."""
    with open(key_file, "rb") as file:
        return file.read()


def signed(secret: Any, *lines: Any) -> Any:
    """The signature of some lines and, last, of a body."""
    text = "\n".join([*lines[:-1], hashlib.sha256(lines[-1]).hexdigest()])
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def answer(connection: Any, secret: Any) -> Any:
    """The status of the answer, and what it says of the worker; 503 if who answers cannot prove to be the scheduler."""
    pods = [identity(connection.sock)]
    if not secret:
        connection.request("POST", "/dask-gitops/v1/retire", json.dumps({"workers": pods}), headers)
        response = connection.getresponse()
        said = response.read(65536)
        return response.status, response.status == 200 and json.loads(said)["workers"][worker]
    path, body = "/dask-gitops/v2/ask", json.dumps({"questions": [{"retire": pods}]}).encode()
    made, nonce = f"{time.time():.3f}", secrets.token_hex(16)
    signature = signed(secret, "dask-gitops request", "POST", path, made, nonce, body)
    fields = {"Dask-Gitops-Time": made, "Dask-Gitops-Nonce": nonce, "Dask-Gitops-Signature": signature}
    connection.request("POST", path, body, {**headers, **fields})
    response = connection.getresponse()
    said = response.read(65536)
    if response.getheader("Dask-Gitops-Proof") != signed(
        secret, "dask-gitops answer", nonce, f"{response.status}", said
    ):
        return 503, ""
    return response.status, response.status == 200 and json.loads(said)["answers"][0]["retirement"][worker]


def drain() -> bool:
    """Wait until the scheduler says that it is done; whether it has gone instead, and results are worth nothing."""
    deadline, lost, nameless, lives = time.monotonic() + float(seconds), None, None, False
    while time.monotonic() < deadline:
        over, secret = attempt(nobody_listens), attempt(key)
        # A proxy says that the scheduler is not ready; and it itself that its key is another one, or not there yet.
        waits = [200, 502, 503, 504, *([401, 403] if secret else [])]
        for port, signs in [(ports[0], True), (ports[1], False)] if secret else [(ports[1], False)]:
            connection = http.client.HTTPConnection(host, port, timeout=0.5 if over else 5)
            sign = "no connection"
            try:
                connection.connect()
                sign = ""  # a scheduler that is there and does not answer is busy
                status, said = answer(connection, secret if signs else b"")
                if said in ("retired", "unknown") or status not in waits:
                    return False
            except socket.gaierror as error:
                sign = "no name" if error.errno == socket.EAI_NONAME else ""  # otherwise the resolver has failed
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
            if not sign:
                break
        if over and attempt(nobody_listens):
            return True  # it has lost its scheduler and will end soon
        now = time.monotonic()
        for _ in range(5):
            lived, lives = lives, attempt(connected)
            if lived and not lives:
                return True  # a worker that has lost its scheduler has lost all and ends in a moment; we must end first
            time.sleep(0.1)
        if not sign or lives:
            lost = nameless = None
        else:
            lost = lost or now
            nameless = sign == "no name" and (nameless or now)
            # A scheduler that restarts or is not ready refuses as well; without a name there is no Service any more.
            if now - lost > 20 or (nameless and now - nameless > 5):
                return True
    return False


def stat(process: str) -> Any:
    """A process's parent, and when it started."""
    with open(f"/proc/{process}/stat") as text:
        fields = text.read().rpartition(")")[2].split()
    return fields[1], int(fields[19])


def first() -> str:
    """The container's first process where others are visible, too: the oldest with our files and a foreign parent."""
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


def handles_sigterm(process: str) -> Any:
    """Whether a process catches or blocks SIGTERM; otherwise the first one of a container ignores it."""
    with open(f"/proc/{process}/status") as status:
        masks = {name: value for name, _, value in (line.partition(":") for line in status)}
    return (int(masks["SigCgt"], 16) | int(masks["SigBlk"], 16)) >> 14 & 1


def children(process: str) -> Any:
    """The children of a process that does not handle SIGTERM, such as a shell."""
    if handles_sigterm(process):
        return []
    with open(f"/proc/{process}/task/{process}/children") as text:
        return text.read().split()


def stop(gone: bool) -> None:
    """See to it that SIGTERM stops the worker."""
    process = first() if pid == "0" else pid
    born, deadline = stat(process), time.monotonic() + 30
    while not gone and not handles_sigterm(process) and time.monotonic() < deadline:
        time.sleep(0.5)  # a worker that is starting has no handler yet
    targets = children(process)  # a shell does not pass it on. Now, as the fork below becomes one of them
    for child in [] if gone else targets:
        os.kill(int(child), 15)
    if gone and os.fork() == 0:
        # A Nanny whose worker cannot connect hangs on SIGTERM, but a repeated SIGINT ends it. A process left behind
        # sends it: the hook would end with the container, which Kubernetes reports as a failure.
        os.setsid()
        for number in range(3):
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        for pause, number in ((1, 15), (3, 2), (1, 2), (1, 2), (1, 2)):
            time.sleep(pause)
            for target in [process, *targets]:
                if stat(process) == born:
                    os.kill(int(target), number)


def attempt(step: Any, *arguments: Any) -> Any:
    """The result of a step; false if it fails."""
    try:
        return step(*arguments)
    except Exception:
        return False


attempt(stop, attempt(drain))
