"""JupyterLab in a Pod that may do what ``dask-notebook`` may, as somebody sees it in a browser.

Left out unless its image has been made, ``python -m tests.cluster lab``: it is as large as two of the others. That a
cluster from a template ends with the Pod is tested in test_connect.py, without it. With ``UPDATE_SCREENSHOTS=1`` the
docs get a picture.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.cluster import Node, images
from tests.cluster.images import ROOT
from tests.cluster.processes import free_port
from tests.e2e.conftest import NAMESPACE
from tests.e2e.support import RESTRICTED, Kubectl, Manifests, eventually
from tests.support.browser import browser, screenshot
from tests.support.notebook import NAME, Notebook
from tests.support.rights import Trying, astray, granted

from dask_constructs import rbac

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

PREFIX = "/notebook/team/ada"
#: Less than this, in seconds, where the cluster is awake.
WARM_SECONDS = 2.0
#: That the server has to end, and far less than this is what it needs.
GRACE_SECONDS = 90
CELLS = (
    """from dask_gitops import connect

client = connect("analytics", workers=2, minimum=1)
client.submit(sum, [1, 2, 3]).result()""",
    """import time

begun = time.monotonic()
with connect("analytics", quiet=True):
    print(f"connected after {time.monotonic() - begun:.2f} s")""",
    """def work(n):
    time.sleep(0.2)
    return n


more = client.map(work, range(900))""",
)
#: How many colours a canvas has, of a browser: one that shows nothing has one, and one with a drawing many.
COLOURS = """canvas => {
    const {width, height} = canvas;
    return new Set(new Uint32Array(canvas.getContext("2d").getImageData(0, 0, width, height).data.buffer)).size;
}"""
#: Seconds for which the plot has to stay as it is: longer than between two looks of the side bar.
STAYS_SECONDS = 12


@pytest.fixture
def notebook(node: Node, kubectl: Kubectl, kube: Manifests) -> Notebook:
    if node.kind != "node":
        pytest.skip("needs a node into which an image can be loaded")
    if not images.lab_is_wanted():
        pytest.skip("no JupyterLab: `python -m tests.cluster lab` makes its image")
    node.load_image(images.lab_image())
    kubectl.apply(kube.cluster_manifest("analytics", workers=1, suspend=True))
    return Notebook(node, kubectl)


def files() -> dict[str, Any]:
    """A ConfigMap with a notebook of `CELLS`, and what the docs say where the side bar is set up."""
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cells = [{**cell, "id": f"cell-{number}", "source": source} for number, source in enumerate(CELLS)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)"}}
    written = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (sidebar,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs/notebooks.md").read_text(), re.DOTALL)
    data = {"sum.ipynb": json.dumps(written), "dask_gitops.json": sidebar}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "lab"}, "data": data}


def pod() -> dict[str, Any]:
    """A JupyterLab as ``NAME``, which nobody else has a password of."""
    places = {
        "sum.ipynb": "/given/sum.ipynb",
        "dask_gitops.json": "/etc/jupyter/jupyter_server_config.d/dask_gitops.json",
    }
    options = f"--ip=0.0.0.0 --no-browser --ServerApp.base_url={PREFIX} --IdentityProvider.token=open"
    variables = {"NB_PREFIX": PREFIX, "HOME": "/tmp", "USER": NAME, "PYTHONWARNINGS": "ignore"}
    container = {
        "name": "lab",
        "image": images.LAB,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", f"cp -r /given /tmp/{NAME} && cd /tmp/{NAME} && exec jupyter lab {options}"],
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "readinessProbe": {"httpGet": {"path": f"{PREFIX}/api", "port": 8888}, "periodSeconds": 1},
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": "files", "subPath": file, "mountPath": path} for file, path in places.items()],
    }
    spec = {
        "serviceAccountName": NAME,
        "containers": [container],
        "volumes": [{"name": "files", "configMap": {"name": "lab"}}],
        "terminationGracePeriodSeconds": GRACE_SECONDS,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lab"}, "spec": spec}


@pytest.fixture
def address(node: Node, kubectl: Kubectl, notebook: Notebook) -> Iterator[str]:
    """The URL of the notebook, as long as the test lasts."""
    kubectl.apply(files())
    kubectl.apply(pod())
    kubectl("wait", "pod/lab", "--for=condition=Ready", "--timeout=180s")
    port = free_port()
    command = [str(node.programs["kubectl"]), "--kubeconfig", str(node.kubeconfig), "-n", kubectl.namespace]
    forward = subprocess.Popen([*command, "port-forward", "pod/lab", f"{port}:8888"], stdout=subprocess.PIPE, text=True)
    try:
        assert forward.stdout is not None
        assert "Forwarding" in forward.stdout.readline()
        yield f"http://127.0.0.1:{port}{PREFIX}/lab/tree/sum.ipynb?token=open"
    finally:
        forward.terminate()
        forward.wait()


def ran(page: Page, number: int) -> str:
    """Run a cell as people do; what stands below it when it has ended."""
    cell = page.locator(".jp-Notebook .jp-CodeCell").nth(number)
    cell.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    expect(cell.locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[\d+\]"), timeout=240_000)
    return cell.locator(".jp-OutputArea").inner_text() if cell.locator(".jp-OutputArea-output").count() else ""


def listed(page: Page, name: str) -> Locator:
    """The cluster in the side bar, once it is called so."""
    item = page.locator(".dask-ClusterListingItem", has=page.get_by_text(re.compile(rf"^{re.escape(name)}$")))
    item.first.wait_for()
    return item.first


def woken(page: Page) -> None:
    """One cell wakes the cluster and computes; another connects, warm."""
    tab = page.get_by_role("tab", name="Dask")
    tab.wait_for()
    if tab.get_attribute("aria-selected") != "true":  # a click would close it where it is open
        tab.click()
    listed(page, "analytics (suspended)")
    said = ran(page, 0)
    assert "analytics: connected to tcp://analytics-scheduler." in said
    assert said.rstrip().endswith("6")
    said = ran(page, 1)
    print(f"from a notebook, warm: {said.strip()}")
    assert float(re.findall(r"([\d.]+) s", said)[0]) < WARM_SECONDS


def watched(page: Page) -> None:
    """A click in the side bar takes the cluster, another opens a plot of its dashboard, which follows the work."""
    ran(page, 2)
    broken: list[str] = []
    page.on("websocket", lambda opened: opened.on("close", lambda closed: broken.append(closed.url)))
    page.on("response", lambda answer: broken.append(f"{answer.status} {answer.url}") if answer.status >= 500 else None)
    listed(page, "analytics").click()
    page.locator(".dask-DashboardListing-item", has_text=re.compile("^task stream$", re.IGNORECASE)).first.click()
    canvas = page.frame_locator("iframe[src*='dask/dashboard']").locator("canvas").first
    canvas.wait_for()
    eventually(lambda: canvas.evaluate(COLOURS) > 10)
    page.wait_for_timeout(STAYS_SECONDS * 1000)
    assert canvas.evaluate(COLOURS) > 10
    assert broken == []
    news = page.locator(".Toastify__toast").get_by_role("button", name="No")  # whether Jupyter's are wanted
    if news.count():
        news.first.click()
        news.first.wait_for(state="detached")
    listed(page, "analytics").scroll_into_view_if_needed()
    screenshot(page, "jupyterlab")


def test_somebody_wakes_a_cluster_of_git_sees_it_at_work_and_may_do_no_more(
    node: Node, kubectl: Kubectl, address: str
) -> None:
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 1440, "height": 860})
        page.set_default_timeout(120_000)
        page.goto(address)
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
        page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for()  # until then it runs no cell
        woken(page)
        watched(page)

    token = kubectl("exec", "lab", "--", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token").strip()
    somebody = Trying(node.kubeconfig, token)
    assert astray(somebody, granted(rbac.NOTEBOOK), kubectl.namespace, NAMESPACE) == set()
    kubectl("delete", "pod", "lab", "--wait=false")
    lab = ("get", "pods", "-o", "name", "--field-selector=metadata.name=lab")
    eventually(lambda: not kubectl(*lab), seconds=GRACE_SECONDS / 2)
    assert not kubectl.json("get", "daskcluster", "analytics")["spec"].get("suspend"), "it is Git's, and goes on"
