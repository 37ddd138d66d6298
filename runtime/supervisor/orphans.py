"""Process 1 of a container: every process whose parent has ended becomes its child, and stays until it is waited for.

The supervisor cannot do that beside its own work: whoever waits for any child also takes the exit codes of those that
`subprocess` waits for in another thread, as a credential helper's.
"""

import os
import signal

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def leave_to_process_1() -> None:
    """Returns in a child. Process 1 stays: it passes signals on, waits for all that end, and ends as the child did."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*_SIGNALS, signal.SIGCHLD))
    try:
        child = os.fork()
    except OSError:  # no process to be had: orphans stay, and all else works
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
