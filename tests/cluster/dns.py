"""The node's DNS server: dnsmasq over a hosts file that follows the Services.

Run as ``python -m tests.cluster.dns KUBECTL KUBECONFIG ADDRESS``.

CoreDNS would need an image; Services with a ClusterIP are all that Dask looks up.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from .processes import Processes, die_with_parent


def main(kubectl: str, kubeconfig: str, address: str) -> None:
    """Serve until killed."""
    folder = Path(kubeconfig).parent
    hosts = folder / "hosts"
    hosts.touch()
    server = Processes(folder).start(
        "dnsmasq",
        *("dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", f"--addn-hosts={hosts}"),
        *(f"--listen-address={address}", "--bind-interfaces", "--local=/cluster.local/", "--user=root"),
        "--group=root",  # a change of group would clear the signal that ends it with us, see prctl(2)
        f"--pid-file={folder}/dnsmasq.pid",
    )
    watch = [kubectl, "--kubeconfig", kubeconfig, "get", "services", "-A", "-o", "json", "--watch"]
    while server.poll() is None:
        follow([*watch, "--output-watch-events"], hosts, server)
        time.sleep(0.5)


def follow(command: list[str], hosts: Path, server: subprocess.Popen[bytes]) -> None:
    """Keep the hosts file as the Services are, until the watch ends."""
    names: dict[str, str] = {}
    decoder, text = json.JSONDecoder(), ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent()) as watch:
        assert watch.stdout is not None
        for line in watch.stdout:
            text += line
            try:
                event, end = decoder.raw_decode(text)
            except ValueError:
                continue  # an event takes many lines
            text = text[end:].lstrip()
            service = event["object"]
            if service["kind"] != "Service":
                watch.kill()  # a Status: the watch has expired
                return
            metadata, ip = service["metadata"], service["spec"].get("clusterIP")
            key = f"{metadata['name']}.{metadata['namespace']}"
            if event["type"] == "DELETED" or ip in (None, "", "None"):
                names.pop(key, None)
            else:
                names[key] = f"{ip} {key}.svc.cluster.local {key}.svc {key}"
            hosts.write_text("\n".join(sorted(names.values())) + "\n")
            server.send_signal(signal.SIGHUP)


if __name__ == "__main__":
    main(*sys.argv[1:])
