"""A model that has taken over its worker: a kit of the `python` adapter whose predictions are attacks.

The length of the input says which: `ATTACKS[length - 2]`; an input of one value is predicted as it should be.
"""

from __future__ import annotations

import json
from pathlib import Path

ATTACKS = (
    "scribble", "truncate", "garbage", "flood", "deep", "fail", "forged_ready", "descriptors", "shut_listener",
    "filter_listener", "steer", "limits", "orphan", "forks", "half_closed", "odd_signal", "freeze", "crash",
    "cancel", "close", "interrupt", "bind", "shut_last_listener",
)  # fmt: skip

CODE = '''
import ctypes, json, math, mmap, os, resource, signal, socket, struct, threading, time
import numpy as np

def descriptors(name):
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            if name in os.readlink(f"/proc/self/fd/{fd}"):
                yield fd
        except OSError:
            pass

def listeners():
    for fd in descriptors("socket:"):
        end = socket.socket(fileno=os.dup(fd))
        try:
            if end.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                yield end
        except OSError:
            pass

def listener():
    return next(listeners())

def shut_last_listener():
    list(listeners())[-1].shutdown(socket.SHUT_RDWR)

def channel():
    for fd in descriptors("socket:"):
        end = socket.socket(fileno=os.dup(fd))
        if end.type == socket.SOCK_SEQPACKET:
            end.setblocking(True)
            return end

def refused(action):
    try:
        action()
    except OSError:
        return 1.0
    return 0.0

def scribble():
    """Writes into all memory that it can; how many blocks it could not write to."""
    failed = 0.0
    for fd in descriptors("memfd:runtime"):
        try:
            cells = memoryview(mmap.mmap(fd, 0)).cast("d")
        except OSError:
            failed += 1
            continue
        for index in range(len(cells)):
            cells[index] = (math.nan, math.inf, 1e300, -1.0)[index % 4]
    return failed

def truncate():
    return sum(refused(lambda fd=fd: os.truncate(fd, 0)) for fd in descriptors("memfd:runtime"))

def garbage():
    for packet in (b"{", b"@", b"\\xff", b'["Ready"]', b'["Failed","m","Usage","x"]', b'["Traced","m","[]"]', b'["Learnt","m",[],true]'):
        channel().send(packet)

def flood():
    def send():
        end = channel()
        while True:
            end.send(b"x" * 1000)
    threading.Thread(target=send, daemon=True).start()

def deep():
    channel().send(b"[" * 50_000)

def fail():
    channel().send(b'["Failed","m","LoadFailed","line\\\\nforged"]')

def forged_ready():
    channel().send(b'["Ready","m","forged","forged",9,9.0,""]')

def send_descriptors():
    null = os.open("/dev/null", os.O_RDONLY)
    for _ in range(20):
        socket.send_fds(channel(), [b"@"], [null] * 100)

def shut_listener():
    listener().shutdown(socket.SHUT_RDWR)

def filter_listener(option=26):
    program = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    argument = struct.pack("HP", 1, ctypes.addressof(program))
    return refused(lambda: listener().setsockopt(socket.SOL_SOCKET, option, argument))

def steer():
    return filter_listener(51) + filter_listener(52)

def limits():
    return refused(lambda: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (5, 5)))

def take(address):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(address)

def bind():
    """Takes the ports that its worker listens on; how many it could not."""
    failed = set()
    for fd in descriptors("socket:"):
        with socket.socket(fileno=os.dup(fd)) as end:
            if end.family == socket.AF_INET and end.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                if refused(lambda: take(end.getsockname())):
                    failed.add(end.getsockname())
    return float(len(failed))

def orphan():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 60))
            end = listener()
            end.setblocking(True)
            while True:
                end.accept()
        os._exit(0)
    os.wait()

def forks():
    for _ in range(20):
        if os.fork() == 0:
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 60))
            while True:
                time.sleep(60)

def half_closed():
    channel().shutdown(socket.SHUT_RD)

def odd_signal():
    os.kill(os.getpid(), 40)

def freeze():
    """Never reads an order again."""
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGSTOP)).start()

def crash():
    """As Python ends after an exception: the channel is closed, and the process a while later."""
    for fd in descriptors("socket:"):
        with socket.socket(fileno=os.dup(fd)) as end:
            if end.type == socket.SOCK_SEQPACKET:
                os.close(fd)
    time.sleep(0.2)
    os._exit(7)

def cancel():
    raise __import__("asyncio").CancelledError

def close():
    raise GeneratorExit

def interrupt():
    raise KeyboardInterrupt

def load(path, options):
    attacks = [globals()["send_descriptors" if name == "descriptors" else name] for name in ATTACKS]
    def predict(arrays):
        value = attacks[len(arrays["x"]) - 2]() if len(arrays["x"]) > 1 else None
        return {"y": np.array([-1.0 if value is None else value], dtype=np.float32)}
    at_load(path)
    return predict

def at_load(path):
    pass
'''


def kit(folder: Path, at_load: str = "") -> str:
    """The reference of a hostile kit, served as `m`. `at_load`: lines that run while it is loaded."""
    folder.mkdir()
    code = f"ATTACKS = {ATTACKS!r}\n{CODE}"
    (folder / "hostile.py").write_text(
        code.replace("(path):\n    pass\n", f"(path):\n    {at_load}\n") if at_load else code
    )
    (folder / "model.bin").write_text("x")
    serving = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
        "options": {"entrypoint": "hostile:load"},
    }
    model = {"name": "m", "path": "model.bin", "framework": "python", "parameters": {"serving": serving}}
    kitfile = {
        "manifestVersion": "1.0.0",
        "package": {"name": "m"},
        "code": [{"path": "hostile.py"}],
        "model": model,
    }
    (folder / "Kitfile").write_text(json.dumps(kitfile))
    return f"m={folder}"


def request(attack: str = "") -> dict[str, object]:
    """The body that asks for an attack, or for an ordinary prediction."""
    count = ATTACKS.index(attack) + 2 if attack else 1
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [count], "data": [0.0] * count}]}
