from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import signal
import threading

from serval_serving.server.stop_signal import wait_for


class Stopped(threading.Event):
    def wait(self, timeout=None):
        waiting.set()
        return super().wait(timeout)


def send():
    waiting.wait()
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)


waiting, stopped = threading.Event(), Stopped()
signal.signal(signal.SIGTERM, lambda *_: stopped.set())
threading.Thread(target=send).start()
wait_for(stopped)
"""


def test_a_signal_that_another_thread_receives_ends_the_wait() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], timeout=60, check=False)
    assert done.returncode == 0
