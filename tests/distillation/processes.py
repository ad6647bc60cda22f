"""Processes that run as torchrun runs them."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from tests.free_port import free_port

ROOT = Path(__file__).parents[2]


def in_processes(number: int, work: Callable[[], None], **environment: str) -> None:
    """Run ``work`` in forked processes that find what torchrun tells its own."""
    port = free_port()
    children = []
    for rank in range(number):
        child = os.fork()
        if child == 0:
            code = 70
            try:
                signal.alarm(300)
                os.environ.update(environment)
                if number > 1:
                    os.environ.update(
                        RANK=str(rank),
                        LOCAL_RANK=str(rank),
                        WORLD_SIZE=str(number),
                        LOCAL_WORLD_SIZE=str(number),
                        MASTER_ADDR="127.0.0.1",
                        MASTER_PORT=port,
                    )
                torch.set_num_threads(1)
                work()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0] * number
