"""Process 1 of a container: orphans become its children, and stay as zombies until it waits for them.

The supervisor itself cannot wait for any child: it would take the exit codes of processes that `subprocess` waits for
in another thread, such as credential helpers.
"""

import os
import signal

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def leave_to_process_1() -> None:
    """Forks and returns in the child. Process 1 passes signals on, reaps orphans, and ends as the child did."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*_SIGNALS, signal.SIGCHLD))
    try:
        child = os.fork()
    except OSError:  # no process is left: orphans are not reaped, and everything else works
        child = 0
    if child == 0:
        if os.getpid() != 1:
            os.setpgid(0, 0)  # or a Ctrl-C would come twice: from the terminal, and from process 1
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    while True:
        signum = signal.sigwait((*_SIGNALS, signal.SIGCHLD))
        if signum != signal.SIGCHLD:
            os.kill(child, signum)
            continue
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                code = os.waitstatus_to_exitcode(ended[1])
                os._exit(code if code >= 0 else 128 - code)
