"""A real kernel: live progress, an interrupt that keeps what is done, and going on."""

import queue
import re
import shutil
import tempfile
import time

import pytest
from jupyter_client.manager import KernelManager

CELL = '%%annotate policy-sentiment -o run\nmodel = "mock/?slow_s=0.05&parallel=1"\nfields = ["Direction"]\n'


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    sockets = tempfile.mkdtemp()  # not tmp_path: the path of a socket has at most 107 characters
    manager = KernelManager(transport="ipc", ip=f"{sockets}/kernel")
    manager.start_kernel(cwd=str(tmp_path))
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    shutil.rmtree(sockets)


def reply_to(client, message_id, timeout=60):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        reply = client.get_shell_msg(timeout=timeout)
        if reply["parent_header"].get("msg_id") == message_id:
            return reply["content"]
    raise AssertionError("no reply")


def outputs_of(client, message_id, until=None, timeout=60):
    """Return the outputs of a cell until it is idle, or until one of them satisfies `until`."""
    found = []
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            message = client.get_iopub_msg(timeout=1)
        except queue.Empty:
            continue
        if message["parent_header"].get("msg_id") != message_id:
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "status" and content["execution_state"] == "idle":
            return found
        if kind in ("stream", "display_data", "update_display_data", "execute_result", "error"):
            found.append((kind, content))
            if until is not None and until(kind, content):
                return found
    raise AssertionError(f"not idle; so far {found}")


def run_cell(client, code):
    message_id = client.execute(code)
    found = outputs_of(client, message_id)
    reply = reply_to(client, message_id)
    assert reply["status"] == "ok", reply
    return found


def text_of(content):
    return content.get("data", {}).get("text/plain", "")


def answers_shown(content):
    """Return how many answers a progress display tells of."""
    told = re.search(r"(\d+) of \d+ answers", text_of(content))
    return int(told[1]) if told else 0


def test_an_interrupt_keeps_what_is_done_and_the_cell_goes_on(kernel, tmp_path):
    manager, client = kernel
    run_cell(client, "%load_ext nbannot")
    message_id, following = client.execute(CELL), client.execute("ran = True")
    outputs_of(client, message_id, until=lambda kind, content: answers_shown(content) >= 5)
    began = time.monotonic()
    manager.interrupt_kernel()
    reply = reply_to(client, message_id)
    seconds = time.monotonic() - began
    assert seconds < 10  # it does not hang; how fast it is, is measured and not asserted
    assert (reply["status"], reply["ename"]) == ("error", "RunInterrupted")
    assert reply_to(client, following)["status"] == "aborted"

    found = outputs_of(client, message_id)
    assert not [content for kind, content in found if kind == "stream" and content["name"] == "stderr"]
    left_behind = [content for kind, content in found if kind == "update_display_data"][-1]
    assert text_of(left_behind).strip().endswith("stopped")
    (error,) = [content for kind, content in found if kind == "error"]
    letter = "\n".join(error["traceback"])
    assert letter.startswith("RunInterrupted: stopped: ")
    assert letter.endswith(
        "\n  The same cell or script goes on from there."
        "\n  _ (or run) shows what is there; %report shows its report."
    )
    assert "Traceback" not in letter
    kept = int(letter.split("stopped: ")[1].split()[0])
    assert run_cell(client, "print(_ is run, _.status)")[0][1]["text"] == "True partial\n"
    (ledger,) = tmp_path.glob("outputs/policy-sentiment/*/responses.jsonl")
    lines = ledger.read_text().splitlines()
    assert kept >= 5
    assert len(lines) >= kept

    found = run_cell(client, CELL)
    shown = [text_of(content) for kind, content in found if kind == "update_display_data"]
    assert f"{kept} replies kept from before" in shown[-1]
    assert "64 answers" in shown[-1]
    again = ledger.read_text().splitlines()
    assert again[: len(lines)] == lines
    check = "import nbannot; print(run.status, run.coding.count(), 'ran' in globals())"
    assert run_cell(client, check)[0][1]["text"] == "complete {'ok': 64} False\n"


def test_a_saved_notebook_shows_the_end_of_the_progress(kernel):
    _, client = kernel
    run_cell(client, "%load_ext nbannot")
    found = run_cell(client, CELL.replace("slow_s=0.05&parallel=1", "slow_s=0.02") + "limit = 32\n")
    first = next(content for kind, content in found if kind == "display_data" and "<progress" in str(content))
    updates = [content for kind, content in found if kind == "update_display_data"]
    assert {update["transient"]["display_id"] for update in updates} == {first["transient"]["display_id"]}
    assert "32 answers in" in text_of(updates[-1])
    assert "<progress" in updates[-1]["data"]["text/html"]
    assert not [content for kind, content in found if kind == "stream"]


def test_completion_answers_in_the_kernel(kernel):
    _, client = kernel
    run_cell(client, "%load_ext nbannot")
    for cell, expected in (
        ("%annotate policy-sentiment --mod", ["--model"]),
        ('%%annotate policy-sentiment\nprompt_type = "per', ['"persona"']),
    ):
        reply = client.complete(cell, len(cell), reply=True, timeout=30)["content"]
        assert reply["matches"] == expected
