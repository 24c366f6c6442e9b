"""A Python with libraries already imported, started by tools/experiments/preloaded.py.

    python -P preloaded_python.py serve FD MODULE...   imports the modules, then waits
    python -I -S preloaded_python.py call SOCKET -m stages.train

`call` sends its command, folder, environment and open files to the waiting process,
which forks. The fork runs the command from the code in that folder, as Python would.
The project is not imported before the fork. Any command other than `-m MODULE` is
left to Python itself.

It imports as little as possible, and only the standard library (no pathlib): `call`
runs for every stage and has to be fast.
"""

import os
import socket
import sys

LENGTH_BYTES = 8  # of the number that says how long a request is


def call(address: str, arguments: list[str]) -> None:
    """Let the process that waits at `address` run a command, and exit with its status."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        if arguments[:1] != ["-m"]:
            raise OSError("not a module")
        connection.connect(address)
    except OSError:
        os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606
    import json

    facts = [os.getpgid(0), os.getcwd(), dict(os.environ), arguments]  # noqa: PTH109
    request = json.dumps(facts).encode()
    socket.send_fds(connection, [len(request).to_bytes(LENGTH_BYTES, "big")], [0, 1, 2])
    connection.sendall(request)
    answer = connection.makefile("rb").read().decode()
    status = int(answer) if answer else 1
    if status < 0:  # the caller sees the same signal
        import signal

        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


def serve(listener: socket.socket, modules: list[str]) -> list[str]:
    """Wait for commands until standard input ends; return in a fork, with one to run."""
    import gc
    import importlib
    import selectors
    import signal

    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError:  # raised again where it is needed
            continue
    gc.freeze()  # the forks share the memory
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forks are not waited for
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(0, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if 0 in ready:
                import shutil

                # If the parent was killed, nobody else removes it.
                shutil.rmtree(os.path.dirname(sys.argv[0]), ignore_errors=True)  # noqa: PTH120
                os._exit(0)
            connection, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                break
            connection.close()
    return _become(connection)


def _become(connection: socket.socket) -> list[str]:
    """Take over from the caller; return in another fork, with the command to run."""
    start, files, _, _ = socket.recv_fds(connection, LENGTH_BYTES, 3)
    with connection.makefile("rb") as stream:
        request = stream.read(int.from_bytes(start, "big"))
    import contextlib
    import json

    group, folder, environment, arguments = json.loads(request)
    os.setpgid(0, group)  # killed with the caller
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(BrokenPipeError):  # the caller was killed
            connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    connection.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    # The variables that the libraries read at import stay as they were.
    kept = {name: os.environ[name] for name in os.environ["PRELOADED_WITH"].split()}
    os.environ.clear()
    os.environ.update({**environment, **kept})
    command: list[str] = arguments
    return command


def run(arguments: list[str]) -> None:
    """Run `-m MODULE ...` as Python does: the code of the folder comes first."""
    import runpy

    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    sys.argv = arguments[1:]
    try:
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        status: int | str | None = 0
    except SystemExit as ended:
        status = ended.code
    if status is None or isinstance(status, int):
        _exit(status or 0)
    sys.exit(status)


def _exit(status: int) -> None:
    """End this process as Python does, but leave its memory to the system.

    To free all that was imported takes a quarter of a second.
    """
    import atexit
    import threading

    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    if sys.argv[1] == "call":
        call(sys.argv[2], sys.argv[3:])
    else:
        run(serve(socket.socket(fileno=int(sys.argv[2])), sys.argv[3:]))
