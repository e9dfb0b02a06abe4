"""One Jupyter server and one Chromium for all browser tests; each test gets notebooks, pages and kernels of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
]  # fmt: skip
OVERRIDES = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}
OFF = ("jupyter_lsp", "jupyter_server_terminals")
NOT_PASSED_ON = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HF_TOKEN", "NBANNOT_COUNTRY")

READY = """async () => {
  const app = window.jupyterapp; await app.started; await app.restored;
  let w;
  for (let i = 0; i < 1200; i++) {
    w = app.shell.currentWidget;
    if (w && w.sessionContext) break;
    await new Promise(r => setTimeout(r, 50));
  }
  await w.context.ready; await w.sessionContext.ready; await w.sessionContext.session.kernel.info;
}"""
COMMAND = "([name, args]) => window.jupyterapp.commands.execute(name, args || {})"
RUN_ALL = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
SAVE = "() => window.jupyterapp.shell.currentWidget.context.save()"
SHUT_DOWN = """async () => {
  const w = window.jupyterapp && window.jupyterapp.shell.currentWidget;
  if (w && w.sessionContext && w.sessionContext.session) await w.sessionContext.shutdown();
}"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, and keep them on one worker: they share the server."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium, driven by playwright."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not program:
        pytest.skip("no chromium here (apt-get install chromium, or set CHROMIUM)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@dataclass(frozen=True)
class Server:
    """A Jupyter server: the folder of its notebooks and its address."""

    work: Path
    url: str


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Jupyter server that offers Notebook 7 and JupyterLab, with settings of its own."""
    pytest.importorskip("notebook", reason="notebook is not installed")
    root = tmp_path_factory.mktemp("jupyter")
    work, config = root / "work", root / "config"
    work.mkdir()
    (config / "labconfig").mkdir(parents=True)
    (config / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(OVERRIDES))
    settings = {
        "ServerApp": {"jpserver_extensions": dict.fromkeys(OFF, False), "disable_check_xsrf": True},
        "IdentityProvider": {"token": ""},
        "LabApp": {"expose_app_in_browser": True},
        "JupyterNotebookApp": {"expose_app_in_browser": True},
    }
    (config / "jupyter_server_config.json").write_text(json.dumps(settings))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
    environment |= {
        "JUPYTER_CONFIG_DIR": str(config),
        "JUPYTER_DATA_DIR": str(root / "data"),
        "JUPYTER_RUNTIME_DIR": str(root / "runtime"),
        "IPYTHONDIR": str(root / "ipython"),
        "OLLAMA_HOST": "127.0.0.1:9",
    }
    command = [
        sys.executable, "-m", "notebook", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0",
    ]  # fmt: skip
    log = root / "server.log"
    with log.open("w") as out:
        server = subprocess.Popen(command, cwd=work, env=environment, stdout=out, stderr=out)
    url = f"http://127.0.0.1:{port}/"
    _wait_for(url + "api", server, log)
    yield Server(work, url)
    server.terminate()
    server.wait(20)


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 90
    while True:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end, "the server did not come up"
            time.sleep(0.1)


def _refuse_new(route: Any) -> None:
    if route.request.method == "POST":
        route.fulfill(status=500, body='{"message": "no kernel here"}')
    else:
        route.continue_()


class Notebooks:
    """Writes notebooks into the server's folder and opens them in pages."""

    def __init__(self, server: Server, browser: Any, name: str) -> None:
        self.server, self._browser, self._name = server, browser, name
        self.pages: list[Any] = []
        self._dark = False

    def path(self, suffix: str = "") -> Path:
        """Return where this test's notebook is."""
        return self.server.work / f"{self._name}{suffix}.ipynb"

    def write(self, *cells: str, suffix: str = "") -> Path:
        """Write a notebook with these code cells; one that begins with ``# `` and a space is Markdown."""
        import nbformat.v4 as v4

        made = [v4.new_markdown_cell(c) if c.startswith("# ") else v4.new_code_cell(c) for c in cells]
        kernel = {"name": "python3", "display_name": "Python 3"}
        book = v4.new_notebook(
            cells=made, metadata={"kernelspec": kernel, "language_info": {"name": "python"}}
        )
        path = self.path(suffix)
        path.write_text(v4.writes(book), encoding="utf-8")
        return path

    def page(
        self,
        path: Path,
        *,
        lab: bool = False,
        without_kernel: bool = False,
        width: int = 1100,
        height: int = 800,
    ) -> Any:
        """Open a notebook that exists; without a kernel, the server is not let start one."""
        page = self._browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(30_000)
        self.pages.append(page)
        if without_kernel:
            page.route("**/api/sessions*", _refuse_new)
        page.goto(f"{self.server.url}{'doc/tree/' if lab else 'notebooks/'}{path.name}")
        page.wait_for_function("() => window.jupyterapp && window.jupyterapp.shell", timeout=90_000)
        return page

    def __call__(self, *cells: str, run: bool = True, title: str = "", **options: Any) -> Any:
        """Write a notebook, open it, wait for its kernel, and run all cells; returns the page."""
        self._name = title or self._name
        page = self.page(self.write(*cells), **options)
        page.evaluate(READY)
        if run:
            assert page.evaluate(RUN_ALL), page.locator(".jp-OutputArea").all_inner_texts()
        return page

    def dark(self, page: Any) -> None:
        """Change to the dark theme; taken back at the end of the test."""
        self._dark = True
        page.evaluate(COMMAND, ["apputils:change-theme", {"theme": "JupyterLab Dark"}])
        page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")

    def end_kernel(self, page: Any) -> None:
        """End the kernel of a page's notebook."""
        page.evaluate(SHUT_DOWN)

    def close(self) -> None:
        """Take a picture where the environment asks for it, end the kernels, close the pages."""
        folder = os.environ.get("SHOTS")
        for number, page in enumerate(self.pages):
            if folder:
                page.screenshot(path=Path(folder) / f"{self._name}-{number}.png", full_page=True)
            if self._dark:
                page.evaluate(COMMAND, ["apputils:change-theme", {"theme": "JupyterLab Light"}])
                page.wait_for_function("() => document.body.dataset.jpThemeLight === 'true'")
                self._dark = False
            self.end_kernel(page)
            page.close()


@pytest.fixture
def open_notebook(jupyter: Server, chromium: Any, request: pytest.FixtureRequest) -> Iterator[Notebooks]:
    """Open notebooks of this test's own."""
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)
    notebooks = Notebooks(jupyter, chromium, name)
    yield notebooks
    notebooks.close()


@pytest.fixture
def save() -> Callable[[Any], None]:
    """Save the notebook of a page."""
    return lambda page: page.evaluate(SAVE)


@pytest.fixture
def command() -> Callable[..., Any]:
    """Run a command of Jupyter's."""
    return lambda page, name, args=None: page.evaluate(COMMAND, [name, args])
