"""The process of `runtime predict`: loads the model as a server does, then reads, predicts and writes every row itself.

It is confined as a worker is: beside the kit it has the two open files that its parent, `runtime/commands/predict.py`,
sent with the order.
"""

import os
import socket
from io import BufferedReader, FileIO

from runtime.link.channel import Channel
from runtime.link.messages import Predict, Predicted
from runtime.log import Log, Style
from runtime.worker.harden import harden, shut_in

_BUFFER_BYTES = 2**20


def main(control: int, parent: int) -> None:
    """Reads one order from the socket `control` and carries it out; `parent` is the process that sent it."""
    harden(parent, control)
    channel = Channel(socket.socket(fileno=control), takes_files=True)
    order = channel.receive(Predict)
    assert order, "the channel waits for it"
    memory, files = order.limits.memory_bytes, channel.files  # RLIMIT_FSIZE would cut a file among these
    level = shut_in(order.terms.sandbox, order.kit.root, memory_bytes=memory, files=files)
    terms = order.terms._replace(sandbox=level)
    style: Style = "json" if order.log_style == "json" else "text"
    log_file, source, target = channel.files
    log = Log(log_file, style=style, level=order.log_level, gather=True)

    from runtime.worker.failures import failed

    try:
        done = _predict(order._replace(terms=terms), log, source, target)
    except Exception as error:  # noqa: BLE001 - whatever it was, the parent says it
        log.close()
        channel.send(failed(order.kit.model, error))
    else:
        log.close()
        channel.send(done)
    os._exit(0)  # a framework may take seconds to clean up after itself


def _predict(order: Predict, log: Log, source: int, target: int) -> Predicted:
    from runtime.errors import StorageFailed
    from runtime.library_events import listen
    from runtime.link.board import Board
    from runtime.link.meter import Meter
    from runtime.link.metrics import WIDTH
    from runtime.rows.base import Job
    from runtime.rows.scoring import Scoring, form_of
    from runtime.worker.loading import load

    listen(log)
    meter = Meter(Board.create(2, WIDTH).slot(1))  # no metric is read
    served, _ = load(order.kit, order.terms, limits=order.limits, meter=meter, log=log)
    rows = BufferedReader(FileIO(source), _BUFFER_BYTES)
    predictions = os.fdopen(target, "wb", _BUFFER_BYTES)
    try:
        job = Job(rows, predictions, served, order.columns, order.alone)
        predicting = Scoring(job, order.form or form_of(rows.peek(8)), log, skip=order.skip)
        predicting.run()
    except BrokenPipeError:  # the reader has seen enough: `runtime predict … | head`
        log.debug("rows.unread")
    except OSError as error:
        raise StorageFailed(f"cannot read the rows, or write the predictions: {error.strerror or error}") from error
    return Predicted(predicting.rows, predicting.skipped)
