"""What is said of a rank that falls silent is the newest that anybody knows of it: the step after which it last agreed with the others."""
import os
import re
import signal

import reprise as rp
from test_ranks import ended, long_run


def test_the_step_of_a_rank_that_stops(tmp_path):
    process, others = long_run(tmp_path, 4)
    os.kill(others[1], signal.SIGSTOP)
    code, err = ended(process, 100)
    said = re.search(r"rank 2 .* is lost: silent for longer than timeout\.peer at step (\d+), in \w+; the others wait in", err)
    assert code == 21 and said, (code, err)
    recorded = rp.digest_lines(tmp_path / "run")[-1]["step"]
    assert recorded <= int(said[1]) <= recorded + 1, (recorded, err)  # hundreds of steps are between two heartbeats
